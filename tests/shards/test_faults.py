"""The rows of the fault table in docs/shards.md, one by one."""

import hashlib
import io
import json
import tarfile
import warnings
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from typer.testing import CliRunner

import shards.edit.__main__ as edit
import shards.inspect.__main__ as inspect
from parsers.command import InputError
from parsers.graph import SceneGraph
from shards.reader import ShardSet
from shards.schema import MASK_DTYPES, Caption, Masks, Regions, key_of
from shards.storage.errors import ShardError
from shards.writer import ShardWriter
from tests.shards.samples import (
    CLASSES,
    FEATURES,
    IDS,
    SAMPLES,
    contents,
    flip,
    make_sample,
    manifest_of,
    problems_of,
    write_shards,
)


def verified(folder, *options):
    """What the command says: its lines and its error."""
    result = CliRunner().invoke(inspect.app, ["verify", str(folder), "--workers", "1", *options])
    return result.output, result.exception


# ------------------------------------------------------------------------------------------------------- damaged tars


@pytest.mark.parametrize("member", range(6), ids=["json", "boxes", "features", "class_ids", "class_probs", "masks"])
def test_a_flipped_bit_in_a_sample_is_traced_to_it(folder, member):
    offset, size = ShardSet(folder).shard(0).extents[2, member].tolist()
    for position in (offset - 400, offset, offset + size - 1):
        sound = (folder / "shard-00000.tar").read_bytes()
        flip(folder / "shard-00000.tar", position)
        output, error = verified(folder)
        assert isinstance(error, InputError)
        assert "its sha256 differs" in output
        assert f"shard-00000.tar, sample {key_of(IDS[2])}: its checksum differs" in output
        assert "shard-00001.tar" not in output
        (folder / "shard-00000.tar").write_bytes(sound)


def test_a_flipped_bit_after_the_last_sample_is_found(folder):
    flip(folder / "shard-00000.tar", -1)
    assert [problem.what[:24] for problem in problems_of(folder)] == ["its sha256 differs from "]


def test_of_many_bad_samples_the_first_is_named_and_the_others_are_counted(folder):
    extents = ShardSet(folder).shard(0).extents
    for row in (1, 3):
        flip(folder / "shard-00000.tar", int(extents[row, 2, 0]) + 130)
    output, _ = verified(folder)
    assert f"sample {key_of(IDS[1])}" in output
    assert f"sample {key_of(IDS[3])}" not in output
    assert "1 more of its 4 samples are damaged" in output


def test_reading_damaged_bytes_is_an_error_that_names_shard_and_sample(folder):
    shards = ShardSet(folder)
    reads = [
        shards.record,
        shards.regions,
        shards.regions,
        shards.regions,
        shards.regions,
        shards.masks,
    ]
    for member, read in enumerate(reads):
        sound = (folder / "shard-00001.tar").read_bytes()
        flip(folder / "shard-00001.tar", int(shards.shard(1).extents[1, member, 0]))
        with pytest.raises(ShardError, match=rf"shard-00001\.tar, sample {key_of(IDS[5])}, member"):
            read(1, 1)
        (folder / "shard-00001.tar").write_bytes(sound)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def test_a_tar_cut_between_members_is_refused_though_webdataset_reads_it(folder):
    path = folder / "shard-00000.tar"
    shards = ShardSet(folder)
    start = int(shards.shard(0).extents[2].sum(axis=1).max())
    cut(path, -(-start // 512) * 512)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(list(webdataset.WebDataset(str(path), shardshuffle=False))) == 3, "no error, a sample fewer"
    with pytest.raises(InputError, match=r"shard-00000\.tar has [\d,]+ bytes, the manifest says [\d,]+: it was cut"):
        ShardSet(folder)
    output, _ = verified(folder)
    assert "it was cut or changed" in output
    assert f"shard-00000.tar, sample {key_of(IDS[3])}" in output
    assert "shard-00001.tar" not in output


@pytest.mark.parametrize("member", range(6))
def test_a_tar_cut_inside_a_member_is_refused(folder, member):
    offset, size = ShardSet(folder).shard(0).extents[1, member].tolist()
    cut(folder / "shard-00000.tar", offset + size // 2)
    with pytest.raises(InputError, match=r"shard-00000\.tar has [\d,]+ bytes"):
        ShardSet(folder)
    output, _ = verified(folder)
    assert f"shard-00000.tar, sample {key_of(IDS[1])}" in output
    assert "2 more of its 4 samples are damaged" in output


def test_an_empty_tar_is_refused(folder):
    cut(folder / "shard-00001.tar", 0)
    with pytest.raises(InputError, match=r"shard-00001\.tar has 0 bytes"):
        ShardSet(folder)
    assert [problem.where[-15:] for problem in problems_of(folder)] == ["shard-00001.tar"]


def test_a_missing_shard_is_refused_and_the_others_are_verified(folder):
    (folder / "shard-00000.tar").unlink()
    flip(folder / "shard-00001.tar", 600)
    with pytest.raises(InputError, match=r"shard-00000\.tar is missing; the manifest lists it"):
        ShardSet(folder)
    output, error = verified(folder)
    assert "shard-00000.tar: is missing" in output
    assert f"shard-00001.tar, sample {key_of(IDS[4])}" in output
    assert isinstance(error, InputError)


# ------------------------------------------------------------------------------------------------- index and manifest


@pytest.mark.parametrize("state", ["stale", "missing", "empty", "cut"])
def test_a_bad_index_is_refused_and_made_anew(folder, tmp_path, state):
    sound, path = contents(folder), folder / "index.parquet"
    if state == "stale":
        other = write_shards(tmp_path / "other", [SAMPLES[:3], SAMPLES[3:]])
        path.write_bytes((other / "index.parquet").read_bytes())
    elif state == "missing":
        path.unlink()
    else:
        cut(path, 0 if state == "empty" else 100)
    with pytest.raises(InputError, match=r"index\.parquet is .*--repair-index"):
        ShardSet(folder)
    output, error = verified(folder, "--repair-index")
    assert error is None, output
    assert "the index was made anew" in output
    assert contents(folder) == sound
    assert "the index is as it should be" in verified(folder, "--repair-index")[0]


def test_an_index_is_not_made_from_damaged_tars(folder):
    (folder / "index.parquet").unlink()
    flip(folder / "shard-00001.tar", 600)
    _, error = verified(folder, "--repair-index")
    assert isinstance(error, InputError)
    assert "shard-00001.tar is not as the manifest says" in str(error)
    assert not (folder / "index.parquet").exists()


def test_a_new_index_is_written_into_the_manifest(folder):
    """As if another version of Arrow had written the old one."""
    manifest = manifest_of(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest | {"index_sha256": "0" * 64}))
    output, error = verified(folder, "--repair-index")
    assert error is None, output
    assert len(ShardSet(folder)) == len(SAMPLES)


def test_an_index_of_an_older_release_is_brought_up_to_date(folder):
    sound = contents(folder)
    pq.write_table(pq.read_table(folder / "index.parquet").drop_columns("crc32"), folder / "index.parquet")
    manifest = manifest_of(folder)
    manifest["index_sha256"] = hashlib.sha256((folder / "index.parquet").read_bytes()).hexdigest()
    (folder / "manifest.json").write_bytes(json.dumps(manifest).encode())
    with pytest.raises(InputError, match=r"unexpected columns.*--repair-index"):
        ShardSet(folder)
    assert verified(folder, "--repair-index")[1] is None
    assert contents(folder) == sound


def test_the_manifest_of_another_set_is_refused(folder, tmp_path):
    other = write_shards(tmp_path / "other", [SAMPLES[:4], [make_sample("7", 3)]])
    (folder / "manifest.json").write_bytes((other / "manifest.json").read_bytes())
    with pytest.raises(InputError, match=r"index\.parquet is not the index that the manifest describes"):
        ShardSet(folder)
    _, error = verified(folder, "--repair-index")
    assert "shard-00001.tar is not as the manifest says" in str(error)


def test_two_sets_in_one_folder_are_found(folder, tmp_path):
    other = write_shards(tmp_path / "other", [[make_sample("7", 3)]])
    (other / "shard-00000.tar").rename(folder / "shard-00009.tar")
    assert len(ShardSet(folder)) == len(SAMPLES)
    output, error = verified(folder)
    assert isinstance(error, InputError)
    assert "shard-00009.tar: belongs to another set" in output


def test_a_folder_of_several_sets_is_refused_with_their_names(tmp_path):
    for split in ("train", "val"):
        write_shards(tmp_path / split, [SAMPLES])
    with pytest.raises(InputError, match="holds the shard sets train, val; name one of them"):
        ShardSet(tmp_path)


def test_totals_that_are_not_those_of_the_samples_are_found(folder):
    manifest = manifest_of(folder)
    manifest["totals"]["relations"] += 1
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert [problem.what for problem in problems_of(folder)] == ["its totals are not those of the samples"]


def test_an_image_in_two_shards_is_found(tmp_path):
    folder = write_shards(tmp_path / "shards", [SAMPLES[:2], SAMPLES[1:3]])
    assert [problem.what for problem in problems_of(folder)] == [f"sample {key_of(IDS[1])} is there twice"]


def test_a_shard_written_again_with_other_features_is_told_apart(folder, tmp_path):
    changed = replace(
        SAMPLES[5], regions=replace(SAMPLES[5].regions, features=SAMPLES[5].regions.features + np.float16(1))
    )
    other = write_shards(tmp_path / "other", [SAMPLES[:4], [SAMPLES[4], changed, *SAMPLES[6:]]])
    result = CliRunner().invoke(inspect.app, ["diff", str(folder), str(other)])
    assert result.exit_code == 1
    assert "features" in result.output
    assert "long-xxx" in result.output
    (folder / "shard-00001.tar").write_bytes((other / "shard-00001.tar").read_bytes())
    assert len(ShardSet(folder)) == len(SAMPLES), "of the same size and shape: only verify can tell"
    output, _ = verified(folder)
    assert "shard-00001.tar: its sha256 differs" in output
    assert f"sample {key_of(IDS[5])}: its checksum differs" in output


# ------------------------------------------------------------------------------------------------ unusual but allowed


@pytest.mark.parametrize(
    "image_id", ["a.b.c", "../../etc/passwd", "/", "nul\0byte", "🚒 fire.jpg", "%2e", "\n", "x" * 250]
)
def test_any_image_id_is_read_back(tmp_path, image_id):
    folder = write_shards(tmp_path / "shards", [[make_sample(image_id, 1), make_sample(image_id + ".", 2)]])
    shards = ShardSet(folder)
    assert problems_of(folder) == []
    assert [shards.record(*place)[0] for place in shards] == [image_id, image_id + "."]
    assert shards.find(image_id) == (0, 0)
    with tarfile.open(folder / "shard-00000.tar") as tar:
        assert {name.partition(".")[0] for name in tar.getnames()} == {key_of(image_id), key_of(image_id + ".")}
        assert not any("/" in name or "\0" in name for name in tar.getnames())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(webdataset.WebDataset(str(folder / "shard-00000.tar"), shardshuffle=False).decode())
    assert [sample["json"]["image_id"] for sample in found] == [image_id, image_id + "."]


def test_an_empty_image_id_cannot_be_written():
    with ShardWriter(io.BytesIO(), "a.tar") as writer, pytest.raises(ValueError, match="empty image id"):
        writer.write(make_sample("", 1))


@pytest.mark.parametrize("count", [0, 1])
def test_sets_of_no_and_of_one_image_work_in_every_command(tmp_path, count):
    folder = write_shards(tmp_path / "shards", [SAMPLES[:count]] if count else [])
    assert len(list(ShardSet(folder))) == count
    assert verified(folder)[1] is None
    for command in (["summary"], ["head"], ["diff", str(folder)], ["html", "--out", str(tmp_path / "page.html")]):
        result = CliRunner().invoke(inspect.app, [command[0], str(folder), *command[1:]])
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(edit.app, ["merge", str(folder), "--out", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    assert contents(tmp_path / "new") == contents(folder)


def with_boxes(count):
    random = np.random.default_rng(count)
    boxes = np.tile(np.array([0, 0, 5, 5], np.float32), (count, 1))
    regions = Regions(
        boxes,
        random.standard_normal((count, FEATURES)).astype(np.float16),
        np.zeros((count, CLASSES), np.int16),
        np.zeros((count, CLASSES), np.float16),
    )
    return replace(make_sample(f"{count} boxes", 1), regions=regions)


@pytest.mark.parametrize("count", [0, 101])
def test_an_image_with_no_or_too_many_boxes_cannot_be_written(count):
    with ShardWriter(io.BytesIO(), "a.tar") as writer:
        with pytest.raises(ValueError, match=f"{count} boxes, expected 1 to 100"):
            writer.write(with_boxes(count))
        writer.write(with_boxes(100))
    assert writer.info.samples == 1, "the refused one leaves no trace"


def test_an_image_with_a_hundred_boxes_is_read_back(tmp_path):
    folder = write_shards(tmp_path / "shards", [[with_boxes(100)]])
    assert problems_of(folder) == []
    assert ShardSet(folder).regions(0, 0).features.shape == (100, FEATURES)


def test_captions_without_nodes_or_text_are_read_back(tmp_path):
    arrays = {name: [] for name in MASK_DTYPES} | {
        "token_offsets": [0, 0, 0],
        "node_args": np.zeros((0, 2)),
        "node_token_offsets": [0],
    }
    masks = Masks(**{name: np.array(arrays[name], dtype) for name, dtype in MASK_DTYPES.items()})
    captions = (Caption(None, "", SceneGraph("")), Caption("2", "so it is", SceneGraph("so it is")))
    folder = write_shards(tmp_path / "shards", [[replace(make_sample("1", 1), captions=captions, masks=masks)]])
    assert problems_of(folder) == []
    assert ShardSet(folder).record(0, 0)[3] == captions
    for command in ("summary", "head", "show", "html"):
        rest = {"show": ["1"], "html": ["--out", str(tmp_path / "page.html")]}.get(command, [])
        result = CliRunner().invoke(inspect.app, [command, str(folder), *rest])
        assert result.exit_code == 0, result.output
