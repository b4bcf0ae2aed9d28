"""Scores a parser against gold graphs: ``python -m parsers.evaluate --parser NAME --gold FILE``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import parsers
from parsers.command import InputError, console, run, say
from parsers.evaluate.evaluation import LONG, ParserScores, score_graphs
from parsers.evaluate.synonyms import load_synonyms
from parsers.gold import read_gold
from parsers.graph import MIN_VISIBLE
from parsers.lemmatizer import Lemmatizer

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil evaluate-parser --parser dependency --gold factual/dev.csv --out report.json")
def main(
    gold: Annotated[Path, typer.Option(help="Captions with gold graphs: FACTUAL's CSV, or JSON lines.")],
    parser: Annotated[
        str, typer.Option(help=f"The parser: {', '.join(parsers.names())}, or the folder of a trained one.")
    ] = "neural",
    split: Annotated[
        str | None, typer.Option(help="Score this split alone if the file has splits: train or test.")
    ] = None,
    min_visible: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave out nodes that are less likely to be seen in a picture; 0 keeps all."),
    ] = MIN_VISIBLE,
    without_synonyms: Annotated[
        bool, typer.Option("--without-synonyms", help="Match equal words only, without WordNet's synonyms.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for all figures and examples of the errors.")] = None,
) -> None:
    """Score a parser against gold graphs.

    The figures are SPICE, Set Match, each kind of node, the share of nodes tied to words, speed, and errors by cause.
    """
    captions = read_gold(gold, split)
    if not captions:
        raise InputError(f"{gold}: holds no captions" + (f" of the split {split}" if split else ""))
    try:
        chosen = parsers.get(parser)
    except ValueError as error:
        raise InputError(str(error)) from error
    lemmatizer = Lemmatizer()
    synonyms = None if without_synonyms else load_synonyms(lemmatizer)
    started = time.perf_counter()
    parsed = chosen.parse([caption.caption for caption in captions])
    graphs = [graph.keep_visible(min_visible) for graph in parsed]
    rate = len(captions) / (time.perf_counter() - started)
    scores = score_graphs(graphs, captions, lemmatizer, synonyms)
    _print_scores(f"{parser} on {gold.name}", scores)
    say(f"synonyms: {'none' if without_synonyms else 'WordNet 3.0'}; {rate:,.0f} captions/s")
    if out is not None:
        record = {
            "parser": parser,
            "version": chosen.version,
            "gold": gold.name,
            "split": split,
            "min_visible": min_visible,
            "synonyms": not without_synonyms,
            "captions_per_second": rate,
            **scores.to_dict(),
        }
        out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say(f"written: {out}")


def _print_scores(title: str, scores: ParserScores) -> None:
    table = Table("", "captions", "SPICE", "Set Match", title=title, title_justify="left")
    table.add_row("all", f"{scores.captions:,}", f"{scores.spice:.1%}", f"{scores.set_match:.1%}")
    table.add_row(
        f"{LONG} words or more", f"{scores.long_captions:,}", f"{scores.long_spice:.1%}", f"{scores.long_set_match:.1%}"
    )
    console.print(table)
    table = Table("", "precision", "recall", "F1", "tied to words")
    for kind, agreement in scores.kinds.items():
        figures = (agreement.precision, agreement.recall, agreement.f1, scores.grounded[kind])
        table.add_row(kind, *(f"{figure:.1%}" for figure in figures))
    console.print(table)
    table = Table("error", "triples")
    for cause, count in scores.causes.items():
        table.add_row(cause, f"{count:,}")
    console.print(table)


if __name__ == "__main__":
    run(app)
