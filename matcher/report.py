"""How well a matcher finds the photos that it was not trained on: a page with the recalls and the worst pairs.

``figures.json`` holds the same for programs, with what is needed to say what a score means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from finetune.comparison.chance import guess_ranks
from finetune.data import TaskFiles
from finetune.model_folder import load_fine_tuned, load_task
from finetune.tasks.retrieval.captions import number_images
from finetune.tasks.retrieval.hidden_words import CHOICES, HiddenWords, measure_hidden_words
from finetune.tasks.retrieval.ranking import RECALLS
from finetune.tasks.retrieval.score_matrix import PairScorer
from finetune.tasks.retrieval.task import Retrieval
from matcher.pairs import HELD_OUT
from matcher.run_record import FIGURES, MODEL, REPORT, WORK
from parsers.checksums import sha256_of
from parsers.command import console, pluralize
from parsers.device import choose_device
from pretrain.model.encoder import WEIGHTS
from pretrain.training.distributed import DistributedContext
from shards.inspect.page import LEGEND, SampleDrawer, make_document
from shards.reader import ShardSet
from shards.schema import Array
from shards.storage.files import write_atomic, write_record

PAGE = "index.html"
WORST = 20
"""so many pairs are shown"""
BATCH = 256
"""pairs that are scored at once"""
QUANTILES = 100
"""The scores of true and of false pairs are kept as so many quantiles, and the lowest."""
DIRECTIONS = {"image": "the photo of a text", "text": "a text of a photo"}
_STYLE = """
table{border-collapse:collapse;display:block;margin:.6em 0;overflow-x:auto}
td,th{padding:2px 14px 2px 0;text-align:right}
td:first-child,th:first-child{text-align:left}
.pair{grid-template-columns:300px minmax(0,1fr) 300px}
@media(max-width:900px){.pair{grid-template-columns:minmax(0,1fr)}}
"""


@dataclass(frozen=True)
class WrongPair:
    """A caption whose photo is not the one that fits it best."""

    text: str
    rank: int
    """the rank of its own photo, from 1"""
    own: str
    """the image id of its own photo"""
    best: str
    """the image id of the photo that fits best"""
    gap: float
    """by how much the score of that photo is higher"""


def report_matcher(out: Path, files: TaskFiles, shards: Path, photos: Path, left_out: Sequence[str]) -> dict[str, Any]:
    """Scores the held-out captions with the held-out photos, prints the recalls, and writes the page.

    Args:
        out: the folder of the matcher, which holds the model.
        files: the pairs and the regions.
        shards: the held-out photos, packed.
        photos: the folder of the photos.
        left_out: what was not used and why.

    Returns:
        The results as YAML values.
    """
    folder, device = out / MODEL, choose_device()
    task = load_task(folder, Retrieval)
    split = files.open(task, [HELD_OUT], folder, device.type)
    model = load_fine_tuned(folder, task, device)
    matrix = task.make_matrix(model, split, batch_size=BATCH, device=device)
    fingerprint = {"model": sha256_of(folder / WEIGHTS), "regions": files.compute_checksums()}
    scores = matrix.fill(DistributedContext(0, 1, device), out / WORK / "scores", fingerprint)
    predictions = task.rank_captions(split, scores)
    recalls, chance = task.evaluate(predictions, split.examples), guess_ranks(split, split, task)
    image_ids, own = number_images(split.examples)
    _print_recalls(recalls, chance, len(image_ids), len(own))
    wrong = find_wrong_pairs([caption.text for caption in split.examples], scores, image_ids, own)
    packed = ShardSet(str(shards))
    scorer = PairScorer(model, split.sources, device=device, batch_size=BATCH)
    hidden = measure_hidden_words(scorer, split.sources, packed, task.settings.max_text)
    results = {
        "held_out": {"photos": len(image_ids), "captions": len(own)},
        "recall": {name: round(recalls[name], 4) for name in [*_NAMES, task.metric]},
        "chance": {name: round(chance[name], 4) for name in [*_NAMES, task.metric]},
    }
    figures = {
        **results,
        "hidden_words": {kind: asdict(value) for kind, value in hidden.items()},
        "choices": min(CHOICES, len(image_ids)),
        "scores": summarize_scores(scores, own),
        "worst": [asdict(pair) for pair in _choose_shown(wrong)],
    }
    write_record(figures, out / REPORT / FIGURES)
    page = _make_page(packed, photos, wrong, (recalls, chance), hidden, left_out)
    write_atomic(out / REPORT / PAGE, page.encode())
    return results


_NAMES = [f"{direction}/R@{k}" for direction in DIRECTIONS for k in RECALLS]


def summarize_scores(scores_CI: Array, own_C: Array) -> dict[str, list[float]]:
    """Returns the quantiles of the scores of true and of false pairs, rising.

    Args:
        scores_CI: float [C, I], log-odds.
        own_C: int64 [C], the photo of each caption.
    """
    is_true_CI = np.arange(scores_CI.shape[1]) == own_C[:, None]
    shares = np.linspace(0, 1, QUANTILES + 1)
    return {
        name: [round(value, 4) for value in np.quantile(scores_CI[mask_CI].astype(np.float64), shares).tolist()]
        for name, mask_CI in (("true", is_true_CI), ("false", ~is_true_CI))
    }


def _choose_shown(wrong: Sequence[WrongPair]) -> list[WrongPair]:
    """Returns the worst pair of each photo, the worst first."""
    return list({pair.own: pair for pair in reversed(wrong)}.values())[::-1][:WORST]


def find_wrong_pairs(texts: Sequence[str], scores_CI: Array, image_ids: Sequence[str], own_C: Array) -> list[WrongPair]:
    """Returns the captions whose photo is not the best one, the worst first.

    Args:
        texts: the C captions.
        scores_CI: float [C, I].
        image_ids: of the I photos.
        own_C: int64 [C], the photo of each caption.
    """
    right_C = scores_CI[np.arange(len(texts)), own_C]
    others_CI = np.where(np.arange(len(image_ids)) == own_C[:, None], -np.inf, scores_CI)
    best_C = others_CI.argmax(1)
    gaps_C = others_CI[np.arange(len(texts)), best_C] - right_C
    ranks_C = 1 + (others_CI >= right_C[:, None]).sum(1)
    order = [number for number in np.lexsort((-gaps_C, -ranks_C)).tolist() if ranks_C[number] > 1]
    return [
        WrongPair(texts[number], int(ranks_C[number]), image_ids[own_C[number]], image_ids[best], float(gaps_C[number]))
        for number, best in ((number, best_C[number]) for number in order)
    ]


def _print_recalls(recalls: Mapping[str, float], chance: Mapping[str, float], photos: int, captions: int) -> None:
    title = f"Held out: {pluralize(photos, 'photo')} with {pluralize(captions, 'caption')}"
    table = Table("finds", "among the first", "found", "by chance", title=title, title_justify="left")
    for direction, what in DIRECTIONS.items():
        for k in RECALLS:
            name = f"{direction}/R@{k}"
            table.add_row(what, str(k), f"{recalls[name]:.1%}", f"{chance[name]:.1%}")
    console.print(table)


# ---------------------------------------------------------------------------------------------------------------- page


def _make_page(
    shards: ShardSet,
    photos: Path,
    wrong: Sequence[WrongPair],
    scores: tuple[Mapping[str, float], Mapping[str, float]],
    hidden: Mapping[str, HiddenWords],
    left_out: Sequence[str],
) -> str:
    places = {shards.record(*place)[0]: place for place in shards}
    shown = _choose_shown(wrong)
    drawn = {image_id for pair in shown for image_id in (pair.own, pair.best)}
    drawer = SampleDrawer(shards, [places[image_id] for image_id in sorted(drawn)], photos)

    def draw(pair: WrongPair) -> str:
        own, best = places[pair.own], places[pair.best]
        opened = [caption.text for caption in shards.record(*own)[3]].index(pair.text)
        return (
            f'<article class="pair">{drawer.draw_image(own, f"its own photo: rank {pair.rank} of {len(places)}")}'
            f"<div>{drawer.draw_captions(own, opened)}</div>"
            f"{drawer.draw_image(best, f'fits better by {pair.gap:.1f} (log-odds)')}</article>\n"
        )

    title, totals = "How well photos and texts are matched", shards.totals
    header = (
        f"<h1>{title}</h1><p>{pluralize(totals.samples, 'photo')} with {pluralize(totals.captions, 'caption')} were "
        "held out, and the model has not seen them. Each caption is compared with all of these photos, and each photo "
        f"with all of these captions.</p>{_draw_recalls(*scores)}{_draw_hidden_words(hidden, len(places))}"
    )
    worst = (
        f"<header><h1>The worst pairs: {len(shown):,} of {pluralize(len(wrong), 'caption')} that fit another photo "
        f"better</h1><p>The unfolded caption is the one in question.</p>{LEGEND}</header>"
    )
    return make_document(title, header, worst + "".join(map(draw, shown)) + _draw_left_out(left_out), _STYLE)


def _draw_recalls(recalls: Mapping[str, float], chance: Mapping[str, float]) -> str:
    rows = "".join(
        f"<tr><td>{what}</td><td>{k}</td><td><b>{recalls[name]:.1%}</b></td><td>{chance[name]:.1%}</td></tr>"
        for direction, what in DIRECTIONS.items()
        for k in RECALLS
        for name in (f"{direction}/R@{k}",)
    )
    return f"<table><tr><th>finds</th><th>among the first</th><th>found</th><th>by chance</th></tr>{rows}</table>"


def _draw_hidden_words(hidden: Mapping[str, HiddenWords], photos: int) -> str:
    if not hidden:
        return ""
    rows = "".join(
        f"<tr><td>{kind}</td><td>{value.captions:,}</td><td>{value.shown:.1%}</td><td><b>{value.hidden:.1%}</b></td></tr>"
        for kind, value in hidden.items()
    )
    return (
        f"<p>Which words are used: the photo of a caption is looked for among {min(CHOICES, photos)}, with all words "
        "and with those of a kind hidden. The lower the last figure is, the more these words matter.</p>"
        f"<table><tr><th>words of</th><th>captions</th><th>all words</th><th>hidden</th></tr>{rows}</table>"
    )


def _draw_left_out(left_out: Sequence[str]) -> str:
    if not left_out:
        return ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in left_out)
    return f"<details><summary>Left out: {pluralize(len(left_out), 'item')}</summary><ul>{lines}</ul></details>\n"
