"""Projects on the disk: their pictures and captions, their regions, and the versions that were trained.

    DATA/projects/KEY/project.json      name, and the version that is in use
                      contents.json     pictures with their captions
                      pictures/         one file for each picture, named by its image id
                      thumbnails/       small JPEGs of them, which the pages show
                      regions/          what `pipeline.regions` writes, if region files were given
                      incoming/         an upload that was not taken in yet
                      versions/N/       see `Version`

Records are replaced as a whole and hold a checksum. Nobody's text becomes a path: image ids and keys are checked first.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import unicodedata
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from matcher.run_record import FIGURES, MODEL, REPORT, RESULTS, RUN, WORK, read_run
from parsers.command import InputError
from shards.pictures import EXTENSIONS
from shards.stage_folder import REPORT as STAGE_REPORT
from shards.storage.files import TEMPORARY, read_record, write_atomic, write_record

KEY = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
"""What a project is called in addresses and on the disk."""
IMAGE_ID = r"[\w()+,=@~-][\w()+,=@~. -]{0,79}"
"""Image ids of projects: letters and digits of any script. They become names of files, so they hold no slash."""
MAX_NAME = 80
_PICTURE_FILE = rf"{IMAGE_ID}\.[a-z0-9]{{2,5}}"

State = Literal["queued", "running", "stopped", "failed", "finished"]


class StoredRecord(BaseModel):
    """A file with a checksum whose content is checked when it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads it.

        Raises:
            InputError: it is missing or damaged.
        """
        try:
            return cls.model_validate(read_record(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{path}: cannot be used: {where}: {first['msg']}") from error

    def save(self, path: Path) -> None:
        """Writes it, whole or not at all."""
        write_record(self.model_dump(mode="json"), path)


class ProjectRecord(StoredRecord):
    """What a project is called, and which version answers."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    in_use: int | None = None


class ProjectPicture(BaseModel):
    """A picture of a project and its captions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: Annotated[str, Field(pattern=f"^{IMAGE_ID}$")]
    file: Annotated[str, Field(pattern=f"^{_PICTURE_FILE}$")]
    name: str
    """the name of the file as it was given, for people only"""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    width: int
    height: int
    captions: tuple[str, ...] = ()


class Contents(StoredRecord):
    """The pictures of a project, in the order in which they came."""

    pictures: tuple[ProjectPicture, ...] = ()

    @property
    def captioned(self) -> list[ProjectPicture]:
        """The pictures that have captions."""
        return [picture for picture in self.pictures if picture.captions]

    @property
    def caption_count(self) -> int:
        """The number of captions."""
        return sum(len(picture.captions) for picture in self.pictures)


class JobRecord(StoredRecord):
    """What a version is trained from, and how far that is."""

    start: str | None
    """the path of the model to start from; None: a small model starts from nothing"""
    start_name: str
    given_regions: bool
    """whether the regions of the project are used, or a detector finds them"""
    state: State
    queued_ns: int
    """when it was put in the queue; it decides the order"""
    message: str = ""
    """why it failed, in one line"""


class Version:
    """A training and the matcher that came of it.

    data/ holds what it learns from, as it was when the training was asked for; its pictures are links, and go when the
    training is finished. matcher/ is what `matcher.train` writes, and log.txt what it printed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, int(folder.name)
        self.data, self.matcher = folder / "data", folder / "matcher"
        self.pictures, self.captions = self.data / "pictures", self.data / "captions.jsonl"
        self.given_regions = self.data / "regions"
        self.log = folder / "log.txt"

    @property
    def job(self) -> JobRecord:
        """Reads what it is trained from, and how far that is."""
        return JobRecord.load(self.folder / "job.json")

    def save_job(self, job: JobRecord) -> None:
        """Writes the same."""
        job.save(self.folder / "job.json")

    @property
    def is_trained(self) -> bool:
        """Whether the matcher and its report are there."""
        if not (self.matcher / REPORT / FIGURES).is_file() or not (self.matcher / MODEL).is_dir():
            return False
        return RESULTS in read_run(self.matcher)

    @property
    def regions(self) -> Path:
        """The folder of the regions that it learned from."""
        found = self.matcher / WORK / "regions"
        return found if (found / STAGE_REPORT).is_file() else self.given_regions

    def read_figures(self) -> dict[str, object]:
        """Reads what the report says, see `matcher.report`.

        Raises:
            InputError: the file is damaged.
        """
        return read_record(self.matcher / REPORT / FIGURES)


class Project:
    """The folder of a project."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.key = folder, folder.name
        self.pictures, self.thumbnails = folder / "pictures", folder / "thumbnails"
        self.regions, self.incoming = folder / "regions", folder / "incoming"

    @property
    def record(self) -> ProjectRecord:
        """Reads its name, and which version is in use."""
        return ProjectRecord.load(self.folder / "project.json")

    def save_record(self, record: ProjectRecord) -> None:
        """Writes the same."""
        record.save(self.folder / "project.json")

    @property
    def contents(self) -> Contents:
        """Reads its pictures and captions."""
        path = self.folder / "contents.json"
        return Contents.load(path) if path.is_file() else Contents()

    def save_contents(self, contents: Contents) -> None:
        """Writes the same."""
        contents.save(self.folder / "contents.json")

    @property
    def has_regions(self) -> bool:
        """Whether it holds region files."""
        return (self.regions / STAGE_REPORT).is_file()

    def versions(self) -> list[Version]:
        """Returns its versions, the oldest one first."""
        folders = (self.folder / "versions").glob("[1-9]*")
        found = [Version(folder) for folder in folders if folder.name.isdecimal() and (folder / "job.json").is_file()]
        return sorted(found, key=lambda version: version.number)

    def version(self, number: int) -> Version | None:
        """Returns the version of a number, or None."""
        return next((version for version in self.versions() if version.number == number), None)

    @property
    def version_in_use(self) -> Version | None:
        """The version that answers, if there is one."""
        in_use = self.record.in_use
        return None if in_use is None else self.version(in_use)

    def add_version(self, job: JobRecord) -> Version:
        """Makes a version of the pictures, captions and regions as they are now."""
        numbers = [int(path.name) for path in (self.folder / "versions").glob("[1-9]*") if path.name.isdecimal()]
        version = Version(self.folder / "versions" / str(1 + max(numbers, default=0)))
        lines = []
        version.pictures.mkdir(parents=True)
        for picture in self.contents.captioned:
            link_or_copy(self.pictures / picture.file, version.pictures / picture.file)
            lines += [
                CaptionLine(image_id=picture.image_id, caption=text).model_dump_json() for text in picture.captions
            ]
        write_atomic(version.captions, "".join(f"{line}\n" for line in lines).encode())
        if job.given_regions:
            shutil.copytree(self.regions, version.given_regions, copy_function=link_or_copy)
        version.save_job(job)  # last: a version without it is none
        return version

    def files(self) -> Iterator[Path]:
        """Yields the files that belong to a copy, by their path in the folder: all but unfinished trainings."""
        finished = {version.number for version in self.versions() if version.is_trained}
        for path in sorted(self.folder.rglob("*")):
            below = path.relative_to(self.folder)
            is_ours = belongs(below.as_posix()) and path.is_file() and not path.is_symlink()
            if is_ours and (below.parts[0] != "versions" or int(below.parts[1]) in finished):
                yield below

    def size(self) -> int:
        """Returns the bytes that it takes on the disk. A file with two names counts once."""
        sizes = {}
        for place, _, names in os.walk(self.folder):
            for name in names:
                try:
                    status = Path(place, name).lstat()
                except FileNotFoundError:  # a training is writing
                    continue
                sizes[status.st_dev, status.st_ino] = status.st_size
        return sum(sizes.values())


class CaptionLine(BaseModel):
    """A line of the captions that a version learns from."""

    image_id: str
    caption: str


_NAME = r"[^/.][^/]*"
_BELONGS = re.compile(
    rf"project\.json|contents\.json|(?:pictures|thumbnails|regions)/{_NAME}|versions/[1-9]\d{{0,5}}/"
    rf"(?:job\.json|log\.txt|data/captions\.jsonl|data/regions/{_NAME}|"
    rf"matcher/(?:{re.escape(RUN)}|(?:{MODEL}|{REPORT})/{_NAME}|{WORK}/regions/{_NAME}))"
)


def belongs(path: str) -> bool:
    """Says whether a file of a project's folder, given by its path with slashes, belongs to a copy."""
    return _BELONGS.fullmatch(path) is not None and not path.endswith(TEMPORARY)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Gives a file another name, or copies it where the disk has no links. Files here are replaced, never changed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def find_image_id(name: str) -> str:
    """Returns the image id for a name: the same if it can name a file, else one in which other characters are _."""
    text = unicodedata.normalize("NFC", name)
    if re.fullmatch(IMAGE_ID, text) and not text.endswith((".", " ")) and len(text.encode()) <= 200:
        return text
    digest = uuid.uuid5(uuid.NAMESPACE_URL, text.encode("utf-8", "surrogatepass").hex()).hex[:8]
    shown = re.sub(r"[^\w-]+", "_", text.encode("utf-8", "replace").decode())[:40]
    return f"{shown}-{digest}".lstrip("_")


def picture_file(image_id: str, name: str) -> str:
    """Returns the name under which a picture is kept, with the ending that it had."""
    ending = Path(name).suffix.lower()
    return f"{image_id}{ending if ending in EXTENSIONS else '.jpg'}"


class Store:
    """All projects of a data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.projects = self.folder / "projects"
        self.models = self.folder / "models"
        self.temporary = self.folder / "temporary"
        for path in (self.projects, self.models, self.temporary):
            path.mkdir(parents=True, exist_ok=True)

    def clean(self) -> None:
        """Removes what killed runs left: archives, and projects that were being made or deleted."""
        shutil.rmtree(self.temporary)
        self.temporary.mkdir()
        for path in self.projects.glob(f".*{TEMPORARY}"):
            shutil.rmtree(path, ignore_errors=True)

    def list_projects(self) -> list[Project]:
        """Returns all projects, by name."""
        found = [Project(path) for path in self.projects.iterdir() if KEY.fullmatch(path.name)]
        return sorted(
            (project for project in found if (project.folder / "project.json").is_file()),
            key=lambda project: (project.record.name.casefold(), project.key),
        )

    def find(self, key: str) -> Project | None:
        """Returns the project of a key, or None."""
        project = Project(self.projects / key)
        return project if KEY.fullmatch(key) and (project.folder / "project.json").is_file() else None

    def create(self, name: str) -> Project:
        """Makes an empty project."""
        folder = self.scratch()
        record = ProjectRecord(name=name)
        record.save(folder / "project.json")
        return self.publish(folder, name)

    def copy(self, project: Project, name: str) -> Project:
        """Makes a project with the same pictures and the same finished versions."""
        folder = self.scratch()
        for path in project.files():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(project.folder / path, folder / path)
        return self.publish(folder, name)

    def scratch(self) -> Path:
        """Makes a folder in which a project can be put together."""
        folder = self.projects / f".{uuid.uuid4().hex[:12]}{TEMPORARY}"
        folder.mkdir()
        return folder

    def publish(self, folder: Path, name: str) -> Project:
        """Makes a project of a folder that `scratch` made, under a free key like its name.

        Raises:
            InputError: the folder holds no project.
        """
        record = ProjectRecord.load(folder / "project.json")
        record.model_copy(update={"name": name}).save(folder / "project.json")
        for key in propose_keys(name):
            if not (self.projects / key).exists():
                folder.rename(self.projects / key)
                return Project(self.projects / key)
        raise AssertionError("there is no end of keys")

    def delete(self, project: Project) -> None:
        """Removes a project with all that it holds."""
        folder = self.projects / f".{uuid.uuid4().hex[:12]}{TEMPORARY}"
        project.folder.rename(folder)
        shutil.rmtree(folder, ignore_errors=True)


def propose_keys(name: str) -> Iterator[str]:
    """Yields keys for a name: "Red Toys" gives red-toys, red-toys-2 and so on; a name in another script, project."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:30].strip("-") or "project"
    yield base
    number = 2
    while True:
        yield f"{base}-{number}"
        number += 1


def now_ns() -> int:
    """Returns the time by which trainings queue."""
    return time.time_ns()
