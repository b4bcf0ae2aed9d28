"""The join: what becomes of every row of the regions, and of every image."""

import json

import pyarrow as pa
import pytest

from pipeline.pack.accounts import Account, Outcome, close_accounts, read_accounts, write_accounts
from pipeline.pack.caption_store import CaptionStore
from pipeline.pack.join import Fate, join
from tests.pipeline.pack.tables import graphs_folder, make_caption, make_row, regions_folder


def captions_of(tmp_path, *parts):
    """The captions of these images, in one part of graphs for each list."""
    rows = [[(image_id, make_caption(number)) for number, image_id in enumerate(part)] for part in parts]
    return CaptionStore([graphs_folder(tmp_path / "graphs", *rows)], tmp_path / "captions.arrow")


def regions_of(folder, *parts):
    return regions_folder(folder, *([make_row(image_id, 1) for image_id in part] for part in parts))


def ids(*values):
    return pa.array(values, pa.large_string())


def test_the_example_of_the_docstring(tmp_path):
    captions = captions_of(tmp_path, ["a", "a", "b", "c"])
    plan = join(captions, [regions_of(tmp_path / "regions", ["b", "a", "d", "b"])], ids("a"), {}, lambda _: False)
    (part,) = plan.parts
    assert part.image_ids == ["b", "a", "d", "b"]
    assert part.images.tolist() == [1, 0, -1, 1]
    assert part.fates.tolist() == [Fate.PACKED, Fate.EXCLUDED, Fate.NO_CAPTIONS, Fate.REPEATED]
    assert plan.images == Account(4, {Outcome.EXCLUDED: 1, Outcome.NO_REGIONS: 1, Outcome.NO_CAPTIONS: 1})
    assert plan.captions == Account(4, {Outcome.EXCLUDED: 2, Outcome.NO_REGIONS: 1})
    assert (plan.without_regions, plan.without_captions) == (["c"], ["d"])


def test_rows_of_several_parts_and_folders_stay_with_their_part(tmp_path):
    captions = captions_of(tmp_path, ["a", "b"], ["c"])
    folders = [regions_of(tmp_path / "one", ["c"], ["x", "a"]), regions_of(tmp_path / "two", ["b"])]
    plan = join(captions, folders, ids(), {"x": "y"}, lambda image_id: image_id == "a")
    found = [(part.path.parent.name, part.image_ids, [Fate(fate) for fate in part.fates]) for part in plan.parts]
    assert found == [
        ("one", ["c"], [Fate.PACKED]),
        ("one", ["y", "a"], [Fate.NO_CAPTIONS, Fate.HELD_OUT]),
        ("two", ["b"], [Fate.PACKED]),
    ]


def test_an_excluded_image_is_in_one_account_only(tmp_path):
    """It may have captions, regions, both or neither."""
    captions = captions_of(tmp_path, ["both", "captions only", "kept"])
    regions = regions_of(tmp_path / "regions", ["both", "regions only", "kept"])
    excluded = ids("both", "captions only", "neither", "regions only")
    plan = join(captions, [regions], excluded, {}, lambda _: False)
    assert plan.images == Account(4, {Outcome.EXCLUDED: 3, Outcome.NO_REGIONS: 0, Outcome.NO_CAPTIONS: 0})
    assert plan.captions == Account(3, {Outcome.EXCLUDED: 2, Outcome.NO_REGIONS: 0})
    assert not plan.without_regions
    assert not plan.without_captions


def test_the_captions_of_an_image_come_in_their_order_wherever_they_lie(tmp_path):
    captions = captions_of(tmp_path, ["b", "a", "b"], ["c", "b"])
    assert len(captions) == 5
    assert captions.image_ids.to_pylist() == ["b", "a", "c"]
    assert captions.counts.tolist() == [3, 1, 1]
    table = captions.take(pa.array([2, 0]).to_numpy())
    assert table["image_id"].to_pylist() == ["c", "b", "b", "b"]
    assert table["caption_id"].to_pylist() == ["0", "0", "2", "1"]
    assert len(captions.take(pa.array([], pa.int64()).to_numpy())) == 0


def test_accounts_that_do_not_add_up_are_an_error(tmp_path):
    write_accounts(tmp_path, {"images": Account(3, {Outcome.EXCLUDED: 1})})
    with pytest.raises(Exception, match="of 3 images, 1 excluded, 1 packed, 0 held out, 0 rejected are accounted for"):
        close_accounts(tmp_path, {"images packed": 1, "images held out": 0, "images rejected": 0})
    close_accounts(tmp_path, {"images packed": 1, "images held out": 1, "images rejected": 0})
    assert read_accounts(tmp_path)["images"].kinds[Outcome.HELD_OUT] == 1
    assert json.loads((tmp_path / "accounts.json").read_text())["images"]["kinds"]["held out"] == 1
