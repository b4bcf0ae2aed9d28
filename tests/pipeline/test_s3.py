"""The stages with inputs and outputs on an object store, against a server that speaks S3."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from pipeline.extract import images
from pipeline.files import location

ROOT = Path(__file__).parents[2]


def run(module, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def chain(world, vocabulary, out, workers):
    """Runs all stages; returns what parse wrote on its output."""
    said = run("pipeline.parse", f"{world}/captions.json", "--out", f"{out}/graphs", "--workers", workers)
    run("pipeline.regions", f"{world}/regions", "--out", f"{out}/regions", "--workers", workers, "--partition-size", 8)
    sides = ("--graphs", f"{out}/graphs", "--regions", f"{out}/regions", "--tokenizer", vocabulary)
    options = ("--held-out-share", 0.2, "--shard-size", 8, "--workers", workers)
    run("pipeline.pack", *sides, "--out", f"{out}/shards", *options)
    run("pipeline.statistics", f"{out}/graphs", "--out", f"{out}/statistics", "--workers", 1)
    return said


def files(folder):
    """All but what names places and times."""
    names = ("report.json", "stage.json")
    found = {
        str(path).removeprefix(str(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and path.name not in names
    }
    return {name: path.read_bytes() for name, path in found.items()}


def test_all_stages_write_to_a_store_what_they_write_to_a_disk(bucket, tmp_path):
    world = tmp_path / "world"
    run("pipeline.toyworld", "--num-images", 24, "--out", world, "--workers", 1)
    store = location(f"{bucket}/{tmp_path.name}")
    store.fs.put(f"{world}/", f"{store.path}/world/", recursive=True)
    chain(world, world / "vocab.txt", tmp_path / "here", 1)
    said = chain(f"{store}/world", world / "vocab.txt", f"{store}/there", 2)
    assert f"{store}/world/captions.json" in said.replace("\n", "")
    here, there = files(tmp_path / "here"), files(store / "there")
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []
    assert "/shards/train/manifest.json" in here


def test_a_rerun_on_a_store_makes_only_what_is_missing(bucket, tmp_path):
    source, out = tmp_path / "a.jsonl", location(f"{bucket}/{tmp_path.name}/out")
    source.write_text("".join(f'{{"image_id": "{n}", "caption": "a red dog"}}\n' for n in range(6)))
    options = (source, "--out", out, "--parser", "neural", "--partition-size", "2", "--workers", "1")
    run("pipeline.parse", *options)
    before = files(out)
    (out / "part-00001.stats.json").unlink()
    assert "2 from before" in run("pipeline.parse", *options)
    assert files(out) == before
    with pytest.raises(AssertionError, match=r"partition_size: 2 -> 3"):
        run("pipeline.parse", *options[:-4], "--partition-size", "3", "--workers", "1")
    assert files(out) == before
    run("pipeline.parse", *options[:-4], "--partition-size", "3", "--workers", "1", "--overwrite")
    assert "/part-00002.parquet" not in files(out)


def test_pictures_of_a_bucket_are_listed_and_read_in_place(bucket):
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(stream, "PNG")
    for name in ("pictures/train/000000000007.png", "pictures/b.PNG", "pictures/notes.txt"):
        location(f"{bucket}/{name}").write_bytes(stream.getvalue())
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo("000.png")
        entry.size = len(stream.getvalue())
        archive.addfile(entry, io.BytesIO(stream.getvalue()))
    location(f"{bucket}/pictures/0.tar").write_bytes(tar.getvalue())
    folder, what = images.recognise_pictures(location(f"{bucket}/pictures"), "auto", None)
    assert what == "2 pictures and 1 tar; left out: 1 file with other names"
    sources = list(folder.sources())
    assert [source.image_id for source in sources] == ["000", "b", "7"]
    assert [images.load_picture(source).shape for source in sources] == [(30, 40, 3)] * 3
    before = folder.fingerprint()
    assert folder.fingerprint() == before
    location(f"{bucket}/pictures/b.PNG").write_bytes(stream.getvalue() + b"0")
    assert folder.fingerprint() != before
