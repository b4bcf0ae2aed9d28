import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.graph_table import GRAPHS, write_graphs
from pipeline.pack.accounts import Account, read_accounts
from pipeline.pack.stage import PackStage, is_held_out
from pipeline.pack.word_pieces import make_masks
from shards.inspect.verify import verify, verify_vocabulary
from shards.reader import ShardSet
from shards.regions.table import RegionsInfo, RegionsRow, regions_table, write_regions
from shards.schema import Caption, Classes, Regions
from shards.tokenizer import load_tokenizer
from tests.pipeline.outputs import contents

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["a", "red", "fire", "hydrant", "on", "the", "side", "##walk", "man", "hat", "'", "s", "[", "]", "mask", "."]
VOCABULARY = [*SPECIAL, *PIECES]
D, CLASSES = 4, 5
INFO = RegionsInfo(D, Classes(kind="distribution", count=CLASSES, background=0, names=None), None)


@pytest.fixture
def vocabulary(tmp_path):
    return write_vocabulary(tmp_path)


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
            write_regions(stream, regions_table(rows), info.to_metadata())
    (folder / "report.json").write_text("{}")
    return folder


def graphs_folder(folder, *parts, version="1"):
    folder.mkdir()
    metadata = {"graphs_version": "1", "parser": "test", "parser_version": version}
    for number, captions in enumerate(parts):
        rows = [
            {"image_id": image_id, "caption_id": c.caption_id, "caption": c.text, **c.graph.to_dict()}
            for image_id, c in captions
        ]
        with (folder / f"part-{number:05d}.parquet").open("wb") as stream:
            write_graphs(stream, pa.Table.from_pylist(rows, GRAPHS), metadata)
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
    assert verify_vocabulary(shards) == []
    assert [problem for _, problems in verify(shards) for problem in problems] == []
    return {
        shards.record(*place)[0]: (shards.record(*place), shards.regions(*place), shards.masks(*place))
        for place in shards
    }


def images(count, captions=2):
    ids = [f"http://x.org/{number}.jpg" for number in range(count)]
    return ids, [(image_id, make_caption(c)) for image_id in ids for c in range(captions)]


# ---------------------------------------------------------------------------------------------------------- pack, read

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


# --------------------------------------------------------------------------------------------- what does not fit


def test_images_of_one_side_only_are_listed(tmp_path, vocabulary):
    ids, texts = images(6, 1)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids[2:]])
    out, report = pack(tmp_path, graphs_folder(tmp_path / "graphs", texts[:4]), regions)
    assert (out / "images-without-regions.txt").read_text().splitlines() == ids[:2]
    assert (out / "images-without-captions.txt").read_text().splitlines() == ids[4:]
    assert set(read(out / "train")) == set(ids[2:4])
    accounts = read_accounts(out)
    nothing = {"excluded": 0, "held out": 0, "rejected": 0}
    assert accounts["images"] == Account(6, {"no regions": 2, "no captions": 2, "packed": 2, **nothing})
    assert accounts["captions"] == Account(4, {"no regions": 2, "packed": 2, **nothing})
    assert report.statistics["images packed"] == 2


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


def test_regions_of_an_image_in_two_folders_are_refused_with_both_names(tmp_path, vocabulary):
    ids, texts = images(4)
    a = regions_folder(tmp_path / "regions-a", [make_row(i, 1) for i in ids[:3]])
    b = regions_folder(tmp_path / "regions-b", [make_row(i, 1) for i in ids[2:]])
    with pytest.raises(InputError, match=r"2\.jpg' has regions in .*regions-a and in .*regions-b"):
        pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), [a, b])


def test_captions_of_an_image_in_two_folders_are_refused_with_both_names(tmp_path, vocabulary):
    ids, texts = images(4, 1)
    a = graphs_folder(tmp_path / "graphs-a", texts[:3])
    b = graphs_folder(tmp_path / "graphs-b", texts[2:])
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    with pytest.raises(InputError, match=r"2\.jpg' has captions in .*graphs-a and in .*graphs-b"):
        pack(tmp_path, [a, b], regions)


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


# ------------------------------------------------------------------------------------------------------- word pieces


def covered(masks, number):
    pieces = masks.token_ids[masks.token_offsets[number] : masks.token_offsets[number + 1]]
    return [[VOCABULARY[piece] for piece in pieces[masks.tokens(node)]] for node in masks.nodes(number)]


def test_nodes_are_paired_with_their_pieces(vocabulary):
    second = Caption(None, "man", SceneGraph("man", (Object("man", Span(0, 3)),)))
    masks = make_masks([make_caption(), second], load_tokenizer(vocabulary))
    masks.check()
    pieces = [VOCABULARY[piece] for piece in masks.token_ids]
    assert pieces == ["a", "red", "fire", "hydrant", "on", "the", "man", "'", "s", "side", "##walk", ".", "man"]
    assert masks.token_offsets.tolist() == [0, 12, 13]
    assert covered(masks, 0) == [["fire", "hydrant"], ["man"], ["side", "##walk"], ["red"], ["on"], []]
    assert covered(masks, 1) == [["man"]]
    assert masks.node_kind.tolist() == [0, 0, 0, 1, 2, 2, 0]
    assert masks.node_args.tolist() == [[-1, -1]] * 3 + [[0, -1], [0, 2], [1, 2], [-1, -1]]


def test_part_of_a_word_takes_the_pieces_that_it_touches(vocabulary):
    spans = [Span(0, 1), Span(4, 5), Span(3, 5), Span(8, 9), Span(9, 12)]
    graph = SceneGraph("sidewalk man", tuple(Object("x", span) for span in spans))
    masks = make_masks([Caption(None, "sidewalk man", graph)], load_tokenizer(vocabulary))
    assert covered(masks, 0) == [["side"], ["##walk"], ["side", "##walk"], [], ["man"]]


def test_special_tokens_in_a_text_are_plain_text(vocabulary):
    encoding = load_tokenizer(vocabulary).encode("a [MASK] man [SEP]", add_special_tokens=False)
    assert encoding.tokens == ["a", "[", "mask", "]", "man", "[", "[UNK]", "]"]


@pytest.mark.parametrize("text", ["\u200b", "\u200d\ufeff"])
def test_a_caption_without_pieces_is_kept_empty(vocabulary, text):
    masks = make_masks([Caption(None, text, SceneGraph(text))], load_tokenizer(vocabulary))
    masks.check()
    assert masks.token_offsets.tolist() == [0, 0]


def test_the_tokenizer_is_the_released_one(shared):
    tokenizer = load_tokenizer(shared / "data" / "vocab" / "bert-base-uncased-vocab.txt")
    assert tokenizer.get_vocab_size() == 30522
    for case in json.loads((shared / "parity" / "readers" / "tokenizer.json").read_text()):
        encoding = tokenizer.encode(case["text"], add_special_tokens=False)
        assert (encoding.tokens, encoding.ids) == (case["tokens"], case["ids"]), case["text"]


def test_a_vocabulary_without_special_tokens_is_refused(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("a\nb\n[UNK]\n")
    with pytest.raises(InputError, match=r"lacks \[PAD\], \[CLS\]"):
        load_tokenizer(path)


def test_a_piece_may_hold_any_character_but_the_end_of_a_line(tmp_path):
    """The line number is the id: a separator that only Unicode knows must not count as one."""
    path = tmp_path / "vocab.txt"
    path.write_bytes("\n".join([*SPECIAL, "a\u2028b", "man"]).encode())
    assert load_tokenizer(path).token_to_id("man") == 6


def test_the_text_is_read_with_its_part_of_the_table_only(tmp_path, vocabulary):
    """Captions of an image may lie in several parts of the graphs, far apart."""
    ids, texts = images(4, 3)
    graphs = graphs_folder(tmp_path / "graphs", texts[::3], texts[1::3], texts[2::3])
    out, _ = pack(tmp_path, graphs, regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids]))
    for (_, _, _, captions), _, _ in read(out / "train").values():
        assert [caption.caption_id for caption in captions] == ["0", "1", "2"]
    assert len(pq.read_table(out / "train" / "index.parquet")) == 4


# ---------------------------------------------------------------------------------------------------------- accounts


def test_a_second_row_of_an_image_in_a_folder_is_rejected(tmp_path, vocabulary):
    ids, texts = images(3, 1)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids], [make_row(ids[0], 2)])
    out, report = pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), regions, max_rejects=0.5)
    assert report.rejects == {"the image has regions already": 1}
    assert len(read(out / "train")[ids[0]][1].boxes) == 2
    assert read_accounts(out)["images"].kinds["packed"] == 3


def test_regions_that_are_not_valid_are_rejected_and_accounted_for(tmp_path, vocabulary):
    ids, texts = images(3, 2)
    rows = [make_row(i, 1) for i in ids]
    rows[1].regions.boxes[0, 0] = np.nan
    regions = regions_folder(tmp_path / "regions", rows)
    out, report = pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), regions, max_rejects=0.5, shard_size=1)
    assert report.rejects == {"NaN or infinity in the boxes": 1}
    assert set(read(out / "train")) == {ids[0], ids[2]}
    assert read_accounts(out)["captions"].kinds["rejected"] == 2


def test_excluded_images_are_in_no_split(tmp_path, vocabulary):
    ids, texts = images(40, 2)
    lists = [tmp_path / "refcoco.txt", tmp_path / "flickr.txt"]
    lists[0].write_text("".join(f"{i}\n" for i in ids[:15]) + "unknown\n\n")
    lists[1].write_text("\r\n".join(ids[10:20]))
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    graphs = graphs_folder(tmp_path / "graphs", texts)
    out, _ = pack(tmp_path, graphs, regions, holdout=0.3, exclude_ids=tuple(lists))
    assert set(read(out / "train")) | set(read(out / "val")) == set(ids[20:])
    accounts = read_accounts(out)
    assert (accounts["images"].kinds["excluded"], accounts["captions"].kinds["excluded"]) == (20, 40)
    with pytest.raises(InputError, match="exclude_ids"):
        pack(tmp_path, graphs, regions, holdout=0.3, exclude_ids=tuple(lists[:1]))


def test_an_id_map_joins_what_is_named_otherwise(tmp_path, vocabulary):
    ids, texts = images(4, 1)
    mapping = tmp_path / "map.parquet"
    pq.write_table(pa.table({"from": ["0", "1", "9"], "to": [ids[0], ids[1], "x"]}), mapping)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ("0", "1", ids[2], "3")])
    out, _ = pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), regions, id_map=mapping)
    assert set(read(out / "train")) == set(ids[:3])
    assert (out / "images-without-captions.txt").read_text() == "3\n"


@pytest.mark.parametrize("columns", [{"from": ["a", "a"], "to": ["b", "c"]}, {"from": ["a", "b"], "to": ["c", "c"]}])
def test_an_id_map_that_is_not_one_to_one_is_refused(tmp_path, vocabulary, columns):
    mapping = tmp_path / "map.parquet"
    pq.write_table(pa.table(columns), mapping)
    ids, texts = images(2)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    with pytest.raises(InputError, match="occurs twice"):
        pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), regions, id_map=mapping)


FEW = [f"i{n}" for n in range(8)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(FEW), max_size=14),
    st.lists(st.lists(st.tuples(st.sampled_from(FEW), st.booleans()), max_size=6), min_size=1, max_size=3),
    st.sets(st.sampled_from(FEW)),
    st.integers(1, 3),
)
def test_every_image_and_caption_is_accounted_for(tmp_path_factory, texts, parts, excluded, shard_size):
    tmp_path = tmp_path_factory.mktemp("t")
    write_vocabulary(tmp_path)
    rows = [[make_row(i, n) for n, (i, _) in enumerate(part)] for part in parts]
    sound = {}
    for row, (image_id, good) in zip(
        (r for part in rows for r in part), (p for part in parts for p in part), strict=True
    ):
        sound.setdefault(image_id, good)
        if not good:
            row.regions.features[0, 0] = np.inf
    (tmp_path / "excluded.txt").write_text("".join(f"{i}\n" for i in excluded))
    graphs = graphs_folder(tmp_path / "graphs", [(i, make_caption(n)) for n, i in enumerate(texts)])
    regions = regions_folder(tmp_path / "regions", *rows)
    options = {"holdout": 0.4, "shard_size": shard_size, "max_rejects": 1, "exclude_ids": (tmp_path / "excluded.txt",)}
    expected = {i for i in set(texts) & set(sound) if sound[i]} - excluded
    if not expected:
        with pytest.raises(InputError, match="nothing to pack"):
            pack(tmp_path, graphs, regions, **options)
        return
    out, _ = pack(tmp_path, graphs, regions, **options)
    found = {}
    for split in ("train", "val"):
        if (out / split).exists():
            found |= read(out / split)
    assert set(found) == expected
    for image_id, ((*_, captions), _, _) in found.items():
        assert [c.caption_id for c in captions] == [str(n) for n, i in enumerate(texts) if i == image_id]
    accounts = read_accounts(out)
    assert accounts["images"].total == len(set(texts) | set(sound))
    assert accounts["captions"].total == len(texts)
    assert accounts["captions"].kinds["no regions"] == sum(i not in sound and i not in excluded for i in texts)
    for account in accounts.values():
        assert sum(account.kinds.values()) == account.total


def test_segments_reach_the_word_pieces(vocabulary):
    text = "a man on the sidewalk a red hat"
    caption = Caption(None, text, SceneGraph(text))
    masks = make_masks([caption, make_caption()], load_tokenizer(vocabulary), [(6, 22), ()])
    masks.check()
    assert masks.segment_ids.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2] + [0] * 12
