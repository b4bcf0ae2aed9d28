"""The application: pages, API, and what stands around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from matcher.packages import DISTRIBUTION
from matcher.serve import api
from matcher.serve.api import Admission, ApiError, answer_failure, explain_validation
from matcher.serve.guard import Guard
from matcher.serve.match_queue import BusyError
from matcher.serve.pages import data, projects, scores, training
from matcher.serve.pages.rendering import get_texts, render
from matcher.serve.server import Server, ServerSettings
from matcher.serve.worker.pool import WorkerLostError
from parsers.command import InputError
from shards.inspect.page import STYLE

STATIC = Path(__file__).parent / "pages/static"


def build_app(settings: ServerSettings) -> ASGIApp:
    """Builds the application. It starts to work when it is started as ASGI says (lifespan)."""
    server = Server(settings)

    @asynccontextmanager
    async def run(_: FastAPI) -> AsyncIterator[None]:
        await server.start()
        try:
            yield
        finally:
            await server.close()

    app = FastAPI(
        title="Matcher",
        description="Says which text fits which picture.",
        version=version(DISTRIBUTION),
        lifespan=run,
        docs_url=None,  # FastAPI's own page loads its scripts from another host
        redoc_url=None,
    )
    app.state.server = server
    for router in (api.router, projects.router, data.router, training.router, scores.router):
        app.include_router(router)
    app.add_api_route("/static/drawing.css", _send_style, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_exception_handler(ApiError, _handle_api_error)
    app.add_exception_handler(RequestValidationError, _handle_validation)
    app.add_exception_handler(StarletteHTTPException, _handle_http)
    app.add_exception_handler(BusyError, _handle_busy)
    for kind in (InputError, WorkerLostError, Exception):
        app.add_exception_handler(kind, _handle_failure)
    return Guard(Admission(app, server.matches), settings.access)


async def _send_style() -> Response:
    """Sends the style of what `shards.inspect.page` draws."""
    return Response(STYLE, media_type="text/css")


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


async def _handle_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return answer_failure(error)


async def _handle_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    failure = explain_validation(error)
    return _show(request, 400, str(failure)) if _wants_page(request) else answer_failure(failure)


async def _handle_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException | StarletteHTTPException)
    reason = get_texts(request)("error.missing") if error.status_code == 404 else str(error.detail)
    if _wants_page(request):
        return _show(request, error.status_code, reason)
    response = answer_failure(ApiError(error.status_code, 1001 if error.status_code == 404 else 1000, reason))
    response.headers.update(error.headers or {})
    return response


async def _handle_busy(request: Request, error: Exception) -> Response:
    assert isinstance(error, BusyError)
    reason = get_texts(request)("error.busy", seconds=error.seconds)
    response = _show(request, 503, reason)
    response.headers["Retry-After"] = str(error.seconds)
    return response


async def _handle_failure(request: Request, error: Exception) -> Response:
    """Shows what is wrong with a file on the disk, for example a damaged record. A bug is in the log of the server."""
    known = isinstance(error, InputError | WorkerLostError)
    reason = str(error) if known else get_texts(request)("error.unknown")
    return _show(request, 500, reason) if _wants_page(request) else answer_failure(ApiError(500, 1007, reason))


def _show(request: Request, status: int, reason: str) -> Response:
    return render(request, "error.html", status, error=reason)
