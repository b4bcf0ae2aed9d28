"""Retrieval as a library."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.retriever import ErnieVilForRetrieval
from finetune.tasks.retrieval.captions import number_images
from parsers.command import InputError
from tests.finetune.retrieval import every_pair


def test_own_texts_and_images(toys, task, trained, small):
    model = ErnieVilForRetrieval.from_pretrained(trained[0], device="cpu")
    images, _ = number_images(small.examples)
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
    with pytest.raises(InputError, match="size 128, but the model takes 64"):
        model.score(["a cube"], [wider])
    with pytest.raises(InputError, match=r"'a red cube' is one text; give a list"):
        model.score("a red cube", [row])
    shares = row.regions.boxes / np.float32([row.width, row.height] * 2)
    with pytest.raises(InputError, match=r"regions of 2: all boxes lie within 0\.\.1"):
        model.score(["a red cube"], [replace(row, regions=replace(row.regions, boxes=shares))])
    model.model.ernie_vil.save_pretrained(tmp_path / "encoder")
    with pytest.raises(InputError, match="no head for retrieval"):
        ErnieVilForRetrieval.from_pretrained(tmp_path / "encoder")


def test_the_example_of_the_documentation(toys, trained, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs/retrieval.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    (tmp_path / "models").mkdir()
    (tmp_path / "models/flickr30k").symlink_to(trained[0])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/regions").symlink_to(toys.regions)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/retrieval.md", "exec"), {})
    assert len(capsys.readouterr().out.split()) > 2
