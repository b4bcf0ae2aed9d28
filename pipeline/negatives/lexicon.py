"""Which words may take each other's place: the file ``lexicon.txt`` beside this module.

A line of the file lists words that exclude each other, as "red" and "blue" do for one thing. The file explains itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from parsers.neural.nouns import PERSONS, singularize

FILE = Path(__file__).with_name("lexicon.txt")
LIVING = frozenset(("person", "child", "animal"))
"""The tags of objects that are no things."""
ANY = "any"
"""The tag of words that may be said of everything."""


_MARKS = "~-+?"


@dataclass(frozen=True, slots=True)
class Group:
    """Names that may be true of one thing; the first one is put into captions."""

    names: tuple[str, ...]
    mass: bool
    """whether they name a mass, as "bread" does, which is neither one thing nor several"""
    is_replaced: bool
    is_put_in: bool
    is_last: bool
    """whether it is put in only where nothing else can be done"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the lexicon: groups that exclude each other."""

    tags: frozenset[str]
    groups: tuple[Group, ...]
    directed: bool
    """whether only the first group may be replaced, by any of the others"""
    additions: tuple[str, ...]
    """attributes that are seldom true of such an object"""


class Section:
    """A section of the lexicon, by name."""

    def __init__(self, lines: Collection[Line]) -> None:
        self._places: dict[str, list[tuple[Line, Group]]] = {}
        self.last_names = frozenset(group.names[0] for line in lines for group in line.groups if group.is_last)
        """names that are put in only where nothing else can be done"""
        for line in lines:
            for group in line.groups[:1] if line.directed else line.groups:
                for name in group.names if group.is_replaced else ():
                    self._places.setdefault(name, []).append((line, group))

    def __contains__(self, name: object) -> bool:
        return name in self._places

    @cache  # noqa: B019 (a worker has one lexicon, which it keeps to its end)
    def overlapping(self, name: str) -> frozenset[str]:
        """Returns all names that may be true of what the name names, the name itself included."""
        return frozenset((name, *(other for _, group in self._places.get(name, ()) for other in group.names)))

    def alternatives(self, name: str, tags: Collection[str] = (), *, mass: bool | None = None) -> list[str]:
        """Returns the names that exclude this one, each once, in the order of the file.

        Args:
            name: the name to replace.
            tags: what the object is that an attribute or a relation is said of. No tags: all lines count.
            mass: whether it names a mass in its caption. None: names of both sorts count.
        """
        overlapping = self.overlapping(name)
        found = (
            other.names[0]
            for line, group in self._places.get(name, ())
            if not tags or ANY in line.tags or not line.tags.isdisjoint(tags)
            if mass is None or group.mass == mass
            for other in line.groups
            if other is not group and other.is_put_in and other.mass == group.mass
        )
        return [other for other in dict.fromkeys(found) if other not in overlapping]

    def additions(self, name: str) -> list[str]:
        """Returns the attributes that are seldom true of an object of this name."""
        return list(dict.fromkeys(word for line, _ in self._places.get(name, ()) for word in line.additions))

    @cache  # noqa: B019 (as above)
    def tags(self, name: str) -> frozenset[str]:
        """Returns what the name is: the tags of its lines."""
        return frozenset().union(*(line.tags for line, _ in self._places.get(name, ())))

    def may_be_put_in(self, name: str) -> bool:
        """Returns whether a line puts the name, or another name of the same thing, into captions."""
        return any(group.is_put_in for _, group in self._places.get(name, ()))

    def share_line(self, name: str, other: str) -> bool:
        """Returns whether a line lists both names."""
        lines = [line for line, _ in self._places.get(name, ())]
        return any(line in lines for line, _ in self._places.get(other, ()))

    @property
    def names(self) -> Collection[str]:
        """All names that may be replaced."""
        return self._places.keys()


class Lexicon:
    """The sections of the file."""

    def __init__(self, text: str) -> None:
        lines: dict[str, list[Line]] = {}
        section = ""
        for raw in text.splitlines():
            line = raw.strip()
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                lines.setdefault(section, []).append(_parse_line(line))
        self.objects = Section(lines["objects"])
        self.attributes = Section(lines["attributes"])
        self.numbers = Section(lines["numbers"])
        self.relations = Section(lines["relations"])
        """prepositions, and verbs that an object follows"""
        self.placed = Section(lines["placed"])
        """verbs that a preposition of place follows; after others, as in "covered in", it says something else"""
        self.actions = Section(lines["actions"])
        """verbs that a preposition follows"""

    @cached_property
    def longest_relation(self) -> int:
        """The most words that a name of a relation has."""
        return max(len(name.split()) for name in self.relations.names)

    @cache  # noqa: B019 (as above)
    def find_object(self, lemma: str) -> str | None:
        """Returns the name of an object that the lexicon has: the longest end of its lemma, in the singular.

        The "city streets" of a caption are a "city street" if the lexicon has that, or else a "street".
        """
        words = lemma.lower().replace("-", " ").split()
        if not words:
            return None
        words[-1] = singularize(words[-1])
        ends = (" ".join(words[first:]) for first in range(len(words)))
        return next((end for end in ends if end in self.objects), None)

    @cache  # noqa: B019 (as above)
    def tags_of_object(self, lemma: str) -> frozenset[str]:
        """Returns what an object is. What is neither a person nor an animal is a thing."""
        name = self.find_object(lemma)
        if name is None:
            last = singularize((lemma.lower().split() or [""])[-1])
            return frozenset(("person",) if last in PERSONS else ("thing", "unknown"))
        tags = self.objects.tags(name)
        return tags if tags & LIVING else tags | {"thing"}


@cache
def read_lexicon() -> Lexicon:
    """Reads the lexicon of the package."""
    return Lexicon(FILE.read_text())


def _parse_line(line: str) -> Line:
    body, _, additions = line.partition("|")
    tags, colon, words = body.rpartition(":")
    source, arrow, targets = words.partition(">")
    groups = [_parse_group(text) for text in (source.split(",") if not arrow else [source, *targets.split(",")])]
    return Line(
        frozenset(tags.split()) if colon else frozenset((ANY,)),
        tuple(groups),
        bool(arrow),
        tuple(word.strip() for word in additions.split(",") if word.strip()),
    )


def _parse_group(text: str) -> Group:
    names = [name.strip() for name in text.split("=")]
    marks = names[0][: len(names[0]) - len(names[0].lstrip(_MARKS))]
    return Group(
        tuple(name.lstrip(_MARKS) for name in names),
        mass="~" in marks,
        is_replaced="+" not in marks and "?" not in marks,
        is_put_in="-" not in marks,
        is_last="?" in marks,
    )
