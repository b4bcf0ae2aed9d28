"""Zip archives from outside are unpacked within limits, and projects become archives."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from matcher.serve.projects.store import Project, Store, belongs
from parsers.command import InputError
from shards.pictures import EXTENSIONS
from shards.storage.files import check_free_disk
from shards.storage.unfolding import check_unfolding

MAX_FILES = 20_000
"""An upload or an archive holds at most so many files."""
MAX_UNPACKED = 1 << 33
"""An archive unfolds to at most so many bytes."""
_CHUNK = 1 << 20
_UTF8 = 0x800
"""the flag of a member whose name is UTF-8"""
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
"""what `zipfile` raises on damaged and on encrypted archives"""

Place = Callable[[str], Path | None]
"""says where the member of a name goes, or None if it is left out"""


def unpack(path: Path, place: Place) -> Iterator[str]:
    """Unpacks an archive, and yields what could not be unpacked, one line for each.

    Names inside the archive are only ever given to ``place``.

    Args:
        path: the archive.
        place: decides where each file goes. It is not asked about folders, links and devices.

    Raises:
        InputError: this is no archive that can be read, or it holds or unfolds to more than the limits allow.
    """
    held = path.stat().st_size
    with _open(path) as archive:
        members = archive.infolist()
        if len(members) > MAX_FILES:
            raise InputError(f"the archive holds {len(members):,} files, and at most {MAX_FILES:,} are taken")
        unpacked = 0
        for member in members:
            name = decode_name(member)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                yield f"{name}: is a link or a device, not a file"
                continue
            if (target := place(name)) is None:
                continue
            try:
                with archive.open(member) as source, target.open("xb") as stream:
                    while chunk := source.read(_CHUNK):
                        unpacked += len(chunk)
                        check_unfolding("the archive", unpacked, held)
                        if unpacked > MAX_UNPACKED:
                            raise InputError(f"the archive unfolds to more than {MAX_UNPACKED:,} bytes; divide it")
                        stream.write(chunk)
            except InputError:
                raise
            except _DAMAGE as error:
                target.unlink(missing_ok=True)
                if isinstance(error, OSError) and error.errno is not None:
                    raise InputError(f"the archive could not be unpacked: {error.strerror}") from error
                yield f"{name}: cannot be unpacked: {' '.join(str(error).split()) or type(error).__name__}"


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise InputError(f"this is no zip archive that can be read: {' '.join(str(error).split())}") from error
    with archive:
        yield archive


def decode_name(member: zipfile.ZipInfo) -> str:
    """Returns the name of a member. One that does not say its encoding is UTF-8 or, from Chinese Windows, GB 18030."""
    if member.flag_bits & _UTF8:
        return member.filename
    raw = member.filename.encode("cp437", "replace")
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return member.filename


# ------------------------------------------------------------------------------------------------------------ projects


def export_project(project: Project, path: Path) -> None:
    """Writes a project and its finished versions as an archive. Pictures and weights are stored as they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for name in project.files():
            archive.write(project.folder / name, name.as_posix())


def import_project(path: Path, store: Store) -> Project:
    """Makes a project of an archive that `export_project` wrote. Files that no project has are left out.

    Raises:
        InputError: it is no such archive, or damaged.
    """
    check_free_disk(store.projects, path.stat().st_size, "unpacking the archive")
    folder = store.scratch()

    def place(name: str) -> Path | None:
        if not belongs(name) or (folder / name).exists():
            return None
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        return folder / name

    try:
        for fault in unpack(path, place):
            raise InputError(f"the archive is damaged: {fault}")
        if not (folder / "project.json").is_file():
            raise InputError("the archive holds no project; it is made by the button Export of a project")
        project = Project(folder)
        for picture in project.contents.pictures:
            if Path(picture.file).suffix not in EXTENSIONS or not (project.pictures / picture.file).is_file():
                raise InputError(f"the archive has no picture {picture.file}, which it lists")
        for version in project.versions():
            if version.job.state != "finished" or not version.is_trained:
                raise InputError(f"version {version.number} of the archive is not finished; export the project again")
        return store.publish(folder, project.record.name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
