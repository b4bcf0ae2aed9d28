"""What the released code was given and what it returned for the four tasks; and a toy world with a retrieval model."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune.heads import (
    RegionScoreHead,
    RetrievalHead,
    VcrHead,
    VqaHead,
    compute_answer_loss,
    compute_choice_loss,
    compute_region_loss,
    compute_retrieval_loss,
)
from finetune.released.paddle_files import write_variable
from finetune.tasks.retrieval.task import Retrieval, RetrievalSettings
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL
from pretrain.model.released_names import load_released, released_name, released_shapes
from tests.finetune.toys import make_toys
from tests.models import SMALL, released_inputs

RELEASED_HEAD = {"match_fc.w_0": (6, 1), "match_fc.b_0": (1,)}
"""Parameters of the head in `released_checkpoint`, with their shapes."""
POOLERS = {f"pooled_fc_{stream}.{kind}" for stream in ("text", "image") for kind in ("w_0", "b_0")}


def write_variables(folder, arrays):
    """A file for each parameter, as the released code writes them."""
    folder.mkdir()
    for name, array in arrays.items():
        with (folder / name).open("wb") as stream:
            write_variable(stream, array)


@dataclass
class Released:
    """A folder of reference values of one task, and the model that must return the same values."""

    folder: Path
    task: str
    dtype: torch.dtype = torch.float32

    def __post_init__(self):
        name = "tiny_config.json" if self.folder.name.startswith("forward") else "tiny_config_nodrop.json"
        values = json.loads((self.folder.parent / name).read_text())
        config = ModelConfig(**values, v_feature_size=12)
        self.model = ErnieViL(config).eval()
        self.head = {
            "vqa": lambda: VqaHead(config, answers=17, hidden_size=32),
            "vcr": lambda: VcrHead(config),
            "flickr": lambda: RetrievalHead(config),
            "refcoco_plus": lambda: RegionScoreHead(config),
        }[self.task]().eval()
        self.parameters = {released_name(name): p for name, p in self.model.named_parameters()}
        self.parameters |= {self.head.released[name]: p for name, p in self.head.named_parameters()}

    def compute_exactly(self):
        """Computes in double precision, so that only the released values are rounded, and alike on every processor."""
        self.dtype = torch.float64
        self.model.double()
        self.head.double()

    def write(self, file, folder):
        """Writes the files that the released code would have written for these parameters."""
        with np.load(self.folder / file) as arrays:
            write_variables(folder, arrays)

    def arrays(self, file):
        """Returns the arrays of a file. Weights are turned to [out, in], as the model has them."""
        with np.load(self.folder / file) as arrays:
            found = {name: torch.from_numpy(arrays[name]) for name in sorted(arrays)}
        found = {name: a.to(self.dtype) if a.is_floating_point() else a for name, a in found.items()}
        embeddings = {name for name in found if name.endswith("_embedding")}
        if not file.startswith(("params", "grads")):
            return found
        return {n: a.T if a.ndim == 2 and n not in embeddings else a for n, a in found.items()}

    def load(self, file):
        with np.load(self.folder / file) as arrays:
            load_released(self.model, arrays, may_miss=POOLERS - set(arrays))
        weights = self.arrays(file)
        with torch.no_grad():
            for name in set(self.head.released.values()) & weights.keys():
                self.parameters[name].copy_(weights[name])

    def read_batch(self, file):
        """Returns the encoder's inputs and the arrays that follow them."""
        return released_inputs(self.arrays(file).values(), self.task)

    def loss(self, file):
        inputs, labels = self.read_batch(file)
        scores = self.head(self.model(**inputs))
        match self.task:
            case "vqa":
                return compute_answer_loss(scores, labels[0]) / len(labels[0])
            case "vcr":  # one of the two weights is 0
                weights = labels[4:6]
                losses = [
                    compute_choice_loss(part.view(-1, 4), labels[0].squeeze(1)) / len(labels[0]) for part in scores
                ]
                return sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
            case "flickr":
                return compute_retrieval_loss(scores.view(len(labels[0]), -1), margin=0.3, scale=32.0)
            case _:
                real = inputs["image_mask"]
                return compute_region_loss(scores, labels[0].squeeze(2), real) / real.sum() * len(scores)


@pytest.fixture(params=["vqa", "vcr", "flickr", "refcoco_plus"])
def forward_pass(request, shared):
    return Released(shared / "parity" / f"forward_{request.param}", request.param)


@pytest.fixture(params=["vqa", "vcr", "flickr", "refcoco_plus"])
def training(request, shared):
    return Released(shared / "parity" / f"train_{request.param}", request.param)


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    return make_toys(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="session")
def task():
    return Retrieval(RetrievalSettings(max_text=32))


@pytest.fixture(scope="session")
def trained(toys, task, tmp_path_factory):
    """The folder of a retrieval model with random weights, and the model."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, toys.model(task, folder)


@pytest.fixture
def split(toys, task, trained):
    """The training captions of the toy world."""
    return toys.data("flickr30k").open(task, ["train"], trained[0])


@pytest.fixture
def small(split):
    """Some captions in an order in which their images are mixed."""
    chosen = np.random.default_rng(0).permutation(len(split.examples))[:14]
    return replace(split, examples=[split.examples[number] for number in chosen])


@pytest.fixture
def released_checkpoint(tmp_path):
    """A checkpoint as the released code saves it during training: parameters, a head, optimiser state, counters."""
    random = np.random.default_rng(0)
    shapes = released_shapes(SMALL) | RELEASED_HEAD
    parameters = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    state = {f"{name}_moment1_0": array * 0 for name, array in parameters.items()}
    state |= {"@LR_DECAY_COUNTER@": np.zeros(1, np.int64), "reduce_mean_0.tmp_0": np.zeros(1, np.float32)}
    write_variables(tmp_path / "released", parameters | state)
    return tmp_path / "released"
