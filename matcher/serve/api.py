"""``POST /match``: what programs ask."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import secrets
from typing import Annotated, Any, Self

from fastapi import APIRouter, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.types import ASGIApp, Receive, Scope, Send

from matcher.serve.match_queue import BusyError, MatchQueue
from matcher.serve.projects.store import KEY, Project
from matcher.serve.server import Server
from matcher.serve.worker.pool import WorkerLostError
from matcher.serve.worker.scoring import ModelFiles, Photo, Question, Refusal
from parsers.command import InputError

MAX_TEXT = 2_000
MAX_PICTURE = 8 << 20
"""The largest picture that a request may hold, in bytes."""
MAX_PAIRS = 32
"""A batch holds at most so many pairs."""

CODES = {
    1000: "The request is not of the form that this page describes.",
    1001: "There is no such project, or none was chosen for /match.",
    1002: "The project has no trained version in use yet.",
    1003: "The picture cannot be used: it is no picture, damaged, too large or too small.",
    1004: "The project has no regions of a picture with this image_id.",
    1005: "New pictures cannot be scored, because their detector is missing. The message says which one.",
    1006: "Too many requests are open. Try again after the seconds in Retry-After.",
    1007: "Scoring failed. The log of the server says why.",
}
"""What the error codes mean."""


def _only(name: str) -> dict[str, Any]:
    """Returns the schema of an object that names its picture in one way."""
    kinds = {"image": "null", "image_id": "null"} | {name: "string"}
    return {"required": [name], "properties": {key: {"type": kind} for key, kind in kinds.items()}}


class Pair(BaseModel):
    """A text, and a picture that it may fit: its file in base64, or the image_id of a picture of the project."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"oneOf": [_only("image"), _only("image_id")]})

    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    image: Annotated[str, Field(min_length=1, max_length=MAX_PICTURE * 4 // 3 + 4, description="base64")] | None = None
    image_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _check_picture(self) -> Self:
        if (self.image is None) == (self.image_id is None):
            raise ValueError("give either image or image_id")
        return self


class Batch(BaseModel):
    """Several pairs."""

    model_config = ConfigDict(extra="forbid")

    pairs: Annotated[list[Pair], Field(min_length=1, max_length=MAX_PAIRS)]


class Score(BaseModel):
    """How well a text fits a picture."""

    score: float
    """how well they fit, from 0 to 1: the log-odds as a probability, as the model itself sees it"""
    log_odds: float
    """the same as log-odds, which tell apart what is close to 0 or 1"""


class Failure(BaseModel):
    """Why there is no score."""

    error_code: int
    error_msg: str


class Match(Score):
    """The answer to a pair."""

    log_id: int


class Matches(BaseModel):
    """The answers to a batch, in its order."""

    log_id: int
    results: list[Score | Failure]


class ApiFailure(Failure):
    """The answer to a request that failed."""

    log_id: int


class ApiError(Exception):
    """A request has no answer."""

    def __init__(self, status: int, code: int, message: str = "", retry_after: int | None = None) -> None:
        super().__init__(message or CODES[code])
        self.status, self.code, self.retry_after = status, code, retry_after


def answer_failure(error: ApiError) -> JSONResponse:
    """Makes the answer for a failure."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    body = ApiFailure(log_id=make_log_id(), error_code=error.code, error_msg=str(error))
    return JSONResponse(body.model_dump(), error.status, headers)


def make_log_id() -> int:
    """Returns a number by which a request can be spoken of; JavaScript reads it without loss."""
    return secrets.randbits(52)


class Admission:
    """Answers 503 before the body of a request is read if too many are open."""

    def __init__(self, app: ASGIApp, matches: MatchQueue) -> None:
        self._app, self._matches = app, matches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it."""
        if scope["type"] != "http" or not scope["path"].endswith(("/match", "/match/batch")):
            await self._app(scope, receive, send)
            return
        try:
            with self._matches.admit():
                await self._app(scope, receive, send)
        except BusyError as error:
            await answer_failure(ApiError(503, 1006, str(error), error.seconds))(scope, receive, send)


_FAILURES: dict[int | str, dict[str, Any]] = {
    400: {"model": ApiFailure, "description": "Error 1000 or 1003"},
    404: {"model": ApiFailure, "description": "Error 1001 or 1004"},
    409: {"model": ApiFailure, "description": "Error 1002 or 1005"},
    413: {"model": ApiFailure, "description": "The request is too large"},
    500: {"model": ApiFailure, "description": "Error 1007"},
    503: {"model": ApiFailure, "description": "Error 1006"},
    "default": {"model": Failure, "description": "Refused before it was looked at"},
}
router = APIRouter(tags=["match"], responses=_FAILURES)
Key = Annotated[str, Path(pattern=f"^{KEY.pattern}$", description="the project, as its address says it")]


@router.post("/match")
async def match(request: Request, pair: Pair) -> Match:
    """Score a text with a picture, by the version in use of the project that was chosen on its page Use."""
    return await _match(request, _find_chosen(request), pair)


@router.post("/match/batch")
async def match_batch(request: Request, batch: Batch) -> Matches:
    """Score several pairs. A pair that has no score does not keep the others from theirs."""
    return await _match_batch(request, _find_chosen(request), batch)


@router.post("/projects/{key}/match")
async def match_of_project(request: Request, key: Key, pair: Pair) -> Match:
    """Score a text with a picture, by the version in use of a project."""
    return await _match(request, _find(request, key), pair)


@router.post("/projects/{key}/match/batch")
async def match_batch_of_project(request: Request, key: Key, batch: Batch) -> Matches:
    """Score several pairs, by the version in use of a project."""
    return await _match_batch(request, _find(request, key), batch)


def _server(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


def _find_chosen(request: Request) -> Project:
    project = _server(request).chosen
    if project is None:
        raise ApiError(404, 1001, "no project was chosen; choose one on its page Use, or call /projects/NAME/match")
    return project


def _find(request: Request, key: str) -> Project:
    project = _server(request).store.find(key)
    if project is None:
        raise ApiError(404, 1001, f"there is no project {key!r:.60}")
    return project


async def _match(request: Request, project: Project, pair: Pair) -> Match:
    (found,) = await _score(request, project, [pair])
    if isinstance(found, ApiError):
        raise found
    return Match(log_id=make_log_id(), **found.model_dump())


async def _match_batch(request: Request, project: Project, batch: Batch) -> Matches:
    found = await _score(request, project, batch.pairs)
    results: list[Score | Failure] = [
        Failure(error_code=item.code, error_msg=str(item)) if isinstance(item, ApiError) else item for item in found
    ]
    return Matches(log_id=make_log_id(), results=results)


async def _score(request: Request, project: Project, pairs: list[Pair]) -> list[Score | ApiError]:
    version = project.version_in_use
    if version is None or not version.is_trained:
        raise ApiError(409, 1002)
    files = ModelFiles(version.matcher, version.regions)
    return list(await asyncio.gather(*(_score_pair(_server(request).matches, files, pair) for pair in pairs)))


async def _score_pair(matches: MatchQueue, files: ModelFiles, pair: Pair) -> Score | ApiError:
    try:
        answer = await matches.score(files, Question(_read_photo(pair), (pair.text,)))
    except ApiError as error:
        return error
    except (WorkerLostError, InputError) as error:
        return ApiError(500, 1007, str(error))
    return _refuse(answer, pair) if isinstance(answer, Refusal) else _make_score(answer[0])


def _read_photo(pair: Pair) -> Photo:
    if pair.image is None:
        return Photo(image_id=pair.image_id)
    try:
        return Photo(data=base64.b64decode(pair.image.partition("base64,")[2] or pair.image, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, 1000, f"image is no base64: {error}") from error


def _refuse(refusal: Refusal, pair: Pair) -> ApiError:
    if refusal.is_missing_detector:
        return ApiError(409, 1005, refusal.reason)
    return ApiError(404, 1004, refusal.reason) if pair.image is None else ApiError(400, 1003, refusal.reason)


def _make_score(log_odds: float) -> Score:
    return Score(score=1 / (1 + math.exp(-max(-700.0, log_odds))), log_odds=log_odds)


def explain_validation(error: RequestValidationError) -> ApiError:
    """Returns what is wrong with a request, in one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return ApiError(400, 1000, f"{where}: {first['msg']}" if where else str(first["msg"]))
