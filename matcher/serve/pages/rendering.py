"""Makes pages of templates, and finds what their addresses name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from matcher.serve.pages.texts import COOKIE, LANGUAGES, Texts, choose_language
from matcher.serve.projects.store import Project, Version
from matcher.serve.server import Server
from matcher.serve.worker.pool import WorkerLostError
from parsers.command import InputError, make_visible
from shards.inspect.page import ARROW

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def _show_bytes(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"


def show_seconds(seconds: int) -> str:
    """Returns a time for people."""
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds % 60:02d} s"


TEMPLATES.globals["arrow"] = ARROW
TEMPLATES.filters |= {
    "bytes": _show_bytes,
    "duration": show_seconds,
    "percent": lambda share: f"{share:.1%}",
    "count": lambda number: f"{number:,}",
    "visible": make_visible,
    "drawn": Markup,  # what `shards.inspect.page` drew; it escapes all text
}


def get_server(request: Request) -> Server:
    """Returns the parts of the server."""
    server: Server = request.app.state.server
    return server


def get_texts(request: Request) -> Texts:
    """Returns the texts in the language of the browser."""
    return Texts(choose_language(request.cookies.get(COOKIE), request.headers.get("accept-language", "")))


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Makes a page."""
    t = get_texts(request)
    page = TEMPLATES.get_template(template).render(
        t=t, languages=LANGUAGES, path=request.url.path, **{"project": None, "tab": None, "error": None, **values}
    )
    return HTMLResponse(page, status, {"Cache-Control": "no-store", "Vary": "Cookie, Accept-Language"})


def go_to(address: str) -> RedirectResponse:
    """Sends the browser to another page after a change, so that going back does not repeat it."""
    return RedirectResponse(address, 303)


def find_project(request: Request, key: str) -> Project:
    """Returns a project.

    Raises:
        HTTPException: 404, there is none of this key.
    """
    project = get_server(request).store.find(key)
    if project is None:
        raise HTTPException(404)
    return project


def find_version(request: Request, key: str, number: int) -> tuple[Project, Version]:
    """Returns a version of a project.

    Raises:
        HTTPException: 404, there is no such version.
    """
    project = find_project(request, key)
    version = project.version(number)
    if version is None:
        raise HTTPException(404)
    return project, version


def list_trained(project: Project) -> list[Version]:
    """Returns the versions that are finished, the newest one first."""
    return [version for version in reversed(project.versions()) if version.is_trained]


@contextmanager
def explain(request: Request) -> Iterator[list[str]]:
    """Collects what goes wrong inside, as lines for the page."""
    lines: list[str] = []
    try:
        yield lines
    except InputError as error:
        lines.append(make_visible(str(error)))
    except WorkerLostError as error:
        lines.append(get_texts(request)("error.lost", reason=str(error)))
