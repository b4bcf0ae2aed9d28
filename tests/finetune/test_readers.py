"""Batches beside those that the released readers make of the same files."""

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from finetune.inputs import Sources, TextEncoder
from finetune.task import Split
from finetune.tasks.refcoco_plus import RefcocoPlus, RefcocoPlusSettings
from finetune.tasks.vcr import Vcr, VcrSettings
from finetune.tasks.vcr_files import ANSWER, RATIONALE
from finetune.tasks.vqa import Vqa, VqaSettings
from pipeline.regions.__main__ import app as regions_command
from shards.regions.store import RegionStore
from shards.vocabulary import load_tokenizer


@pytest.fixture(scope="module")
def files(shared):
    return shared / "parity/readers"


@pytest.fixture(scope="module")
def texts(shared):
    return TextEncoder(load_tokenizer(shared / "data/vocab/bert-base-uncased-vocab.txt"))


@pytest.fixture(scope="module")
def vcr_regions(files, tmp_path_factory):
    """The two LMDBs as tables of regions."""
    stores = []
    for name in ("feat", "gt"):
        out = tmp_path_factory.mktemp(name)
        shutil.copytree(files / f"{name}.lmdb", out / "lmdb")
        result = CliRunner().invoke(
            regions_command, [str(out / "lmdb"), "--out", str(out / "regions"), "--workers", "1"]
        )
        assert result.exit_code == 0, result.output
        stores.append(RegionStore([out / "regions"]))
    return stores


def released(path):
    with np.load(path) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]


def collate(task, examples, sources):
    return task.collate(Split(examples, sources), np.arange(len(examples)), None)


def assert_inputs(inputs, arrays, *, features_atol=1e-6):
    """The encoder's inputs are those of the first seven arrays."""
    token_ids, positions, segments, text_mask, features, locations, image_mask = arrays
    for name, expected in (("token_ids", token_ids), ("position_ids", positions), ("segment_ids", segments)):
        np.testing.assert_array_equal(inputs[name], expected.squeeze(2), name)
    for name, expected in (("text_mask", text_mask), ("image_mask", image_mask)):
        found = np.ones(expected.shape[:2], bool) if inputs[name] is None else inputs[name].numpy()
        np.testing.assert_array_equal(found, expected.squeeze(2) > 0, name)
    np.testing.assert_allclose(inputs["features"], features, rtol=0, atol=features_atol)
    np.testing.assert_allclose(inputs["locations"], locations, rtol=0, atol=1e-6)


def test_vqa(files, texts):
    answers = tuple(f"answer {number}" for number in range(3129))
    task = Vqa(VqaSettings(answers=answers))
    questions = task.read(files, "vqa.tsv")
    batch = collate(task, questions, Sources(texts, task.open_regions(files, "vqa.tsv", None)))
    *inputs, targets, question_ids = released(files / "vqa_batch.npz")
    assert_inputs(batch.inputs, inputs)
    np.testing.assert_array_equal(batch.labels["targets"], targets)
    assert [question.question_id for question in questions] == question_ids.tolist()


@pytest.mark.parametrize("split", ["train", "test"])
def test_refcoco_plus(files, texts, split):
    task = RefcocoPlus(RefcocoPlusSettings(as_released=True))
    expressions = task.read(files, "refcoco_plus.tsv")
    batch = collate(task, expressions, Sources(texts, task.open_regions(files, "refcoco_plus.tsv", None)))
    arrays = released(files / f"refcoco_plus_batch_{split}.npz")
    del arrays[4]
    *inputs, labels, extra = arrays
    assert_inputs(batch.inputs, inputs)
    if split == "train":
        np.testing.assert_allclose(batch.labels["overlaps"], labels.squeeze(2), atol=1e-6)
    for number, expression in enumerate(expressions):
        rows = len(expression.overlaps) + 1
        np.testing.assert_allclose(extra[number], [rows, expression.width, expression.height, *expression.box])
        assert batch.labels["real"][number].sum() == rows
        if split == "test":  # small overlaps are kept, for the score
            np.testing.assert_allclose(labels[number, 1:rows, 0], expression.overlaps, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "part", "settings"),
    [
        ("vcr_batch_qa", ANSWER, {}),
        ("vcr_batch_qar", RATIONALE, {}),
        ("vcr_batch_qar_short", RATIONALE, {"max_rationale_text": 24, "max_regions": 9, "as_released": True}),
    ],
)
def test_vcr(files, texts, vcr_regions, file, part, settings):
    """Regions are stored as float16, so features are the released ones rounded."""
    task = Vcr(VcrSettings(parts=(part,), names=str(files / "unisex_names_table.csv"), **settings))
    questions = task.read(files, "val")
    images, gold = (task.rename_regions(regions, questions) for regions in vcr_regions)
    batch = collate(task, questions, Sources(texts, images, gold))
    *inputs, right, question_ids, _, one_hot, _ = released(files / f"{file}.npz")
    assert_inputs(batch.inputs, inputs, features_atol=3e-4)
    found = np.array(batch.inputs["features"])[:, 1:]
    np.testing.assert_array_equal(found, inputs[4][:, 1:].astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(batch.labels["right"], right.squeeze(1))
    np.testing.assert_array_equal(np.eye(4)[right.squeeze(1)].ravel(), one_hot.squeeze(1))
    assert [question.number for question in questions] == question_ids.squeeze(1).tolist()
    assert (batch.labels["rationale"] == (part == RATIONALE)).all()


def test_a_long_choice_of_vcr_shortens_the_question_of_the_later_ones_only_as_released(files, texts, vcr_regions):
    images = [Vcr(VcrSettings()).rename_regions(store, []) for store in vcr_regions]
    batches = {}
    for as_released in (False, True):
        task = Vcr(VcrSettings(parts=(RATIONALE,), max_rationale_text=24, as_released=as_released))
        batches[as_released] = collate(task, task.read(files, "val"), Sources(texts, *images)).inputs
    segments = {key: inputs["segment_ids"].numpy() for key, inputs in batches.items()}
    lengths = {key: np.where(s > 0, np.arange(s.shape[1]), 99).min(1) for key, s in segments.items()}
    # The second choice of the first question is the long one.
    assert lengths[False][0] == lengths[True][0]
    assert lengths[False][1] == lengths[True][1] < lengths[False][0]
    assert lengths[False][2] == lengths[False][3] == lengths[False][0]
    assert lengths[True][2] == lengths[True][3] == lengths[True][1]
