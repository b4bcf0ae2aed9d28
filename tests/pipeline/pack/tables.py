"""Small tables of graphs and regions, and the shards that they make."""

import numpy as np
import pyarrow as pa

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.graph_table import GRAPHS, GRAPHS_VERSION, read_graphs, tabulate_nodes, write_graphs
from pipeline.pack.stage import PackStage
from pipeline.row_store import RowStore
from shards.inspect.verify import verify_set
from shards.manifest import Classes
from shards.reader import ShardSet
from shards.regions.table import RegionsInfo, RegionsRow, write_regions
from shards.schema import Caption, Regions

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["a", "red", "fire", "hydrant", "on", "the", "side", "##walk", "man", "hat", "'", "s", "[", "]", "mask", "."]
VOCABULARY = [*SPECIAL, *PIECES]
D, CLASSES = 4, 5
INFO = RegionsInfo(D, Classes(kind="distribution", count=CLASSES, background=0, names=None), None)


def write_vocabulary(folder):
    path = folder / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in VOCABULARY))
    return path


def make_row(image_id, seed, d=D, classes=CLASSES):
    values = np.random.default_rng(seed)
    n = 1 + seed % 6
    low = values.uniform(0, 50, (n, 2))
    probabilities = -np.sort(-values.dirichlet(np.ones(classes or 1), n)).astype(np.float16)
    ids = np.stack([values.permutation(classes or 1) for _ in range(n)]).astype(np.int16)
    regions = Regions(
        np.concatenate([low, low + 9], axis=1).astype(np.float32),
        values.standard_normal((n, d)).astype(np.float16),
        ids if classes else None,
        probabilities if classes else None,
    )
    return RegionsRow(image_id, 60, 70, regions)


def regions_folder(folder, *parts, info=INFO):
    folder.mkdir()
    for number, rows in enumerate(parts):
        with (folder / f"part-{number:05d}.parquet").open("wb") as stream:
            write_regions(stream, rows, info)
    (folder / "report.json").write_text("{}")
    return folder


def graphs_folder(folder, *parts, version="1"):
    folder.mkdir()
    metadata = {"graphs_version": GRAPHS_VERSION, "parser": "test", "parser_version": version}
    for number, captions in enumerate(parts):
        columns = {
            "image_id": [image_id for image_id, _ in captions],
            "caption_id": [c.caption_id for _, c in captions],
            "caption": [c.text for _, c in captions],
            "segments": [None] * len(captions),
            **tabulate_nodes([c.graph for _, c in captions]),
        }
        with (folder / f"part-{number:05d}.parquet").open("wb") as stream:
            write_graphs(stream, pa.table(columns, GRAPHS), metadata)
    (folder / "report.json").write_text("{}")
    return folder


TEXT = "A red fire hydrant on the man's sidewalk."


def make_caption(number=0, text=TEXT):
    graph = SceneGraph(
        TEXT,
        (Object("fire hydrant", Span(6, 18)), Object("man", Span(26, 29)), Object("sidewalk", Span(32, 40))),
        (Attribute(0, "red", Span(2, 5)),),
        (Relation(0, 2, "on", (Span(19, 21),)), Relation(1, 2, "have", ())),
    )
    return Caption(str(number), text, graph if text == TEXT else SceneGraph(text))


def pack(tmp_path, graphs, regions, *, out="out", workers=1, max_rejects=0.0, **options):
    graphs, regions = (x if isinstance(x, list) else [x] for x in (graphs, regions))
    vocabulary = tmp_path / "vocab.txt"
    settings = {"holdout": 0.0, "shard_size": 1000, "class_top_k": None, **options}
    stage = PackStage(tuple(graphs), tuple(regions), vocabulary, tmp_path / out, **settings)
    report = run_stage(stage, tmp_path / out, Engine(workers=workers), max_rejects=max_rejects, overwrite=False)
    return tmp_path / out, report


def read(folder):
    shards = ShardSet(folder)
    shards.check_vocabulary()
    assert [problem for _, problems in verify_set(shards) for problem in problems] == []
    return {
        shards.record(*place)[0]: (shards.record(*place), shards.regions(*place), shards.masks(*place))
        for place in shards
    }


def images(count, captions=2):
    ids = [f"http://x.org/{number}.jpg" for number in range(count)]
    return ids, [(image_id, make_caption(c)) for image_id in ids for c in range(captions)]


def captions_of(tmp_path, *parts):
    """The captions of these images, in one part of graphs for each list."""
    rows = [[(image_id, make_caption(number)) for number, image_id in enumerate(part)] for part in parts]
    return RowStore(
        "captions", [graphs_folder(tmp_path / "graphs", *rows)], read_graphs, GRAPHS, tmp_path / "captions.arrow"
    )


def ids(*values):
    return pa.array(values, pa.large_string())
