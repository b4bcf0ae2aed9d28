"""Inside the package, too, imports point down: each part may import what its ``__init__.py`` says."""

from pathlib import Path

import pytest

import parsers
from tests.test_architecture import imported_modules

PACKAGE = Path(parsers.__file__).parent
MAY_NOT_IMPORT = {
    "dependency": {"spacy_component", "sng", "neural", "evaluate", "train", "gold", "lemmatizer", "command"},
    "neural": {"spacy_component", "sng", "dependency", "evaluate", "train", "gold", "lemmatizer", "tokens", "command"},
    "evaluate": {"train"},
}


@pytest.mark.parametrize("part", MAY_NOT_IMPORT)
def test_a_part_imports_what_lies_below_it(part):
    for path in (PACKAGE / part).rglob("*.py"):
        for module in imported_modules(path):
            top, _, rest = module.partition(".")
            assert top != "parsers" or rest.split(".")[0] not in MAY_NOT_IMPORT[part], f"{path} imports {module}"


def test_the_neural_parser_needs_no_spacy():
    for path in (PACKAGE / "neural").rglob("*.py"):
        assert not any(module.split(".")[0] == "spacy" for module in imported_modules(path)), path
