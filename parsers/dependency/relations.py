"""The relations of a caption: what verbs, prepositions and possessives say about its objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from spacy.tokens import Token

from parsers.dependency import lexicon
from parsers.dependency.objects import ObjectReader
from parsers.dependency.prepositions import Preposition
from parsers.dependency.words import (
    DETERMINERS,
    PARTICIPLES,
    SUBJECTS,
    is_owner,
    is_verb,
    is_wearable,
    label_verb,
    lacks_object,
)
from parsers.tokens import MODIFIERS, NOUNS


class Edge(NamedTuple):
    """A relation between the heads of two objects, with its words; possessives have none."""

    subject: Token
    label: str
    words: Sequence[Token]
    object: Token


class RelationReader:
    """Finds the relations in one caption's tree.

    Args:
        objects: the objects of the caption.
        prepositions: all prepositions of the caption.
    """

    def __init__(self, objects: ObjectReader, prepositions: Iterable[Preposition]) -> None:
        self._objects = objects
        self._prepositions = prepositions

    def find(self) -> Iterator[Edge]:
        """Yields all relations, some of them several times; those of verbs and possessives come first."""
        objects = self._objects
        for token in objects.doc:
            head = token.head
            if token.dep_ in ("dobj", "dative") or (token.dep_ == "pobj" and head.pos_ == "VERB"):
                yield from self._action(objects.find_subjects(head), head, objects.find_things(token))
            elif token.dep_ in MODIFIERS and head.dep_ in MODIFIERS and (head.tag_ in PARTICIPLES or is_verb(head)):
                # "boy holding pizza", read as a kind of pizza; "a snow covered hill", read well
                yield from self._action(objects.find_things(token), head, objects.find_modified(head))
            elif token.dep_ == "relcl" and lacks_object(token):
                yield from self._action(objects.find_subjects(token), token, objects.find_things(head))
            elif token.dep_ == "poss" or (token.i in objects.names and is_owner(token)):
                yield from self._possession(token)
        for preposition in self._prepositions:
            if preposition.lemma not in lexicon.NOT_RELATIONS:
                yield from self._preposition(preposition)

    def _action(self, subjects: Sequence[Token], verb: Token, objects: Sequence[Token]) -> Iterator[Edge]:
        label, words = label_verb(verb)
        return _connect(subjects, lexicon.LABEL_FORMS.get(label, label), words, objects)

    def _possession(self, owner: Token) -> Iterator[Edge]:
        """Relates an owner to what follows it; in "her hat and a dog" only the hat is hers."""
        owned = [
            thing
            for thing in self._objects.find_things(owner.head)
            if thing == owner.head or not any(child.dep_ in DETERMINERS for child in thing.children)
        ]
        return _connect(self._objects.find_things(owner), "have", (), owned)

    def _preposition(self, preposition: Preposition) -> Iterator[Edge]:
        """Relates what governs a preposition to the nouns that complete it."""
        objects, lemma, words = self._objects, preposition.lemma, preposition.words
        governor, nouns = preposition.governor, objects.find_things(*preposition.nouns)
        while governor.pos_ == "ADV" and governor.head != governor:
            governor = governor.head
        if any(
            word.lower_ == "other" and word.nbor(-1).lower_ == "each" for word in preposition.complements() if word.i
        ):
            nouns = (objects.find_subjects(governor) if is_verb(governor) else objects.find_things(governor))[1:]
        if is_verb(governor):
            yield from self._place_of_action(governor, preposition, nouns)
        elif governor.pos_ in NOUNS and lemma == "of":
            yield from self._belonging(governor, words, nouns)
        elif governor.pos_ in NOUNS:
            holders = self._find_holders(preposition)
            if lemma != "with" or not any(map(self._find_holders, objects.find_governed(preposition.nouns))):
                is_shared = lemma != "with" and not holders
                subjects = objects.find_sharing(governor) if is_shared else objects.find_things(governor)
                yield from _place(subjects, lemma, words, holders or nouns)
        elif governor.pos_ == "ADJ":
            find = objects.find_subjects if governor.dep_ == "acomp" else objects.find_things
            subjects = find(governor.head)
            label = f"{governor.lower_} {lemma}"
            if label in lexicon.LABEL_FORMS:
                yield from _connect(subjects, lexicon.LABEL_FORMS[label], (governor, *words), nouns)
            else:
                yield from _connect(subjects, lemma, words, nouns)

    def _belonging(self, noun: Token, words: Sequence[Token], others: Sequence[Token]) -> Iterator[Edge]:
        """Relates the two sides of "``noun`` of ``others``"."""
        if noun.i not in self._objects.names:
            return iter(())
        lemma = noun.lemma_.lower()
        if lemma in lexicon.CONTENT_LABELS:
            return _connect(others, lexicon.CONTENT_LABELS[lemma], words, [noun])
        if lemma in lexicon.WHOLES:
            return _connect([noun], "have", words, others)
        if lemma in lexicon.DEPICTIONS:
            return _connect([noun], "depict", words, others)
        return _connect(others, "have", words, [noun])

    def _place_of_action(self, verb: Token, preposition: Preposition, nouns: list[Token]) -> Iterator[Edge]:
        """Relates the nouns after a verb's preposition to the verb's subject, or to its object if that is carried."""
        objects, lemma, words = self._objects, preposition.lemma, preposition.words
        subjects = objects.find_subjects(verb)
        label, verb_words = label_verb(verb, words)
        if not preposition.nouns:  # "the table that the vase is on", "the table the vase is on"
            own = [child for child in verb.children if child.dep_ in SUBJECTS]
            if verb.dep_ == "relcl":
                nouns = objects.find_things(verb.head)
            elif len(own) == 2:
                nouns, subjects = objects.find_things(own[0]), objects.find_things(own[1])
        is_agent = words[0].dep_ == "agent" and label not in lexicon.PLACE_VERBS
        if is_agent or lemma in lexicon.AGENT_PREPOSITIONS.get(label, ()):
            yield from _connect(nouns, label, (*verb_words, *words), subjects)
            return
        targets = objects.find_things(*(child for child in verb.children if child.dep_ == "dobj"))
        if targets and label in lexicon.CARRYING_VERBS:
            yield from _place(targets, lemma, words, nouns)
        elif label in lexicon.SILENT_VERBS or (targets and lemma in ("in", "on")):
            yield from _place(subjects, lemma, words, nouns)
        else:
            label = f"{label} {lemma}"
            worn = [noun for noun in nouns if lemma == "in" and is_wearable(noun)]
            if label not in lexicon.LABEL_FORMS and worn:  # "standing in a blue shirt"
                yield from _connect(subjects, "wear", words, worn)
                nouns = [noun for noun in nouns if noun not in worn]
            yield from _connect(subjects, lexicon.LABEL_FORMS.get(label, label), (*verb_words, *words), nouns)

    def _find_holders(self, preposition: Preposition) -> list[Token]:
        """Returns the bowl, for the last words of "a bowl with flowers in it" and of "the bowl has flowers in it"."""
        noun = preposition.governor
        if not any(word.lower_ in ("it", "them") for word in preposition.complements()):
            return []
        if noun.dep_ == "pobj" and noun.head.lower_ == "with":
            return self._objects.find_things(noun.head.head)
        if noun.dep_ == "dobj" and noun.head.lemma_ == "have":
            return self._objects.find_subjects(noun.head)
        return []


def _place(subjects: Sequence[Token], lemma: str, words: Sequence[Token], nouns: Sequence[Token]) -> Iterator[Edge]:
    """Relates subjects to nouns by a preposition alone; "in" a piece of clothing means to wear it."""
    for noun in nouns:
        label = "wear" if lemma == "in" and is_wearable(noun) else lemma
        yield from _connect(subjects, label, words, [noun])


def _connect(subjects: Sequence[Token], label: str, words: Sequence[Token], objects: Sequence[Token]) -> Iterator[Edge]:
    """Relates all subjects to all objects.

    Subjects that stand behind the words are no subjects: in "a man holding a cup and a phone" spaCy's tree makes the
    phone a second man. Where things are held, worn and the like, they are objects.
    """
    if subjects and objects and words and subjects[0].i < words[0].i < objects[0].i:
        late = [subject for subject in subjects if subject.i > words[0].i]
        subjects = [subject for subject in subjects if subject not in late]
        if label in lexicon.GATHERING_LABELS and not any(s.lemma_.lower() in lexicon.PEOPLE for s in late):
            objects = [*objects, *late]
    return (Edge(subject, label, words, object_) for subject in subjects for object_ in objects)
