import hashlib
import io
import json
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import shards.inspect.__main__ as inspect
from parsers.command import InputError
from shards.inspect.verify import verify
from shards.manifest import Totals
from shards.reader import ShardSet
from shards.schema import MASK_DTYPES, key_of
from shards.writer import ShardWriter, tar_header
from tests.shards.samples import (
    FEATURES,
    IDS,
    SAMPLES,
    TEXT,
    VOCABULARY,
    any_samples,
    contents,
    make_sample,
    write_shards,
)


@pytest.fixture
def folder(tmp_path):
    return write_shards(tmp_path / "shards", [SAMPLES[:4], SAMPLES[4:]])


# ---------------------------------------------------------------------------------------------------- write and read


def assert_same(found, expected):
    for name in ("boxes", "features", "class_ids", "class_probs"):
        a, b = getattr(found, name), getattr(expected, name)
        assert (a is None) == (b is None)
        if b is not None:
            np.testing.assert_array_equal(a, b, strict=True)


def test_samples_are_read_as_they_were_written(folder):
    shards = ShardSet(folder)
    assert len(shards) == len(SAMPLES)
    assert shards.vocabulary == VOCABULARY
    for (shard, row), sample in zip(shards, SAMPLES, strict=True):
        assert shards.record(shard, row) == (sample.image_id, sample.width, sample.height, sample.captions)
        assert_same(shards.regions(shard, row), sample.regions)
        for name in MASK_DTYPES:
            masks = shards.masks(shard, row)
            np.testing.assert_array_equal(getattr(masks, name), getattr(sample.masks, name), strict=True)


@settings(max_examples=25)
@given(st.lists(st.lists(any_samples(st.just(FEATURES)), max_size=3), max_size=3))
def test_any_list_of_samples_is_read_as_it_was_written(shards):
    samples = list({sample.image_id: sample for shard in shards for sample in shard}.values())
    first = {sample.image_id for sample in samples[: len(samples) // 2]}
    parts = [[s for s in samples if s.image_id in first], [s for s in samples if s.image_id not in first]]
    with tempfile.TemporaryDirectory() as folder:
        found = ShardSet(write_shards(Path(folder), parts))
        assert len(found) == len(samples)
        for place, sample in zip(found, parts[0] + parts[1], strict=True):
            assert found.record(*place) == (sample.image_id, sample.width, sample.height, sample.captions)
            assert_same(found.regions(*place), sample.regions)
            for name in MASK_DTYPES:
                read, written = getattr(found.masks(*place), name), getattr(sample.masks, name)
                np.testing.assert_array_equal(read, written, strict=True)
            assert found.is_as_written(*place)
            assert found.find(sample.image_id) == place


def test_the_tar_headers_are_those_of_tarfile():
    for name in ("a.json", "x" * 100, "x" * 101, "x" * 300):
        for size in (0, 1, 147_584, 8**11 - 1, 8**11):
            entry = tarfile.TarInfo(name)
            entry.size = size
            assert tar_header(name, size) == entry.tobuf(tarfile.GNU_FORMAT)


def test_the_masks_are_a_zip_file_without_faults(folder):
    shards = ShardSet(folder)
    for place in shards:
        with zipfile.ZipFile(io.BytesIO(shards.member(*place, "masks.npz"))) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [f"{name}.npy" for name in MASK_DTYPES]


def test_arrays_are_views_of_the_file(folder):
    shards = ShardSet(folder)
    mapped = np.frombuffer(shards.map(0), np.uint8)
    regions, masks = shards.regions(0, 1), shards.masks(0, 1)
    for array in (
        regions.boxes,
        regions.features,
        regions.class_ids,
        regions.class_probs,
        *map(masks.__getattribute__, MASK_DTYPES),
    ):
        assert np.shares_memory(array, mapped)
        assert not array.flags.writeable


def test_the_index_counts_boxes_and_pieces(folder):
    shards = ShardSet(folder)
    found = [(shards.shard(shard).keys[row], shards.shard(shard).num_boxes[row]) for shard, row in shards]
    assert found == [(key_of(sample.image_id), len(sample.regions.boxes)) for sample in SAMPLES]
    for number, samples in enumerate((SAMPLES[:4], SAMPLES[4:])):
        rows = shards.shard(number)
        assert rows.tokens.tolist() == [6] * sum(len(sample.captions) for sample in samples)
        assert np.diff(rows.caption_offsets).tolist() == [len(sample.captions) for sample in samples]


def test_totals_count_everything(folder):
    captions = sum(len(sample.captions) for sample in SAMPLES)
    assert ShardSet(folder).manifest.totals == Totals(
        samples=len(SAMPLES),
        captions=captions,
        boxes=sum(len(sample.regions.boxes) for sample in SAMPLES),
        tokens=6 * captions,
        objects=2 * captions,
        attributes=captions,
        relations=captions,
    )


def test_webdataset_alone_reads_the_same(folder):
    samples = iter(SAMPLES)
    for file in sorted(folder.glob("*.tar")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = list(webdataset.WebDataset(str(file), shardshuffle=False).decode())
        for read in found:
            sample = next(samples)
            assert read["__key__"] == key_of(sample.image_id)
            assert read["json"]["image_id"] == sample.image_id
            assert [caption["text"] for caption in read["json"]["captions"]] == [TEXT] * len(sample.captions)
            for name in ("boxes", "features", "class_ids", "class_probs"):
                np.testing.assert_array_equal(read[f"{name}.npy"], getattr(sample.regions, name), strict=True)
            for name in MASK_DTYPES:
                np.testing.assert_array_equal(read["masks.npz"][name], getattr(sample.masks, name), strict=True)
    assert next(samples, None) is None


def test_the_index_points_at_the_bytes_that_tarfile_finds(folder):
    shards = ShardSet(folder)
    for number, info in enumerate(shards.manifest.shards):
        with tarfile.open(folder / info.file) as tar:
            members = [(entry.offset_data, entry.size) for entry in tar]
            assert all(entry.mtime == 0 for entry in tar)
        assert members == [tuple(extent) for extent in shards.shard(number).extents.reshape(-1, 2).tolist()]


def test_equal_samples_give_equal_bytes(folder, tmp_path):
    again = [make_sample(image_id, seed) for seed, image_id in enumerate(IDS)]
    assert contents(write_shards(tmp_path / "again", [again[:4], again[4:]])) == contents(folder)


def test_a_sample_without_classes_has_no_class_members(tmp_path):
    shards = ShardSet(write_shards(tmp_path, [[make_sample("1", 1, with_classes=False), make_sample("2", 2)]]))
    assert shards.regions(0, 0).class_ids is None
    assert shards.regions(0, 0).class_probs is None
    assert shards.regions(0, 1).class_ids is not None


@pytest.mark.parametrize("image_id", IDS)
def test_a_sample_is_found_by_image_id_and_by_key(folder, image_id):
    shards = ShardSet(folder)
    assert shards.find(image_id) == shards.find(key_of(image_id))
    assert shards.record(*shards.find(image_id))[0] == image_id


def test_an_unknown_image_is_an_error(folder):
    with pytest.raises(InputError, match="no sample '7'"):
        ShardSet(folder).find("7")


def test_the_writer_refuses_a_second_sample_of_an_image_and_unsound_samples():
    with ShardWriter(io.BytesIO(), "a.tar") as writer:
        writer.write(SAMPLES[0])
        with pytest.raises(ValueError, match="already"):
            writer.write(SAMPLES[0])
        sample = make_sample("new", 1)
        sample.regions.boxes[0] = 1000
        with pytest.raises(ValueError, match="box"):
            writer.write(sample)
        sample = make_sample("new", 1)
        sample.masks.node_tokens[0] = 99
        with pytest.raises(ValueError, match="node_tokens"):
            writer.write(sample)
        writer.write(make_sample("new", 1))
    assert writer.info.samples == writer.totals.samples == 2


# ----------------------------------------------------------------------------------------------------------- refusals


def test_a_missing_shard_is_refused(folder):
    (folder / "shard-00001.tar").unlink()
    with pytest.raises(InputError, match=r"shard-00001\.tar is missing"):
        ShardSet(folder)


def test_a_shard_cut_between_two_samples_is_refused(folder):
    path = folder / "shard-00000.tar"
    end = ShardSet(folder).shard(0).extents[1, -1].sum()
    path.write_bytes(path.read_bytes()[: -(-end // 512) * 512])
    with tarfile.open(path) as tar:
        assert len(tar.getmembers()) == 12, "a tar reader takes it for a complete one"
    with pytest.raises(InputError, match=r"shard-00000\.tar has .* bytes, the manifest says"):
        ShardSet(folder)


def test_a_changed_index_is_refused(folder, tmp_path):
    other = write_shards(tmp_path / "other", [SAMPLES[:3], SAMPLES[3:]])
    (folder / "index.parquet").write_bytes((other / "index.parquet").read_bytes())
    with pytest.raises(InputError, match=r"index\.parquet is not the index"):
        ShardSet(folder)


@pytest.mark.parametrize("file", ["index.parquet", "manifest.json"])
def test_a_missing_file_is_refused(folder, file):
    (folder / file).unlink()
    with pytest.raises(InputError, match=file):
        ShardSet(folder)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_version_is_refused_with_what_to_do(folder, version):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": version}))
    with pytest.raises(InputError, match=r"schema version.*pipeline\.pack"):
        ShardSet(folder)


def test_the_folder_above_the_splits_is_refused_with_their_names(tmp_path):
    for split in ("train", "val"):
        write_shards(tmp_path / split, [SAMPLES])
    with pytest.raises(InputError, match="train, val"):
        ShardSet(tmp_path)


def test_no_folder_is_refused():
    with pytest.raises(InputError, match="no such folder"):
        ShardSet(Path("no/such/folder"))


# ------------------------------------------------------------------------------------------------------------ verify


def problems_of(folder):
    return [problem for _, problems in verify(ShardSet(folder)) for problem in problems]


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def test_sound_shards_have_no_problems(folder):
    assert problems_of(folder) == []
    result = CliRunner().invoke(inspect.app, ["verify", str(folder)])
    assert result.exit_code == 0, result.output
    assert "all sound" in result.output


def test_any_flipped_bit_is_found(folder):
    path = folder / "shard-00000.tar"
    sound = path.read_bytes()
    for position in range(0, len(sound), len(sound) // 30):
        flip(path, position)
        assert any("sha256" in problem.what for problem in problems_of(folder)), position
        path.write_bytes(sound)


def test_a_damaged_sample_is_named(folder):
    offset, _ = ShardSet(folder).shard(0).extents[2, 1]
    path = folder / "shard-00000.tar"
    data = bytearray(path.read_bytes())
    data[offset + 128 : offset + 132] = np.array([np.nan], "<f4").tobytes()
    path.write_bytes(bytes(data))
    found = problems_of(folder)
    assert any("NaN" in problem.what and key_of(IDS[2]) in problem.where for problem in found)
    assert len(found) == 2, "checksum and the one sample"


def test_a_manifest_of_the_wrong_tar_is_found(folder, tmp_path):
    """Same size, checksum in the manifest adjusted: the samples themselves betray it."""
    path = folder / "shard-00000.tar"
    path.write_bytes(path.read_bytes().replace(b'"image_id":"a.b"', b'"image_id":"a.x"'))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert [problem.what for problem in problems_of(folder)] == [
        "its checksum differs from the index's: its record is that of image 'a.x'"
    ]


def test_another_vocabulary_is_found(folder):
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, "more"]))
    assert [Path(problem.where).name for problem in problems_of(folder)] == ["vocab.txt"]


def test_word_pieces_outside_the_vocabulary_are_found(folder):
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY[:9]))
    assert any("outside the vocabulary" in problem.what for problem in problems_of(folder))


def test_verify_ends_with_an_error_that_counts_the_problems(folder):
    flip(folder / "shard-00001.tar", 600)
    result = CliRunner().invoke(inspect.app, ["verify", str(folder)])
    assert result.exit_code == 1
    assert isinstance(result.exception, InputError)
    assert "shard-00001.tar" in result.output.replace("\n", "")


def test_a_missing_vocabulary_is_an_input_error(folder):
    (folder / "vocab.txt").unlink()
    result = CliRunner().invoke(inspect.app, ["verify", str(folder)])
    assert isinstance(result.exception, InputError) or "vocab.txt" in result.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["summary"], ["images", "captions", "boxes", "test 1"]),
        (["head", "-n", "2"], ["285", "a.b", TEXT]),
        (["show", "a.b"], [TEXT, "hat is red", "class "]),
        (["show", "a%2Eb"], [TEXT]),
    ],
)
def test_the_commands_print_what_is_there(folder, arguments, expected):
    command, *rest = arguments
    result = CliRunner().invoke(inspect.app, [command, str(folder), *rest])
    assert result.exit_code == 0, result.output
    for text in expected:
        assert text in result.output
