"""The code blocks of README and docs, and how each is marked.

The first word behind the fence is the language. A renderer shows a block by it alone, so what follows can be ours:

- ``sh`` and ``python`` are run, page by page and from top to bottom, each page in a folder of its own;
- ``sh network`` and ``python network`` need something that must be fetched first, and ``sh cluster`` and
  ``python cluster`` need GPUs, other machines or hours, or never end, as a server: the parsers of the commands read
  them, and nothing is run;
- ``text``, ``csv``, ``ini`` and ``yaml`` show what a file or the output looks like.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN, SHOWN, MARKS = ("sh", "python"), ("text", "csv", "ini", "yaml"), ("network", "cluster")
_MODEL = re.compile(
    r"\b(ernie-vil (match|extract|cloze|report|ablation|folds|predict|evaluate|retrieve|shortlist|compare|compose|"
    r"import)|pretrain|finetune|matcher|parsers\.train|spacy)\b"
)
"""What says that a block computes with a model, which takes longer than all others together."""


@dataclass(frozen=True)
class Block:
    """A code block."""

    page: str
    line: int
    language: str
    marks: tuple[str, ...]
    text: str

    @property
    def runs(self) -> bool:
        """Whether it is run."""
        return self.language in RUN and not self.marks

    @property
    def quick(self) -> bool:
        """Whether it is run, and computes with no model but that of the parser."""
        return self.runs and not _MODEL.search(self.text)


def read_blocks(page: Path) -> list[Block]:
    """Returns the blocks of a page in their order."""
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    blocks = []
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        language, *marks = found[1].split() or [""]
        blocks.append(Block(name, text[: found.start()].count("\n") + 1, language, tuple(marks), found[2]))
    return blocks
