"""Joins the graphs of a text's sentences into one: the mentions of a thing become one object.

In "A dog sits on the grass. It has a red collar, and the animal looks up." there is one dog with three mentions. The
rules are those of English. A pronoun stands for what the last sentences begin with or have for a subject. A definite
noun ("the dog", "the animal") stands for the last thing of that name or kind. An indefinite noun ("a dog", "two dogs")
names a new thing. So do "one of them" and "the other", which are called as their group is. In "Its tail is brown." the
dog is mentioned as well, and has the tail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from parsers.graph import MIN_VISIBLE, Attribute, Object, Relation, SceneGraph, Span
from parsers.neural.nouns import MEN, PERSONS, WOMEN, is_kind_of, is_plural, singularize

IT = frozenset(("it", "its", "itself"))
HE = frozenset(("he", "him", "his", "himself"))
SHE = frozenset(("she", "her", "hers", "herself"))
THEY = frozenset(("they", "them", "their", "theirs", "themselves"))
GROUPS = frozenset(("crowd", "group", "family", "pair", "team", "duo", "trio", "herd", "flock", "couple"))
ONE = frozenset(("one", "another", "other", "others"))
PRONOUNS = IT | HE | SHE | THEY
UNNAMED = IT | ONE
"""What names nothing by itself."""

_INDEFINITE = (
    "a an another some several many few two three four five six seven eight nine ten other second third more no any "
    "each every one"
)
_COLORS = "red green blue yellow white black brown gray grey orange pink purple beige golden silver tan turquoise"
INDEFINITE, COLORS = frozenset(_INDEFINITE.split()), frozenset(_COLORS.split())
DEFINITE = frozenset(("the", "this", "that", "these", "those", "both"))
OWNERS = frozenset(("its", "his", "her", "their"))
"""Pronouns that say whose the noun after them is."""
OWNED = OWNERS | {"whose"}
DETERMINERS = INDEFINITE | DEFINITE | OWNED
DIFFERENT = frozenset(
    ("another", "other", "second", "third", "opposite", "next", "different", "additional", "adjacent")
)
"""Words before a noun that make it another thing than the last one of its name."""
_WORD = re.compile(r"[\w'’-]+")
FARTHEST = 4
"""Sentences back in which a pronoun's thing is looked for."""
HAVE = "have"
"""The relation of an owner to what it owns, and of a whole to its parts."""


@dataclass(slots=True)
class _Thing:
    """A thing that the text speaks of."""

    lemma: str
    span: Span
    mentions: list[Span]
    visible: float
    plural: bool
    colors: set[str]
    last: int
    """the sentence that spoke of it last"""
    salient: bool
    """its last sentence begins with it, or has it for a subject; that is what pronouns mean most often"""

    @property
    def noun(self) -> str:
        """The last word of the name, in the singular."""
        return singularize(self.lemma.lower().split()[-1])


class _Reader:
    """Reads the sentences of one text and keeps the things that they speak of."""

    def __init__(self) -> None:
        self.things: list[_Thing] = []
        self.owners: list[tuple[int, int]] = []
        """the things before whose name a pronoun says whose they are: owner and thing"""

    def read(self, number: int, start: int, graph: SceneGraph) -> list[int | None]:
        """Returns for each object of a sentence which thing it is, or None for a pronoun that stands for nothing.

        Args:
            number: the number of the sentence.
            start: its first character.
            graph: its graph; the characters are those of the sentence.
        """
        colors = [set[str]() for _ in graph.objects]
        first = [thing.span.start for thing in graph.objects]  # of the words for a thing
        for attribute in graph.attributes:
            if attribute.lemma in COLORS:
                colors[attribute.object].add(attribute.lemma)
            if attribute.span.start < first[attribute.object]:
                first[attribute.object] = attribute.span.start
        subjects = {relation.subject for relation in graph.relations}
        found: list[int | None] = [None] * len(graph.objects)
        order = sorted(range(len(graph.objects)), key=lambda i: graph.objects[i].span)
        for rank, i in enumerate(order):
            thing = graph.objects[i]
            form = graph.caption[thing.span.start : thing.span.end].lower()
            words = list(_WORD.finditer(graph.caption, max(0, first[i] - 24), first[i]))
            before = [word.group().lower() for word in words]
            known = self._resolve(number, thing, form, before, colors[i])
            span = _move(thing.span, start)
            owner = self._find_antecedent(number, before[-1]) if before and before[-1] in OWNERS else None
            salient = rank == 0 or i in subjects
            lemma = self._name_one(number) if form in ONE else thing.lemma
            if known is None and form not in IT and lemma:
                known = len(self.things)
                plural = is_plural(form.split()[-1]) or form in THEY
                self.things.append(_Thing(lemma, span, [], thing.visible, plural, colors[i], number, salient))
            elif known is not None:
                one = self.things[known]
                one.mentions.append(span)
                if form not in PRONOUNS:
                    one.visible = max(one.visible, thing.visible)
                one.colors |= colors[i]
                one.salient = salient or (one.salient and one.last == number)
                one.last = number
            if owner is not None and known is not None and owner != known:
                self._own(owner, known, _move(Span(*words[-1].span()), start))
            found[i] = known
        return found

    def _own(self, owner: int, thing: int, pronoun: Span) -> None:
        self.owners.append((owner, thing))
        one = self.things[owner]
        if pronoun not in (one.span, *one.mentions):  # the network may have found the pronoun, or two things after it
            one.mentions.append(pronoun)

    def _resolve(self, number: int, thing: Object, form: str, before: Sequence[str], colors: set[str]) -> int | None:
        if form in PRONOUNS:
            return self._find_antecedent(number, form)
        if form in ONE:
            return None
        return self._find_namesake(number, thing, form, before, colors)

    def _find_antecedent(self, number: int, pronoun: str) -> int | None:
        """Returns the most salient visible thing that a pronoun fits, among those of the last sentences."""
        places = [
            i
            for i, thing in enumerate(self.things)
            if number - thing.last <= FARTHEST and thing.visible >= MIN_VISIBLE and _fits(pronoun, thing)
        ]
        return max(places, key=lambda i: self.things[i].last + self.things[i].salient, default=None)

    def _name_one(self, number: int) -> str:
        """Returns what "one" or "the other" is called: as the last group, or the last thing, is."""
        groups = [thing for thing in self.things if thing.plural and number - thing.last <= 1]
        things = groups or [thing for thing in self.things if number - thing.last <= 1]
        return _singular_name(things[-1].lemma) if things else ""

    def _find_namesake(
        self, number: int, thing: Object, form: str, before: Sequence[str], colors: set[str]
    ) -> int | None:
        """Returns the last thing of that name, unless the noun is indefinite or looks another way."""
        determiner = next((word for word in reversed(before) if word in DETERMINERS), "")
        near = before[-2:]
        if determiner in INDEFINITE or any(word in DIFFERENT for word in near):
            return None
        plural, name = is_plural(form.split()[-1]), _singular_name(thing.lemma)
        fitting = [
            i
            for i, other in enumerate(self.things)
            if other.last < number
            and other.plural == plural
            and not (colors and other.colors and colors.isdisjoint(other.colors))
        ]
        named = [i for i in fitting if _share_name(name, _singular_name(self.things[i].lemma))]
        if named or determiner not in DEFINITE:
            return named[-1] if named else None
        noun = name.split()[-1]
        kinds = [i for i in fitting if is_kind_of(noun, self.things[i].noun)]
        if kinds:
            return kinds[-1]
        persons = [i for i in fitting if noun in PERSONS and _is_same_person(noun, self.things[i].noun)]
        return persons[0] if len(persons) == 1 else None


def _share_name(name: str, other: str) -> bool:
    """Tells whether two names may be of the same thing: "passenger train" and "train"."""
    return name == other or other.endswith(" " + name) or name.endswith(" " + other)


def _is_same_person(noun: str, other: str) -> bool:
    return other in PERSONS and not {noun, other} <= MEN | WOMEN


def _singular_name(lemma: str) -> str:
    *rest, last = lemma.lower().split()
    return " ".join([*rest, singularize(last)])


def _fits(pronoun: str, thing: _Thing) -> bool:
    """Tells whether a pronoun may stand for a thing."""
    noun = thing.noun
    if pronoun in THEY:
        return thing.plural or noun in GROUPS
    if pronoun in IT:
        return not thing.plural and noun not in PERSONS
    return not thing.plural and noun in PERSONS and noun not in (WOMEN if pronoun in HE else MEN)


def join_sentences(text: str, sentences: Sequence[tuple[int, SceneGraph]]) -> SceneGraph:
    """Returns the graph of a text, given those of its sentences.

    Args:
        text: the text.
        sentences: for each sentence its first character and its graph, in order.
    """
    if len(sentences) == 1 and not any(thing.lemma in UNNAMED for thing in sentences[0][1].objects):
        ((start, graph),) = sentences
        if start == 0:
            return graph if graph.caption == text else replace(graph, caption=text)
    reader = _Reader()
    attributes: dict[tuple[int, str], Attribute] = {}
    relations: dict[tuple[int, int, str], Relation] = {}
    for number, (start, graph) in enumerate(sentences):
        found = reader.read(number, start, graph)
        for a in graph.attributes:
            thing = found[a.object]
            if thing is not None:
                attributes.setdefault((thing, a.lemma), replace(a, object=thing, span=_move(a.span, start)))
        for r in graph.relations:
            subject, object_ = found[r.subject], found[r.object]
            if subject is not None and object_ is not None and subject != object_:
                spans = tuple(_move(span, start) for span in r.spans)
                relations.setdefault(
                    (subject, object_, r.lemma), replace(r, subject=subject, object=object_, spans=spans)
                )
    joined = {frozenset((subject, object_)) for subject, object_, _ in relations}
    for owner, thing in reader.owners:
        if frozenset((owner, thing)) not in joined:  # "holds her phone" says more than that she has it
            visible = min(reader.things[owner].visible, reader.things[thing].visible)
            relations[owner, thing, HAVE] = Relation(owner, thing, HAVE, (), visible)
    objects = tuple(
        Object(thing.lemma, thing.span, tuple(sorted(thing.mentions)), thing.visible) for thing in reader.things
    )
    return SceneGraph(
        text,
        objects,
        tuple(sorted(attributes.values(), key=lambda a: (a.object, a.span, a.lemma))),
        tuple(relations[key] for key in sorted(relations)),
    )


def _move(span: Span, start: int) -> Span:
    return Span(span.start + start, span.end + start)
