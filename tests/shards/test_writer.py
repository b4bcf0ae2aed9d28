"""Tars as `shards.writer` writes them, and as other programs read them."""

import io
import tarfile
import warnings

import numpy as np
import pytest
import webdataset

from shards.schema import MASK_DTYPES, key_of
from shards.writer import ShardWriter, tar_header
from tests.shards.samples import IDS, SAMPLES, TEXT, contents, make_sample, write_shards


def test_the_tar_headers_are_those_of_tarfile():
    for name in ("a.json", "x" * 100, "x" * 101, "x" * 300):
        for size in (0, 1, 147_584, 8**11 - 1, 8**11):
            entry = tarfile.TarInfo(name)
            entry.size = size
            assert tar_header(name, size) == entry.tobuf(tarfile.GNU_FORMAT)


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


def test_equal_samples_give_equal_bytes(folder, tmp_path):
    again = [make_sample(image_id, seed) for seed, image_id in enumerate(IDS)]
    assert contents(write_shards(tmp_path / "again", [again[:4], again[4:]])) == contents(folder)


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
