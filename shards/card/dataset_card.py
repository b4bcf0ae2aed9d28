"""The text of the card, and its head: YAML that the Hugging Face hub and ``datasets`` read.

The head names the type of every member. Without it ``datasets`` takes the types from the first samples, and drops what
only later ones have, such as further mentions of an object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parsers.command import make_visible, pluralize
from shards.inspect.summary import Summary
from shards.manifest import Manifest
from shards.members import ARRAY_DTYPES
from shards.reader import ShardSet
from shards.schema import KINDS, MASK_DTYPES

CARD, PLOTS = "README.md", "card.png"
FILL_IN = "FILL IN"
"""marks what only the publisher knows"""
_TOP = 10
_SPLITS = {"val": "validation"}
"""What the hub calls our splits, where it has another name."""

_SPAN = {"start": "int32", "end": "int32"}
_NODE = {"lemma": "string", "visible": "float32"}
_GRAPH = {
    "objects": [{**_NODE, **_SPAN, "mentions": [_SPAN]}],
    "attributes": [{"object": "int32", **_NODE, **_SPAN}],
    "relations": [{"subject": "int32", "object": "int32", **_NODE, "spans": [_SPAN]}],
}
_RECORD = {
    "image_id": "string",
    "width": "int32",
    "height": "int32",
    "captions": [{"caption_id": "string", "text": "string", "graph": _GRAPH}],
}


def make_card(title: str, sets: Mapping[str, ShardSet], summaries: Mapping[str, Summary]) -> str:
    """Returns the card of some sets that were packed together.

    Args:
        title: the name of the data set.
        sets: by the name of their folder; "" is the folder of the card itself.
        summaries: what is in them.
    """
    from huggingface_hub import DatasetCardData  # imported late, because --help should answer at once

    first = next(iter(sets.values())).manifest
    data = DatasetCardData(
        language="en",
        license="other",
        license_name=FILL_IN,
        license_link=FILL_IN,
        pretty_name=title,
        size_categories=_size_category(sum(len(shards) for shards in sets.values())),
        tags=["webdataset", "scene-graph", "image-captions", "region-features", "ernie-vil-pytorch"],
        configs=[{"config_name": "samples", "default": True, "data_files": _list_files(sets)}],
        dataset_info=[{"config_name": "samples", "features": _list_features(first)}],
    )
    sections = [
        f"---\n{data.to_yaml(line_break=chr(10))}\n---",
        f"# {_plain(title)}",
        f"{FILL_IN}: what this data set is for, where its captions and pictures come from.",
        _describe_counts(sets),
        f"![Captions of an image, word pieces of a caption, boxes of an image, nodes of a caption]({PLOTS})",
        _describe_labels(summaries),
        _describe_origin(first),
        _describe_reading(sets),
        f"## Licences\n\n- Captions: {FILL_IN}\n- Pictures, of which the region features were made: {FILL_IN}\n"
        f"- This data set: {FILL_IN}, in the head of this file as well (`license`, `license_name`, `license_link`)",
        f"## Known limits\n\n{FILL_IN}: people in the pictures and captions, bias, what was left out, whom to ask for "
        "removal.",
    ]
    return "\n\n".join(sections) + "\n"


def _list_files(sets: Mapping[str, ShardSet]) -> list[dict[str, str]]:
    """The tars of each split. The indices are not among them: all that a card lists must have one format."""
    return [{"split": _split_name(name), "path": _below(name, "*.tar")} for name in sets]


def _split_name(folder: str) -> str:
    """What the hub calls the set of a folder."""
    return _SPLITS.get(folder, folder or "train")


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _list_features(manifest: Manifest) -> list[dict[str, Any]]:
    """The type of each member of a sample, as ``datasets`` writes it in YAML."""
    with_classes = manifest.classes.kind != "none"
    arrays = {
        member: [[dtype.name]]
        for member, dtype in ARRAY_DTYPES.items()
        if with_classes or not member.startswith("class_")
    }
    masks = {name: [[dtype.name]] if name == "node_args" else [dtype.name] for name, dtype in MASK_DTYPES.items()}
    members = {"json": _RECORD, **arrays, "masks.npz": masks, "__key__": "string", "__url__": "string"}
    return [{"name": name, **_to_feature(kind)} for name, kind in members.items()]


def _to_feature(kind: Any) -> dict[str, Any]:
    """A type: a name; a dict of fields; a list of one element, which stands for any number of it."""
    if isinstance(kind, str):
        return {"dtype": kind}
    fields = kind[0] if isinstance(kind, list) else kind
    if isinstance(fields, dict):
        described: Any = [{"name": name, **_to_feature(field)} for name, field in fields.items()]
    else:
        described = fields if isinstance(fields, str) else _to_feature(fields)
    return {"list" if isinstance(kind, list) else "struct": described}


def _size_category(count: int) -> str:
    """The hub's name for a size."""
    bounds = {1_000: "1K", 10_000: "10K", 100_000: "100K", 1_000_000: "1M", 10_000_000: "10M", 100_000_000: "100M"}
    lower = "n"
    for bound, name in bounds.items():
        if count < bound:
            return f"n<{name}" if lower == "n" else f"{lower}<n<{name}"
        lower = name
    return f"{lower}<n<1B"


def _describe_counts(sets: Mapping[str, ShardSet]) -> str:
    columns = [_split_name(name) for name in sets]
    manifests = [shards.manifest for shards in sets.values()]
    rows = {
        "images": [f"{m.totals.samples:,}" for m in manifests],
        "captions": [f"{m.totals.captions:,}" for m in manifests],
        "boxes": [f"{m.totals.boxes:,}" for m in manifests],
        "word pieces": [f"{m.totals.tokens:,}" for m in manifests],
        **{f"{kind}s": [f"{getattr(m.totals, f'{kind}s'):,}" for m in manifests] for kind in KINDS},
        "tars": [f"{len(m.shards):,}, {sum(shard.bytes for shard in m.shards) / 1e6:,.1f} MB" for m in manifests],
        "SHA-256 of the manifest": [f"`{m.checksum}`" for m in manifests],
    }
    lines = [f"| {' | '.join(cells)} |" for cells in (["", *columns], ["---"] * (1 + len(columns)))]
    return "\n".join([*lines, *(f"| {' | '.join([name, *values])} |" for name, values in rows.items())])


def _describe_labels(summaries: Mapping[str, Summary]) -> str:
    summary = next(iter(summaries.values()))
    lines = [f"Most frequent in {pluralize(summary.images_read, 'image')}:", ""]
    for kind in KINDS:
        most = ", ".join(f"{_plain(lemma)} ({count:,})" for lemma, count in summary.lemmas[kind].most_common(_TOP))
        lines.append(f"- {kind}s: {most or 'none'}")
    return "\n".join(lines)


def _describe_origin(manifest: Manifest) -> str:
    classes, detector = manifest.classes, manifest.detector
    count = f" of {classes.count:,}" if classes.count else ""
    found = FILL_IN if detector is None else f"{_plain(detector.name)}, {_describe_options(detector.options)}"
    return "\n".join(
        [
            "## How it was made",
            "",
            f"- Scene graphs: the parser `{manifest.parser.name}`, version `{manifest.parser.version}`",
            f"- Regions: the detector {found}",
            f"- Features: {manifest.feature_size:,} numbers a region (float16); classes: {classes.kind}{count}",
            f"- Word pieces: a vocabulary of {manifest.tokenizer.size:,}, SHA-256 `{manifest.tokenizer.sha256}`",
        ]
    )


def _describe_options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{_plain(name)} {_plain(str(value))}" for name, value in options.items()) or "as it is"


def _describe_reading(sets: Mapping[str, ShardSet]) -> str:
    folder = next(iter(sets))
    return f"""## How to read it

A sample is an image: its captions with their scene graphs (`json`), boxes in pixels, region features, the likeliest
classes, and the word pieces that each node of the graphs covers (`masks.npz`).

```python
from datasets import load_dataset

samples = load_dataset("USER/NAME", streaming=True)
# A row for each image:
index = load_dataset("parquet", data_files="hf://datasets/USER/NAME/{_below(folder, "index*.parquet")}")
```

```python
from shards.reader import ShardSet  # pip install ernie-vil-pytorch

shards = ShardSet("hf://datasets/USER/NAME{f"/{folder}" if folder else ""}")
```"""


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-!|" else c for c in make_visible(" ".join(text.split())))
