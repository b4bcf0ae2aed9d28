"""Retrieval as a task: settings, loss, predictions, and batches beside the released ones."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from finetune.inputs import ImageRows, Sources, TextEncoder
from finetune.task import Split
from finetune.tasks.retrieval.captions import number_images
from finetune.tasks.retrieval.task import RetrievalSettings
from parsers.command import InputError
from pipeline.regions.__main__ import app as import_regions
from shards.regions.store import RegionStore
from shards.vocabulary import load_tokenizer
from tests.finetune.retrieval import collate_groups


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"easy_images": 1}, "at least two"),
        ({"easy_images": 4, "easy_captions": 2}, "as many of each"),
        ({"hard_images": 2}, "need the file"),
    ],
)
def test_negatives_that_do_not_fit_the_loss_are_refused(values, problem):
    with pytest.raises(ValueError, match=problem):
        RetrievalSettings(**values)


def test_the_loss_and_what_is_met(task, split, trained):
    batch = collate_groups(task, split, [0, 5, 9])
    assert task.count_targets(batch) == 3
    scores = torch.linspace(-1, 1, 63, requires_grad=True)
    loss, met = task.compute_loss(scores, batch)
    assert met.item() == 0  # every group's first score is its lowest
    assert task.compute_loss(-scores, batch)[1].item() == 3
    single = [
        task.compute_loss(scores[i * 21 : (i + 1) * 21], collate_groups(task, split, [n]))[0]
        for i, n in enumerate([0, 5, 9])
    ]
    torch.testing.assert_close(loss, torch.stack(single).sum())
    empty = collate_groups(task, split, [])
    loss, met = task.compute_loss(trained[1](**empty.inputs), empty)
    loss.backward()
    assert (loss.item(), met.item()) == (0, 0)


@pytest.mark.parametrize("damage", ["missing", "unknown", "twice", "no rank"])
def test_predictions_that_do_not_fit_are_refused(task, split, damage):
    predictions = [
        {"caption_id": c.caption_id, "image_id": c.image_id, "rank": {"image": 1, "text": 1}} for c in split.examples
    ]
    assert task.evaluate(predictions, split.examples)["recall"] == 1
    match damage:
        case "missing":
            predictions.pop()
        case "unknown":
            predictions[0]["caption_id"] = "x"
        case "twice":
            predictions.append(predictions[0])
        case "no rank":
            del predictions[3]["rank"]
    with pytest.raises(InputError):
        task.evaluate(predictions, split.examples)


def test_released_files_give_the_released_batches(shared, task, tmp_path):
    """Pieces, positions, segments, masks and locations as they are; features to the half precision that is stored."""
    source = shared / "parity/readers"
    command = [str(source / "flickr_images.tsv"), "--format", "ernie-vil-tsv", "--out", str(tmp_path / "regions")]
    result = CliRunner().invoke(import_regions, command)
    assert result.exit_code == 0, result.output
    texts = TextEncoder(load_tokenizer(shared / "data/vocab/bert-base-uncased-vocab.txt"))
    captions = task.read(source, "flickr_captions.tsv")
    split = Split(captions, Sources(texts, RegionStore([tmp_path / "regions"])))
    images, _ = number_images(captions)
    for name in ("train", "test"):
        with np.load(source / f"flickr_batch_{name}.npz") as arrays:
            ids, positions, segments, text_mask, features, locations, image_mask = (
                arrays[f"arr_{i}"] for i in range(7)
            )
        said = {tuple(texts.encode(caption.text, 512).token_ids.tolist()): caption for caption in captions}
        wholes = {image: ImageRows.from_regions(split.sources.images[image]) for image in images}
        found_texts, found_images = [], []
        for row in range(len(ids)):
            pieces = ids[row, text_mask[row, :, 0] > 0, 0]
            found_texts.append(texts.encode(said[tuple(pieces.tolist())].text, 512))
            nearest = min(images, key=lambda image, row=row: np.abs(wholes[image].features[0] - features[row, 0]).max())
            found_images.append(wholes[nearest])
        inputs = split.sources.pad(found_texts, found_images)
        assert np.array_equal(inputs["token_ids"], ids[..., 0])
        assert np.array_equal(inputs["position_ids"], positions[..., 0])
        assert np.array_equal(inputs["segment_ids"], segments[..., 0])
        assert np.array_equal(inputs["text_mask"], text_mask[..., 0] > 0)
        assert np.array_equal(inputs["image_mask"], image_mask[..., 0] > 0)
        np.testing.assert_allclose(inputs["locations"], locations, atol=1e-7)
        np.testing.assert_allclose(inputs["features"], features, atol=1e-3)


def test_groups_are_laid_out_as_the_released_ones(shared, task):
    """The true pair, then other images with the same caption, then other captions with the same image."""
    with np.load(shared / "parity/readers/flickr_batch_train.npz") as arrays:
        ids, features = arrays["arr_0"][..., 0], arrays["arr_4"][:, 0]
    settings = RetrievalSettings(easy_images=2, easy_captions=2)
    size = 1 + len(settings.false_pairs)
    for start in range(0, len(ids), size):
        for place, kind in enumerate(settings.false_pairs, start + 1):
            assert (ids[place] == ids[start]).all() == kind.endswith("images")
            assert (features[place] == features[start]).all() == kind.endswith("captions")
