"""False captions in shards: their pieces, nodes and changed words, and what becomes of all that went in."""

import numpy as np
import pytest

from parsers.command import InputError
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.negatives.stage import NegativesStage
from pipeline.pack.accounts import read_accounts
from shards.index import SCHEMA, SCHEMA_WITH_NEGATIVES
from shards.inspect.verify import repair_index
from shards.reader import ShardSet
from shards.schema import NEGATIVE_KINDS, Caption
from tests.pipeline.negatives.captions import graph_of
from tests.pipeline.outputs import contents
from tests.pipeline.pack.tables import graphs_folder, make_row, pack, regions_folder
from tests.shards.samples import problems_of

GRAPHS = (
    graph_of("a red hat on a man", ["hat", "man"], [(0, "red")], [(0, "on", 1)]),
    graph_of("two dogs", ["dogs"], [(0, "two")]),
)


@pytest.fixture
def world(tmp_path, vocabulary):
    """Graphs, false captions and regions of six images; one more image has captions but no regions."""
    rows = [(f"i{n}", Caption(f"{n}-{c}", g.caption, g)) for n in range(7) for c, g in enumerate(GRAPHS)]
    graphs = graphs_folder(tmp_path / "graphs", rows)
    run_stage(NegativesStage((graphs,), tmp_path / "neg"), tmp_path / "neg", Engine(), max_rejects=0, overwrite=False)
    regions = regions_folder(tmp_path / "regions", [make_row(f"i{n}", n) for n in range(6)])
    return tmp_path, graphs, regions, tmp_path / "neg"


def test_what_is_packed_is_read_again(world):
    tmp_path, graphs, regions, negatives = world
    out, report = pack(tmp_path, graphs, regions, negatives=(negatives,), holdout=0.3, shard_size=2)
    assert report.statistics["false captions packed"] > 0
    accounts = read_accounts(out)["false captions"]
    assert sum(accounts.kinds.values()) == accounts.total
    assert accounts.kinds["no regions"] > 0
    for split in ("train", "val"):
        assert problems_of(out / split) == []
        shards = ShardSet(out / split)
        assert shards.manifest.has_negatives
        assert shards.totals.negatives == accounts.kinds["packed" if split == "train" else "held out"]
        for place in shards:
            sample = shards.sample(*place)
            masks = shards.negative_masks(*place)
            rows = shards.shard(place[0])
            first, last = rows.negative_offsets[place[1] : place[1] + 2]
            assert rows.negative_tokens[first:last].tolist() == np.diff(masks.masks.token_offsets).tolist()
            assert rows.negative_kinds[first:last].tolist() == masks.kinds.tolist()
            for number, negative in enumerate(sample.negatives):
                true = sample.captions[negative.caption]
                assert negative.text != true.text
                assert NEGATIVE_KINDS[masks.kinds[number]] == negative.kind
                assert masks.captions[number] == negative.caption
                start, end = masks.masks.token_offsets[number : number + 2]
                assert masks.changed_of(number).any()
                assert len(masks.changed_of(number)) == end - start


def test_the_changed_pieces_are_those_of_the_changed_words(world):
    tmp_path, graphs, regions, negatives = world
    out, _ = pack(tmp_path, graphs, regions, negatives=(negatives,))
    shards = ShardSet(out / "train")
    seen = 0
    for place in shards:
        masks = shards.negative_masks(*place)
        for number, negative in enumerate(shards.negatives(*place)):
            if negative.kind == "replace_object" and negative.text.endswith("on a man"):
                nodes = masks.masks.nodes(number)
                np.testing.assert_array_equal(np.flatnonzero(masks.changed_of(number)), masks.masks.tokens(nodes[0]))
                seen += 1
    assert seen


def test_without_false_captions_the_set_is_as_before(world):
    tmp_path, graphs, regions, negatives = world
    plain, _ = pack(tmp_path, graphs, regions, out="plain")
    shards = ShardSet(plain / "train")
    assert not shards.manifest.has_negatives
    assert b"negatives" not in (plain / "train" / "manifest.json").read_bytes()
    assert shards.index_table(0).schema.names == SCHEMA.names
    with_them, _ = pack(tmp_path, graphs, regions, out="with", negatives=(negatives,))
    assert ShardSet(with_them / "train").index_table(0).schema.names == SCHEMA_WITH_NEGATIVES.names


def test_workers_and_a_rerun_change_no_byte(world):
    tmp_path, graphs, regions, negatives = world
    options = {"shard_size": 2, "negatives": (negatives,)}
    one, _ = pack(tmp_path, graphs, regions, out="one", **options)
    two, _ = pack(tmp_path, graphs, regions, out="two", workers=2, **options)
    before = contents(one)
    assert before == contents(two)
    (one / "part-00001.stats.json").unlink()
    pack(tmp_path, graphs, regions, out="one", **options)
    assert contents(one) == before


def test_an_index_is_made_anew_with_false_captions(world):
    tmp_path, graphs, regions, negatives = world
    out, _ = pack(tmp_path, graphs, regions, negatives=(negatives,))
    path = out / "train" / "index.parquet"
    before = path.read_bytes()
    path.write_bytes(b"")
    assert repair_index(out / "train")
    assert path.read_bytes() == before
    assert problems_of(out / "train") == []


def test_false_captions_of_other_graphs_are_refused(world):
    tmp_path, _, regions, negatives = world
    fewer = graphs_folder(tmp_path / "fewer", [("i0", Caption("0", GRAPHS[0].caption, GRAPHS[0]))])
    with pytest.raises(InputError, match="false captions of the image 'i1', but no captions"):
        pack(tmp_path, fewer, regions, negatives=(negatives,))
    texts = [(f"i{n}", Caption("0", g.caption, g)) for n in range(7) for g in GRAPHS[: 1 + (n == 3)]]
    lacking = graphs_folder(tmp_path / "lacking", texts)
    _, report = pack(tmp_path, lacking, regions, out="lack", negatives=(negatives,), max_rejects=1.0)
    assert report.rejects == {
        "a false caption of a caption that the graphs do not have; run pipeline.negatives on them": 5
    }
