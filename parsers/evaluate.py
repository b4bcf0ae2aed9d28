"""Scores a parser against gold graphs: ``python -m parsers.evaluate --parser NAME --gold FILE``."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import parsers
from parsers.gold import IS, GoldCaption, Triple, object_names, read_gold, triples_of
from parsers.graph import SceneGraph
from parsers.scoring import Lemmatizer, Synonyms, installed_synonyms, set_match, spice

LONG = 9
"""Words of a long caption, at least."""
KINDS = ("objects", "attributes", "relations")
console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Found and true nodes of one kind, over all captions."""

    found: int
    true: int
    both: int

    @property
    def precision(self) -> float:
        """Share of the found nodes that are true."""
        return self.both / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the true nodes that were found."""
        return self.both / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.both / (self.found + self.true) if self.found + self.true else 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A parser's scores on a gold file. Shares are 0 to 1; ``spice`` and ``set_match`` are means over captions."""

    captions: int
    spice: float
    set_match: float
    long_captions: int
    long_spice: float
    long_set_match: float
    kinds: dict[str, Agreement]
    grounded: dict[str, float]
    """share of the found nodes of a kind that are tied to words"""
    causes: dict[str, int]
    """how often each kind of error occurs, the most frequent first"""
    examples: dict[str, list[str]]
    """per cause, some captions with what was wrong"""

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        agreements = {
            kind: {**asdict(a), "precision": a.precision, "recall": a.recall, "f1": a.f1}
            for kind, a in self.kinds.items()
        }
        return {**asdict(self), "kinds": agreements}


def evaluate(
    graphs: Sequence[SceneGraph], gold: Sequence[GoldCaption], lemmatizer: Lemmatizer, synonyms: Synonyms | None
) -> Evaluation:
    """Compares graphs with the gold captions, one by one."""
    found = [frozenset(map(lemmatizer.triple, triples_of(graph))) for graph in graphs]
    true = [frozenset(map(lemmatizer.triple, caption.triples)) for caption in gold]
    pairs = list(zip(found, true, strict=True))
    spices = [spice(sorted(a), sorted(b), synonyms) for a, b in pairs]
    matches = [set_match(a, b) for a, b in pairs]
    long = [i for i, caption in enumerate(gold) if len(caption.caption.split()) >= LONG]
    causes, examples = _errors(gold, pairs)
    return Evaluation(
        len(gold),
        _mean(spices),
        _mean(matches),
        len(long),
        _mean([spices[i] for i in long]),
        _mean([matches[i] for i in long]),
        {
            kind: _agreement(pairs, choose)
            for kind, choose in zip(KINDS, (_objects, _attributes, _relations), strict=True)
        },
        _grounding(graphs),
        dict(causes.most_common()),
        examples,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _agreement(
    pairs: Iterable[tuple[frozenset[Triple], frozenset[Triple]]], choose: Callable[[Iterable[Triple]], set[Triple]]
) -> Agreement:
    chosen = [(choose(a), choose(b)) for a, b in pairs]
    return Agreement(sum(len(a) for a, _ in chosen), sum(len(b) for _, b in chosen), sum(len(a & b) for a, b in chosen))


def _objects(triples: Iterable[Triple]) -> set[Triple]:
    return {(name,) for triple in triples for name in object_names(triple)}


def _attributes(triples: Iterable[Triple]) -> set[Triple]:
    return {triple for triple in triples if len(triple) == 3 and triple[1] == IS}


def _relations(triples: Iterable[Triple]) -> set[Triple]:
    return {triple for triple in triples if len(triple) == 3 and triple[1] != IS}


def _grounding(graphs: Sequence[SceneGraph]) -> dict[str, float]:
    """Objects and attributes always have a span; relations may have none."""
    relations = [relation for graph in graphs for relation in graph.relations]
    return {"objects": 1.0, "attributes": 1.0, "relations": _mean([bool(relation.spans) for relation in relations])}


def _errors(
    gold: Sequence[GoldCaption], pairs: Iterable[tuple[frozenset[Triple], frozenset[Triple]]], most: int = 20
) -> tuple[Counter[str], dict[str, list[str]]]:
    """Every true triple that was not found and every found one that is not true, by what is wrong with it."""
    causes: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for caption, (found, true) in zip(gold, pairs, strict=True):
        for triple, others, verb in (
            *((t, found - true, "missing") for t in sorted(true - found)),
            *((t, true - found, "wrong") for t in sorted(found - true)),
        ):
            cause = f"{verb} {_cause(triple, others)}"
            causes[cause] += 1
            shown = examples.setdefault(cause, [])
            if len(shown) < most:
                rest = "; ".join(", ".join(other) for other in sorted(others)) or "nothing"
                shown.append(f"{caption.caption} | {', '.join(triple)} | other side: {rest}")
    return causes, examples


def _cause(triple: Triple, others: Iterable[Triple]) -> str:
    """What differs between a triple and the nearest one of the other side."""
    if len(triple) == 1:
        return "object without attribute or relation"
    kind = "attribute" if triple[1] == IS else "relation"
    same_kind = [other for other in others if len(other) == 3 and (other[1] == IS) == (kind == "attribute")]
    if kind == "relation":
        if any((other[0], other[2]) == (triple[0], triple[2]) for other in same_kind):
            return "relation: other label"
        if any((other[0], other[2]) == (triple[2], triple[0]) for other in same_kind):
            return "relation: turned round"
        if any(other[1] == triple[1] for other in same_kind):
            return "relation: other object or subject"
    elif any(other[2] == triple[2] for other in same_kind):
        return "attribute: other object"
    elif any(other[0] == triple[0] for other in same_kind):
        return "attribute: other label"
    return f"{kind}: no counterpart"


# ------------------------------------------------------------------------------------------------------------- command

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m parsers.evaluate --parser dependency --gold factual/dev.csv --out report.json")
def main(
    gold: Annotated[Path, typer.Option(help="FACTUAL CSV, or JSON lines with caption and triples.", dir_okay=False)],
    parser: Annotated[str, typer.Option(help=f"One of: {', '.join(parsers.names())}")] = "neural",
    out: Annotated[Path | None, typer.Option(help="File for all figures and the list of errors (JSON).")] = None,
) -> None:
    """Score a parser: SPICE, Set Match, each kind of node, grounding, speed, errors by cause."""
    try:
        captions = read_gold(gold)
        chosen = parsers.get(parser)
    except (OSError, ValueError) as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {error}")
        sys.exit(1)
    started = time.perf_counter()
    graphs = chosen.parse([caption.caption for caption in captions])
    rate = len(captions) / (time.perf_counter() - started)
    synonyms = installed_synonyms()
    result = evaluate(graphs, captions, Lemmatizer(), synonyms)
    _print(parser, gold, result, rate, with_synonyms=synonyms is not None)
    if out is not None:
        record = {
            "parser": parser,
            "version": chosen.version,
            "gold": gold.name,
            "synonyms": synonyms is not None,
            "captions_per_second": rate,
            **result.to_dict(),
        }
        out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        console.print(f"written: {out}", soft_wrap=True)


def _print(parser: str, gold: Path, result: Evaluation, rate: float, *, with_synonyms: bool) -> None:
    table = Table("", "captions", "SPICE", "Set Match", title=f"{parser} on {gold.name}", title_justify="left")
    table.add_row("all", f"{result.captions:,}", f"{result.spice:.1%}", f"{result.set_match:.1%}")
    table.add_row(
        f"{LONG} words or more", f"{result.long_captions:,}", f"{result.long_spice:.1%}", f"{result.long_set_match:.1%}"
    )
    console.print(table)
    table = Table("", "precision", "recall", "F1", "tied to words")
    for kind, agreement in result.kinds.items():
        figures = (agreement.precision, agreement.recall, agreement.f1, result.grounded[kind])
        table.add_row(kind, *(f"{figure:.1%}" for figure in figures))
    console.print(table)
    table = Table("error", "triples")
    for cause, count in result.causes.items():
        table.add_row(cause, f"{count:,}")
    console.print(table)
    matching = "WordNet's, from FactualSceneGraph" if with_synonyms else "none (FactualSceneGraph is not installed)"
    console.print(f"synonyms: {matching}; {rate:,.0f} captions/s")


if __name__ == "__main__":
    app()
