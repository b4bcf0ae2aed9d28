"""The objects of a caption: which nouns name things, and which things a word of the tree speaks of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from spacy.tokens import Doc, Token

from parsers.dependency import lexicon
from parsers.dependency.prepositions import Preposition
from parsers.dependency.words import (
    CLAUSES,
    RELATIVE_PRONOUNS,
    SUBJECTS,
    VERBS,
    has_name_behind,
    is_before_hyphen,
    is_name_part,
    is_owner,
    is_verb,
    is_wearable,
    is_word,
    split_hyphenated,
)
from parsers.tokens import MODIFIERS, NOUNS

# Bounds on how far a reference is followed through the tree; only texts that are no captions reach them.
MAX_REFERENCES = 20
MAX_CLAUSES = 20


class ObjectReader:
    """Finds the objects in one caption's tree, and for any token the objects that it refers to.

    A token stands for the phrase that it heads. An object is the last noun of its name, its head.

    Args:
        doc: the parsed caption.
        prepositions: all prepositions of the caption.
    """

    def __init__(self, doc: Doc, prepositions: Iterable[Preposition]) -> None:
        self.doc = doc
        self._prepositional: set[int] = set()
        self._governed: dict[int, list[Preposition]] = {}
        for preposition in prepositions:
            self._prepositional.update(word.i for word in preposition.words)
            self._governed.setdefault(preposition.governor.i, []).append(preposition)
        self.names = {token.i: self._name_of(token) for token in doc if self._is_thing(token)}
        """For the index of each object's head, the words of its name; in caption order."""
        self._head_of = {word.i: head for head, words in self.names.items() for word in words}

    def _is_thing(self, noun: Token) -> bool:
        if noun.pos_ not in NOUNS or noun.i in self._prepositional or not is_word(noun):
            return False
        if noun.lemma_.lower() in lexicon.NOT_THINGS or is_before_hyphen(noun) or self.find_wrapped(noun):
            return False
        if any(child.lower_ == "no" for child in noun.children):
            return False
        if noun.i and has_name_behind(noun.nbor(-1)):
            return False
        if noun.dep_ in MODIFIERS and noun.i < noun.head.i:
            # Before a noun it says what kind that is; before a verb it is a subject that spaCy did not see.
            return is_owner(noun) or is_verb(noun.head)
        return not (noun.dep_ == "attr" and noun.lower_ in lexicon.COLOURS)

    def _name_of(self, head: Token) -> list[Token]:
        """Returns the words of the name that ends in ``head``: "fire hydrant", "left hand", but not "metal pole"."""
        start = split_hyphenated(head)[0].i
        while start > 0 and start <= self.doc[start - 1].head.i <= head.i:
            before = self.doc[start - 1]
            if self._is_thing(before) or self.find_wrapped(before) or not is_name_part(before):
                break
            start -= 1
        return list(self.doc[start : head.i + (2 if has_name_behind(head) else 1)])

    def is_in_name_or_preposition(self, token: Token) -> bool:
        """Tells whether the token is a word of an object's name or of a preposition."""
        return token.i in self._prepositional or token.i in self._head_of

    def find_governed(self, nouns: Iterable[Token]) -> Iterator[Preposition]:
        """Yields the prepositions that hang on the nouns."""
        for noun in nouns:
            yield from self._governed.get(noun.i, ())

    def find_wrapped(self, noun: Token) -> list[Token]:
        """Returns the nouns that take over the role of ``noun``: the dogs, for the "photo" in "a photo of dogs"."""
        lemma = noun.lemma_.lower()
        if noun.pos_ in NOUNS and is_verb(noun):
            return [child for child in noun.children if child.dep_ in MODIFIERS and child.pos_ in NOUNS]
        if lemma not in lexicon.WRAPPERS and lemma not in lexicon.PORTIONS:
            return []
        contents = [inner for of in self._governed.get(noun.i, ()) if of.lemma == "of" for inner in of.nouns]
        return [inner for inner in contents if inner.pos_ in NOUNS]

    def find_things(self, *tokens: Token) -> list[Token]:
        """Returns the objects that the tokens and their conjuncts refer to, in caption order.

        In "a photo of a dog and a cat", the "photo" refers to the dog and the cat.
        """
        found: set[int] = set()
        seen: set[int] = set()
        waiting = list(tokens)
        while waiting and len(seen) < MAX_REFERENCES:
            word = waiting.pop()
            if word.i in seen:
                continue
            seen.add(word.i)
            if word.i in self._head_of:
                found.add(self._head_of[word.i])
            elif word.tag_ in RELATIVE_PRONOUNS:
                waiting.extend(islice((clause.head for clause in word.ancestors if clause.dep_ == "relcl"), 1))
            else:
                waiting.extend(self.find_wrapped(word))
            waiting.extend(child for child in word.children if child.dep_ == "conj")
        return [self.doc[i] for i in sorted(found)]

    def find_sharing(self, last: Token) -> list[Token]:
        """Returns the objects that share what follows the last of them: "a man and a woman sitting on a bench"."""
        first = last
        while first.dep_ == "conj" and first.head.pos_ in NOUNS:
            before = first.head
            if any(c.dep_ in CLAUSES or (c.dep_ == "prep" and not self.find_wrapped(before)) for c in before.children):
                break  # what follows an earlier one is not shared, nor is what follows the last
            first = before
        return self.find_things(first)

    def find_subjects(self, verb: Token) -> list[Token]:
        """Returns the objects that do the verb, or undergo it if it is a passive.

        They are the verb's own subject, or that of the clause around it.
        """
        for _ in range(MAX_CLAUSES):
            children = list(verb.children)
            own = [c for c in children if c.dep_ in SUBJECTS or (c.dep_ in MODIFIERS and c.i in self.names)]
            if any(child.dep_ == "expl" for child in children):  # there is a dog
                own += [child for child in children if child.dep_ in ("attr", "dobj")]
            if own:
                return self.find_things(*own)
            if verb.dep_ in CLAUSES:
                return self._find_wearers(verb.head) or self.find_sharing(verb.head)
            if verb.dep_ not in ("conj", "advcl", "xcomp", "ccomp", "pcomp", "prep", "dep"):
                break
            verb = verb.head
            if verb.pos_ in NOUNS:
                return self.find_things(verb)
        return []

    def _find_wearers(self, noun: Token) -> list[Token]:
        """Returns the objects that wear a piece of clothing, or an empty list if the noun is no clothing.

        A verb after a piece of clothing belongs to the wearer: in "a man in a suit sitting down", the man sits. The
        wearer of "suit" is the man.
        """
        if not is_wearable(noun):
            return []
        if noun.dep_ == "dobj":
            return self.find_subjects(noun.head)
        if noun.dep_ == "pobj" and noun.head.lower_ in ("in", "with"):
            wearer = noun.head.head
            return self.find_subjects(wearer) if wearer.pos_ in VERBS else self.find_things(wearer)
        return []

    def find_modified(self, modifier: Token) -> list[Token]:
        """Returns the object that a word before it modifies: the cube for both words of "red metal cube"."""
        head = modifier.head
        while head.i not in self._head_of and head.dep_ in MODIFIERS:
            head = head.head
        if is_verb(head):
            return self.find_things(*self.find_wrapped(head))
        return [self.doc[self._head_of[head.i]]] if head.i in self._head_of else []
