"""WordNet's synsets are looked up in the files of the SPICE distribution."""

import sys

import pytest

from parsers.evaluate.synonyms import WordNetSynonyms, find_synonyms

SYNSETS = "dog\n1 2\nhound\n2\ncup\n3\nbox\n4\nhot dog\n5\nstand\n6\nglass\n7\n".replace("hot dog", "hot_dog")
EXCEPTIONS = "stand\nstood\n"


def write_files(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "english.synsets").write_text(SYNSETS)
    (folder / "english.exceptions").write_text(EXCEPTIONS)


@pytest.mark.parametrize(
    ("phrase", "synsets"),
    [
        ("dog", {"1", "2"}), ("Dogs", {"1", "2"}), ("boxes", {"4"}), ("hot dog", {"5"}), ("hot  dogs", {"5"}),
        ("stood", {"6"}), ("cupful", {"3"}), ("glass", {"7"}), ("frob", set()),
    ],
)  # fmt: skip
def test_a_phrase_has_the_synsets_of_its_stem(tmp_path, phrase, synsets):
    write_files(tmp_path)
    assert WordNetSynonyms(tmp_path)(phrase) == synsets


def test_synonyms_are_found_in_an_installed_package(tmp_path, monkeypatch):
    package = tmp_path / "factual_scene_graph"
    write_files(package / "evaluation/resources")
    (package / "__init__.py").write_text("raise SystemExit('the package is not to be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_synonyms()
    assert found is not None
    assert found("hound") == {"2"}
    assert "factual_scene_graph" not in sys.modules
