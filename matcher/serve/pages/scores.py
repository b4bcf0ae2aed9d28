"""The pages Report, Check and Use: how good versions are, what they say, and which one answers."""

from __future__ import annotations

import asyncio
import bisect
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import Response

from finetune.tasks.retrieval.ranking import RECALLS
from matcher.report import DIRECTIONS
from matcher.run_record import LEFT_OUT, REPORT
from matcher.serve.api import CODES, MAX_PAIRS, MAX_PICTURE, MAX_TEXT
from matcher.serve.match_queue import BusyError
from matcher.serve.pages.data import thumbnail_address
from matcher.serve.pages.rendering import (
    explain,
    find_project,
    find_version,
    get_server,
    get_texts,
    go_to,
    list_trained,
    render,
)
from matcher.serve.projects.store import Project, Version
from matcher.serve.server import Server
from matcher.serve.uploads import receive_form
from matcher.serve.worker import scoring
from matcher.serve.worker.drawing import ToDraw
from matcher.serve.worker.scoring import ModelFiles, Photo, Question, Refusal
from parsers.command import InputError

router = APIRouter(include_in_schema=False, prefix="/projects/{key}")
WORST = 8
"""so many pairs are drawn"""
MOST_TEXTS, FOUND = 20, 12


def _choose(project: Project, number: int | None) -> Version | None:
    """Returns the version that was asked for, the one in use, or the newest one."""
    trained = list_trained(project)
    in_use = project.record.in_use
    return next(
        (version for wanted in (number, in_use) for version in trained if version.number == wanted),
        trained[0] if trained else None,
    )


# --------------------------------------------------------------------------------------------------------------- report


@router.get("/report")
async def show_report(request: Request, key: str, version: int | None = None) -> Response:
    """Shows how well versions find what they have not seen."""
    project = find_project(request, key)
    chosen, trained = _choose(project, version), list_trained(project)
    if chosen is None:
        return render(request, "report.html", project=project, tab="report", chosen=None)
    with explain(request) as faults:
        figures: Mapping[str, Any] = chosen.read_figures()
        worst = await _draw_worst(get_server(request), project, chosen, figures["worst"][:WORST])
        versions = [(other.number, other.read_figures()) for other in trained]
    if faults:
        return render(request, "report.html", 500, project=project, tab="report", chosen=None, error=faults[0])
    return render(
        request,
        "report.html",
        project=project,
        tab="report",
        chosen=chosen,
        figures=figures,
        versions=versions,
        rows=[(direction, k, f"{direction}/R@{k}") for direction in DIRECTIONS for k in RECALLS],
        worst=worst,
        left_out=_read_left_out(chosen),
    )


async def _draw_worst(
    server: Server, project: Project, version: Version, pairs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    wanted = [
        ToDraw(image_id, thumbnail_address(project, image_id), (pair["text"],))
        for pair in pairs
        for image_id in (pair["own"], pair["best"])
    ]
    drawn = await server.draw(wanted, version.regions)
    return [
        {"pair": pair, "own": own, "best": best} for pair, own, best in zip(pairs, drawn[::2], drawn[1::2], strict=True)
    ]


def _read_left_out(version: Version) -> list[str]:
    try:
        return (version.matcher / REPORT / LEFT_OUT).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


# ---------------------------------------------------------------------------------------------------------------- check


@router.get("/check")
async def show_check(request: Request, key: str, version: int | None = None) -> Response:
    """Asks for a picture and texts."""
    project = find_project(request, key)
    return _check_page(request, project, _choose(project, version))


def _check_page(request: Request, project: Project, chosen: Version | None, **values: Any) -> Response:
    blank: dict[str, Any] = {
        "asked": None,
        "scores": [],
        "explanation": None,
        "found": None,
        "ranked": None,
        "query": "",
    }
    error = values.get("error")
    return render(
        request,
        "check.html",
        200 if error is None else 400,
        project=project,
        tab="check",
        chosen=chosen,
        trained=list_trained(project),
        pictures=[picture.image_id for picture in project.contents.pictures],
        most=scoring.MOST_COMPARED,
        **{**blank, **values},
    )


@router.post("/check")
async def check(request: Request, key: str) -> Response:
    """Scores texts with a picture, finds texts for it, or finds pictures for a text."""
    project, server = find_project(request, key), get_server(request)
    values: dict[str, Any] = {}
    chosen: Version | None = None
    with tempfile.TemporaryDirectory(dir=server.store.temporary) as folder:
        try:
            with explain(request) as faults:
                form = await receive_form(request, Path(folder))
                number = form.fields.get("version", "")
                chosen = _choose(project, int(number) if number.isdecimal() else None)
                if chosen is None:
                    raise HTTPException(404)
                values |= await _answer(request, server, project, chosen, form.fields, [p for _, p in form.files])
            error = faults[0] if faults else None
        except BusyError as busy:
            error = get_texts(request)("error.busy", seconds=busy.seconds)
    return _check_page(request, project, chosen or _choose(project, None), error=error, **values)


async def _answer(
    request: Request,
    server: Server,
    project: Project,
    version: Version,
    fields: Mapping[str, str],
    files: Sequence[Path],
) -> dict[str, Any]:
    """Returns what the page shows, by what was asked for."""
    model = ModelFiles(version.matcher, version.regions)
    contents = project.contents
    if fields.get("ask") == "pictures":
        query = fields.get("query", "").strip()[:MAX_TEXT]
        if not query:
            raise InputError(get_texts(request)("check.missing"))
        image_ids = [picture.image_id for picture in contents.pictures]
        found = (await server.matches.run(scoring.search, model, query, image_ids))[:FOUND]
        shown = [(image_id, thumbnail_address(project, image_id), score) for image_id, score in found]
        return {"query": query, "found": [(*item, _weigh(version, item[2])) for item in shown]}
    image_id = fields.get("image_id", "").strip()
    texts = [line.strip()[:MAX_TEXT] for line in fields.get("texts", "").splitlines() if line.strip()][:MOST_TEXTS]
    asked = {"image_id": image_id, "texts": texts}
    if files:
        if files[0].stat().st_size > MAX_PICTURE:
            raise InputError(f"the picture has more than {MAX_PICTURE:,} bytes")
        photo = Photo(data=files[0].read_bytes())
    else:
        photo = Photo(image_id=image_id)
    if not (files or image_id) or not (texts or fields.get("ask") == "texts"):
        raise InputError(get_texts(request)("check.missing"))
    if fields.get("ask") == "texts":
        known = list(dict.fromkeys(text for picture in contents.pictures for text in picture.captions))
        ranked = (await server.matches.run(scoring.rank_texts, model, photo, known))[:FOUND]
        return {"asked": asked, "ranked": [(text, score, _weigh(version, score)) for text, score in ranked]}
    with server.matches.admit():
        answer = await server.matches.score(model, Question(photo, tuple(texts)))
    if isinstance(answer, Refusal):
        raise InputError(answer.reason)
    explanation = await server.matches.run(
        scoring.explain, model, photo, texts[0], thumbnail_address(project, image_id)
    )
    scores = [(text, score, _weigh(version, score)) for text, score in zip(texts, answer, strict=True)]
    return {"asked": asked, "scores": sorted(scores, key=lambda item: -item[1]), "explanation": explanation}


def _weigh(version: Version, score: float) -> dict[str, float]:
    """Returns which share of the true and of the false held-out pairs scores at least as high."""
    quantiles: Any = version.read_figures()["scores"]
    return {name: 1 - bisect.bisect_left(values, score) / len(values) for name, values in quantiles.items()}


# ------------------------------------------------------------------------------------------------------------------ use


@router.get("/use")
async def show_use(request: Request, key: str) -> Response:
    """Shows how programs ask, and which version answers."""
    project, server = find_project(request, key), get_server(request)
    chosen, base = server.chosen, str(request.base_url).rstrip("/")
    return render(
        request,
        "use.html",
        project=project,
        tab="use",
        trained=list_trained(project),
        in_use=project.record.in_use,
        base=base,
        address=f"{base}/projects/{project.key}/match",
        is_chosen=chosen is not None and chosen.key == project.key,
        has_token=server.settings.access.token is not None,
        image_id=next((picture.image_id for picture in project.contents.pictures), "285"),
        codes=CODES,
        most=MAX_PAIRS,
    )


@router.post("/use")
async def use(request: Request, key: str, version: Annotated[int, Form()]) -> Response:
    """Makes a version answer."""
    project, chosen = find_version(request, key, version)
    if chosen.is_trained:
        await asyncio.to_thread(project.save_record, project.record.model_copy(update={"in_use": version}))
    return go_to(f"/projects/{key}/use")


@router.post("/choose")
async def choose(request: Request, key: str) -> Response:
    """Makes a project answer at the short address."""
    get_server(request).choose(find_project(request, key))
    return go_to(f"/projects/{key}/use")
