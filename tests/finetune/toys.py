"""A small toy world with the data sets of all tasks, its regions imported, and a model for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from typer.testing import CliRunner

from finetune.data import TaskFiles
from finetune.heads import FineTunedModel
from finetune.model_folder import save_fine_tuned
from pipeline.regions.__main__ import app
from pipeline.toyworld import ToyWorld, write_world
from pretrain.model.config import ModelConfig


@dataclass(frozen=True)
class Toys:
    """The paths of the files."""

    world: Path
    regions: Path
    gold_regions: Path

    def data(self, task):
        """The files of a task, "flickr30k" for retrieval."""
        return TaskFiles(self.world / "tasks" / task, [self.regions], [self.gold_regions])

    @property
    def vocabulary(self):
        """The vocabulary's bytes."""
        return (self.world / "vocab.txt").read_bytes()

    def config(self, **changes):
        """A model size that fits the world, with layers below the first co-layer in both streams."""
        values = {
            "vocab_size": self.vocabulary.count(b"\n"), "max_position_embeddings": 64, "sent_type_vocab_size": 2,
            "hidden_size": 16, "num_attention_heads": 2, "t_biattention_id": (1, 2), "v_feature_size": 64,
            "v_hidden_size": 24, "v_num_attention_heads": 2, "v_intermediate_size": 20, "v_biattention_id": (1, 2),
            "co_hidden_size": 16, "co_num_attention_heads": 2, "class_size": 9, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3,
        }  # fmt: skip
        return ModelConfig(**(values | changes))

    def model(self, task, folder, seed=0):
        """A model of a task with random weights, saved in a folder."""
        torch.manual_seed(seed)
        model = FineTunedModel(self.config(), task.make_head(self.config())).eval()
        save_fine_tuned(model.state_dict(), self.config(), self.vocabulary, task, folder)
        return model


def make_toys(folder: Path, images: int = 60) -> Toys:
    """Generates the world and imports its regions."""
    write_world(ToyWorld(images=images, seed=5, captions=3, things=(2, 3), tasks=True), folder / "world", workers=1)
    toys = Toys(folder / "world", folder / "regions", folder / "gold_regions")
    for source, out in (("regions", toys.regions), ("tasks/vcr/regions", toys.gold_regions)):
        names = ["--class-names", str(toys.world / "class_names.txt")]
        result = CliRunner().invoke(app, [str(toys.world / source), *names, "--out", str(out)])
        assert result.exit_code == 0, result.output
    return toys
