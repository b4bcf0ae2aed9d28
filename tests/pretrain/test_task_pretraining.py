"""The second stage on VCR, from its official file to a model."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import pipeline.pack.__main__ as pack
import pipeline.parse.__main__ as parse
from parsers.command import InputError
from pretrain.data.batches import Collator
from pretrain.data.order import BatchPlan
from pretrain.model.config import ModelConfig
from pretrain.model.folder import export, start_from
from pretrain.model.heads import ErnieViLForPreTraining
from pretrain.recipe import PretrainRecipe
from shards.reader import ShardSet
from shards.vcr_text import PEOPLE, name_objects
from tests.pipeline.pack.tables import CLASSES, SPECIAL, D, make_row, regions_folder
from tests.pretrain.launch import ROOT
from tests.pretrain.runs import MODEL

WORDS = " ".join(["why is near the dog ? because likes it . smiles at red brown table on a . [ ]", *PEOPLE]).lower()
RECIPE = """
model: model.json
steps: 3
batch_size: 5
max_text: 24
workers: 0
masking: {word: 0.3, region: 0.3}
weights: {object: 0, attribute: 0, relation: 0, match: 0}
"""


def question(number):
    """A line of VCR's train.jsonl."""
    objects = ["person", "person", "dog"]
    return {
        "movie": "m", "objects": objects, "interesting_scores": [0], "metadata_fn": f"m/{number}.json",
        "img_fn": f"m/{number:04d}.jpg", "img_id": f"train-{number}", "annot_id": f"train-{number}",
        "question": ["Why", "is", [0], "near", "the", [2], "?"][number % 2 :],
        "answer_choices": [["No"], ["Because", [1], "likes", "the", "red", [2], "on", "a", "brown", "table", "."]],
        "answer_label": 1,
        "rationale_choices": [[[0], "smiles", "at", [2], "."], ["x"]], "rationale_label": 0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """Shards of questions, a recipe, and the model of a first stage."""
    folder = tmp_path_factory.mktemp("vcr")
    (folder / "train.jsonl").write_text("".join(json.dumps(question(number)) + "\n" for number in range(12)))
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in dict.fromkeys([*SPECIAL, *WORDS.split()])))
    regions_folder(folder / "regions", [make_row(question(number)["img_fn"], number) for number in range(12)])
    for app, arguments in (
        (parse.app, [folder / "train.jsonl", "--out", folder / "graphs", "--workers", 1]),
        (
            pack.app,
            ["--graphs", folder / "graphs", "--regions", folder / "regions", "--tokenizer", folder / "vocab.txt",
             "--out", folder / "shards", "--workers", 1],
        ),
    ):  # fmt: skip
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
    words = len((folder / "vocab.txt").read_text().split())
    sizes = MODEL | {"vocab_size": words, "v_feature_size": D, "class_size": CLASSES}
    (folder / "model.json").write_text(json.dumps(sizes))
    (folder / "recipe.yaml").write_text(RECIPE)
    torch.manual_seed(3)
    config = ModelConfig.model_validate(sizes)
    export(
        ErnieViLForPreTraining(config).state_dict(), config, (folder / "vocab.txt").read_bytes(), folder / "first/model"
    )
    return folder


def pretrain(folder, *options):
    command = [sys.executable, "-m", "pretrain.run", "--config", folder / "recipe.yaml"]
    command += ["--shards", folder / "shards/train", *options]
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_question_its_answer_and_its_rationale_are_three_segments(stage):
    shards = ShardSet(stage / "shards/train")
    recipe = PretrainRecipe.load(stage / "recipe.yaml", ["masking.word=0", "max_text=64"])
    plan = BatchPlan.of(recipe, shards)
    collator = Collator(shards, seed=0, max_text=64, masking=recipe.active_masking, images="own", device_type="cpu")
    texts = set()
    for step in range(plan.steps_per_epoch):
        batch = collator(plan.batch(step))
        assert batch.matched.all()
        for ids, segments in zip(batch.token_ids.tolist(), batch.segment_ids.tolist(), strict=True):
            pieces = [shards.vocabulary[piece] for piece in ids]
            texts.add(re.sub(r"( \[PAD\])*$", "", " ".join(pieces)))
            ends = [place for place, piece in enumerate(pieces) if piece == "[SEP]"]
            assert segments[: ends[-1] + 1] == np.repeat([0, 1, 2], np.diff([-1, *ends])).tolist()
    expected = set()
    for number in range(12):
        one, two, _ = (name.lower() for name in name_objects(question(number)["objects"], PEOPLE, number))
        rest = f"[SEP] because {two} likes the red dog on a brown table . [SEP] {one} smiles at dog . [SEP]"
        expected.add(f"[CLS] {'' if number % 2 else 'why '}is {one} near the dog ? {rest}")
    assert texts == expected


def test_the_second_stage_starts_from_the_weights_of_the_first(stage):
    result = pretrain(
        stage, "--start", stage / "first", "--out", stage / "second", "--set", "optimizer.learning_rate=1e-9"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "initialised at random: none" in " ".join(result.stdout.split())
    first, second = (load_file(stage / run / "model/model.safetensors") for run in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    config = ModelConfig.load(stage / "second/model/config.json")
    assert (config.max_text, config.region_target) == (24, "distribution")
    metrics = [json.loads(line) for line in (stage / "second/metrics.jsonl").read_text().splitlines()]
    assert {key for line in metrics for key in line if key.startswith("loss/")} >= {"loss/word", "loss/region"}
    assert not any("loss/object" in line for line in metrics)


def test_what_cannot_start_a_stage_is_refused(stage, tmp_path):
    config = ModelConfig.load(stage / "first/model/config.json")
    vocabulary = ShardSet(stage / "shards/train").vocabulary
    model = ErnieViLForPreTraining(config.model_copy(update={"class_size": 9}))
    fresh = start_from(model, vocabulary, stage / "first")
    assert fresh == ["heads.region.output.weight", "heads.region.output.bias"], "another detector's classes"
    wide = ErnieViLForPreTraining(config.model_copy(update={"v_intermediate_size": 20}))
    with pytest.raises(InputError, match=r"does not fit the model: ernie_vil\..*; set model in the recipe to"):
        start_from(wide, vocabulary, stage / "first")
    with pytest.raises(InputError, match="vocabulary"):
        start_from(model, [*vocabulary, "more"], stage / "first")
    with pytest.raises(InputError, match="neither a model"):
        start_from(model, vocabulary, tmp_path)


def test_a_model_without_heads_gives_its_encoder(stage, tmp_path):
    weights = load_file(stage / "first/model/model.safetensors")
    for name in ("config.json", "vocab.txt"):
        (tmp_path / name).write_bytes((stage / "first/model" / name).read_bytes())
    save_file({n: t for n, t in weights.items() if n.startswith("ernie_vil.")}, tmp_path / "model.safetensors")
    model = ErnieViLForPreTraining(ModelConfig.load(tmp_path / "config.json"))
    fresh = start_from(model, ShardSet(stage / "shards/train").vocabulary, tmp_path)
    assert fresh == [name for name in model.state_dict() if name.startswith("heads.")]
    assert all(torch.equal(weights[n], t) for n, t in model.state_dict().items() if n not in fresh)
