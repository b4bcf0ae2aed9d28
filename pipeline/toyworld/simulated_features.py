"""Makes region features as a trained object detector would give them: informative, noisy and sometimes wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.toyworld.scene import HEIGHT, SHAPES, VALUES, WIDTH, AttributeName, PixelBox, Scene, Thing

_WEIGHTS_SEED = 7_130_419


@dataclass(frozen=True, slots=True)
class SimulatedRegions:
    """What the detector found in one picture, the most confident first."""

    features: NDArray[np.float32]
    """[n, d]"""
    boxes: NDArray[np.float32]
    """[n, 4]: x1, y1, x2, y2 in pixels"""
    class_probs: NDArray[np.float32]
    """[n, classes + 1]: rows sum to 1, and column 0 is the background"""
    things: NDArray[np.int64]
    """[n]: the thing of the scene behind each region, -1 for background; a real detector does not know this"""

    @property
    def classes(self) -> NDArray[np.int64]:
        """int64 [n]: the most likely class apart from the background, counted from 0."""
        return np.asarray(self.class_probs[:, 1:].argmax(axis=1), np.int64)


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """How good the detector is."""

    missed: float = 0.03
    """the probability that a thing is not found"""
    duplicated: float = 0.1
    """the probability that a thing is found twice"""
    jitter: float = 0.015
    """the standard deviation of a corner, as a share of the box's side"""
    noise: float = 0.5
    """the standard deviation of the noise in a feature; the entries of a code have one of 1"""
    most_background: int = 2
    """the most regions of a picture that hold no thing"""


class SimulatedDetector:
    """Finds the things of a scene. The codes are the same in every world, so features of two worlds can be compared.

    A feature is the sum of four codes (shape, colour, material, size) and of noise. Each code has its own block of
    directions, so that each attribute can be read off linearly.
    """

    def __init__(self, feature_size: int = 64, settings: SimulationSettings | None = None) -> None:
        if feature_size < 8 * len(VALUES):
            raise ValueError(f"feature_size is {feature_size}, but must be at least {8 * len(VALUES)}")
        weights = np.random.default_rng(_WEIGHTS_SEED)
        rotation, _ = np.linalg.qr(weights.standard_normal((feature_size, feature_size)))
        self.feature_size = feature_size
        self._settings = settings or SimulationSettings()
        self._codes: dict[tuple[AttributeName, str], NDArray[np.float64]] = {}
        for block, (attribute, values) in zip(np.array_split(rotation, len(VALUES)), VALUES.items(), strict=True):
            for value in values:
                self._codes[attribute, value] = weights.standard_normal(len(block)) @ block
        self._background = weights.standard_normal(feature_size) * 0.5

    def detect(self, scene: Scene, rng: np.random.Generator) -> SimulatedRegions:
        """Returns the regions of a scene; there is at least one."""
        s = self._settings
        found = [i for i in range(len(scene.things)) if rng.random() >= s.missed] or [0]
        found += [i for i in found if rng.random() < s.duplicated]
        boxes = [self._jittered(scene.things[i].box, rng) for i in found]
        features = [self._feature(scene.things[i], rng) for i in found]
        probabilities = [self._class_probs(scene, i, rng) for i in found]
        for box in self._background_boxes(scene, rng):
            found.append(-1)
            boxes.append(box)
            features.append(self._background + s.noise * rng.standard_normal(self.feature_size))
            probabilities.append(_softmax(_logits(rng, background=2.5)))
        class_probs = np.array(probabilities, np.float32)
        order = np.argsort(-class_probs[:, 1:].max(axis=1), kind="stable")
        return SimulatedRegions(
            np.array(features, np.float32)[order],
            np.array(boxes, np.float32)[order],
            class_probs[order],
            np.array(found, np.int64)[order],
        )

    def describe(self, scene: Scene, rng: np.random.Generator) -> SimulatedRegions:
        """Returns a region for the true box of each thing, in the order of the things."""
        numbers = range(len(scene.things))
        return SimulatedRegions(
            np.array([self._feature(thing, rng) for thing in scene.things], np.float32),
            np.array([[t.box.x1, t.box.y1, t.box.x2, t.box.y2] for t in scene.things], np.float32),
            np.array([self._class_probs(scene, i, rng) for i in numbers], np.float32),
            np.array(numbers, np.int64),
        )

    def _feature(self, thing: Thing, rng: np.random.Generator) -> NDArray[np.float64]:
        signal = sum((self._codes[a, thing.value(a)] for a in VALUES), np.zeros(self.feature_size))
        return signal + self._settings.noise * rng.standard_normal(self.feature_size)

    def _jittered(self, box: PixelBox, rng: np.random.Generator) -> NDArray[np.float64]:
        sides = np.array([box.width, box.height, box.width, box.height])
        moved = np.array([box.x1, box.y1, box.x2, box.y2]) + self._settings.jitter * sides * rng.standard_normal(4)
        return np.clip(moved, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])

    def _class_probs(self, scene: Scene, thing: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Returns class probabilities. They are usually right, and less sure the more of the thing is hidden."""
        toy = scene.things[thing]
        hidden = max((toy.box.hidden_by(other.box) for other in scene.things[thing + 1 :]), default=0.0)
        logits = _logits(rng, background=0.0)
        logits[1 + SHAPES.index(toy.shape)] += 5.0 - 2.0 * hidden
        return _softmax(logits)

    def _background_boxes(self, scene: Scene, rng: np.random.Generator) -> list[NDArray[np.float64]]:
        """Draws boxes in the picture that no thing fills."""
        boxes = []
        for _ in range(int(rng.integers(self._settings.most_background + 1))):
            width, height = (int(side) for side in rng.integers(24, 90, 2))
            x, y = int(rng.integers(WIDTH - width)), int(rng.integers(HEIGHT - height))
            box = PixelBox(x, y, x + width, y + height)
            if all(box.hidden_by(thing.box) < 0.2 for thing in scene.things):
                boxes.append(np.array([box.x1, box.y1, box.x2, box.y2], np.float64))
        return boxes


def _logits(rng: np.random.Generator, background: float) -> NDArray[np.float64]:
    logits = rng.standard_normal(len(SHAPES) + 1)
    logits[0] = background + 0.7 * logits[0]
    return logits


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponents = np.exp(logits - logits.max())
    return np.asarray(exponents / exponents.sum())
