"""Downloads that fail at once where there is no network, instead of being tried again and again."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from parsers.command import InputError

_SECONDS = 5.0
"""how long the other side may take to answer"""
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""what the file with the weights of a Hugging Face model is called; of two, the first is read"""


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


def fetch_from_hub(model: str, files: Sequence[str], option: str) -> Path:
    """Returns the first of some files that a model of the Hugging Face hub has. One that was fetched before is kept.

    Args:
        model: its id.
        files: names, the preferred one first.
        option: what the user gave the id to. The messages say what else can be given to it.

    Raises:
        InputError: no model is so called, it has none of the files, or the hub cannot be reached.
    """
    # Imported late: it takes a while, and most models are folders.
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    missing = f"{option} {model}: no file or folder here"
    for file in files:
        try:
            kept = try_to_load_from_cache(model, file)
        except HFValidationError as error:
            raise InputError(f"{missing}, and no model of the hub is so called") from error
        if isinstance(kept, str):
            return Path(kept)
    address = f"{ENDPOINT}/{model}"
    advice = f"fetch {address}/resolve/main/{files[-1]} elsewhere and give {option} the folder that you put it in"
    check_reachable(address, f"{missing}; a model of the hub needs a network: {advice}")
    for file in files:
        try:
            return Path(hf_hub_download(model, file))
        except (OSError, EntryNotFoundError) as error:
            reason = error
    raise InputError(f"{missing}, and the hub has no {' or '.join(files)} of a model so called ({reason}); {advice}")


def find_weights(source: str, option: str) -> Path:
    """Returns the file with the weights of a model in the Hugging Face layout: a folder, or a model of the hub.

    Args:
        source: the folder, or the id of the model.
        option: see `fetch_from_hub`.

    Raises:
        InputError: there is no such folder or model, or it holds no weights.
    """
    folder = Path(source)
    if not folder.is_dir():
        return fetch_from_hub(source, _WEIGHTS, option)
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{source}: holds neither {' nor '.join(_WEIGHTS)}")
