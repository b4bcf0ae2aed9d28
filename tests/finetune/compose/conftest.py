"""A small suite of the toy world, and a model of pretraining with random weights."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pipeline.regions.__main__ import app as import_regions
from pipeline.toyworld import ToyWorld, write_world
from pretrain.model.folder import export
from pretrain.model.heads import ErnieViLForPreTraining


@dataclass(frozen=True)
class ToySuite:
    """Twin pictures of the toy world, their regions, and a model that can read both."""

    suite: Path
    regions: Path
    model: Path


@pytest.fixture(scope="session")
def toy_suite(toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    write_world(ToyWorld(images=40, seed=7, captions=1, things=(2, 3), suite=True), folder / "world")
    names = ["--class-names", str(folder / "world/class_names.txt"), "--workers", "1"]
    result = CliRunner().invoke(
        import_regions, [str(folder / "world/regions"), *names, "--out", str(folder / "regions")]
    )
    assert result.exit_code == 0, result.output
    config = toys.config(max_text=20)
    torch.manual_seed(3)
    export(ErnieViLForPreTraining(config).state_dict(), config, toys.vocabulary, folder / "model")
    return ToySuite(folder / "world/suite", folder / "regions", folder / "model")
