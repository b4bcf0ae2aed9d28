"""The commands that make new sets: remove, append, merge."""

import json

import pytest
from typer.testing import CliRunner

import shards.edit.__main__ as edit
from parsers.command import InputError
from shards.reader import ShardSet
from tests.shards.samples import (
    IDS,
    SAMPLES,
    VOCABULARY,
    assert_equal,
    contents,
    make_sample,
    manifest_of,
    samples_of,
    write_shards,
)

OTHERS = [make_sample(f"other {seed}", seed) for seed in range(5)]


def edited(*arguments):
    result = CliRunner().invoke(edit.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


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
    output = edited("remove", folder, "--caption-ids", tmp_path / "gone.jsonl", "--out", tmp_path / "new")
    assert f"caption '2-1' of image {IDS[0]!r}" in output
    found = {sample.image_id: sample for sample in samples_of(tmp_path / "new")}
    assert [c.caption_id for c in found[IDS[2]].captions] == [None, "2-2"]
    assert [c.caption_id for c in found[IDS[5]].captions] == [None]
    assert len(found) == len(SAMPLES)


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "[]", '{"image_id": "1"}', '{"image_id": "", "caption_id": "2"}', '{"image_id": 1, "caption_id": "2"}',
        pytest.param("[" * 100_000, id="nested"),
    ],
)  # fmt: skip
def test_a_line_that_names_no_caption_is_refused_with_its_number(folder, tmp_path, line):
    (tmp_path / "gone.jsonl").write_text('{"image_id": "1", "caption_id": "2"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"gone\.jsonl, line 2"):
        edited("remove", folder, "--caption-ids", tmp_path / "gone.jsonl", "--out", tmp_path / "new")


def test_merged_sets_are_one_set_of_the_same_tars(folder, tmp_path):
    other = write_shards(tmp_path / "other", [OTHERS[:2], OTHERS[2:]])
    edited("merge", folder, other, "--out", tmp_path / "new")
    assert_equal(samples_of(tmp_path / "new"), SAMPLES + OTHERS)
    files = [shard.file for shard in ShardSet(tmp_path / "new").manifest.shards]
    assert files == [f"shard-{number:05d}.tar" for number in range(5)]
    assert (tmp_path / "new" / "shard-00003.tar").samefile(other / "shard-00000.tar")


def test_merging_sets_that_share_an_image_is_refused_with_its_id(folder, tmp_path):
    other = write_shards(tmp_path / "other", [[*OTHERS, SAMPLES[4]]])
    with pytest.raises(InputError, match=r"the sets share 1 image, e\.g\. '🚒/🚒\.png' in .*old and .*other"):
        edited("merge", folder, other, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_append_keeps_the_version_that_is_there(folder, tmp_path):
    changed = make_sample(IDS[4], 77)
    other = write_shards(tmp_path / "other", [[OTHERS[0], changed], OTHERS[1:3]])
    third = write_shards(tmp_path / "third", [[OTHERS[2], OTHERS[3]]])
    output = edited("append", folder, other, third, "--out", tmp_path / "new")
    assert "4 new; 2 left out, because the set had them" in output
    assert_equal(samples_of(tmp_path / "new"), SAMPLES + OTHERS[:4])


def test_sets_of_another_vocabulary_parser_or_classes_are_refused_with_the_difference(folder, tmp_path):
    for key, value, text in (
        ("parser", {"name": "test", "version": "2"}, 'parser {"name": "test", "version": "1"} and'),
        ("feature_size", 7, "feature_size 6 and 7"),
        ("classes", {"kind": "argmax", "count": None, "background": None, "names": None}, '"argmax"'),
    ):
        other = write_shards(tmp_path / key, [OTHERS])
        manifest = manifest_of(other)
        (other / "manifest.json").write_text(json.dumps(manifest | {key: value}))
        with pytest.raises(InputError, match="cannot be one set") as caught:
            edited("merge", folder, other, "--out", tmp_path / "new")
        assert text in str(caught.value)
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, "more"]))
    with pytest.raises(InputError, match=r"vocab\.txt is not the vocabulary"):
        edited("merge", folder, folder, "--out", tmp_path / "new")
