"""Downloads that fail at once where there is no network, instead of being tried again and again."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from parsers.command import InputError

_SECONDS = 5.0
"""how long the other side may take to answer"""


def check_reachable(url: str, advice: str) -> None:
    """Checks that the server of an address, or the proxy on the way to it, answers.

    Raises:
        InputError: it does not. The message ends with ``advice``, which says what to do without a network.
    """
    wanted = urlsplit(url)
    host = wanted.hostname or ""
    server = wanted if proxy_bypass(host) else urlsplit(getproxies().get(wanted.scheme, url))
    port = server.port or (443 if server.scheme == "https" else 80)
    try:
        socket.create_connection((server.hostname or "", port), timeout=_SECONDS).close()
    except OSError as error:
        raise InputError(f"{host} cannot be reached ({error.strerror or error}); {advice}") from error
