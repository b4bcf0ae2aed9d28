import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import shards.edit.__main__ as edit
from parsers.command import InputError
from shards.edit.removal import Removal, without
from shards.edit.rewrite import write_set
from shards.errors import ShardError
from shards.inspect.verify import verify
from shards.reader import ShardSet
from shards.schema import MASK_DTYPES, key_of
from tests.shards.samples import IDS, SAMPLES, VOCABULARY, contents, make_sample, write_shards

OTHERS = [make_sample(f"other {seed}", seed) for seed in range(5)]


@pytest.fixture
def folder(tmp_path):
    return write_shards(tmp_path / "old", [SAMPLES[:3], SAMPLES[3:5], SAMPLES[5:]])


def edited(*arguments):
    result = CliRunner().invoke(edit.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def samples_of(folder):
    shards = ShardSet(folder)
    assert [problem for _, problems in verify(shards) for problem in problems] == []
    return [shards.sample(*place) for place in shards]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert (a.image_id, a.width, a.height, a.captions) == (b.image_id, b.width, b.height, b.captions)
        for part, names in (("regions", ("boxes", "features", "class_ids", "class_probs")), ("masks", MASK_DTYPES)):
            for name in names:
                left, right = getattr(getattr(a, part), name), getattr(getattr(b, part), name)
                np.testing.assert_array_equal(left, right, strict=True)


# ------------------------------------------------------------------------------------------------------------- remove


def test_removed_images_are_gone_and_other_tars_are_the_same_files(folder, tmp_path):
    before = contents(folder)
    (tmp_path / "gone.txt").write_text(f"{IDS[1]}\n{IDS[3]}\nnever there\n")
    output = edited("remove", folder, "--image-ids", tmp_path / "gone.txt", "--out", tmp_path / "new")
    assert "2 fewer" in output
    assert "image 'never there'" in output
    assert_equal(samples_of(tmp_path / "new"), [s for s in SAMPLES if s.image_id not in (IDS[1], IDS[3])])
    assert (tmp_path / "new" / "shard-00002.tar").samefile(folder / "shard-00002.tar")
    for file in ("shard-00000.tar", "shard-00001.tar"):
        assert (tmp_path / "new" / file).stat().st_size < len(before[file])
    assert contents(folder) == before


def test_what_is_left_is_what_packing_it_would_have_given(folder, tmp_path):
    (tmp_path / "gone.txt").write_text(IDS[0])
    edited("remove", folder, "--image-ids", tmp_path / "gone.txt", "--out", tmp_path / "new")
    packed = write_shards(tmp_path / "packed", [SAMPLES[1:3], SAMPLES[3:5], SAMPLES[5:]])
    assert contents(tmp_path / "new") == contents(packed)


def test_a_shard_with_nothing_left_goes_and_the_others_keep_their_names(folder, tmp_path):
    (tmp_path / "gone.txt").write_text("\n".join(IDS[3:5]))
    edited("remove", folder, "--image-ids", tmp_path / "gone.txt", "--out", tmp_path / "new")
    files = [shard.file for shard in ShardSet(tmp_path / "new").manifest.shards]
    assert files == ["shard-00000.tar", "shard-00002.tar"]
    assert_equal(samples_of(tmp_path / "new"), SAMPLES[:3] + SAMPLES[5:])


def test_everything_can_be_removed(folder, tmp_path):
    (tmp_path / "gone.txt").write_text("\n".join(IDS))
    edited("remove", folder, "--image-ids", tmp_path / "gone.txt", "--out", tmp_path / "new")
    assert samples_of(tmp_path / "new") == []
    assert ShardSet(tmp_path / "new").manifest.totals.captions == 0


def test_removed_captions_take_their_nodes_with_them_and_the_last_one_its_image(folder, tmp_path):
    lines = [
        {"image_id": IDS[2], "caption_id": "2-1"},
        {"image_id": IDS[5], "caption_id": "5-1"},
        {"image_id": IDS[5], "caption_id": "5-2"},
        {"image_id": IDS[0], "caption_id": "2-1"},
    ]
    (tmp_path / "gone.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = edited("remove", folder, "--captions", tmp_path / "gone.jsonl", "--out", tmp_path / "new")
    assert f"caption '2-1' of image {IDS[0]!r}" in output
    found = {sample.image_id: sample for sample in samples_of(tmp_path / "new")}
    assert [c.caption_id for c in found[IDS[2]].captions] == [None, "2-2"]
    assert [c.caption_id for c in found[IDS[5]].captions] == [None]
    assert len(found) == len(SAMPLES)


@given(st.integers(0, 2), st.sets(st.integers(0, 2)))
def test_the_masks_of_the_captions_that_stay_are_as_they_were(seed, gone):
    sample = make_sample("1", seed)
    captions = [
        type(caption)(str(number), caption.text, caption.graph) for number, caption in enumerate(sample.captions)
    ]
    sample = type(sample)("1", 90, 85, tuple(captions), sample.regions, sample.masks)
    left = without(sample, Removal(captions={key_of("1"): frozenset(map(str, gone))}))
    kept = [number for number in range(len(captions)) if number not in gone]
    if not kept:
        assert left is None
        return
    left.masks.check()
    assert [caption.caption_id for caption in left.captions] == [str(number) for number in kept]
    for new, old in enumerate(kept):
        for name in ("token_ids", "segment_ids"):
            a, b = ((m, slice(*m.token_offsets[c : c + 2])) for m, c in ((left.masks, new), (sample.masks, old)))
            assert getattr(a[0], name)[a[1]].tolist() == getattr(b[0], name)[b[1]].tolist()
        for a, b in zip(left.masks.nodes(new), sample.masks.nodes(old), strict=True):
            assert left.masks.tokens(a).tolist() == sample.masks.tokens(b).tolist()
            assert left.masks.node_kind[a] == sample.masks.node_kind[b]
            shift = sample.masks.nodes(old).start - left.masks.nodes(new).start
            arguments = np.where(left.masks.node_args[a] < 0, -1, left.masks.node_args[a] + shift)
            assert arguments.tolist() == sample.masks.node_args[b].tolist()


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", '{"image_id": "1"}', '{"image_id": "", "caption_id": "2"}', '{"image_id": 1, "caption_id": "2"}'],
)
def test_a_line_that_names_no_caption_is_refused_with_its_number(folder, tmp_path, line):
    (tmp_path / "gone.jsonl").write_text('{"image_id": "1", "caption_id": "2"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"gone\.jsonl, line 2"):
        edited("remove", folder, "--captions", tmp_path / "gone.jsonl", "--out", tmp_path / "new")


def test_a_damaged_neighbour_is_not_written_again_as_if_it_were_sound(folder, tmp_path):
    offset, size = ShardSet(folder).shard(0).extents[2, 2]
    data = bytearray((folder / "shard-00000.tar").read_bytes())
    data[offset + size - 1] ^= 1
    (folder / "shard-00000.tar").write_bytes(data)
    shards = ShardSet(folder)
    with pytest.raises(ShardError, match=rf"shard-00000\.tar, sample {key_of(IDS[2])} is damaged"):
        write_set(tmp_path / "new", [(shards, Removal(images=frozenset([key_of(IDS[0])])))])
    assert not (tmp_path / "new").exists()
    write_set(tmp_path / "new", [(shards, Removal(images=frozenset([key_of(IDS[2])])))])
    assert_equal(samples_of(tmp_path / "new"), SAMPLES[:2] + SAMPLES[3:])


# ------------------------------------------------------------------------------------------------------ append, merge


def test_merged_sets_are_one_set_of_the_same_tars(folder, tmp_path):
    other = write_shards(tmp_path / "other", [OTHERS[:2], OTHERS[2:]])
    edited("merge", folder, other, "--out", tmp_path / "new")
    assert_equal(samples_of(tmp_path / "new"), SAMPLES + OTHERS)
    files = [shard.file for shard in ShardSet(tmp_path / "new").manifest.shards]
    assert files == [f"shard-{number:05d}.tar" for number in range(5)]
    assert (tmp_path / "new" / "shard-00003.tar").samefile(other / "shard-00000.tar")


def test_merging_sets_that_share_an_image_is_refused_with_its_id(folder, tmp_path):
    other = write_shards(tmp_path / "other", [[*OTHERS, SAMPLES[4]]])
    with pytest.raises(InputError, match=r"1 image there twice, e\.g\. '🚒/🚒\.png' in .*old and .*other"):
        edited("merge", folder, other, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_append_keeps_the_version_that_is_there(folder, tmp_path):
    changed = make_sample(IDS[4], 77)
    other = write_shards(tmp_path / "other", [[OTHERS[0], changed], OTHERS[1:3]])
    third = write_shards(tmp_path / "third", [[OTHERS[2], OTHERS[3]]])
    output = edited("append", folder, other, third, "--out", tmp_path / "new")
    assert "4 new; 2 there already" in output
    assert_equal(samples_of(tmp_path / "new"), SAMPLES + OTHERS[:4])


def test_sets_of_another_vocabulary_parser_or_classes_are_refused_with_the_difference(folder, tmp_path):
    for key, value, text in (
        ("parser", {"name": "test", "version": "2"}, 'parser {"name": "test", "version": "1"} and'),
        ("feature_size", 7, "feature_size 6 and 7"),
        ("classes", {"kind": "argmax", "count": None, "background": None, "names": None}, '"argmax"'),
    ):
        other = write_shards(tmp_path / key, [OTHERS])
        manifest = json.loads((other / "manifest.json").read_text())
        (other / "manifest.json").write_text(json.dumps(manifest | {key: value}))
        with pytest.raises(InputError, match="cannot be one set") as caught:
            edited("merge", folder, other, "--out", tmp_path / "new")
        assert text in str(caught.value)
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, "more"]))
    with pytest.raises(InputError, match=r"vocab\.txt is not the vocabulary"):
        edited("merge", folder, folder, "--out", tmp_path / "new")


# ------------------------------------------------------------------------------------------------------ all or nothing


def test_an_existing_folder_is_not_touched(folder, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        edited("merge", folder, "--out", tmp_path / "new")
    assert contents(tmp_path / "new") == {"notes.txt": b"mine"}


def test_too_small_a_disk_is_refused_with_the_bytes(folder, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"needs [\d,]+ bytes, but the disk of .* has 1,000 free"):
        edited("merge", folder, "--out", tmp_path / "new")
    assert not list(tmp_path.glob("new*"))


KILLED_AT = """
import os, sys
from pathlib import Path
from shards.edit.rewrite import write_set
from shards.reader import ShardSet
from shards.edit.removal import Removal
from shards.schema import key_of

folder, out, image_id, calls = sys.argv[1:]
left = int(calls)

def count(frame, event, argument):
    global left
    if event in ("call", "c_call") and "shards/" in frame.f_code.co_filename:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)

parts = [(ShardSet(Path(folder)), Removal(images=frozenset([key_of(image_id)])))]
sys.setprofile(count)
write_set(Path(out), parts)
sys.setprofile(None)
print(int(calls) - left)
"""


def test_a_kill_at_any_moment_leaves_the_old_set_or_the_new_one(folder, tmp_path):
    def killed_at(calls):
        command = [sys.executable, "-c", KILLED_AT, str(folder), str(tmp_path / "new"), IDS[0], str(calls)]
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])

    before = contents(folder)
    whole = killed_at(10**9)
    calls = int(whole.stdout.split()[-1])
    expected = contents(tmp_path / "new")
    shutil.rmtree(tmp_path / "new")
    for moment in np.linspace(1, calls, 8).astype(int).tolist():
        assert killed_at(moment).returncode == -9
        assert contents(folder) == before
        if (tmp_path / "new").exists():
            assert contents(tmp_path / "new") == expected
            shutil.rmtree(tmp_path / "new")
    assert killed_at(10**9).returncode == 0, "the next run is not disturbed by what is left"
    assert contents(tmp_path / "new") == expected
    assert not (tmp_path / "new.tmp").exists()
