"""The study: what its tables say, and the whole of it with runs of two steps."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from finetune.compose import study
from finetune.compose.study import ALL, END, START, StudiedArm, app, write_study_report
from parsers.command import InputError
from pipeline.toyworld import ToyWorld, write_world
from pretrain.ablation.trials import Trial
from pretrain.cloze import NONE, OTHER, OWN
from pretrain.recipe import PretrainRecipe
from shards.storage.files import read_record
from tests.fuzz.targets import call
from tests.pretrain.conftest import write_shards
from tests.pretrain.launch import ROOT

RECIPES = ROOT / "configs/pretrain/compositional"


def arm(name, *accuracies):
    trials = [Trial(Path(f"{name}.yaml"), 1e-3, seed) for seed in range(len(accuracies))]
    suite = [{"swap_obj": accuracy, ALL: accuracy} for accuracy in accuracies]
    cloze = [{"relation": accuracy / 2} for accuracy in accuracies]
    return StudiedArm(trials, dict.fromkeys((OWN, OTHER, NONE), suite), dict.fromkeys((OWN, NONE), cloze))


def test_each_recipe_is_compared_with_the_first_seed_by_seed():
    tasks = [["vqa", "accuracy, test", "33.0", "60.0 ± 1.0", "61.0 ± 2.0"]]
    text = write_study_report([arm("a", 0.5, 0.7), arm("b", 0.6, 0.7)], tasks, settings="so", picture="x.png")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert rows[0] == ["suite, own image, %", "a", "b", "b − a"]
    assert rows[2] == ["swap_obj", "60.0 ± 14.1", "65.0 ± 7.1", "+5.0 (+0.0 to +10.0)"]
    assert rows[3][0] == ALL
    assert ["relation", "30.0 ± 7.1", "32.5 ± 3.5", "+2.5 (+0.0 to +5.0)"] in rows
    assert rows[-3:] == [["task", "score", "chance", "a", "b"], ["---"] * 5, *tasks]


def test_each_recipe_of_the_study_adds_one_thing():
    recipes = {path.stem: yaml.safe_load(path.read_text()) for path in RECIPES.glob("*.yaml")}
    for values in recipes.values():
        del values["optimizer"]["learning_rate"]
    words, scene_graph, negatives, token_match = map(recipes.pop, ("words", "scene-graph", "negatives", "token-match"))
    assert not recipes
    assert token_match.pop("weights") == {"token_match": 1}
    assert token_match == negatives
    assert negatives.pop("negatives")["share"] > 0
    assert negatives == scene_graph
    for values in (words, scene_graph):
        values["images"] = {key: values["masking"][key] for key in ("region", "mismatch", "whole")}
        del values["masking"]
    assert sum(words.pop("weights").values()) == 4
    assert words == scene_graph


def test_as_many_whole_pairs_match_as_do_not():
    for path in RECIPES.glob("*.yaml"):
        masking = PretrainRecipe.load(path, []).masking
        assert (1 - masking.mismatch) * masking.whole == pytest.approx(masking.mismatch)


def test_a_world_without_a_suite_is_refused(toys, tmp_path):
    line = [str(RECIPES / "words.yaml"), "--shards", "s", "--held-out", "h", "--world", str(toys.world)]
    line += ["--regions", "r", "--gold-regions", "g", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, line)
    assert isinstance(result.exception, InputError)
    assert "make the world with --suite" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_shards_without_false_captions_are_refused_before_anything_is_trained(tmp_path):
    write_shards(tmp_path / "shards", [3])
    for needed in ("suite", "tasks"):
        (tmp_path / "world" / needed).mkdir(parents=True)
    line = [str(RECIPES / f"{name}.yaml") for name in ("words", "negatives")]
    line += ["--shards", str(tmp_path / "shards"), "--held-out", "h", "--world", str(tmp_path / "world")]
    line += ["--regions", "r", "--gold-regions", "g", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, line)
    assert isinstance(result.exception, InputError)
    assert "pack the shards again with --negatives" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_recipes_are_trained_scored_and_compared(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(study, "TASKS", ("refcoco_plus",))
    monkeypatch.chdir(tmp_path)
    write_world(ToyWorld(images=60, captions=2, things=(2, 3), suite=True, tasks=True, apart=True), Path("world"))
    names = "--class-names world/class_names.txt --workers 1"
    call(f"pipeline.regions world/regions {names} --out regions")
    call(f"pipeline.regions world/tasks/vcr/regions {names} --out gold")
    call("pipeline.parse world/captions.json --parser sng --workers 1 --out graphs")
    call("pipeline.negatives graphs --workers 1 --out negatives")
    pack = (
        "pipeline.pack --graphs graphs --regions regions --negatives negatives --tokenizer world/vocab.txt --workers 1"
    )
    call(f"{pack} --held-out-share 0.3 --out shards")
    Path("study.md").write_text(f"# Title\n{START}\n{END}\n")
    recipes = " ".join(str(RECIPES / f"{name}.yaml") for name in ("words", "scene-graph", "token-match"))
    line = (
        f"finetune.compose.study {recipes} --shards shards/train --held-out shards/val --world world --regions regions "
        "--gold-regions gold --seeds 1 --most 5 --set steps=2 --set checkpoint_every=2 --out runs --document study.md"
    )
    assert call(line) == 0
    written = Path("study.md").read_text()
    assert "2 steps of 64 pairs over 4" in written
    assert "The suite has 60 pairs." in written
    assert written.count("scene-graph − words") == written.count("token-match − words") == 5
    assert "| refcoco_plus | accuracy, testB |" in written
    assert Path("images/compositional.png").is_file()
    blind = read_record(Path("runs/words-0.001-0/compose/scores.json"))["suites"][0]["all"]["accuracies"][NONE]
    assert blind["accuracy"] == 0.5

    fine_tuned = {path: path.stat().st_mtime_ns for path in Path("runs/tasks").rglob("model.safetensors")}
    pretrained = {path: path.read_bytes() for path in Path("runs").glob("*/model/model.safetensors")}
    assert (len(fine_tuned), len(pretrained)) == (3, 3)
    assert call(line) == 0
    assert {path: path.stat().st_mtime_ns for path in fine_tuned} == fine_tuned
    assert {path: path.read_bytes() for path in pretrained} == pretrained
    assert Path("study.md").read_text() == written
