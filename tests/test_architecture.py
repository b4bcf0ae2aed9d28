"""Imports point down only: each folder may import what the table says, and nothing else of this project."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "parsers": set(),
    "shards": {"parsers.checksums", "parsers.command", "parsers.graph"},
    "pipeline": {"parsers", "shards"},
    "pretrain": {"parsers.checksums", "parsers.command", "shards"},
    "finetune": {"parsers.checksums", "parsers.command", "pretrain", "shards"},
}


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


@pytest.mark.parametrize("folder", [f for f in MAY_IMPORT if (ROOT / f).is_dir()])
def test_imports_point_down(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for module in imported_modules(path):
            top = module.split(".")[0]
            if top in MAY_IMPORT and top != folder:
                allowed = MAY_IMPORT[folder]
                assert top in allowed or module in allowed, f"{path.relative_to(ROOT)} imports {module}"
