"""What becomes of every image and caption that goes in."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from pipeline.pack.accounts import Account, Outcome, close_accounts, read_accounts, write_accounts
from tests.pipeline.pack.tables import (
    graphs_folder,
    images,
    make_caption,
    make_row,
    pack,
    read,
    regions_folder,
    write_vocabulary,
)


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
    options = {"holdout": 0.4, "shard_size": shard_size, "max_rejects": 1}
    options |= {"exclude_ids": (tmp_path / "excluded.txt",), "allow_unmatched": True}
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


def test_accounts_that_do_not_add_up_are_an_error(tmp_path):
    write_accounts(tmp_path, {"images": Account(3, {Outcome.EXCLUDED: 1})})
    with pytest.raises(InputError, match="of 3 images, 1 excluded, 1 packed, 0 held out, 0 rejected are accounted for"):
        close_accounts(tmp_path, Counter({"images packed": 1}))
    close_accounts(tmp_path, Counter({"images packed": 1, "images held out": 1}))
    assert read_accounts(tmp_path)["images"].kinds[Outcome.HELD_OUT] == 1
    assert json.loads((tmp_path / "accounts.json").read_text())["images"]["kinds"]["held out"] == 1
