import json
from pathlib import Path

import pytest
import yaml

from parsers.command import InputError
from pretrain.ablation.__main__ import END, START, main
from pretrain.ablation.report import Arm, choose_rate, count_mean_targets, write_ablation_report
from pretrain.ablation.spreads import insert_results, plot_spreads
from pretrain.recipe import PretrainRecipe
from tests.pretrain.launch import ROOT
from tests.pretrain.runs import MODEL, RECIPE

RECIPES = ROOT / "configs/pretrain"


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(RECIPES)))
def test_the_recipes_of_the_project_are_valid(path):
    assert PretrainRecipe.load(path, []).model.is_file()


def test_the_recipes_of_the_ablation_differ_in_what_is_hidden_alone():
    rest = []
    for path in (RECIPES / "ablation").glob("*.yaml"):
        values = yaml.safe_load(path.read_text())
        rest.append({key: value for key, value in values.items() if key not in ("masking", "weights")})
        rest[-1]["images"] = {key: values["masking"][key] for key in ("region", "mismatch")}
        weights = PretrainRecipe.load(path, []).weights
        assert weights.object + weights.attribute + weights.relation + weights.word == 4
    assert len(rest) == 3
    assert all(values == rest[0] for values in rest)


def arm(name, *seeds, rate=1e-3):
    by_seed = [{"object": a, "relation": b} for a, b in seeds]
    return Arm(name, rate, {5e-4: {"object": 0.1, "relation": 0.1}, rate: by_seed[0]}, by_seed, TARGETS)


TARGETS = {"object": 0.5, "attribute": 0.25, "relation": 0, "word": 1, "region": 0.5, "match": 1}


def test_the_report_compares_the_last_recipe_seed_by_seed():
    text = write_ablation_report(
        [arm("a", (0.5, 0.2), (0.7, 0.2)), arm("b", (0.6, 0.1), (0.7, 0.2))], settings="so", picture="x.png"
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert rows[0] == ["ACC@1, %", "a", "b", "b − a"]
    assert rows[2] == ["object", "60.0 ± 14.1", "65.0 ± 7.1", "+5.0 (+0.0 to +10.0)"]
    assert rows[3] == ["relation", "20.0 ± 0.0", "15.0 ± 7.1", "-5.0 (-10.0 to +0.0)"]
    assert ["a", "0.001", "50.0", "20.0", "chosen"] in rows
    assert ["a", "0.0005", "10.0", "10.0", ""] in rows
    assert rows[-1] == ["b", "0.50", "0.25", "0.00", "1.00", "0.50", "1.00", "1.75"]


def test_the_best_rate_is_that_of_the_best_mean():
    found = {1e-3: {"object": 0.2, "relation": 0.9}, 2e-3: {"object": 0.8, "relation": 0.4}, 1e-4: {"object": 0.7}}
    assert choose_rate(found) == 1e-4
    assert choose_rate({1e-3: {"object": 0.5}, 1e-4: {"object": 0.5}}) == 1e-4


def test_results_replace_older_ones_between_the_markers():
    text = f"before\n{START}\nold\n{END}\nafter\n"
    assert insert_results(text, "new\n", START, END) == f"before\n{START}\nnew\n{END}\nafter\n"
    assert insert_results(insert_results(text, "new\n", START, END), "old\n", START, END) == text
    with pytest.raises(InputError, match="no lines"):
        insert_results("nothing", "new", START, END)


def test_targets_are_counted_as_they_are_trained(shards, tmp_path):
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    shares = ["masking.object=1", "masking.word=1", "masking.mismatch=0", "max_text=32"]
    found = count_mean_targets(PretrainRecipe.load(tmp_path / "recipe.yaml", shares), shards)
    assert found["object"] == 2, "both objects of each caption"
    assert found["relation"] == found["attribute"] == 0, "their objects are hidden"
    assert found["match"] == 1


def test_the_plot_is_drawn(tmp_path):
    by_arm = {"a": [{"object": 0.5, "relation": 0.2}], "b": [{"object": 0.6, "relation": 0.1}]}
    plot_spreads(by_arm, tmp_path / "new/plot.png", label="accuracy")
    assert (tmp_path / "new/plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_recipes_are_trained_probed_and_compared(shard_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    recipes = [tmp_path / f"{name}.yaml" for name in ("one", "two")]
    for path in recipes:
        path.write_text(RECIPE)
    document = tmp_path / "document.md"
    document.write_text(f"# Title\n{START}\n{END}\n")
    out, shards = tmp_path / "runs", str(shard_folder)
    main(
        recipes,
        shards,
        shards,
        out,
        document=document,
        learning_rate=[1e-3],
        seeds=2,
        most=5,
        set_=["steps=2", "evaluate_steps=1"],
    )
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [
        "one-0.001-0", "one-0.001-1", "two-0.001-0", "two-0.001-1",
    ]  # fmt: skip
    assert "two − one" in document.read_text()
    assert (tmp_path / "images/ablation.png").is_file()
    with pytest.raises(InputError, match="says why"):
        main(recipes, shards, shards, out, learning_rate=[1e-3], seeds=1, most=5, set_=["steps=3"])
    assert "belongs to another run" in Path(out / "one-0.001-0.log").read_text()
