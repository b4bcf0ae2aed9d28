"""The page Train: a version is asked for, and trainings are watched, stopped and gone on with."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from matcher.serve.pages.rendering import (
    explain,
    find_project,
    find_version,
    get_server,
    get_texts,
    go_to,
    render,
    show_seconds,
)
from matcher.serve.projects.store import Project, Version
from matcher.serve.training.jobs import is_stopping
from matcher.serve.training.progress import read_progress
from matcher.serve.training.starts import NOTHING
from pipeline.holdout import FEWEST

router = APIRouter(include_in_schema=False, prefix="/projects/{key}")


@router.get("/train")
async def show_training(request: Request, key: str) -> Response:
    """Shows what a training can start from, and all versions."""
    return await _show(request, find_project(request, key))


async def _show(request: Request, project: Project, error: str | None = None) -> Response:
    server = get_server(request)
    with explain(request) as faults:
        starts = await asyncio.to_thread(server.list_starts, project)
        versions = await asyncio.to_thread(lambda: [_describe(request, v) for v in reversed(project.versions())])
    if faults:
        starts, versions = [], []
    return render(
        request,
        "train.html",
        200 if error is None else 400,
        project=project,
        tab="train",
        error=error or (faults[0] if faults else None),
        starts=starts,
        versions=versions,
        is_live=any(version["state"] in ("queued", "running", "stopping") for version in versions),
        pictures=len(project.contents.captioned),
        least=FEWEST,
        models=server.store.models,
        nothing=NOTHING,
    )


def _describe(request: Request, version: Version) -> dict[str, Any]:
    """Returns what the page shows of a version; the script asks for the same as JSON."""
    t, job, progress = get_texts(request), version.job, read_progress(version)
    state = "stopping" if is_stopping(version) else job.state
    phases = []
    for phase in progress.phases:
        is_training = phase.name in ("start", "training")
        count = t("train.step" if is_training else "train.count", step=phase.done, done=phase.done, total=phase.total)
        shown = count if phase.state == "running" and phase.total else t(f"phase.{phase.state}")
        phases.append({"name": t(f"phase.{phase.name}"), "state": phase.state, "text": shown})
    return {
        "number": version.number,
        "state": state,
        "state_text": t(f"state.{state}"),
        "job": job,
        "phases": phases,
        "seconds_left": progress.seconds_left,
        "curves": {name: [asdict(point) for point in points] for name, points in progress.curves.items() if points},
        "has_log": version.log.is_file(),
    }


@router.post("/train")
async def train(request: Request, key: str, start: Annotated[str, Form()] = NOTHING) -> Response:
    """Puts a new version into the queue."""
    project, server = find_project(request, key), get_server(request)
    found = next((s for s in await asyncio.to_thread(server.list_starts, project) if s.key == start), None)
    if found is None or found.problem:
        return await _show(request, project, "" if found is None else found.problem)
    with explain(request) as faults:
        await asyncio.to_thread(server.jobs.add, project, found.path, found.name, given_regions=found.given_regions)
    return await _show(request, project, faults[0]) if faults else go_to(f"/projects/{key}/train")


@router.get("/versions/{number}/progress")
async def tell_progress(request: Request, key: str, number: int) -> Response:
    """Tells how far a training is, for the script of the page."""
    _, version = find_version(request, key, number)
    described = await asyncio.to_thread(_describe, request, version)
    del described["job"]
    t, left = get_texts(request), described.pop("seconds_left")
    described["left_text"] = "" if left is None else t("train.time_left", time=show_seconds(left))
    return JSONResponse(described, headers={"Cache-Control": "no-store"})


@router.post("/versions/{number}/stop")
async def stop(request: Request, key: str, number: int) -> Response:
    """Stops a training."""
    _, version = find_version(request, key, number)
    get_server(request).jobs.stop(version)
    return go_to(f"/projects/{key}/train")


@router.post("/versions/{number}/resume")
async def resume(request: Request, key: str, number: int) -> Response:
    """Goes on with a training."""
    _, version = find_version(request, key, number)
    get_server(request).jobs.resume(version)
    return go_to(f"/projects/{key}/train")


@router.get("/versions/{number}/log.txt")
async def show_log(request: Request, key: str, number: int) -> Response:
    """Sends what a training printed."""
    _, version = find_version(request, key, number)
    if not version.log.is_file():
        raise HTTPException(404)
    return FileResponse(version.log, media_type="text/plain; charset=utf-8", filename=f"{key}-{number}.txt")
