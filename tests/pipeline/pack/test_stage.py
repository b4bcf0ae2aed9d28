"""The stage that packs graphs and regions into shards."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from pipeline.holdout import is_held_out
from shards.manifest import Classes
from shards.reader import ShardSet
from shards.regions.table import RegionsInfo
from shards.schema import Caption
from tests.pipeline.outputs import contents
from tests.pipeline.pack.tables import (
    CLASSES,
    INFO,
    D,
    graphs_folder,
    images,
    make_caption,
    make_row,
    pack,
    read,
    regions_folder,
    write_vocabulary,
)

IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
WORDS = [*"ab. '[]", "red", "fire ", "é", "🚒", "漢"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map("".join)


@st.composite
def captions(draw):
    text = draw(TEXTS)
    spans = st.integers(0, len(text) - 1).flatmap(
        lambda start: st.integers(start + 1, len(text)).map(lambda end: Span(start, end))
    )
    objects = tuple(Object("x", span) for span in draw(st.lists(spans, max_size=3)))
    attributes = tuple(Attribute(0, "y", span) for span in draw(st.lists(spans, max_size=2))) if objects else ()
    relations = (Relation(1, 0, "z", tuple(draw(st.lists(spans, max_size=1)))),) if len(objects) > 1 else ()
    return Caption(draw(st.none() | st.just("7")), text, SceneGraph(text, objects, attributes, relations))


@settings(max_examples=10, deadline=None)
@given(
    st.dictionaries(
        IDS, st.tuples(st.integers(0, 99), st.lists(captions(), min_size=1, max_size=2)), min_size=1, max_size=5
    ),
    st.integers(1, 4),
    st.sampled_from([None, 2, 99]),
)
def test_what_is_packed_is_read_again(tmp_path_factory, wanted, shard_size, top_k):
    tmp_path = tmp_path_factory.mktemp("t")
    write_vocabulary(tmp_path)
    rows = {image_id: make_row(image_id, seed) for image_id, (seed, _) in wanted.items()}
    graphs = graphs_folder(tmp_path / "graphs", [(i, c) for i, (_, captions) in wanted.items() for c in captions])
    regions = regions_folder(tmp_path / "regions", list(rows.values()))
    out, _ = pack(tmp_path, graphs, regions, shard_size=shard_size, class_top_k=top_k)
    found = read(out / "train")
    assert found.keys() == wanted.keys()
    for image_id, ((_, width, height, captions), stored, _) in found.items():
        assert (width, height) == (60, 70)
        assert sorted(map(repr, captions)) == sorted(map(repr, wanted[image_id][1]))
        expected = rows[image_id].regions
        np.testing.assert_array_equal(stored.boxes, expected.boxes, strict=True)
        np.testing.assert_array_equal(stored.features, expected.features, strict=True)
        np.testing.assert_array_equal(stored.class_ids, expected.class_ids[:, :top_k], strict=True)
        np.testing.assert_array_equal(stored.class_probs, expected.class_probs[:, :top_k], strict=True)


def test_the_manifest_says_what_classes_are_left(tmp_path, vocabulary):
    ids, texts = images(3)
    graphs = graphs_folder(tmp_path / "graphs", texts)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 3) for i in ids])
    kinds = {}
    for top_k in (None, 2, CLASSES):
        out, _ = pack(tmp_path, graphs, regions, out=f"out-{top_k}", class_top_k=top_k)
        manifest = ShardSet(out / "train").manifest
        kinds[top_k] = manifest.classes.kind
        assert (manifest.classes.count, manifest.feature_size, manifest.parser.name) == (CLASSES, D, "test")
    assert kinds == {None: "distribution", 2: "top-k", CLASSES: "distribution"}


def test_regions_without_classes_are_packed(tmp_path, vocabulary):
    ids, texts = images(2)
    info = RegionsInfo(D, Classes(kind="none", count=None, background=None, names=None), None)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1, classes=0) for i in ids], info=info)
    out, _ = pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), regions, class_top_k=3)
    assert all(stored.class_ids is None for _, stored, _ in read(out / "train").values())


@pytest.mark.parametrize("shard_size", [1, 3, 4, 100])
def test_no_shard_holds_more_images_than_asked(tmp_path, vocabulary, shard_size):
    ids, texts = images(17, 1)
    rows = [make_row(i, n) for n, i in enumerate(ids)]
    texts = [pair for n, pair in enumerate(texts) if n not in (2, 3, 9, 16)]
    regions = regions_folder(tmp_path / "regions", rows[:9], rows[9:])
    out, _ = pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), regions, shard_size=shard_size, holdout=0.3)
    counts = {}
    for split in ("train", "val"):
        for shard in ShardSet(out / split).manifest.shards:
            counts[shard.file] = counts.get(shard.file, 0) + shard.samples
    assert max(counts.values()) <= shard_size
    assert sum(counts.values()) == 13
    assert len(counts) == -(-7 // shard_size) + -(-6 // shard_size)


def test_the_held_out_split_follows_from_the_image_id_alone(tmp_path, vocabulary):
    ids, texts = images(60)
    rows = [make_row(i, n) for n, i in enumerate(ids)]
    graphs = graphs_folder(tmp_path / "graphs", texts)
    splits = []
    for name, order in (("a", rows), ("b", rows[::-1])):
        regions = regions_folder(tmp_path / f"regions-{name}", order[:20], order[20:])
        out, _ = pack(tmp_path, graphs, regions, out=name, holdout=0.3, shard_size=7)
        splits.append([set(read(out / split)) for split in ("train", "val")])
    assert splits[0] == splits[1]
    train, val = splits[0]
    assert train | val == set(ids)
    assert not train & val
    assert val == {image_id for image_id in ids if is_held_out(image_id, 0.3)}
    assert 5 < len(val) < 32


def test_without_holdout_there_is_no_val(tmp_path, vocabulary):
    ids, texts = images(5)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    out, _ = pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), regions)
    assert set(read(out / "train")) == set(ids)
    assert not (out / "val").exists()


def test_workers_and_a_rerun_change_no_byte(tmp_path, vocabulary):
    ids, texts = images(30)
    rows = [make_row(i, n) for n, i in enumerate(ids)]
    graphs = graphs_folder(tmp_path / "graphs", texts[:25], texts[25:])
    regions = regions_folder(tmp_path / "regions", rows[:11], rows[11:])
    options = {"shard_size": 4, "holdout": 0.3}
    one, _ = pack(tmp_path, graphs, regions, out="one", **options)
    two, _ = pack(tmp_path, graphs, regions, out="two", workers=2, **options)
    before = contents(one)
    assert before == contents(two)
    (one / "part-00001.stats.json").unlink()
    (one / "train" / "manifest.json").unlink()
    _, report = pack(tmp_path, graphs, regions, out="one", **options)
    assert report.skipped == report.parts - 1
    assert contents(one) == before


def test_nothing_in_common_is_an_error(tmp_path, vocabulary):
    graphs = graphs_folder(tmp_path / "graphs", [("a", make_caption())])
    with pytest.raises(InputError, match=r"no image has both.*images-without-regions\.txt"):
        pack(tmp_path, graphs, regions_folder(tmp_path / "regions", [make_row("b", 1)]))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_part_without_rows_is_skipped(tmp_path, vocabulary, position):
    ids, texts = images(4)
    rows = [make_row(i, 1) for i in ids]
    parts = [rows[:2], rows[2:]]
    parts.insert(position, [])
    out, _ = pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), regions_folder(tmp_path / "regions", *parts))
    assert set(read(out / "train")) == set(ids)


def test_several_folders_are_packed_together(tmp_path, vocabulary):
    ids, texts = images(6, 1)
    graphs = [graphs_folder(tmp_path / "graphs-a", texts[:2]), graphs_folder(tmp_path / "graphs-b", texts[2:])]
    rows = [make_row(i, 1) for i in ids]
    regions = [regions_folder(tmp_path / "regions-a", rows[3:]), regions_folder(tmp_path / "regions-b", rows[:3])]
    out, _ = pack(tmp_path, graphs, regions)
    assert set(read(out / "train")) == set(ids)


def test_unequal_features_classes_or_parsers_are_refused_with_both_names(tmp_path, vocabulary):
    ids, texts = images(4, 1)
    graphs = graphs_folder(tmp_path / "graphs", texts)
    a = regions_folder(tmp_path / "regions-a", [make_row(i, 1) for i in ids[:2]])
    wide = RegionsInfo(D + 1, INFO.classes, None)
    b = regions_folder(tmp_path / "regions-b", [make_row(i, 1, D + 1) for i in ids[2:]], info=wide)
    named = RegionsInfo(D, INFO.classes.model_copy(update={"names": list("abcde")}), None)
    c = regions_folder(tmp_path / "regions-c", [make_row(i, 1) for i in ids[2:]], info=named)
    with pytest.raises(InputError, match=r"regions-a and .*regions-b .*feature size 4 and 5"):
        pack(tmp_path, graphs, [a, b])
    with pytest.raises(InputError, match=r"regions-a and .*regions-c"):
        pack(tmp_path, graphs, [a, c], out="other")
    later = graphs_folder(tmp_path / "graphs-later", [("new", make_caption())], version="2")
    with pytest.raises(InputError, match=r"different parsers: test 1 in .*graphs, test 2 in .*graphs-later"):
        pack(tmp_path, [graphs, later], a, out="third")


@pytest.mark.parametrize("side", ["graphs", "regions"])
def test_an_unfinished_stage_is_refused(tmp_path, vocabulary, side):
    ids, texts = images(2)
    graphs = graphs_folder(tmp_path / "graphs", texts)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    (tmp_path / side / "report.json").unlink()
    with pytest.raises(InputError, match=rf"{side}: has no report\.json"):
        pack(tmp_path, graphs, regions)


def test_the_text_is_read_with_its_part_of_the_table_only(tmp_path, vocabulary):
    """Captions of an image may lie in several parts of the graphs, far apart."""
    ids, texts = images(4, 3)
    graphs = graphs_folder(tmp_path / "graphs", texts[::3], texts[1::3], texts[2::3])
    out, _ = pack(tmp_path, graphs, regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids]))
    for (_, _, _, captions), _, _ in read(out / "train").values():
        assert [caption.caption_id for caption in captions] == ["0", "1", "2"]
    assert len(pq.read_table(out / "train" / "index.parquet")) == 4
