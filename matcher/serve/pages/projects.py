"""The page of all projects, and what is done with whole projects; login, language, and the description of the API."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from matcher.serve import incoming
from matcher.serve.api import CODES
from matcher.serve.guard import COOKIE as TOKEN_COOKIE
from matcher.serve.pages.rendering import explain, find_project, get_server, get_texts, go_to, render
from matcher.serve.pages.texts import COOKIE, LANGUAGES
from matcher.serve.projects.archives import export_project, import_project
from matcher.serve.projects.store import MAX_NAME, Project
from matcher.serve.uploads import receive_form
from parsers.command import InputError, make_visible

router = APIRouter(include_in_schema=False)
_YEAR = 365 * 24 * 3600


def _read_name(name: str) -> str | None:
    name = " ".join(make_visible(name).split())
    return name if 1 <= len(name) <= MAX_NAME else None


def _describe(project: Project) -> dict[str, Any]:
    contents, versions = project.contents, project.versions()
    states = [(version.number, version.job.state) for version in versions]
    return {
        "key": project.key,
        "record": project.record,
        "pictures": len(contents.pictures),
        "captions": contents.caption_count,
        "versions": len(versions),
        "size": project.size(),
        "doing": [(number, state) for number, state in states if state in ("queued", "running")],
        "reading": incoming.is_waiting(project),
    }


@router.get("/")
async def show_projects(request: Request) -> Response:
    """Lists all projects."""
    return await _show(request)


async def _show(request: Request, error: str | None = None) -> Response:
    server = get_server(request)
    projects = await asyncio.to_thread(lambda: [_describe(project) for project in server.store.list_projects()])
    return render(
        request, "projects.html", 200 if error is None else 400, projects=projects, error=error, most=MAX_NAME
    )


@router.post("/projects")
async def create_project(request: Request, name: Annotated[str, Form()] = "") -> Response:
    """Makes an empty project."""
    chosen = _read_name(name)
    if chosen is None:
        return await _show(request, get_texts(request)("projects.name_missing", most=MAX_NAME))
    return go_to(f"/projects/{get_server(request).store.create(chosen).key}/data")


@router.post("/sample")
async def create_sample(request: Request) -> Response:
    """Makes a project and fills it with a toy world."""
    server = get_server(request)
    project = server.store.create(get_texts(request)("projects.sample_name"))
    server.make_sample(project)
    return go_to(f"/projects/{project.key}/incoming")


@router.post("/projects/import")
async def import_(request: Request) -> Response:
    """Makes a project of an archive."""
    store = get_server(request).store
    with explain(request) as faults, tempfile.TemporaryDirectory(dir=store.temporary) as folder:
        form = await receive_form(request, Path(folder))
        if not form.files:
            raise InputError(get_texts(request)("data.no_file"))
        await asyncio.to_thread(import_project, form.files[0][1], store)
    return await _show(request, faults[0]) if faults else go_to("/")


@router.get("/projects/{key}/export")
async def export(request: Request, key: str) -> Response:
    """Sends a project as an archive."""
    project = find_project(request, key)
    with tempfile.NamedTemporaryFile(dir=get_server(request).store.temporary, suffix=".zip", delete=False) as file:
        path = Path(file.name)
    await asyncio.to_thread(export_project, project, path)
    return FileResponse(path, filename=f"{project.key}.zip", background=BackgroundTask(path.unlink))


@router.post("/projects/{key}/copy")
async def copy_project(request: Request, key: str) -> Response:
    """Copies a project."""
    project = find_project(request, key)
    name = get_texts(request)("projects.copy_name", name=project.record.name)[:MAX_NAME]
    await asyncio.to_thread(get_server(request).store.copy, project, name)
    return go_to("/")


@router.get("/projects/{key}/delete")
async def ask_delete(request: Request, key: str) -> Response:
    """Asks for the second time."""
    return _ask_delete(request, find_project(request, key))


def _ask_delete(request: Request, project: Project, error: str | None = None) -> Response:
    values = {"pictures": len(project.contents.pictures), "captions": project.contents.caption_count}
    count = len(project.versions())
    return render(
        request, "delete.html", 200 if error is None else 400, project=project, error=error, versions=count, **values
    )


@router.post("/projects/{key}/delete")
async def delete_project(request: Request, key: str, confirm: Annotated[str, Form()] = "") -> Response:
    """Deletes a project."""
    project, server = find_project(request, key), get_server(request)
    if confirm != "yes":
        return _ask_delete(request, project, get_texts(request)("delete.unconfirmed"))
    server.stop_reading(project)
    await asyncio.to_thread(server.jobs.kill, project)
    await asyncio.to_thread(server.store.delete, project)
    return go_to("/")


# ---------------------------------------------------------------------------------------------------------- the browser


@router.post("/language")
async def choose_language(language: Annotated[str, Form()] = "", back: Annotated[str, Form()] = "/") -> Response:
    """Remembers the language."""
    response = go_to(back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/")
    if language in LANGUAGES:
        response.set_cookie(COOKIE, language, max_age=_YEAR, httponly=True, samesite="strict")
    return response


@router.get("/login")
async def ask_token(request: Request) -> Response:
    """Asks for the token."""
    return render(request, "login.html")


@router.post("/login")
async def log_in(request: Request, token: Annotated[str, Form()] = "") -> Response:
    """Takes the token."""
    access = get_server(request).settings.access
    if not access.admits_token(token):
        return render(request, "login.html", 403, error=get_texts(request)("login.wrong"))
    response = go_to("/")
    response.set_cookie(
        TOKEN_COOKIE,
        access.cookie(),
        max_age=_YEAR,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.get("/docs")
async def show_docs(request: Request) -> Response:
    """Describes the API, from its OpenAPI document."""
    return render(request, "docs.html", document=request.app.openapi(), codes=CODES)
