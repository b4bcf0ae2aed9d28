"""The command ``python -m matcher.serve``."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from parsers.command import InputError, run, say

app = typer.Typer(add_completion=False)
DATA = Path("~/.local/share/ernie-vil")
_TOKEN_LENGTH = 16


@app.command(epilog="Example: ernie-vil serve --data my-projects")
def main(
    data: Annotated[Path, typer.Option(help="The folder for all projects.")] = DATA,
    models: Annotated[
        Path, typer.Option(help="A folder with models to start from: runs of pretraining, imported ERNIE-ViL.")
    ] = Path("runs"),
    host: Annotated[str, typer.Option(help="The address to listen at. Any but this machine's own needs --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen at; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None, typer.Option(help="Ask for this word, of 16 characters or more.", envvar="ERNIE_VIL_TOKEN")
    ] = None,
) -> None:
    """Serve pages on which matchers are trained and tried without writing code, and an address that scores."""
    from matcher.serve.guard import is_loopback  # late: a server's packages take a while

    if token is None and not is_loopback(host):
        raise typer.BadParameter("other machines can reach this address; give --token", param_hint="--host")
    if token is not None and len(token) < _TOKEN_LENGTH:
        raise typer.BadParameter(f"fewer than {_TOKEN_LENGTH} characters can be guessed", param_hint="--token")
    _serve(data.expanduser(), models, host, port, token)


def _serve(data: Path, models: Path, host: str, port: int, token: str | None) -> None:
    try:
        import uvicorn

        from matcher.serve.app import build_app
        from matcher.serve.guard import Access
        from matcher.serve.server import ServerSettings
    except ModuleNotFoundError as error:
        raise InputError(
            f"the pages need another package ({error.name}): pip install 'ernie-vil-pytorch[serve]'"
        ) from error
    from shards.storage.lock import lock_folder

    with lock_folder(data), _listen(host, port) as listening:
        built = build_app(ServerSettings(data, (models.absolute(),), Access(token)))
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{listening.getsockname()[1]} (open it in a browser; Ctrl-C ends it, a training goes on)")
        config = uvicorn.Config(built, log_level="warning", lifespan="on", server_header=False, timeout_keep_alive=15)
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        raise InputError(
            f"{host}, port {port}: cannot be listened at: {error.strerror}; name another --port"
        ) from error
    return listening


if __name__ == "__main__":
    run(app)
