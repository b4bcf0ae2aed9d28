"""The join: what becomes of every row of the regions, and of every image."""

from pipeline.pack.accounts import Account, Outcome
from pipeline.pack.join import Fate, join
from tests.pipeline.pack.tables import captions_of, ids, make_row, regions_folder


def regions_of(folder, *parts):
    return regions_folder(folder, *([make_row(image_id, 1) for image_id in part] for part in parts))


def test_the_example_of_the_docstring(tmp_path):
    captions = captions_of(tmp_path, ["a", "a", "b", "c"])
    plan = join(captions, [regions_of(tmp_path / "regions", ["b", "a", "d", "b"])], ids("a"), None, lambda _: False)
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
    plan = join(
        captions, folders, ids(), {"x": "y", "c": "c", "a": "a", "b": "b"}.get, lambda image_id: image_id == "a"
    )
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
    plan = join(captions, [regions], excluded, None, lambda _: False)
    assert plan.images == Account(4, {Outcome.EXCLUDED: 3, Outcome.NO_REGIONS: 0, Outcome.NO_CAPTIONS: 0})
    assert plan.captions == Account(3, {Outcome.EXCLUDED: 2, Outcome.NO_REGIONS: 0})
    assert not plan.without_regions
    assert not plan.without_captions
