"""Trains the detector for toy worlds; `pipeline.toyworld.train_detector` is the command.

As in bottom-up attention (arXiv:1707.07998, section 3.1), extra heads learn attributes from the box features and are
then thrown away. Afterwards colour, material and size can be read off the features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from parsers.command import progress
from pipeline.toyworld.layout import sample_scene
from pipeline.toyworld.network import CLASS_NAMES, FEATURES, build_network
from pipeline.toyworld.render import render
from pipeline.toyworld.scene import VALUES, AttributeName, Scene

LEARNING_RATE = 1e-3
THINGS = (2, 6)
TAUGHT: tuple[AttributeName, ...] = ("colour", "material", "size")


class Trainee(nn.Module):
    """The detector with the extra heads for attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = build_network(
            rpn_post_nms_top_n_train=100, rpn_batch_size_per_image=64, box_batch_size_per_image=32
        )
        self.attributes = nn.ModuleList(nn.Linear(FEATURES, len(VALUES[name])) for name in TAUGHT)

    def forward(self, pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """Returns the sum of all losses; ``pictures`` is float32 [n, 3, height, width], 0 to 1."""
        targets = [
            {
                "boxes": torch.tensor([[t.box.x1, t.box.y1, t.box.x2, t.box.y2] for t in scene.things]).float(),
                "labels": torch.tensor([CLASS_NAMES.index(t.shape) for t in scene.things]),
            }
            for scene in scenes
        ]
        images, resized = self.detector.transform(list(pictures), targets)
        maps = self.detector.backbone(images.tensors)
        proposals, losses = self.detector.rpn(images, maps, resized)
        heads = self.detector.roi_heads
        losses |= heads(maps, proposals, images.image_sizes, resized)[1]
        boxes = [target["boxes"] for target in resized]
        features = heads.box_head(heads.box_roi_pool(maps, boxes, images.image_sizes))
        for name, head in zip(TAUGHT, self.attributes, strict=True):
            truth = [VALUES[name].index(t.value(name)) for scene in scenes for t in scene.things]
            losses[name] = 0.3 * nn.functional.cross_entropy(head(features), torch.tensor(truth))
        return torch.stack(list(losses.values())).sum()


def draw(seed: int, number: int) -> tuple[Tensor, Scene]:
    """Draws a picture, uint8 [3, height, width], and returns it with its truth."""
    scene = sample_scene(number, np.random.default_rng((seed, number)), THINGS)
    return pil_to_tensor(render(scene)), scene


def train(steps: int, batch_size: int, seed: int) -> tuple[dict[str, Tensor], float]:
    """Trains a detector from nothing. Returns its weights and the average loss of the last steps."""
    torch.manual_seed(seed)
    model = Trainee().train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=1e-4)
    rising = max(0.1, 1.5 / max(steps, 2))  # the rate must rise for more than a step, or the schedule divides by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=max(steps, 2), pct_start=rising
    )
    recent = 0.0
    with progress("train", steps, "step") as advance:
        for step in range(steps):
            drawn = [draw(seed, step * batch_size + i) for i in range(batch_size)]
            loss = model(torch.stack([picture for picture, _ in drawn]) / 255, [scene for _, scene in drawn])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            recent = 0.95 * recent + 0.05 * loss.item() if step else loss.item()
            advance(1)
    return {name: value.contiguous() for name, value in model.detector.state_dict().items()}, recent
