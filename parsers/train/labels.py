"""The edits and relation labels that aligned graphs demand, and the vocabulary that a training set needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from parsers.neural.edits import KEEP, REST, find_edit, find_phrase_edit
from parsers.neural.network import ATTRIBUTE, OBJECT, RELATION
from parsers.neural.tokenizer import TokenizedCaption
from parsers.neural.vocabulary import Vocabulary
from parsers.train.alignment import AlignedGraph, AlignedRelation
from parsers.train.examples import TrainingExample

LEAST_WORD, LEAST_OTHER_WORD, LEAST_LABEL = 2, 3, 3
"""How often a word of gold captions, a word of other captions and a label must occur to be in the vocabulary."""
FREQUENT = 8
"""How often a word must occur in gold captions before others are taken for misspellings of it."""
PLACE_LEADS = frozenset(("at", "in", "next", "on", "opposite", "out"))
"""First words of labels that name a place ("on top of"); such labels are learned whole."""


def list_edits(words: TokenizedCaption, graph: AlignedGraph) -> Iterator[tuple[int, int, str]]:
    """Yields the edits that make a graph's labels: the number of the word, the kind of node and the edit."""
    tokens = words.forms
    for phrase, name in graph.objects:
        yield phrase.last, OBJECT, find_phrase_edit(tokens[phrase.first : phrase.last + 1], name)
    for attribute in graph.attributes:
        phrase = attribute.phrase
        yield phrase.last, ATTRIBUTE, find_phrase_edit(tokens[phrase.first : phrase.last + 1], attribute.label)
    for relation in graph.relations:
        parts = relation.label.split()
        if len(parts) == len(relation.words):
            for word, part in zip(relation.words, parts, strict=True):
                yield word, RELATION, find_edit(tokens[word], part)
        elif _find_rest(tokens, relation):
            yield relation.words[0], RELATION, find_edit(tokens[relation.words[0]], parts[0])


def list_relation_labels(words: TokenizedCaption, graph: AlignedGraph) -> Iterator[tuple[int, str]]:
    """Yields each relation's anchor and its whole label, the rest of it, or an empty text if edits make it."""
    for relation in graph.relations:
        is_spoken = len(relation.label.split()) == len(relation.words)
        yield relation.anchor, "" if is_spoken else _find_rest(words.forms, relation) or relation.label


def _find_rest(forms: Sequence[str], relation: AlignedRelation) -> str | None:
    """Returns the label without its first word if an edit makes that of the first word: "* in" for "sitting at"."""
    first, _, rest = relation.label.partition(" ")
    if not rest or not relation.words or first in PLACE_LEADS:
        return None
    return None if find_edit(forms[relation.words[0]], first).startswith("=") else REST + rest


def make_vocabulary(
    gold: Sequence[TrainingExample], others: Sequence[TrainingExample], lookalikes: Sequence[str] = ()
) -> Vocabulary:
    """Makes the vocabulary of a training set. Labels come from the gold graphs, words also from the other captions."""
    words = Counter(form for example in gold for form in example.words.forms)
    more = Counter(form for example in others for form in example.words.forms)
    graphs = [(example.words, example.graph) for example in gold if example.graph is not None]
    known = select_frequent(words.elements(), LEAST_WORD, first=[""])
    also = select_frequent((form for form in more.elements() if form.isalpha()), LEAST_OTHER_WORD)
    return Vocabulary(
        words=tuple(dict.fromkeys((*known, *also))),
        edits=select_frequent((edit for pair in graphs for _, _, edit in list_edits(*pair)), LEAST_LABEL, [KEEP]),
        relation_labels=select_frequent(
            (label for pair in graphs for _, label in list_relation_labels(*pair)), LEAST_LABEL, [""]
        ),
        frequent_words=sum(count >= FREQUENT for count in words.values()),
        lookalikes=tuple(lookalikes),
    )


def select_frequent(names: Iterable[str], least: int, first: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns ``first``, and then the names that occur at least ``least`` times, the most frequent ones first."""
    counts = Counter(names)
    frequent = sorted((name for name, n in counts.items() if n >= least), key=lambda name: (-counts[name], name))
    return tuple(dict.fromkeys((*first, *frequent)))
