"""The eight shapes as fields of surface normals over the unit square."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

OUTLINE = 2
"""the width of the outline in pixels"""


@dataclass(frozen=True, slots=True)
class Surface:
    """What is seen of a shape."""

    mask: Mask
    """bool [h, w]"""
    outline: Mask
    """bool [h, w]: the part of the mask within `OUTLINE` pixels of its border"""
    normals: Field
    """float32 [h, w, 3] of unit length: right, down and towards the eye; they mean nothing outside the mask"""


@lru_cache(maxsize=256)
def surface(shape: str, width: int, height: int) -> Surface:
    """Returns the shape, stretched to fill ``width`` x ``height`` pixels."""
    y, x = np.meshgrid(_centres(height), _centres(width), indexing="ij")
    mask, normals = _SHAPES[shape](x, y)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    padded = np.pad(mask, OUTLINE)
    inner = mask.copy()
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner &= padded[dy * OUTLINE :, dx * OUTLINE :][:height, :width]
    return Surface(mask, mask & ~inner, normals)


def _centres(count: int) -> Field:
    return ((np.arange(count, dtype=np.float32) + 0.5) / count * 2 - 1).astype(np.float32)


def _stack(*components: Field | float) -> Field:
    return np.stack(np.broadcast_arrays(*components), axis=-1).astype(np.float32)


def _flat(*normal: float) -> Field:
    return np.array(normal, np.float32)


def _root(value: Field) -> Field:
    return np.asarray(np.sqrt(np.maximum(value, 0.0)))


def _ball(x: Field, y: Field) -> tuple[Mask, Field]:
    return x**2 + y**2 <= 1, _stack(x, y, _root(1 - x**2 - y**2))


def _cube(x: Field, y: Field) -> tuple[Mask, Field]:
    depth = 0.44
    front = (x <= 1 - depth) & (y >= -1 + depth)
    up = (-1 + depth - y) / depth
    top = (y < -1 + depth) & (x >= -1 + up * depth) & (x <= 1 - depth + up * depth)
    back = (x - 1 + depth) / depth
    side = (x > 1 - depth) & (y >= -1 + depth - back * depth) & (y <= 1 - back * depth)
    normals = np.where(
        top[..., None], _flat(0, -1, 0.45), np.where(side[..., None], _flat(1, 0.1, 0.35), _flat(0, 0, 1))
    )
    return front | top | side, normals


def _cylinder(x: Field, y: Field) -> tuple[Mask, Field]:
    flat = 0.2
    rim = flat * _root(1 - x**2)
    lid = np.abs(y + 1 - flat) <= rim
    normals = np.where(lid[..., None], _flat(0, -1, 0.5), _stack(x, 0.1, _root(1 - x**2)))
    return (y >= -1 + flat - rim) & (y <= 1 - flat + rim), normals


def _cone(x: Field, y: Field) -> tuple[Mask, Field]:
    flat = 0.17
    half = np.maximum((y + 1) / (2 - flat), 1e-6)
    side = (y <= 1 - flat) & (np.abs(x) <= half)
    foot = (y > 1 - flat) & (y <= 1 - flat + flat * _root(1 - x**2))
    across = np.clip(x / np.minimum(half, 1), -1, 1)
    return side | foot, _stack(across, -0.35, _root(1 - across**2))


def _pyramid(x: Field, y: Field) -> tuple[Mask, Field]:
    left, foot, right = (-1.0, 0.56), (-0.12, 1.0), (1.0, 0.48)
    down = (y + 1) / 2
    edge = foot[0] * down
    left_end, right_end = left[0] * (y + 1) / (left[1] + 1), right[0] * (y + 1) / (right[1] + 1)
    left_floor = left[1] + (foot[1] - left[1]) * (x - left[0]) / (foot[0] - left[0])
    right_floor = foot[1] + (right[1] - foot[1]) * (x - foot[0]) / (right[0] - foot[0])
    bright = (x <= edge) & (x >= left_end) & (y <= left_floor)
    dark = (x > edge) & (x <= right_end) & (y <= right_floor)
    return bright | dark, np.where(bright[..., None], _flat(-0.5, -0.35, 0.8), _flat(0.85, -0.1, 0.45))


def _ring(x: Field, y: Field) -> tuple[Mask, Field]:
    middle, thickness = 0.69, 0.31
    radius = np.maximum(np.hypot(x, y), 1e-6)
    across = (radius - middle) / thickness
    return np.abs(across) <= 1, _stack(across * x / radius, across * y / radius, _root(1 - across**2))


def _star(x: Field, y: Field) -> tuple[Mask, Field]:
    """A star has ten facets that rise from its outline to its centre."""
    angles = -np.pi / 2 + np.arange(11) * np.pi / 5
    radii = np.where(np.arange(11) % 2 == 0, 1.0, 0.47)
    corners = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1)
    low, high = corners.min(axis=0), corners.max(axis=0)
    px, py = (low[0] + high[0] + x * (high[0] - low[0])) / 2, (low[1] + high[1] + y * (high[1] - low[1])) / 2
    sector = np.floor(((np.arctan2(py, px) + np.pi / 2) % (2 * np.pi)) / (np.pi / 5)).astype(int) % 10
    edges = corners[1:] - corners[:-1]
    outward = np.stack([edges[:, 1], -edges[:, 0]], axis=-1) / np.linalg.norm(edges, axis=-1, keepdims=True)
    reach = (outward * corners[:-1]).sum(axis=-1)
    ox, oy = outward[sector, 0], outward[sector, 1]
    return px * ox + py * oy <= reach[sector], _stack(0.75 * ox, 0.75 * oy, 0.66)


def _heart(x: Field, y: Field) -> tuple[Mask, Field]:
    """A heart is the inside of (x^2 + y^2 - 1)^3 = x^2 y^3, blown up like a cushion."""
    px, py = 1.14 * x, 0.12 - 1.11 * y
    inside = px**2 * py**3 - (px**2 + py**2 - 1) ** 3
    bulge = 0.8 * np.maximum(inside, 0.0) ** 0.36
    down = np.gradient(bulge, 2 / len(x), axis=0)
    right = np.gradient(bulge, 2 / len(x[0]), axis=1)
    return inside >= 0, _stack(-right, -down, 1.0)


_SHAPES: dict[str, Callable[[Field, Field], tuple[Mask, Field]]] = {
    "ball": _ball,
    "cube": _cube,
    "cylinder": _cylinder,
    "cone": _cone,
    "pyramid": _pyramid,
    "ring": _ring,
    "star": _star,
    "heart": _heart,
}
