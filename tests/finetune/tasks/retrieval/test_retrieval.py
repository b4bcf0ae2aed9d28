"""Retrieval: files, false pairs, the matrix of scores, shortlists and the library call."""

from __future__ import annotations

import copy
import json
import pickle
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from finetune.inputs import Image, Sources, TextEncoder
from finetune.retrieve import app as retrieve
from finetune.retriever import ErnieVilForRetrieval
from finetune.shortlist import app as shortlist
from finetune.task import Split
from finetune.tasks.retrieval import score_matrix
from finetune.tasks.retrieval.cheap_score import candidates, kept
from finetune.tasks.retrieval.task import Caption, Retrieval, RetrievalSettings, images_of
from parsers.command import InputError
from pipeline.regions.__main__ import app as import_regions
from pretrain.training.distributed import DistributedContext
from shards.regions.store import RegionStore
from shards.tokenizer import load_tokenizer
from tests.finetune.toys import make_toys
from tests.pipeline.outputs import contents
from tests.pretrain.launch import Launch

ALONE = DistributedContext(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return make_toys(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def task():
    return Retrieval(RetrievalSettings(max_text=32))


@pytest.fixture(scope="module")
def trained(toys, task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder, toys.model(task, folder)


@pytest.fixture
def split(toys, task, trained):
    return toys.data("flickr30k").open(task, ["train"], trained[0])


@pytest.fixture
def small(split):
    """Some captions in an order in which their images are mixed."""
    chosen = np.random.default_rng(0).permutation(len(split.examples))[:14]
    return replace(split, examples=[split.examples[number] for number in chosen])


def every_pair(task, model, split):
    """Every caption with every image, one after the other, through the plain forward pass."""
    images, _ = images_of(split.examples)
    texts = [split.sources.texts.text(caption.text, task.settings.max_text) for caption in split.examples]
    regions = [Image.of(split.sources.images[image]) for image in images]
    with torch.no_grad():
        return np.array([[model(**split.sources.pad([t], [r])).item() for r in regions] for t in texts])


# --------------------------------------------------------------------------------------------------------------- files


def test_captions_of_karpathys_file(toys, task):
    data = json.loads((toys.world / "tasks/flickr30k/dataset_flickr30k.json").read_text())
    for name in ("train", "val", "test"):
        captions = task.read(toys.world / "tasks/flickr30k", name)
        images = [image for image in data["images"] if image["split"] == name]
        assert [caption.text for caption in captions] == [s["raw"] for image in images for s in image["sentences"]]
        assert [caption.image_id for caption in captions] == [str(i["cocoid"]) for i in images for _ in range(3)]
        assert all(caption.image_id in RegionStore([toys.regions]) for caption in captions[:3])


def test_without_a_coco_id_the_file_name_is_the_image(tmp_path, task):
    sentence = {"raw": "A dog.", "sentid": 7, "tokens": ["a", "dog"], "imgid": 0}
    image = {"filename": "1000092795.jpg", "split": "test", "sentences": [sentence], "sentids": [7], "imgid": 0}
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": [image], "dataset": "flickr30k"}))
    assert task.read(tmp_path, "test") == [Caption("7", "1000092795", "A dog.")]


@pytest.mark.parametrize(
    ("name", "content", "split", "problem"),
    [
        ("dataset_a.json", '{"images": [{"split": "train", "sentences": []}]}', "test", "no split 'test', only train"),
        ("dataset_a.json", '{"images": [{"sentences": []}]}', "test", "not of Karpathy's layout"),
        ("dataset_a.json", "{", "test", "is no JSON"),
        ("other.json", "{}", "test", "holds 0 files"),
        ("a.tsv", "17\t3\n", "a.tsv", "line 1: has 2 fields"),
        ("a.tsv", "17\t3\ta\n18\t3\tb\n", "a.tsv", "share an id"),
        ("a.tsv", "", "b.tsv", "cannot be read"),
    ],
)
def test_damaged_files_are_refused(tmp_path, task, name, content, split, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=problem):
        task.read(tmp_path, split)


# --------------------------------------------------------------------------------------------------------- false pairs


def groups(task, split, numbers, seed=0):
    """Captions' numbers of pieces and images' whole rows of each pair of each group."""
    random = [np.random.default_rng((seed, number)) for number in numbers]
    return task.collate(split, np.array(numbers, np.int64), random)


def texts_of(batch):
    return [tuple(row[mask].tolist()) for row, mask in zip(batch.inputs["token_ids"], mask_of(batch), strict=True)]


def mask_of(batch):
    mask = batch.inputs["text_mask"]
    return torch.ones_like(batch.inputs["token_ids"], dtype=torch.bool) if mask is None else mask


def test_false_pairs_have_another_image_or_another_caption(split, tmp_path):
    images, own = images_of(split.examples)
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
    whole = {tuple(Image.of(split.sources.images[image]).features[0].tolist()): image for image in images}
    said = {}
    for caption in split.examples:
        said.setdefault(tuple(split.sources.texts.text(caption.text, 32).token_ids.tolist()), set()).add(
            caption.image_id
        )
    numbers = list(range(0, len(split.examples), 9))
    batch = groups(task, split, numbers)
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
    again = groups(task, split, numbers)
    assert torch.equal(again.inputs["features"], batch.inputs["features"])
    alone = groups(task, split, numbers[2:3])
    assert torch.equal(alone.inputs["features"][:, 0], batch.inputs["features"][14:21, 0])


def test_easy_negatives_are_any_other_image(split):
    task = Retrieval(RetrievalSettings(max_text=32, easy_images=30))
    chosen = Counter(
        tuple(row.tolist()) for seed in range(60) for row in groups(task, split, [0], seed).inputs["features"][1:, 0]
    )
    images, _ = images_of(split.examples)
    assert len(chosen) == len(images) - 1
    assert max(chosen.values()) < 4 * 1800 / len(images)


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


def test_missing_hard_negatives_are_named(split, tmp_path):
    (tmp_path / "hard.json").write_text("{}")
    task = Retrieval(RetrievalSettings(easy_images=1, hard_images=1, hard_negatives=tmp_path / "hard.json"))
    with pytest.raises(InputError, match="no hard negatives"):
        groups(task, split, [0])
    images, _ = images_of(split.examples)
    released = {"train_image_list": images, "train_hard_pool": [[n, (n + 2) % len(images)] for n in range(len(images))]}
    (tmp_path / "hard.pkl").write_bytes(pickle.dumps(released, protocol=2))
    task = Retrieval(RetrievalSettings(easy_images=1, hard_images=1, hard_negatives=tmp_path / "hard.pkl"))
    shown = groups(task, split, [0]).inputs["features"][2, 0]
    assert np.array_equal(shown, Image.of(split.sources.images[images[2]]).features[0])
    (tmp_path / "hard.json").write_text("[]")
    task = Retrieval(RetrievalSettings(easy_images=1, hard_images=1, hard_negatives=tmp_path / "hard.json"))
    with pytest.raises(InputError, match="neither JSON"):
        groups(task, split, [0])
    alone = replace(split, examples=[caption for caption in split.examples if caption.image_id == "2"])
    with pytest.raises(InputError, match="at least two images"):
        groups(Retrieval(RetrievalSettings()), alone, [0])


def test_the_loss_and_what_is_met(task, split, trained):
    batch = groups(task, split, [0, 5, 9])
    assert task.count_targets(batch) == 3
    scores = torch.linspace(-1, 1, 63, requires_grad=True)
    loss, met = task.score(scores, batch)
    assert met.item() == 0  # every group's first score is its lowest
    assert task.score(-scores, batch)[1].item() == 3
    single = [task.score(scores[i * 21 : (i + 1) * 21], groups(task, split, [n]))[0] for i, n in enumerate([0, 5, 9])]
    torch.testing.assert_close(loss, torch.stack(single).sum())
    empty = groups(task, split, [])
    loss, met = task.score(trained[1](**empty.inputs), empty)
    loss.backward()
    assert (loss.item(), met.item()) == (0, 0)


# -------------------------------------------------------------------------------------------------------------- matrix


def test_the_matrix_holds_what_the_plain_forward_pass_says_of_every_pair(task, small, trained):
    model = copy.deepcopy(trained[1]).double()
    expected = every_pair(task, model, small)
    found = task.matrix(model, small, batch_size=7, device=torch.device("cpu")).fill(ALONE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert expected.std() > 0.1
    in_fp32 = task.matrix(trained[1], small, batch_size=7, device=torch.device("cpu")).fill(ALONE)
    np.testing.assert_allclose(in_fp32, expected, atol=5e-5)


def test_only_candidates_are_scored(task, small, trained):
    arguments = {"batch_size": 16, "device": torch.device("cpu")}
    everything = task.matrix(trained[1], small, **arguments).fill(ALONE)
    chosen = np.random.default_rng(1).random(everything.shape) < 0.3
    some = task.matrix(trained[1], small, **arguments, candidates=chosen).fill(ALONE)
    np.testing.assert_allclose(some[chosen], everything[chosen], atol=1e-5)
    assert (some[~chosen] == -np.inf).all()


def test_half_precision_is_near(task, small, trained):
    full, half = (
        task.matrix(trained[1], small, batch_size=16, device=torch.device("cpu"), precision=precision).fill(ALONE)
        for precision in ("fp32", "bf16")
    )
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).max() < 0.1 * np.abs(full).max()


def test_blocks_are_the_same_for_any_rank_and_after_a_stop(task, small, trained, tmp_path, monkeypatch):
    """Ranks make different blocks, and a block that is there is not made again."""
    monkeypatch.setattr(score_matrix, "BLOCK_PAIRS", 30)

    def matrix():
        return task.matrix(trained[1], small, batch_size=16, device=torch.device("cpu"))

    once = matrix().fill(ALONE, tmp_path / "once", {"model": "a"})
    blocks = sorted((tmp_path / "once").glob("block-*"))
    assert len(blocks) > 5
    first = {path.name: path.read_bytes() for path in blocks}
    for path in blocks[::2]:
        path.unlink()
    kept_blocks = {path: path.stat().st_mtime_ns for path in blocks[1::2]}
    assert np.array_equal(matrix().fill(ALONE, tmp_path / "once", {"model": "a"}), once)
    assert {path.name: path.read_bytes() for path in blocks} == first
    assert {path: path.stat().st_mtime_ns for path in kept_blocks} == kept_blocks
    with pytest.raises(InputError, match="another model"):
        matrix().fill(ALONE, tmp_path / "once", {"model": "b"})
    fewer = replace(small, examples=small.examples[:-1])
    other = task.matrix(trained[1], fewer, batch_size=16, device=torch.device("cpu"))
    with pytest.raises(InputError, match="another blocks"):
        other.fill(ALONE, tmp_path / "once", {"model": "a"})
    blocks[3].write_bytes(first[blocks[3].name][:-4])
    with pytest.raises(InputError, match="is damaged"):
        matrix().fill(ALONE, tmp_path / "once", {"model": "a"})


# ------------------------------------------------------------------------------------------------------------ commands


def arguments(toys, folder, out, *more):
    data = ["--data", str(toys.world / "tasks/flickr30k"), "--regions", str(toys.regions)]
    return ["--checkpoint", str(folder), *data, "--split", "train", "--out", str(out), *more]


def test_the_command_ranks_a_split(toys, task, trained, split, tmp_path):
    result = CliRunner().invoke(retrieve, arguments(toys, trained[0], tmp_path / "out"))
    assert result.exit_code == 0, result.output
    scores = np.load(tmp_path / "out/scores.npy")
    predictions = task.read_predictions(tmp_path / "out/predictions.json")
    recalls = json.loads((tmp_path / "out/recalls.json").read_text())
    assert task.evaluate(predictions, split.examples) == recalls
    images, own = images_of(split.examples)
    assert scores.shape == (len(split.examples), len(images))
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = (scores >= scores[np.arange(len(own)), own][:, None]).sum(1).tolist()  # the pooled ReLUs make a few ties
    assert [prediction["rank"]["image"] for prediction in predictions] == ranks
    assert recalls["image/R@5"] == np.mean(np.array(ranks) <= 5)
    assert predictions[4]["images"] == [images[i] for i in order[4][:10]]
    inferred = task.infer(trained[1], split, batch_size=64, world=ALONE)
    assert [p["rank"] for p in inferred] == [p["rank"] for p in predictions]


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


IN_SMALL_BLOCKS = """
import finetune.tasks.retrieval.score_matrix
from finetune.retrieve import app
from parsers.command import run

finetune.tasks.retrieval.score_matrix.BLOCK_PAIRS = 48
run(app)
"""
KILLED_AFTER_THREE = f"""
import os, signal
import finetune.tasks.retrieval.score_matrix

write, blocks = finetune.tasks.retrieval.score_matrix.write_atomic, []

def write_or_die(path, data):
    if len(blocks) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    blocks.append(path)
    write(path, data)

finetune.tasks.retrieval.score_matrix.write_atomic = write_or_die
{IN_SMALL_BLOCKS}
"""


def test_ranks_share_the_matrix_and_end_in_the_same_bytes(toys, trained, tmp_path, monkeypatch):
    line = [sys.executable, "-c", IN_SMALL_BLOCKS, *arguments(toys, trained[0], tmp_path / "two")]
    printed = Launch(line, tmp_path, 2).succeed()
    assert "image/R@1" in printed
    monkeypatch.setattr(score_matrix, "BLOCK_PAIRS", 48)
    result = CliRunner().invoke(retrieve, arguments(toys, trained[0], tmp_path / "one"))
    assert result.exit_code == 0, result.output
    two, one = contents(tmp_path / "two"), contents(tmp_path / "one")
    assert two == one
    assert sum("block-" in name for name in two) > 2


def test_killed_and_run_again_it_ends_in_the_same_bytes(toys, trained, tmp_path, monkeypatch):
    line = [sys.executable, "-c", KILLED_AFTER_THREE, *arguments(toys, trained[0], tmp_path / "a")]
    killed = subprocess.run(line, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list((tmp_path / "a/blocks").glob("block-*.npy"))) == 3
    monkeypatch.setattr(score_matrix, "BLOCK_PAIRS", 48)
    for out in ("a", "b"):
        result = CliRunner().invoke(retrieve, arguments(toys, trained[0], tmp_path / out))
        assert result.exit_code == 0, result.output
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_shortlists(toys, task, trained, split, tmp_path):
    score, negatives = tmp_path / "cheap.safetensors", tmp_path / "hard.json"
    data = ["--data", str(toys.world / "tasks/flickr30k"), "--regions", str(toys.regions)]
    more = ["--out", str(score), "--steps", "60", "--negatives", str(negatives), "--negatives-each", "4"]
    result = CliRunner().invoke(shortlist, ["--checkpoint", str(trained[0]), *data, *more])
    assert result.exit_code == 0, result.output
    alike = json.loads(negatives.read_text())
    images, own = images_of(split.examples)
    assert alike.keys() == set(images)
    assert all(len(set(others)) == 4 and image not in others for image, others in alike.items())

    more = ["--shortlist", "2", "--cheap-score", str(score)]
    result = CliRunner().invoke(retrieve, arguments(toys, trained[0], tmp_path / "out", *more))
    assert result.exit_code == 0, result.output
    scores, recalls = np.load(tmp_path / "out/scores.npy"), json.loads((tmp_path / "out/recalls.json").read_text())
    scored = scores > -np.inf
    assert recalls["shortlist/pairs"] == pytest.approx(scored.mean())
    assert recalls["shortlist/image"] == pytest.approx(scored[np.arange(len(own)), own].mean())
    assert recalls["shortlist/image"] > 0.3  # of the split that it was trained on; 4 of 48 by chance
    assert scored.mean() < 0.1
    everything = task.matrix(trained[1], split, batch_size=64, device=torch.device("cpu")).fill(ALONE)
    np.testing.assert_allclose(scores[scored], everything[scored], atol=1e-5)
    predictions = task.read_predictions(tmp_path / "out/predictions.json")
    lost = [number for number, caption in enumerate(own) if not scored[number, caption]]
    assert lost
    assert all(predictions[number]["rank"]["image"] is None for number in lost)

    other = tmp_path / "other"
    toys.model(task, other, seed=1)
    result = CliRunner().invoke(retrieve, arguments(toys, other, tmp_path / "out2", *more))
    assert isinstance(result.exception, InputError)
    assert "another model" in str(result.exception)
    result = CliRunner().invoke(retrieve, arguments(toys, trained[0], tmp_path / "out3", "--shortlist", "5"))
    assert result.exit_code == 2


def test_what_a_shortlist_keeps():
    scores = np.array([[9.0, 1, 2, 3], [1, 9, 3, 2], [5, 6, 1, 2], [1, 2, 3, 9]])
    chosen = candidates(scores, 1)
    assert chosen.sum() >= 4
    assert (chosen[np.arange(4), scores.argmax(1)]).all()
    assert (chosen[scores.argmax(0), np.arange(4)]).all()
    assert kept(chosen, np.array([0, 1, 2, 3])) == {"image": 3 / 4, "text": 3 / 4, "pairs": chosen.mean()}
    assert candidates(scores, 4).all()


# ------------------------------------------------------------------------------------------------------------- library


def test_own_texts_and_images(toys, task, trained, small):
    model = ErnieVilForRetrieval.from_pretrained(trained[0], device="cpu")
    images, _ = images_of(small.examples)
    rows = [small.sources.images[image] for image in images]
    scores = model.score([caption.text for caption in small.examples], rows)
    np.testing.assert_allclose(scores, every_pair(task, trained[1], small), atol=5e-5)
    assert model.score([], rows).shape == (0, len(rows))
    assert model.score(["a cube"], []).shape == (1, 0)


def test_unfit_regions_and_models_are_refused(trained, small, tmp_path):
    model = ErnieVilForRetrieval.from_pretrained(trained[0], device="cpu")
    row = small.sources.images["2"]
    outside = replace(row, regions=replace(row.regions, boxes=row.regions.boxes + 400))
    with pytest.raises(InputError, match="regions of 2: a box outside"):
        model.score(["a cube"], [outside])
    wider = replace(row, regions=replace(row.regions, features=np.repeat(row.regions.features, 2, 1)))
    with pytest.raises(InputError, match="size 128, the model takes 64"):
        model.score(["a cube"], [wider])
    model.model.ernie_vil.save_pretrained(tmp_path / "encoder")
    with pytest.raises(InputError, match="no head for retrieval"):
        ErnieVilForRetrieval.from_pretrained(tmp_path / "encoder")


def test_the_example_of_the_documentation(toys, trained, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[4] / "docs/retrieval.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/flickr30k").symlink_to(trained[0])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/regions").symlink_to(toys.regions)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/retrieval.md", "exec"), {})
    assert len(capsys.readouterr().out.split()) > 2


# ------------------------------------------------------------------------------------------------------ released files


def test_released_files_give_the_released_batches(shared, task, tmp_path):
    """Pieces, positions, segments, masks and locations as they are; features to the half precision that is stored."""
    source = shared / "parity/readers"
    command = [str(source / "flickr_images.tsv"), "--format", "ernie-vil-tsv", "--out", str(tmp_path / "regions")]
    result = CliRunner().invoke(import_regions, command)
    assert result.exit_code == 0, result.output
    texts = TextEncoder(load_tokenizer(shared / "data/vocab/bert-base-uncased-vocab.txt"))
    captions = task.read(source, "flickr_captions.tsv")
    split = Split(captions, Sources(texts, RegionStore([tmp_path / "regions"])))
    images, _ = images_of(captions)
    for name in ("train", "test"):
        with np.load(source / f"flickr_batch_{name}.npz") as arrays:
            ids, positions, segments, text_mask, features, locations, image_mask = (
                arrays[f"arr_{i}"] for i in range(7)
            )
        said = {tuple(texts.text(caption.text, 512).token_ids.tolist()): caption for caption in captions}
        wholes = {image: Image.of(split.sources.images[image]) for image in images}
        found_texts, found_images = [], []
        for row in range(len(ids)):
            pieces = ids[row, text_mask[row, :, 0] > 0, 0]
            found_texts.append(texts.text(said[tuple(pieces.tolist())].text, 512))
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
    size = 1 + len(settings.negatives)
    for start in range(0, len(ids), size):
        for place, kind in enumerate(settings.negatives, start + 1):
            assert (ids[place] == ids[start]).all() == kind.endswith("images")
            assert (features[place] == features[start]).all() == kind.endswith("captions")
