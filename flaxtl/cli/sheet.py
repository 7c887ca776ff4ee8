"""A sheet of examples of each class, to be looked at before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow
from PIL import ImageDraw

from flaxtl.data import Source, limited
from flaxtl.data.audio import decode as decode_sound
from flaxtl.data.audio import mono
from flaxtl.data.image import decode
from flaxtl.errors import ConfigError

SIDE, GAP, TITLE = 96, 4, 14
MOST_CLASSES, MOST_A_CLASS = 40, 10


def draw_sheet(source: Source, path: Path, *, seed: int = 0) -> None:
    """Draws a row of examples for each class, or one row where there are no classes.

    Args:
        source: pictures or sound (drawn as waveforms).
        path: the .png to write.
        seed: which examples are drawn.

    Raises:
        ConfigError: the source is of neither, or the path does not end in .png.
    """
    if source.modality not in ("image", "audio"):
        raise ConfigError(f"--out draws pictures and sound; this data holds {source.modality}. Leave it out.")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out is {path}; expected a file that ends in .png.")
    rows = _rows(source, seed)
    wide = max(len(places) for _, places in rows)
    sheet = pillow.new("RGB", (GAP + wide * (SIDE + GAP), len(rows) * (TITLE + SIDE + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (title, places) in enumerate(rows):
        top = number * (TITLE + SIDE + GAP)
        draw.text((GAP, top + 1), title, fill="black")
        for column, place in enumerate(places):
            sheet.paste(_tile(source, source.raw[place]), (GAP + column * (SIDE + GAP), top + TITLE))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "PNG")


def _rows(source: Source, seed: int) -> list[tuple[str, list[int]]]:
    """Returns a title and the places of the examples for each row."""
    if source.task != "classification":
        return [(source.task, limited(source, MOST_A_CLASS, seed).tolist())]
    rows = []
    for k, label in enumerate(source.labels[:MOST_CLASSES]):
        members = np.flatnonzero(source.targets == k)
        some = np.sort(np.random.default_rng([seed, k]).permutation(members)[:MOST_A_CLASS])
        rows.append((f"{label} ({len(members)})", some.tolist()))
    return rows


def _tile(source: Source, raw: Any) -> pillow.Image:
    return _picture(raw) if source.modality == "image" else _waveform(raw)


def _picture(raw: Any) -> pillow.Image:
    pixels = decode(raw)
    colours = pixels[..., 0] if pixels.shape[-1] in (1, 2) else pixels[..., :3]
    picture = pillow.fromarray(colours).convert("RGB")
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    tile = pillow.new("RGB", (SIDE, SIDE), "lightgrey")
    tile.paste(picture.resize(size), ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return tile


def _waveform(raw: Any) -> pillow.Image:
    samples = mono(decode_sound(raw).samples)
    tile = pillow.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(tile)
    loudest = max(float(np.abs(samples).max()), 1e-9)
    for x, part in enumerate(np.array_split(samples, SIDE)):
        if len(part):
            low, high = (SIDE / 2 * (1 - v / loudest) for v in (float(part.max()), float(part.min())))
            draw.line([(x, low), (x, high)], fill="steelblue")
    draw.rectangle((0, 0, SIDE - 1, SIDE - 1), outline="lightgrey")
    return tile
