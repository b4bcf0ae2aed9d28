"""Finds out what an upload holds, row by row, before anything of it becomes part of a project.

incoming/upload.json        the names of the files that came, and how the columns of tables are called
         received/0 ...     the files
         unpacked/0 ...     the files of archives among them
         thumbnails/        small JPEGs of the pictures that can be used
         region-files/      files of regions, under names that their formats read
         regions/           the regions that came, as `pipeline.regions` writes them
         understood.json    what was found; it is written last
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from matcher.serve.projects.archives import unpack
from matcher.serve.projects.store import (
    Contents,
    ProjectPicture,
    StoredRecord,
    find_image_id,
    link_or_copy,
    picture_file,
)
from parsers.checksums import sha256_of
from parsers.command import InputError
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.execution.parts import Reject
from pipeline.extract.images import ImageSource, load_picture
from pipeline.files import location
from pipeline.parse import captions
from pipeline.parse.recognition import recognise_captions
from pipeline.regions.formats import recognise_regions
from pipeline.regions.stage import RegionsStage
from pipeline.toyworld import ToyWorld, write_world
from shards.pictures import EXTENSIONS, image_id_of_file
from shards.regions.store import RegionStore
from shards.schema import Array
from shards.storage.files import read_text_lines, write_atomic
from shards.storage.parquet import parquet_file

UPLOAD, UNDERSTOOD, PROGRESS = "upload.json", "understood.json", "progress"
RECEIVED, UNPACKED, THUMBNAILS = "received", "unpacked", "thumbnails"
REGION_FILES, REGIONS = "region-files", "regions"
TABLES = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".txt"}
REGION_ENDINGS = {".npz", ".npy", ".mdb", ".h5", ".hdf5"}
CLASS_NAMES = "class_names.txt"
THUMBNAIL = 640
"""pixels of the longer side"""
_QUALITY = 80
_SYSTEM_FILES = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
_TOLD_EVERY = 20


class Upload(StoredRecord):
    """What came, before anybody looked at it."""

    files: tuple[tuple[str, int], ...]
    """the name of each file, and its number in ``received/``"""
    columns: dict[str, str]


SAMPLE = ToyWorld(images=600, seed=11, captions=3, things=(2, 3))
"""The world of the sample: enough pictures for a matcher that clearly finds what it has not seen."""


def make_sample(incoming: Path) -> None:
    """Makes a toy world and lays it down as an upload. One that is there already is left as it is."""
    if (incoming / UPLOAD).is_file():
        return
    received, world = incoming / RECEIVED, incoming / "world"
    shutil.rmtree(received, ignore_errors=True)
    received.mkdir()
    write_world(SAMPLE, world)
    files: list[tuple[str, int]] = []
    for path in sorted(
        [*world.glob("images/*"), *world.glob("regions/*"), world / CLASS_NAMES, world / "captions.json"]
    ):
        path.rename(received / str(len(files)))
        files.append((path.name, len(files)))
    shutil.rmtree(world)
    Upload(files=tuple(files), columns={}).save(incoming / UPLOAD)


class Fault(BaseModel):
    """Something that cannot be used, or is not used."""

    model_config = ConfigDict(frozen=True)

    source: str
    """the file that it is in"""
    position: str
    reason: str


class NewPicture(ProjectPicture):
    """A picture that came, and where it lies."""

    path: Annotated[str, Field(pattern=rf"^(?:{RECEIVED}|{UNPACKED})/\d+$")]


class NewRegions(BaseModel):
    """The regions that came."""

    model_config = ConfigDict(frozen=True)

    count: int
    """pictures of the upload or the project that have regions now"""
    without: int
    """pictures that have none"""
    feature_size: int


class Understood(StoredRecord):
    """What was found in an upload."""

    pictures: tuple[NewPicture, ...] = ()
    captions: Annotated[dict[str, tuple[str, ...]], Field(default_factory=dict)]
    """new captions by image id, of pictures that came and of those that the project has"""
    duplicates: int = 0
    """pictures and captions that came or were there before, among the faults"""
    faults: tuple[Fault, ...] = ()
    regions: NewRegions | None = None

    @property
    def caption_count(self) -> int:
        """The number of new captions."""
        return sum(map(len, self.captions.values()))


def understand(incoming: Path, contents: Contents) -> None:
    """Looks at an upload and writes `Understood`.

    Args:
        incoming: the folder of the upload.
        contents: what the project holds already.
    """
    for name in (UNPACKED, THUMBNAILS, REGION_FILES, REGIONS):
        shutil.rmtree(incoming / name, ignore_errors=True)
    (incoming / THUMBNAILS).mkdir()
    _Reader(incoming, contents).read().save(incoming / UNDERSTOOD)


class _Reader:
    """Reads one upload. Whatever is wrong becomes a `Fault`."""

    def __init__(self, incoming: Path, contents: Contents) -> None:
        self._incoming = incoming
        self._upload = Upload.load(incoming / UPLOAD)
        self._known = {picture.image_id: picture for picture in contents.pictures}
        self._pictures: dict[str, NewPicture] = {}
        self._by_checksum: dict[str, ProjectPicture] = {picture.sha256: picture for picture in contents.pictures}
        self._captions: dict[str, dict[str, None]] = {}
        self._same: dict[str, str] = {}
        """for the image id of a picture that came before under another name, the id that it has"""
        self._faults: list[Fault] = []
        self._duplicates = 0

    def read(self) -> Understood:
        """Reads all files: pictures first, because captions and regions name them."""
        files = list(self._unpack())
        kinds = {name: _find_kind(name) for name, _ in files}
        pictures = [file for file in files if kinds[file[0]] == "picture"]
        for number, (name, path) in enumerate(pictures):
            if number % _TOLD_EVERY == 0:
                write_atomic(self._incoming / PROGRESS, f"{number} {len(pictures)}".encode())
            self._read_picture(name, path)
        regions = [file for file in files if kinds[file[0]] == "regions"]
        for name, path in files:
            if kinds[name] == "table":
                if self._is_regions(path):
                    regions.append((name, path))
                else:
                    self._read_captions(name, path)
            elif kinds[name] is None:
                self._refuse(name, "the file", "no picture, no table of captions and no file of regions")
        class_names = next((path for name, path in files if kinds[name] == "class names"), None)
        found = self._read_regions(regions, class_names) if regions else None
        for image_id, picture in self._pictures.items():
            if image_id not in self._captions:
                self._refuse(picture.name, "the file", "a picture without a caption")
        return Understood(
            pictures=tuple(self._pictures.values()),
            captions={image_id: tuple(texts) for image_id, texts in self._captions.items()},
            duplicates=self._duplicates,
            faults=tuple(self._faults),
            regions=found,
        )

    def _refuse(self, source: str, position: str, reason: str) -> None:
        shown = (text.encode("utf-8", "backslashreplace").decode() for text in (source, position, reason))
        self._faults.append(Fault(**dict(zip(("source", "position", "reason"), shown, strict=True))))

    def _repeat(self, source: str, position: str, reason: str) -> None:
        self._duplicates += 1
        self._refuse(source, position, reason)

    def _unpack(self) -> Iterator[tuple[str, Path]]:
        """Yields the name and the path of each file; those of archives in place of the archives."""
        unpacked = self._incoming / UNPACKED
        unpacked.mkdir()
        count = 0
        for name, number in self._upload.files:
            path = self._incoming / RECEIVED / str(number)
            if not name.lower().endswith(".zip"):
                yield name, path
                continue
            names: list[tuple[str, Path]] = []

            def place(member: str, names: list[tuple[str, Path]] = names) -> Path | None:
                nonlocal count
                if _is_system_file(member):
                    return None
                count += 1
                names.append((member, unpacked / str(count - 1)))
                return names[-1][1]

            try:
                for fault in unpack(path, place):
                    self._refuse(name, "a file in it", fault)
            except InputError as error:
                self._refuse(name, "the archive", str(error))
            yield from ((member, place) for member, place in names if place.is_file())

    # -------------------------------------------------------------------------------------------------------- pictures

    def _read_picture(self, name: str, path: Path) -> None:
        image_id = find_image_id(image_id_of_file(name, "auto"))
        sha256 = sha256_of(path)
        if (same := self._by_checksum.get(sha256)) is not None:
            self._same[image_id] = same.image_id
            self._repeat(name, "the file", f"the same picture as {same.name}")
            return
        if (other := self._pictures.get(image_id) or self._known.get(image_id)) is not None:
            self._refuse(name, "the file", f"another picture is called {other.name}, too")
            return
        pixels = load_picture(ImageSource(image_id, path, "the file"))
        if isinstance(pixels, Reject):
            self._refuse(name, "the file", pixels.reason)
            return
        self._draw_thumbnail(image_id, pixels)
        height, width, _ = pixels.shape
        picture = NewPicture(
            image_id=image_id,
            file=picture_file(image_id, name),
            name=Path(name.replace("\\", "/")).name,
            sha256=sha256,
            width=width,
            height=height,
            path=path.relative_to(self._incoming).as_posix(),
        )
        self._pictures[image_id] = self._by_checksum[sha256] = picture

    def _draw_thumbnail(self, image_id: str, pixels: Array) -> None:
        small = Image.fromarray(pixels)
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        small.save(self._incoming / THUMBNAILS / f"{image_id}.jpg", "JPEG", quality=_QUALITY)

    # -------------------------------------------------------------------------------------------------------- captions

    def _read_captions(self, name: str, path: Path) -> None:
        columns = self._upload.columns
        try:
            format, _ = recognise_captions(path, columns)
            for row in captions.read(path, format, columns):
                if isinstance(row, Reject):
                    self._refuse(name, row.position, row.reason)
                    continue
                image_id = self._find_picture(row.image_id)
                if image_id is None:
                    self._refuse(name, row.position, f"there is no picture {row.image_id}")
                    continue
                before = self._known[image_id].captions if image_id in self._known else ()
                of_picture = self._captions.setdefault(image_id, {})
                if row.caption in of_picture or row.caption in before:
                    self._repeat(name, row.position, f"the same caption of {image_id} came before")
                else:
                    of_picture[row.caption] = None
        except InputError as error:
            self._refuse(name, "the file", _explain(str(error), path))

    def _find_picture(self, name: str) -> str | None:
        """Returns the image id of the picture that a caption is of; it may name the file."""
        for image_id in (name, image_id_of_file(name, "auto")):
            image_id = find_image_id(image_id)
            image_id = self._same.get(image_id, image_id)
            if image_id in self._pictures or image_id in self._known:
                return image_id
        return None

    # --------------------------------------------------------------------------------------------------------- regions

    def _is_regions(self, path: Path) -> bool:
        """Says whether a table is one of regions: their formats are told by the first line."""
        try:
            format, _ = recognise_regions([location(path)])
            return format != "parquet" or "features" in parquet_file(path).schema_arrow.names
        except (InputError, OSError):
            return False

    def _read_regions(self, files: list[tuple[str, Path]], class_names: Path | None) -> NewRegions | None:
        folder = self._incoming / REGION_FILES
        folder.mkdir()
        paths = []
        for name, path in sorted(files):
            # Some formats tell the picture by the name of the file.
            kept = folder / f"{find_image_id(Path(name).stem)}{Path(name).suffix.lower()}"
            if kept.exists():
                self._repeat(name, "the file", "another file of regions has the same name")
                continue
            link_or_copy(path, kept)
            paths.append(location(kept))
        try:
            names = None if class_names is None else read_text_lines(class_names)
            stage = RegionsStage.open(paths, recognise_regions(paths)[0], class_names=names)
            out = self._incoming / REGIONS
            run_stage(stage, location(out), Engine(), max_rejects=1, overwrite=False)
            store = RegionStore([out])
        except InputError as error:
            self._refuse("regions", "the files", _explain(str(error), folder))
            shutil.rmtree(self._incoming / REGIONS, ignore_errors=True)
            return None
        wanted = [*self._known, *self._pictures]
        count = sum(image_id in store for image_id in wanted)
        if not count:
            self._refuse("regions", "the files", "no picture has the image id of these regions")
        return NewRegions(count=count, without=len(wanted) - count, feature_size=store.feature_size)


def _find_kind(name: str) -> str | None:
    path = Path(name.replace("\\", "/"))
    suffix = path.suffix.lower()
    if path.name.lower() == CLASS_NAMES:
        return "class names"
    if suffix in EXTENSIONS:
        return "picture"
    if suffix in TABLES:
        return "table"
    return "regions" if suffix in REGION_ENDINGS else None


def _is_system_file(name: str) -> bool:
    parts = Path(name.replace("\\", "/")).parts
    return any(part in _SYSTEM_FILES or part.startswith("._") for part in parts)


def _explain(message: str, path: Path) -> str:
    """Returns a message without the path, which nobody gave, and without the advice that is for command lines."""
    text = message.removeprefix(f"{path}: ").replace(f"{path.parent}/", "").replace(f"{path}/", "")
    return text.split("; name it with --format")[0].split("; say which to read with --columns")[0]
