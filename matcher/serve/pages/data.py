"""The page Data: pictures and captions are put in, looked at, and taken in."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from matcher.serve import incoming
from matcher.serve.pages.rendering import explain, find_project, get_server, go_to, render
from matcher.serve.projects.store import Contents, Project, ProjectPicture
from matcher.serve.server import Server
from matcher.serve.uploads import receive_form
from matcher.serve.worker.drawing import Drawn, ToDraw
from parsers.command import InputError
from shards.storage.files import check_free_disk

router = APIRouter(include_in_schema=False, prefix="/projects/{key}")
PER_PAGE = 12
SHOWN_FAULTS, SHOWN_PICTURES = 200, 50
FEW, BETTER = 100, 1_000
"""With fewer pictures than these, the page warns, or advises."""


@router.get("")
async def show_project(key: str) -> Response:
    """Leads to the first part of a project."""
    return RedirectResponse(f"/projects/{key}/data")


@router.get("/data")
async def show_data(request: Request, key: str, page: int = 1) -> Response:
    """Shows pictures with their regions, captions and graphs, and takes files."""
    return await _show(request, find_project(request, key), page)


async def _show(request: Request, project: Project, page: int = 1, error: str | None = None) -> Response:
    server, contents = get_server(request), project.contents
    pages = max(1, -(-len(contents.pictures) // PER_PAGE))
    page = min(max(page, 1), pages)
    shown = contents.pictures[(page - 1) * PER_PAGE : page * PER_PAGE]
    drawn: list[Drawn | None] = [None] * len(shown)
    with explain(request) as faults:
        drawn[:] = await draw(server, project, shown)
    return render(
        request,
        "data.html",
        200 if error is None else 400,
        project=project,
        tab="data",
        error=error or (faults[0] if faults else None),
        contents=contents,
        shown=list(zip(shown, drawn, strict=True)),
        page=page,
        pages=pages,
        few=FEW,
        better=BETTER,
        waiting=project.incoming.is_dir() and (incoming.is_waiting(project) or incoming.is_looked_at(project)),
    )


async def draw(server: Server, project: Project, pictures: Sequence[ProjectPicture]) -> list[Drawn]:
    """Draws pictures of a project with the newest regions that are known."""
    regions = project.regions if project.has_regions else None
    if regions is None:
        trained = [version.regions for version in project.versions() if version.is_trained]
        regions = trained[-1] if trained else None
    wanted = [ToDraw(p.image_id, thumbnail_address(project, p.image_id), p.captions) for p in pictures]
    return await server.draw(wanted, regions)


def thumbnail_address(project: Project, image_id: str) -> str:
    """Returns where a browser finds a picture."""
    return f"/projects/{project.key}/pictures/{image_id}.jpg"


@router.get("/pictures/{name}.jpg")
async def show_picture(request: Request, key: str, name: str) -> Response:
    """Sends a small JPEG, which this server made of the picture."""
    project = find_project(request, key)
    path = project.thumbnails / f"{name}.jpg"
    if path.parent != project.thumbnails or name.startswith(".") or not path.is_file():
        raise HTTPException(404)
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.post("/pictures/{name}/remove")
async def remove_picture(request: Request, key: str, name: str) -> Response:
    """Takes a picture and its captions out of a project. Versions that learned from it stay as they are."""
    project = find_project(request, key)
    async with get_server(request).changing:
        kept = tuple(picture for picture in project.contents.pictures if picture.image_id != name)
        removed = [picture for picture in project.contents.pictures if picture.image_id == name]
        project.save_contents(Contents(pictures=kept))
    for picture in removed:
        (project.pictures / picture.file).unlink(missing_ok=True)
    return go_to(f"/projects/{key}/data")


# ------------------------------------------------------------------------------------------------------------- uploads


@router.post("/data")
async def receive(request: Request, key: str) -> Response:
    """Receives files, and begins to look at them."""
    project, server = find_project(request, key), get_server(request)
    server.stop_reading(project)
    received = await asyncio.to_thread(incoming.begin_upload, project)
    try:
        check_free_disk(received, int(request.headers.get("content-length", 0)), "the upload")
        form = await receive_form(request, received)
        columns = {name: form.fields.get(name, "").strip() for name in ("image_id", "caption")}
        incoming.accept_upload(project, form, {name: column for name, column in columns.items() if column})
    except InputError as error:
        incoming.discard(project)
        return await _show(request, project, error=str(error))
    except BaseException:
        incoming.discard(project)
        raise
    server.read_upload(project)
    return go_to(f"/projects/{key}/incoming")


@router.get("/incoming")
async def show_incoming(request: Request, key: str) -> Response:
    """Shows what was understood of an upload, row by row."""
    project = find_project(request, key)
    understood = incoming.read_understood(project)
    if understood is None and not incoming.is_looked_at(project) and not incoming.is_waiting(project):
        return go_to(f"/projects/{key}/data")
    done, total = incoming.read_progress(project)
    titles = {picture.image_id: picture.name for picture in project.contents.pictures}
    rows = (
        []
        if understood is None
        else [
            (titles.get(image_id, image_id), texts)
            for image_id, texts in list(understood.captions.items())[:SHOWN_PICTURES]
        ]
    )
    return render(
        request,
        "incoming.html",
        project=project,
        tab="data",
        error=incoming.read_error(project),
        understood=understood,
        rows=rows,
        most=SHOWN_FAULTS,
        done=done,
        total=total,
    )


@router.get("/incoming.csv")
async def list_faults(request: Request, key: str) -> Response:
    """Sends all that was not understood, as a table."""
    understood = incoming.read_understood(find_project(request, key))
    if understood is None:
        raise HTTPException(404)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("file", "place", "reason"))
    writer.writerows(
        tuple(_defuse(text) for text in (fault.source, fault.position, fault.reason)) for fault in understood.faults
    )
    headers = {"Content-Disposition": 'attachment; filename="not-used.csv"'}
    return Response("\ufeff" + table.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _defuse(text: str) -> str:
    """Returns a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


@router.post("/incoming/take")
async def take(request: Request, key: str) -> Response:
    """Takes in what was understood."""
    project = find_project(request, key)
    with explain(request) as faults:
        async with get_server(request).changing:
            await asyncio.to_thread(incoming.take_in, project)
    return await _show(request, project, error=faults[0]) if faults else go_to(f"/projects/{key}/data")


@router.post("/incoming/discard")
async def discard(request: Request, key: str) -> Response:
    """Removes an upload."""
    project = find_project(request, key)
    get_server(request).stop_reading(project)
    await asyncio.to_thread(incoming.discard, project)
    return go_to(f"/projects/{key}/data")
