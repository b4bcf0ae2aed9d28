"""False pairs: other images and other captions, easy and hard."""

import json
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from finetune.inputs import ImageRows
from finetune.tasks.retrieval.captions import number_images
from finetune.tasks.retrieval.false_pairs import read_hard_negatives
from finetune.tasks.retrieval.task import Retrieval, RetrievalSettings
from parsers.command import InputError
from shards.negatives.table import NEGATIVE_TEXTS, NEGATIVES_KEY, NEGATIVES_VERSION
from shards.storage.parquet import write_table
from tests.finetune.retrieval import collate_groups


def texts_of(batch):
    return [tuple(row[mask].tolist()) for row, mask in zip(batch.inputs["token_ids"], mask_of(batch), strict=True)]


def mask_of(batch):
    mask = batch.inputs["text_mask"]
    return torch.ones_like(batch.inputs["token_ids"], dtype=torch.bool) if mask is None else mask


def test_without_the_file_of_hard_negatives_one_line_says_how_to_make_it_or_do_without(tmp_path):
    with pytest.raises(InputError, match=r"no file .*finetune.shortlist --hard-negatives.*--set task.hard_images=0"):
        read_hard_negatives(tmp_path / "hard.json")


def test_the_missing_file_is_named_before_anything_is_opened_and_only_if_it_is_needed(tmp_path):
    base = Retrieval(RetrievalSettings(easy_images=2, hard_images=2, hard_negatives=tmp_path / "hard.json"))
    with pytest.raises(InputError, match="no file"):
        base.check_files()
    easy = Retrieval(base.settings.model_copy(update={"hard_images": 0}))
    easy.check_files()
    assert easy.files == ()


def test_false_pairs_have_another_image_or_another_caption(split, tmp_path):
    images, own = number_images(split.examples)
    alike = {image: [images[(number + 1) % len(images)]] for number, image in enumerate(images)}
    (tmp_path / "hard.json").write_text(json.dumps(alike))
    task = Retrieval(
        RetrievalSettings(
            max_text=32,
            easy_images=2,
            hard_images=1,
            easy_captions=1,
            hard_captions=2,
            hard_negatives=tmp_path / "hard.json",
        )
    )
    whole = {tuple(ImageRows.from_regions(split.sources.images[image]).features[0].tolist()): image for image in images}
    said = {}
    for caption in split.examples:
        said.setdefault(tuple(split.sources.texts.encode(caption.text, 32).token_ids.tolist()), set()).add(
            caption.image_id
        )
    numbers = list(range(0, len(split.examples), 9))
    batch = collate_groups(task, split, numbers)
    shown = [whole[tuple(features.tolist())] for features in batch.inputs["features"][:, 0]]
    texts = texts_of(batch)
    assert len(shown) == 7 * len(numbers) == 7 * task.count_targets(batch)
    for group, number in enumerate(numbers):
        image = images[own[number]]
        text = texts[7 * group]
        pairs = list(zip(texts[7 * group : 7 * group + 7], shown[7 * group : 7 * group + 7], strict=True))
        assert pairs[0] == (text, image)
        assert image in said[text]
        assert all(pair[0] == text and pair[1] != image for pair in pairs[1:4])
        assert pairs[3][1] == alike[image][0]
        assert all(pair[1] == image and said[pair[0]] - {image} for pair in pairs[4:])
        assert all(alike[image][0] in said[pair[0]] for pair in pairs[5:])
    again = collate_groups(task, split, numbers)
    assert torch.equal(again.inputs["features"], batch.inputs["features"])
    alone = collate_groups(task, split, numbers[2:3])
    assert torch.equal(alone.inputs["features"][:, 0], batch.inputs["features"][14:21, 0])


def test_easy_negatives_are_any_other_image(split):
    task = Retrieval(RetrievalSettings(max_text=32, easy_images=30))
    chosen = Counter(
        tuple(row.tolist())
        for seed in range(60)
        for row in collate_groups(task, split, [0], seed).inputs["features"][1:, 0]
    )
    images, _ = number_images(split.examples)
    assert len(chosen) == len(images) - 1
    assert max(chosen.values()) < 4 * 1800 / len(images)


def test_missing_hard_negatives_are_named(split, tmp_path):
    (tmp_path / "hard.json").write_text("{}")
    task = Retrieval(RetrievalSettings(easy_images=1, hard_images=1, hard_negatives=tmp_path / "hard.json"))
    with pytest.raises(InputError, match="no hard negatives"):
        collate_groups(task, split, [0])
    images, _ = number_images(split.examples)
    released = {"train_image_list": images, "train_hard_pool": [[n, (n + 2) % len(images)] for n in range(len(images))]}
    (tmp_path / "hard.pkl").write_bytes(pickle.dumps(released, protocol=2))
    task = Retrieval(RetrievalSettings(easy_images=1, hard_images=1, hard_negatives=tmp_path / "hard.pkl"))
    shown = collate_groups(task, split, [0]).inputs["features"][2, 0]
    assert np.array_equal(shown, ImageRows.from_regions(split.sources.images[images[2]]).features[0])
    (tmp_path / "hard.json").write_text("[]")
    task = Retrieval(RetrievalSettings(easy_images=1, hard_images=1, hard_negatives=tmp_path / "hard.json"))
    with pytest.raises(InputError, match="is not JSON with a list of image ids"):
        collate_groups(task, split, [0])
    alone = replace(split, examples=[caption for caption in split.examples if caption.image_id == "2"])
    with pytest.raises(InputError, match="at least two images"):
        collate_groups(Retrieval(RetrievalSettings()), alone, [0])


@pytest.fixture
def negatives(tmp_path, split):
    """A folder of false captions of every second caption of the split."""
    folder = tmp_path / "negatives"
    folder.mkdir()
    rows = [
        {
            "image_id": caption.image_id,
            "caption_id": caption.caption_id,
            "true_caption": caption.text,
            "caption": f"false {caption.text}",
            "kind": "replace_object",
        }
        for caption in split.examples[::2]
    ]
    table = pa.Table.from_pylist(rows, NEGATIVE_TEXTS)
    with (folder / "part-00000.parquet").open("wb") as stream:
        write_table(stream, table, {NEGATIVES_KEY: NEGATIVES_VERSION}, group_rows=100, group_bytes=1 << 20)
    for name in ("stage.json", "report.json"):
        (folder / name).write_text("{}")
    return folder


def test_false_captions_are_shown_with_their_own_image(split, negatives):
    settings = RetrievalSettings(max_text=32, easy_images=2, false_captions=2, negatives=negatives)
    task = Retrieval(settings).fit(split.examples)
    assert [path.name for path in task.files] == ["stage.json"]
    numbers = np.arange(8)
    batch = task.collate(split, numbers, [np.random.default_rng(number) for number in numbers])
    texts = texts_of(batch)
    features = batch.inputs["features"][:, 0]
    assert len(texts) == 5 * len(numbers)
    for group, caption in enumerate(split.take(numbers)):
        true, *others = texts[5 * group : 5 * group + 5]
        wanted = tuple(split.sources.texts.encode(f"false {caption.text}", 32).token_ids.tolist())
        assert others[:2] == [true, true]
        assert all((features[5 * group + place] == features[5 * group]).all() for place in (3, 4))
        if group % 2 == 0:
            assert others[2:] == [wanted, wanted]
        else:
            assert wanted not in others, "a caption without false ones gets easy ones"


def test_false_captions_need_a_folder_that_was_made_of_these_captions(split, negatives):
    with pytest.raises(ValueError, match="false_captions needs negatives"):
        RetrievalSettings(easy_images=2, false_captions=2)
    with pytest.raises(ValueError, match="take as many of each"):
        RetrievalSettings(easy_images=2, false_captions=1, negatives=negatives)
    strangers = [replace(caption, caption_id=f"x{caption.caption_id}") for caption in split.examples]
    settings = RetrievalSettings(max_text=32, easy_images=2, false_captions=2, negatives=negatives)
    with pytest.raises(InputError, match=r"no false caption of a training caption; run pipeline\.parse"):
        Retrieval(settings).fit(strangers)
