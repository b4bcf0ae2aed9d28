"""Draws how a data set is distributed."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from shards.inspect.summary import Histogram, Summary
from shards.schema import KINDS

_BARS = 60
"""the most bars of a plot; longer ranges are put together"""


def draw_plots(summaries: Mapping[str, Summary]) -> bytes:
    """Returns a PNG with one plot for each of captions, word pieces, boxes and nodes, with all sets in it."""
    figure = Figure(figsize=(16, 8), layout="constrained")
    plots = {name: _list_histograms(summary) for name, summary in summaries.items()}
    for number, axes in enumerate(figure.subplots(2, 3).flat):
        for name, histograms in plots.items():
            title, histogram = histograms[number]
            values, shares = _to_shares(histogram)
            axes.step(values, shares, where="mid", label=name or "all")
        axes.set_title(title)
        axes.set_ylim(bottom=0)
        axes.legend()
    stream = io.BytesIO()
    figure.savefig(stream, dpi=80, metadata={"Software": None})
    return stream.getvalue()


def _list_histograms(summary: Summary) -> list[tuple[str, Histogram]]:
    """What is drawn of a set, with the title of each plot."""
    return [
        ("captions of an image", summary.captions),
        ("word pieces of a caption", summary.tokens),
        ("boxes of an image", summary.boxes),
        *((f"{kind}s of a caption", summary.nodes[kind]) for kind in KINDS),
    ]


def _to_shares(histogram: Histogram) -> tuple[list[float], list[float]]:
    """The middles of at most `_BARS` ranges of numbers, and the share of each range."""
    if not len(histogram.counts):
        return [], []
    low, high = histogram.bounds
    parts = np.array_split(np.arange(low, high + 1), min(_BARS, high + 1 - low))
    total = max(1, int(histogram.counts.sum()))
    return [float(part.mean()) for part in parts], [float(histogram.counts[part].sum()) / total for part in parts]
