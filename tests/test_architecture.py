"""Imports point down only, and the map of the code in docs/architecture.md is true."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("parsers", "shards", "pipeline", "pretrain", "finetune", "matcher")
MAY_IMPORT = {
    "parsers": set(),
    "shards": {"parsers.checksums", "parsers.command", "parsers.graph"},
    "pipeline": {"parsers", "shards"},
    "pretrain": {"parsers.checksums", "parsers.command", "parsers.device", "shards"},
    "finetune": {
        *("parsers.checksums", "parsers.command", "parsers.device", "pretrain", "shards", "pipeline.holdout"),
        *("pipeline.parse", "pipeline.parse.captions", "pipeline.parse.options"),
        *("pipeline.parse.recognition", "pipeline.parse.rows"),
    },
    "matcher": {"parsers", "shards", "pipeline", "pretrain", "finetune"},
}
"""The other packages, or modules of them, that a package may import."""

MAP = (ROOT / "docs/architecture.md").read_text()


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_point_down(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for module in imported_modules(path):
            top = module.split(".")[0]
            if top in MAY_IMPORT and top != folder:
                allowed = MAY_IMPORT[folder]
                assert top in allowed or module in allowed, f"{path.relative_to(ROOT)} imports {module}"


def lines_of_folders():
    """Folder by folder, what its line in the map says that it may import."""
    return {
        folder: re.findall(r"`([^`]+)`", may)
        for folder, may in re.findall(r"^\| `([\w/]+)/` \| [^|]+ \| ([^|]+) \|", MAP, re.M)
    }


def is_listed(module, listed):
    """Says whether a line allows a module: ``shards`` is a folder with all below it, ``shards/`` its own modules."""
    path = module.replace(".", "/")
    here = path if (ROOT / path).is_dir() else path.rpartition("/")[0]
    for name in listed:
        if name.endswith("/__init__.py"):
            allowed = path == name.removesuffix("/__init__.py")
        elif name.endswith("/"):
            allowed = here == name.removesuffix("/")
        else:
            allowed = f"{module}.".startswith(f"{name}.")
        if allowed:
            return True
    return False


@pytest.mark.parametrize("folder", lines_of_folders())
def test_a_folder_imports_what_its_line_in_the_map_lists(folder):
    package = folder.split("/")[0]
    own = folder + "/" if folder == package else folder.replace("/", ".")
    ground = ["parsers.checksums", "parsers.command", "parsers.device"] if package != "parsers" else []
    listed = [own, *lines_of_folders()[folder], *ground]
    for path in (ROOT / folder).glob("*.py"):
        for module in imported_modules(path):
            if module.split(".")[0] in PACKAGES:
                assert is_listed(module, listed), f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_describes_every_folder(package):
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
    missing = [folder for folder in sorted(folders) if f"\n| `{folder}/` |" not in MAP]
    assert not missing, f"docs/architecture.md has no line for {', '.join(missing)}"


def test_the_map_names_files_that_exist():
    named = set(re.findall(r"`([\w./]+/(?:[\w.]+\.py)?)`", MAP)) | set(re.findall(r"\]\(([\w./]+)\)", MAP))
    missing = [name for name in sorted(named) if not (ROOT / name).exists() and not (ROOT / "docs" / name).exists()]
    assert not missing, f"docs/architecture.md names {', '.join(missing)}"


def rows_of_map():
    """The rows of tables that say which names are in which file."""
    for line in MAP.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        for cell, other in (cells[:2], cells[1::-1]) if len(cells) == 3 else ():
            if re.fullmatch(r"`[\w/]+\.py`", cell):
                yield cell.strip("`"), re.findall(r"`([\w.]+)`", other)


@cache
def names_in(file):
    """The classes, functions and methods of a file."""
    found = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
    return found


def test_the_map_names_functions_where_they_are():
    rows = list(rows_of_map())
    assert len(rows) > 60
    for file, names in rows:
        assert names, f"docs/architecture.md names nothing in {file}"
        missing = [name for name in names if name not in names_in(file)]
        assert not missing, f"docs/architecture.md: {file} has no {', '.join(missing)}"
