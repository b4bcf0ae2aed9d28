"""All texts of the pages, in every language: one file for each in ``catalogue/``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent / "catalogue"
LANGUAGES = {"en": "English", "zh": "中文"}
COOKIE = "ernie_vil_language"


@cache
def load_catalogue(language: str) -> Mapping[str, str]:
    """Returns the texts of a language by key: ``data.title`` is ``title`` in the section ``data``."""
    sections = yaml.safe_load((FOLDER / f"{language}.yaml").read_text(encoding="utf-8"))
    return {f"{section}.{key}": text for section, texts in sections.items() for key, text in texts.items()}


@dataclass(frozen=True)
class Texts:
    """The texts of one language."""

    language: str

    def __call__(self, key: str, /, **values: object) -> str:
        """Returns a text. Numbers that it holds are written with commas."""
        shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()}
        return load_catalogue(self.language)[key].format(**shown)


def choose_language(cookie: str | None, accepted: str) -> str:
    """Returns the language that was chosen, or else the first one that the browser asks for and that is there.

    Args:
        cookie: the language that was chosen, if one was.
        accepted: the header Accept-Language.
    """
    asked = [part.split(";")[0].strip().lower()[:2] for part in accepted.split(",")]
    return next((language for language in (cookie, *asked) if language in LANGUAGES), "en")
