"""Draws the picture of a scene."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipeline.toyworld.scene import HEIGHT, WIDTH, PixelBox, Scene, ToyRelation
from pipeline.toyworld.surfaces import Field, surface

RGB = {
    "red": (214, 40, 46),
    "pink": (246, 132, 178),
    "yellow": (248, 208, 40),
    "green": (46, 158, 72),
    "blue": (36, 98, 214),
    "purple": (132, 60, 178),
    "white": (240, 240, 238),
    "black": (46, 46, 52),
}
WALLS_AND_FLOORS = (
    ((226, 220, 208), (178, 150, 122)),
    ((206, 218, 224), (150, 146, 140)),
    ((214, 222, 204), (170, 158, 134)),
    ((226, 212, 210), (158, 138, 128)),
)
HORIZON = 168
"""where the wall meets the floor, in pixels from the top"""


def _direction(right: float, down: float, near: float) -> Field:
    vector = np.array([right, down, near], np.float32)
    return np.asarray(vector / np.linalg.norm(vector))


_LIGHT = _direction(-0.48, -0.66, 0.58)
_HALFWAY = _direction(-0.48, -0.66, 1.58)
_SAP = np.array([0.07, 0.035, 0.0], np.float32)
_OVERSAMPLING = 2


def render(scene: Scene, scale: int = 1) -> Image.Image:
    """Draws the scene as RGB, ``scale`` times as large as its boxes are in pixels."""
    picture = _backdrop(scene.backdrop, scale).copy()
    if scene.shelf is not None:
        _draw_shelf(picture, scene.shelf, scale)
    carried = {related.subject for related in scene.relations if related.relation is ToyRelation.RESTING_ON}
    for i, thing in enumerate(scene.things):
        if i not in carried:
            shade = _shadow(thing.box.width, scale)
            picture.paste((24, 20, 18), _corner(thing.box, shade, scale), shade)
    for thing in scene.things:
        sprite = _sprite(
            thing.shape, thing.colour, thing.material, thing.box.width * scale, thing.box.height * scale, thing.tilt
        )
        picture.paste(sprite, (thing.box.x1 * scale, thing.box.y1 * scale), sprite)
    return picture


def _corner(box: PixelBox, shade: Image.Image, scale: int) -> tuple[int, int]:
    centre = (box.x1 + box.x2) * scale // 2 + 2 * scale
    return centre - shade.width // 2, (box.y2 - 2) * scale - shade.height // 2


@lru_cache(maxsize=16)
def _backdrop(number: int, scale: int) -> Image.Image:
    wall, floor = (np.array(colour, np.float64) for colour in WALLS_AND_FLOORS[number])
    rows = np.arange(HEIGHT * scale) / scale
    down = (rows / HORIZON)[:, None]
    forward = ((rows - HORIZON) / (HEIGHT - HORIZON))[:, None]
    colours = np.where(rows[:, None] < HORIZON, wall * (1.05 - 0.12 * down), floor * (0.82 + 0.3 * forward))
    skirting = (rows >= HORIZON - 5) & (rows < HORIZON)
    colours[skirting] = wall * 1.1
    colours[(rows >= HORIZON) & (rows < HORIZON + 1)] = floor * 0.6
    pixels = np.clip(np.repeat(colours[:, None], WIDTH * scale, axis=1), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def _draw_shelf(picture: Image.Image, shelf: PixelBox, scale: int) -> None:
    draw = ImageDraw.Draw(picture)

    def bar(x1: int, y1: int, x2: int, y2: int, colour: tuple[int, int, int]) -> None:
        draw.rectangle((x1 * scale, y1 * scale, x2 * scale - 1, y2 * scale - 1), colour)

    for x in (shelf.x1 + 10, shelf.x2 - 14):
        bar(x, shelf.y2, x + 4, shelf.y2 + 9, (112, 92, 76))
    bar(shelf.x1, shelf.y1, shelf.x2, shelf.y2, (150, 112, 80))
    bar(shelf.x1, shelf.y1, shelf.x2, shelf.y1 + 2, (186, 148, 112))
    bar(shelf.x1, shelf.y2 - 1, shelf.x2, shelf.y2, (112, 80, 56))


@lru_cache(maxsize=256)
def _shadow(width: int, scale: int) -> Image.Image:
    """Draws a soft ellipse as an 8-bit mask."""
    across, blur = round(width * 1.05) * scale, 2 * scale
    shade = Image.new("L", (across + 6 * blur, 9 * scale + 6 * blur), 0)
    ImageDraw.Draw(shade).ellipse((3 * blur, 3 * blur, 3 * blur + across, 3 * blur + 9 * scale), 105)
    return shade.filter(ImageFilter.GaussianBlur(blur))


@lru_cache(maxsize=4096)
def _sprite(shape: str, colour: str, material: str, width: int, height: int, tilt: int) -> Image.Image:
    """Draws a thing alone as RGBA. A tilted thing is turned and fitted into the same box."""
    shades = _shade(
        shape, material, np.array(RGB[colour], np.float32) / 255, width * _OVERSAMPLING, height * _OVERSAMPLING
    )
    pixels = np.concatenate(shades, axis=-1)
    sprite = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    if tilt:
        sprite = sprite.rotate(tilt, Image.Resampling.BICUBIC, expand=True)
        sprite = sprite.crop(sprite.getchannel("A").getbbox())
    return sprite.resize((width, height), Image.Resampling.BOX)


@lru_cache(maxsize=64)
def _lighting(shape: str, width: int, height: int) -> tuple[Field, Field]:
    """Returns how much light each point gets, and how much it mirrors into the eye; both [h, w, 1] from 0 to 1."""
    normals = surface(shape, width, height).normals
    return np.maximum(normals @ _LIGHT, 0)[..., None], np.maximum(normals @ _HALFWAY, 0)[..., None]


def _shade(shape: str, material: str, colour: Field, width: int, height: int) -> tuple[Field, Field]:
    """Returns colour [h, w, 3] and opacity [h, w, 1], about 0 to 1."""
    form = surface(shape, width, height)
    light, glint = _lighting(shape, width, height)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    opacity = np.ones_like(light)
    matte = colour * (0.42 + 0.66 * light)
    if material == "rubber":
        shaded = matte + 0.06 * glint**6
    elif material == "wooden":
        rings = np.hypot(x + 1.7 + 0.05 * np.sin(4 * y), 0.3 * (y - 0.3))
        grain = (0.5 + 0.5 * np.sin(30 * rings + np.sin(3 * y)))[..., None] ** 2
        shaded = matte * (1.04 - 0.26 * grain) + _SAP * (1 - grain)
    elif material == "metal":
        mirrored = (form.normals[..., 1] + 0.45 * form.normals[..., 0] + 0.3 * y + 0.2 * x)[..., None]
        sky = 0.5 + 0.5 * np.tanh(-6 * (mirrored + 0.1))
        horizon = np.exp(-((mirrored - 0.12) ** 2) / 0.02)
        floor = 0.25 * np.clip(mirrored, 0, 1)
        shaded = colour * (0.4 + 0.56 * sky - 0.24 * horizon + floor) + 0.2 * sky**2 + 0.85 * glint**50
    else:
        rim = (1 - np.clip(form.normals[..., 2], 0, 1))[..., None]
        streak = np.exp(-((x + y + 0.55) ** 2) / 0.012)[..., None] * (0.34 * (rim < 0.45))
        shine = 0.9 * glint**60
        shaded = colour * (0.66 + 0.32 * light) + 0.16 * rim + shine + streak
        opacity = np.clip(0.66 + 0.3 * rim + 0.5 * shine + streak, 0, 0.97)
    outline = form.outline[..., None]
    shaded = np.where(outline, shaded * 0.72, shaded)
    opacity = np.where(outline, np.maximum(opacity, 0.85), opacity)
    return shaded, opacity * form.mask[..., None]
