"""All texts are in the catalogue, in every language."""

import re
import string

import pytest

from matcher.serve.pages.texts import FOLDER, LANGUAGES, Texts, choose_language, load_catalogue

KNOWN = load_catalogue("en")
NO_TEXTS = {"incoming.csv"}
"""what looks like the key of a text and is none"""
TEMPLATES = FOLDER.parent / "templates"


def fields_of(text):
    return {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_have_the_same_texts_with_the_same_gaps(language):
    english, other = load_catalogue("en"), load_catalogue(language)
    assert english.keys() == other.keys()
    assert {key: fields_of(text) for key, text in other.items()} == {k: fields_of(text) for k, text in english.items()}
    assert all(text.strip() for text in other.values())


def test_templates_and_pages_use_what_is_there_and_all_of_it():
    sources = [*TEMPLATES.glob("*.html"), *FOLDER.parent.glob("*.py"), FOLDER.parents[1] / "app.py"]
    code = "".join(path.read_text() for path in sources)
    sections = "|".join({key.split(".")[0] for key in KNOWN})
    used = set(re.findall(rf"""["']((?:{sections})\.[a-z_]+)["']""", code))
    beginnings = tuple(re.findall(r"""["']([a-z]+\.(?:[a-z]+_)?)(?:["'] ~|\{)""", code))
    assert {key for key in used if not key.endswith((".html", "_"))} <= KNOWN.keys() | NO_TEXTS
    assert not {key for key in KNOWN if key not in used and not key.startswith(beginnings)}


def test_the_language_is_the_chosen_one_or_the_first_that_the_browser_knows():
    assert choose_language(None, "") == "en"
    assert choose_language(None, "fr-FR,zh-CN;q=0.9,en;q=0.8") == "zh"
    assert choose_language("en", "zh") == "en"
    assert choose_language("xx", "zh-TW") == "zh"


def test_numbers_in_texts_have_commas():
    assert Texts("en")("data.counts", pictures=1200, captions=3) == "1,200 pictures with 3 captions"
