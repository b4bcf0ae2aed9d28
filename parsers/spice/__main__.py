"""Scores captions against references: ``python -m parsers.spice REFERENCES CANDIDATES``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import parsers
from parsers.command import InputError, console, pluralize, progress, run, say
from parsers.spice.files import read_captions
from parsers.spice.scorer import CaptionScores, Spice, average
from parsers.spice.soft import SoftSpice, load_encoder
from parsers.spice.tuples import check_captions, list_texts, parse_captions

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil spice captions_val2017.json results.json --out scores.json")
def main(
    references: Annotated[Path, typer.Argument(help="COCO's captions, {id: [captions]}, or JSON lines.")],
    candidates: Annotated[
        Path, typer.Argument(help="COCO's results, {id: caption}, or JSON lines: one for each image.")
    ],
    parser: Annotated[
        str, typer.Option(help=f"The parser: {', '.join(parsers.names())}, or the folder of a trained one.")
    ] = "neural",
    soft: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODER",
            help="Compute Soft-SPICE, too, with this model of sentence-transformers: a folder, or a name on the hub.",
        ),
    ] = None,
    without_synonyms: Annotated[
        bool, typer.Option("--without-synonyms", help="Match equal words only, without WordNet's synonyms.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for the scores of each image.")] = None,
) -> None:
    """Score captions: SPICE by kind of tuple, and Soft-SPICE."""
    if out is not None and not out.parent.is_dir():
        raise InputError(f"{out}: the folder {out.parent} does not exist")
    gts, res = read_captions(references), read_captions(candidates)
    try:
        check_captions(gts, res)
    except ValueError as error:
        raise InputError(f"{references}, {candidates}: {error}") from error
    try:
        chosen = parsers.get(parser)
    except (ValueError, ImportError) as error:
        raise InputError(str(error)) from error
    spice = Spice(chosen, synonyms=not without_synonyms)
    soft_spice = None if soft is None else SoftSpice(chosen, load_encoder(soft))
    with progress("parsing", len(list_texts(gts, res)), "caption") as advance:
        images = parse_captions(chosen, gts, res, advance)
    scores: dict[str, list[CaptionScores]] = {}
    for scorer in (spice, soft_spice):
        if scorer is not None:
            with progress(scorer.method(), len(images), "image") as advance:
                scores[scorer.method()] = scorer.score(images, advance)
    means = {method: average(found) for method, found in scores.items()}
    _print_scores(f"{candidates.name}: {pluralize(len(res), 'image')}, {pluralize(_count(gts), 'reference')}", means)
    say(f"parser: {parser} {chosen.version}; synonyms: {'none' if without_synonyms else 'WordNet 3.0'}")
    if out is not None:
        record = {
            "references": references.name,
            "candidates": candidates.name,
            "parser": parser,
            "version": chosen.version,
            "synonyms": not without_synonyms,
            "encoder": soft,
            "scores": means,
            "images": [
                {"image_id": image, "caption": res[image][0], **{method: found[i] for method, found in scores.items()}}
                for i, image in enumerate(gts)
            ],
        }
        out.write_text(json.dumps(_drop_nan(record), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say(f"written: {out}")


def _count(captions: dict[str, list[str]]) -> int:
    return sum(map(len, captions.values()))


def _print_scores(title: str, means: dict[str, CaptionScores]) -> None:
    table = Table("", "images", "precision", "recall", "score", title=title, title_justify="left")
    for method, kinds in means.items():
        for kind, figures in kinds.items():
            shown = ("–" if math.isnan(figures[name]) else f"{figures[name]:.1%}" for name in ("pr", "re", "f"))
            table.add_row(method if kind == "All" else f"  {kind}", f"{figures['numImages']:,}", *shown)
    console.print(table)


def _drop_nan(value: Any) -> Any:
    """Returns the value with null in place of NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _drop_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_drop_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    run(app)
