"""Writes docs/tour.md from docs/tour.py and what it prints: ``python -m tests.tour_page``."""

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
TOUR, PAGE = ROOT / "docs/tour.py", ROOT / "docs/tour.md"


def read_chapters():
    """The chapters of the tour: title, text in Markdown, and code."""
    for chapter in TOUR.read_text().split("\n# %% ")[1:]:
        title, text, code = re.fullmatch(r"([^\n]*)\n((?:#[^\n]*\n)*)(.*)", chapter, re.S).groups()
        yield title, re.sub(r"^# ?", "", text, flags=re.M).strip(), code.strip()


def take_tour(folder):
    """Runs the code of all chapters; yields what each prints."""
    names = {}
    for _, _, code in read_chapters():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), mock.patch.object(sys, "argv", [str(TOUR), str(folder)]):
            exec(compile(code, str(TOUR), "exec"), names)
        yield printed.getvalue()


def write_page(outputs):
    """The text of docs/tour.md."""
    parts = ["# The tour", "This page is [tour.py](tour.py) with what it prints: `python docs/tour.py FOLDER` runs it."]
    for (title, text, code), output in zip(read_chapters(), outputs, strict=True):
        parts += [f"## {title}", text, f"```py\n{code}\n```"]
        if output:
            parts.append(f"```text\n{output.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        PAGE.write_text(write_page(take_tour(Path(name))))
