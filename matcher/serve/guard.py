"""What every request must pass: the right host, the token, the same origin, and a bounded body. Every answer gets its
security headers here.

A page of another site can make a browser send requests to this server. It cannot make it send the ``Origin`` of our own
pages, and it cannot read the token. A name of another site that suddenly leads to this machine (DNS rebinding) shows in
``Host``.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "ernie_vil_token"
MAX_JSON = 12 << 20
"""The largest body of any other request, in bytes: a picture of 8 MB in base64 and its texts."""
MAX_UPLOAD = 4 << 30
"""The largest upload, in bytes."""
MAX_FORM = 1 << 20
"""The largest form without files, in bytes."""
UPLOADS = ("/data", "/import")
"""The ends of the addresses that take uploads."""
OPEN = ("/login", "/static/")
"""What can be seen without a token."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with no-referrer, forms of our own pages would send the origin null
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_CHANGES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Access:
    """Who may ask for what."""

    token: str | None = None
    """None: only this machine asks, and the host must be one of its names"""
    hosts: frozenset[str] = field(default_factory=lambda: frozenset({"127.0.0.1", "localhost", "::1"}))

    def admits_host(self, host: str) -> bool:
        """Says whether the server is called so. With a token, it may have any name."""
        return self.token is not None or (urlsplit(f"//{host}").hostname or "") in self.hosts

    def admits_token(self, given: str) -> bool:
        """Says whether this is the token. How long that takes tells nothing about it."""
        return self.token is None or hmac.compare_digest(_hash(given), _hash(self.token))

    def cookie(self) -> str:
        """Returns what the browser keeps in place of the token."""
        return _hash(f"cookie {self.token}").decode()

    def admits_cookie(self, given: str) -> bool:
        """Says whether this is what `cookie` returns."""
        return self.token is None or hmac.compare_digest(given.encode(), self.cookie().encode())


def is_loopback(host: str) -> bool:
    """Says whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """The checks, around an application."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        headers, path = Headers(scope=scope), scope["path"]
        refusal = self._refuse(headers, scope, path)
        if refusal is None:
            limit = _find_limit(path, headers)
            if _length(headers) > limit:
                refusal = _answer(413, f"the request has more than {limit:,} bytes", headers)
            else:
                await self._app(scope, _bounded(receive, limit), send_safely)
        if refusal is not None:
            await refusal(scope, receive, send_safely)

    def _refuse(self, headers: Headers, scope: Scope, path: str) -> Response | None:
        host = headers.get("host", "")
        if not self._access.admits_host(host):
            return _answer(421, "this server has another name; open it as http://127.0.0.1", headers)
        if scope["method"] in _CHANGES and not _is_same_origin(headers, scope["scheme"], host):
            return _answer(403, "the request comes from a page of another site", headers)
        if self._access.token is None or path.startswith(OPEN) or self._knows_token(headers):
            return None
        if "text/html" in headers.get("accept", "") and scope["method"] == "GET":
            return RedirectResponse("/login", 303)
        return _answer(401, "the token is missing or wrong; send it as Authorization: Bearer TOKEN", headers)

    def _knows_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._access.admits_token(given.strip()):
            return True
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return kept is not None and self._access.admits_cookie(kept.value)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest().encode()


def _is_same_origin(headers: Headers, scheme: str, host: str) -> bool:
    """Says whether a change comes from our own pages, or from no page at all, as from curl."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin == f"{scheme}://{host}"


def _find_limit(path: str, headers: Headers) -> int:
    if headers.get("content-type", "").startswith("multipart/form-data") and path.endswith(UPLOADS):
        return MAX_UPLOAD
    is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    return MAX_FORM if is_form else MAX_JSON


def _length(headers: Headers) -> int:
    given = headers.get("content-length", "0")
    return int(given) if given.isdecimal() else 0


def _bounded(receive: Receive, limit: int) -> Receive:
    """Counts the bytes that really come, whatever the headers say."""
    count = 0

    async def receive_bounded() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > limit:
            raise HTTPException(413, f"the request has more than {limit:,} bytes")
        return message

    return receive_bounded


def _answer(status: int, reason: str, headers: Headers) -> Response:
    if "text/html" in headers.get("accept", ""):
        return PlainTextResponse(reason, status)
    return JSONResponse({"error_code": status, "error_msg": reason}, status)
