"""The Hugging Face hub. It computes the checksums of what it holds, so nothing is read again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from parsers.command import InputError
from shards.push.transfer import PushedFile, State

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile

HUB = "hf://datasets/"
_KIND = "dataset"


class HubStore:
    """A data set of the hub. See `shards.push.transfer.Store`."""

    batch = 50
    """A commit takes some seconds, and the hub allows only so many in an hour."""

    def __init__(self, url: str, repository: str, folder: str, api: HfApi) -> None:
        self.url, self._repository, self._prefix, self._api = url, repository, f"{folder}/" if folder else "", api
        self._listed: dict[str, RepoFile] | None = None

    @classmethod
    def open(cls, url: str) -> Self:
        """Opens, or makes, the data set ``hf://datasets/USER/NAME``; a folder in it may follow.

        Raises:
            InputError: the URL names none, or the hub refuses.
        """
        from huggingface_hub import HfApi  # imported late, because --help should answer at once

        user, _, rest = url.removeprefix(HUB).strip("/").partition("/")
        name, _, folder = rest.partition("/")
        if not user or not name:
            raise InputError(f"{url}: a data set of the hub is called {HUB}USER/NAME")
        store = cls(url.rstrip("/"), f"{user}/{name}", folder, HfApi())
        with store._explain():
            store._api.create_repo(store._repository, repo_type=_KIND, private=True, exist_ok=True)
        return store

    def names(self) -> set[str]:
        """See `shards.push.transfer.Store`."""
        return set(self._list())

    def compare(self, file: PushedFile) -> State:
        """See `shards.push.transfer.Store`."""
        found = self._list().get(file.name)
        if found is None:
            return "missing"
        if found.lfs is not None:
            return "same" if (found.lfs.sha256, found.lfs.size) == (file.sha256, file.size) else "other"
        return "same" if found.blob_id == _git_hash(file.path.read_bytes()) else "other"

    def put(self, files: Sequence[PushedFile]) -> None:
        """See `shards.push.transfer.Store`."""
        from huggingface_hub import CommitOperationAdd

        self._commit([CommitOperationAdd(self._prefix + file.name, file.path) for file in files], "Add files")

    def write(self, name: str, data: bytes) -> None:
        """See `shards.push.transfer.Store`."""
        from huggingface_hub import CommitOperationAdd

        self._commit([CommitOperationAdd(self._prefix + name, data)], f"Add {name}")

    def read(self, name: str) -> bytes:
        """See `shards.push.transfer.Store`."""
        with self._explain():
            path = self._api.hf_hub_download(self._repository, self._prefix + name, repo_type=_KIND)
        return Path(path).read_bytes()

    def remove(self, name: str) -> None:
        """See `shards.push.transfer.Store`."""
        from huggingface_hub import CommitOperationDelete

        self._commit([CommitOperationDelete(self._prefix + name)], f"Remove {name}")

    def _commit(self, operations: Sequence[CommitOperationAdd | CommitOperationDelete], message: str) -> None:
        self._listed = None
        with self._explain():
            self._api.create_commit(self._repository, operations, commit_message=message, repo_type=_KIND)

    def _list(self) -> dict[str, RepoFile]:
        """The files there, as the hub described them after the last commit."""
        from huggingface_hub import RepoFile

        if self._listed is None:
            with self._explain():
                tree = list(self._api.list_repo_tree(self._repository, recursive=True, repo_type=_KIND))
            files = [entry for entry in tree if isinstance(entry, RepoFile) and entry.path.startswith(self._prefix)]
            self._listed = {file.path.removeprefix(self._prefix): file for file in files}
        return self._listed

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """Turns what the hub raises into a message."""
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        try:
            yield
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{self.url}: {reason}; sign in with `hf auth login`, and run the same command again"
            ) from error


def _git_hash(data: bytes) -> str:
    """The name that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
