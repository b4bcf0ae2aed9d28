"""RefCOCO+: overlaps, expressions from REFER's files, and the choice of a region."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune.inputs import Sources, TaskBatch, TextEncoder
from finetune.task import Split
from finetune.tasks.refcoco_plus import RefcocoPlus, RefcocoPlusSettings
from parsers.command import InputError
from shards.regions.store import RegionStore
from shards.vocabulary import load_tokenizer
from tests.finetune.worlds import grid, regions_folder, write_model, write_refer


@pytest.fixture
def task():
    return RefcocoPlus(RefcocoPlusSettings())


@pytest.fixture
def sources(tmp_path):
    model = write_model(tmp_path / "model")
    regions = regions_folder(tmp_path / "regions", {str(i): grid(4) for i in range(6)})
    return Sources(TextEncoder(load_tokenizer(model / "vocab.txt")), RegionStore([regions]))


@pytest.mark.parametrize("protocol", [0, 2])
def test_expressions_are_read_by_split(tmp_path, task, protocol):
    write_refer(tmp_path, protocol=protocol)
    splits = {split: [e.expression_id for e in task.read(tmp_path, split)] for split in ("train", "val", "testB")}
    assert splits == {"train": ["0", "1", "2", "4"], "val": ["5"], "testB": ["3"]}
    first = task.read(tmp_path, "train")[0]
    assert (first.image_id, first.text, first.box) == ("0", "the red thing", (0, 10, 8, 30))
    with pytest.raises(InputError, match="there are train, val, testA, testB"):
        task.read(tmp_path, "test-A")


def counts_in(annotated, split):
    """REFER's rule, written down anew."""
    one_group = {"testA": "A", "testB": "B", "testC": "C"}
    if split in one_group:
        return annotated.find(one_group[split]) >= 0
    return annotated.find("test") >= 0 if split == "test" else annotated == split


def test_two_implementations_of_the_splits_agree_on_adversarial_texts(tmp_path, task):
    write_refer(tmp_path)
    path = tmp_path / "refs(unc).p"
    (ref, *_), random = pickle.loads(path.read_bytes()), np.random.default_rng(0)
    pieces = ["train", "val", "test", "A", "B", "C", "a", "b", " ", "T", "testA", "testBC", "\u0410", "\n"]
    texts = ["".join(random.choice(pieces, random.integers(0, 4))) for _ in range(3000)]
    refs = [
        {**ref, "ref_id": n, "split": text, "sentences": [{**ref["sentences"][0], "sent_id": n}]}
        for n, text in enumerate(texts)
    ]
    path.write_bytes(pickle.dumps(refs, protocol=2))
    for split in ("train", "val", "testA", "testB", "testC", "testAB", "testBC", "testAC", "test"):
        expected = [number for number, text in enumerate(texts) if counts_in(text, split)]
        assert [int(expression.expression_id) for expression in task.read(tmp_path, split)] == expected
        assert expected


def test_an_annotation_counts_in_the_splits_that_refer_counts_it_in(tmp_path, task):
    write_refer(tmp_path)
    path = tmp_path / "refs(unc).p"
    annotated = ["train", "val", "testA", "testB", "testAB", "testBC"]
    refs = pickle.loads(path.read_bytes())[:6]
    for ref, split in zip(refs, annotated, strict=False):
        ref["split"] = split
    path.write_bytes(pickle.dumps(refs, protocol=2))
    by_split = {
        split: [s["sent_id"] for r in refs if r["split"] == split for s in r["sentences"]] for split in annotated
    }

    def read(split):
        return [int(expression.expression_id) for expression in task.read(tmp_path, split)]

    assert read("train") == by_split["train"]
    assert read("testA") == by_split["testA"] + by_split["testAB"]
    assert sorted(read("testB")) == by_split["testB"] + by_split["testAB"] + by_split["testBC"]
    assert read("testAB") == by_split["testAB"]
    assert read("test") == [number for split in annotated[2:] for number in by_split[split]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 1e999}, "is no integer"),
        ({"image_id": 0.5}, "0.5 is no integer"),
        ({"ann_id": None}, "None is no integer"),
        ({"split": None}, "None is no text"),
        ({"sentences": [{"sent_id": 1, "sent": None}]}, "None is no text"),
        ({"sentences": 7}, "not iterable"),
    ],
)
def test_references_with_other_values_are_refused(tmp_path, task, change, message):
    write_refer(tmp_path)
    path = tmp_path / "refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    refs[0] |= {"split": "train"} | change
    path.write_bytes(pickle.dumps(refs, protocol=2))
    with pytest.raises(InputError, match=message):
        task.read(tmp_path, "train")


def test_files_that_do_not_fit_are_refused(tmp_path, task):
    write_refer(tmp_path)
    (tmp_path / "instances.json").write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(InputError, match="lacks image 0 or annotation 100"):
        task.read(tmp_path, "train")
    (tmp_path / "refs(unc).p").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match=r"refs\(unc\)\.p: .*os\.system"):
        task.read(tmp_path, "train")
    (tmp_path / "refs(unc).p").unlink()
    with pytest.raises(InputError, match=r"refs\(unc\)\.p: cannot be read"):
        task.read(tmp_path, "train")


def test_labels_are_the_overlaps_from_a_half_on(tmp_path, task, sources):
    (expression,) = task.read(write_refer(tmp_path), "val")
    expression = type(expression)("5", "5", 100, 100, expression.text, (20, 10, 29, 30))  # 8 of 9 cells of the third
    batch = task.collate(Split([expression], sources), np.array([0]), None)
    np.testing.assert_allclose(batch.labels["overlaps"], [[0, 0, 0, 8 / 9, 0]], rtol=1e-6)
    whole = type(expression)("5", "5", 100, 100, expression.text, (0, 0, 100, 60))
    batch = task.collate(Split([whole], sources), np.array([0]), None)
    np.testing.assert_allclose(batch.labels["overlaps"], [[0.6, 0, 0, 0, 0]], rtol=1e-6)


def test_ground_truth_regions_are_for_training_alone(tmp_path, task, sources):
    (expression,) = task.read(write_refer(tmp_path), "val")
    gold = RegionStore([regions_folder(tmp_path / "gold", {"5": [expression.box]})])
    split = Split([expression], replace(sources, gold=gold))
    shown = task.collate(split, np.array([0]), None).labels["boxes"]
    learned = task.collate(split, np.array([0]), [np.random.default_rng(0)]).labels["boxes"]
    assert learned.shape[1] == shown.shape[1] + 1
    np.testing.assert_allclose(learned[0, -1], expression.box)


def test_the_whole_image_and_padding_are_never_chosen(task):
    real = torch.tensor([[True, True, True, False]])
    boxes = torch.arange(16.0).view(1, 4, 4)
    expressions = [type("E", (), {"expression_id": "1", "image_id": "2"})]
    (found,) = task.predict(
        torch.tensor([[9.0, 1.0, 2.0, 8.0]]), TaskBatch({}, {"real": real, "boxes": boxes}), expressions
    )
    assert found == {"expression_id": "1", "image_id": "2", "region": 1, "box": [8, 9, 10, 11]}


def test_scores_in_both_conventions(tmp_path, task):
    expressions = task.read(write_refer(tmp_path), "train")
    (x1, y1, x2, y2) = expressions[0].box

    def choose(box):
        return [{"expression_id": e.expression_id, "region": 0, "box": list(box)} for e in expressions[:1]]

    assert task.evaluate(choose((x1, y1, x2, y2)), expressions[:1]) == {"accuracy": 1, "accuracy/+1": 1}
    half = choose((x1, y1, x1 + 4, y2))  # 0.5, or 5/9 with +1
    assert task.evaluate(half, expressions[:1]) == {"accuracy": 1, "accuracy/+1": 1}
    less = choose((x1, y1, x1 + 3.9, y2))
    assert task.evaluate(less, expressions[:1]) == {"accuracy": 0, "accuracy/+1": 1}
    with pytest.raises(InputError, match=r"3 .* missing"):
        task.evaluate(half, expressions)


def test_chosen_boxes_come_back_from_their_file(tmp_path, task):
    chosen = [{"expression_id": "1", "image_id": "2", "region": 0, "box": [0.5, 1.0, 2.0, 3.0]}]
    task.write(chosen, tmp_path / "boxes.json")
    assert json.loads((tmp_path / "boxes.json").read_text()) == chosen
    assert task.read_predictions(tmp_path / "boxes.json")[0]["box"] == [0.5, 1.0, 2.0, 3.0]
    for bad in ("[1, 2]", "[0, 0, 1, NaN]", '"box"'):
        (tmp_path / "boxes.json").write_text(f'[{{"expression_id": 1, "region": 0, "box": {bad}}}]')
        with pytest.raises(InputError, match=r"boxes\.json"):
            task.read_predictions(tmp_path / "boxes.json")


def test_regions_of_an_image_of_another_size_are_refused(tmp_path, task, sources):
    expression = task.read(write_refer(tmp_path), "val")[0]
    larger = type(expression)("5", "5", 200, 100, "x", expression.box)
    with pytest.raises(InputError, match="image 5 is 200 x 100, but its regions are of an image of 100 x 100"):
        task.collate(Split([larger], sources), np.array([0]), None)


def test_released_overlaps_must_be_as_many_as_the_regions(shared, tmp_path, sources):
    lines = (shared / "parity/readers/refcoco_plus.tsv").read_bytes().splitlines()
    (tmp_path / "x.tsv").write_bytes(lines[0].rsplit(b" ", 1)[0] + b"\n")
    task = RefcocoPlus(RefcocoPlusSettings())
    split = Split(task.read(tmp_path, "x.tsv"), Sources(sources.texts, task.open_regions(tmp_path, "x.tsv", None)))
    with pytest.raises(InputError, match=r"x\.tsv@0: has 2 overlaps for 3 regions"):
        task.collate(split, np.array([0]), None)
    (tmp_path / "y.tsv.gz").write_bytes(b"")
    with pytest.raises(InputError, match="gunzip"):
        task.read(tmp_path, "y.tsv.gz")
    (tmp_path / "z.tsv").write_bytes(lines[0].rsplit(b"\t", 1)[0] + b"\n")
    with pytest.raises(InputError, match="line at byte 0: wrong number of columns: 8, expected 9"):
        task.read(tmp_path, "z.tsv")
