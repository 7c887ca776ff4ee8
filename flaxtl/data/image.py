"""Pictures: decoded from anything into uint8 arrays, and fitted to what a card asks for."""

from __future__ import annotations

import dataclasses
import functools
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow
from PIL import ImageOps

from flaxtl.card import Image
from flaxtl.data.augment import Augment
from flaxtl.errors import DataError

_RESAMPLING = {
    "nearest": pillow.Resampling.NEAREST,
    "bilinear": pillow.Resampling.BILINEAR,
    "bicubic": pillow.Resampling.BICUBIC,
    "lanczos": pillow.Resampling.LANCZOS,
    "box": pillow.Resampling.BOX,
}


@dataclasses.dataclass(frozen=True)
class ZipMember:
    """A file inside a zip archive."""

    archive: Path
    name: str

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read(self) -> bytes:
        """Returns the file's contents."""
        return _opened(self.archive, self.archive.stat().st_mtime_ns).read(self.name)


@functools.lru_cache(maxsize=16)
def _opened(archive: Path, _changed: int) -> zipfile.ZipFile:
    """Keeps an archive open: reading its directory anew for each member takes longer than the member."""
    return zipfile.ZipFile(archive)


def decode(raw: Any) -> np.ndarray:
    """Turns a picture into an array as a person sees it.

    Camera orientation (EXIF) is applied, palettes are resolved, transparency is laid on white, 16-bit
    pictures are scaled to 8, CMYK becomes RGB, and of an animation the first frame is taken.

    Args:
        raw: a path, bytes, a `ZipMember`, a Pillow picture, uint8 [h, w] or [h, w, c], or floats in 0…1.

    Returns:
        uint8 [height, width, channels]; files give 1 (grey) or 3 channels.

    Raises:
        DataError: it cannot be decoded; the message names the file.

    Example:
        >>> decode(np.zeros((4, 5))).shape
        (4, 5, 1)
    """
    if isinstance(raw, np.ndarray):
        return _from_array(raw)
    name = "The picture" if isinstance(raw, (bytes, pillow.Image)) else f"The picture {raw}"
    try:
        if isinstance(raw, pillow.Image):
            return _from_pillow(raw)
        data = raw if isinstance(raw, bytes) else raw.read() if isinstance(raw, ZipMember) else Path(raw).read_bytes()
        if not data:
            raise DataError(f"{name} is empty (zero bytes).")
        with pillow.open(io.BytesIO(data)) as picture:
            return _from_pillow(picture)
    except pillow.UnidentifiedImageError as error:
        raise DataError(f"{name} is not in a format that can be read.") from error
    except (OSError, SyntaxError, ValueError, zipfile.BadZipFile, pillow.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be decoded: {error}.") from error


def _from_pillow(picture: pillow.Image) -> np.ndarray:
    picture.seek(0) if getattr(picture, "is_animated", False) else None
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return _from_array(_scaled(np.asarray(picture)))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = pillow.new("RGBA", picture.size, "white")
        picture = pillow.alpha_composite(white, picture).convert("RGB")
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return _from_array(np.array(picture))


def _scaled(values: np.ndarray) -> np.ndarray:
    """Brings 16-bit and float pictures to 0…1, by their type's range or, if that is unknown, their own."""
    values = values.astype(np.float64)
    top = 65535.0 if 255 < values.max() <= 65535 else 255.0 if values.max() > 1 else 1.0
    return np.clip(values / top, 0.0, 1.0)


def _from_array(values: np.ndarray) -> np.ndarray:
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or 0 in values.shape:
        raise DataError(
            f"A picture has the shape {values.shape}; expected [height, width] or [height, width, channels]."
        )
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype.kind == "f" and values.min() >= 0.0 and values.max() <= 1.0:
        return np.round(values * 255.0).astype(np.uint8)
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 255:
        return values.astype(np.uint8)
    raise DataError(
        f"A picture holds {values.dtype} from {values.min()} to {values.max()}; expected uint8, or floats from 0 to 1."
    )


@dataclasses.dataclass(frozen=True)
class ImagePreprocess:
    """What a card's `Image` does to a picture: channels, polarity, size on the host; scaling on the device.

    Example:
        >>> pre = ImagePreprocess(Image(size=(4, 4), channels=1, mean=(0.5,), std=(0.5,)))
        >>> [row] = pre.rows(np.full((8, 8, 3), 255, np.uint8))
        >>> row.shape, float(pre.device(row[None])[0, 0, 0, 0])
        ((4, 4, 1), 1.0)
    """

    spec: Image

    @property
    def row_shape(self) -> tuple[int, ...]:
        """[height, width, channels]."""
        return (*self.spec.size, self.spec.channels)

    @property
    def row_dtype(self) -> np.dtype[Any]:
        """uint8."""
        return np.dtype(np.uint8)

    def rows(
        self, raw: Any, rng: np.random.Generator | None = None, augment: Augment | None = None
    ) -> list[np.ndarray]:
        """Returns one row: uint8 [height, width, channels] as the card asks."""
        picture = _polarised(_with_channels(decode(raw), self.spec.channels), self.spec.polarity)
        cropped = augment is not None and rng is not None and augment.crop_scale is not None
        if cropped and augment is not None and rng is not None:
            picture = augment.crop(picture, rng)
        row = _fitted(picture, self.spec, squash=cropped)
        return [row if augment is None or rng is None else augment.apply(row, rng)]

    def device(self, inputs: Any) -> Any:
        """Scales a batch to 0…1, subtracts the card's mean and divides by its std; float32, under jit."""
        import jax.numpy as jnp

        mean, std = np.asarray(self.spec.mean, np.float32), np.asarray(self.spec.std, np.float32)
        return (jnp.asarray(inputs, jnp.float32) / 255.0 - mean) / std


def _with_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    have = picture.shape[-1]
    if have == channels:
        return picture
    if have == 1:
        return np.repeat(picture, channels, axis=-1)
    if have == 3 and channels == 1:  # ITU-R 601 luma, as Pillow's convert("L") computes it
        return np.asarray(pillow.fromarray(picture).convert("L"))[..., None]
    raise DataError(f"A picture has {have} channels; the network takes {channels}. Give it arrays with that many.")


def _polarised(picture: np.ndarray, polarity: str) -> np.ndarray:
    if polarity == "as_is":
        return picture
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return 255 - picture if edge.mean() > 127.5 else picture


def _resize(picture: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    if picture.shape[:2] == size:
        return picture
    method = _RESAMPLING[interpolation]
    if picture.shape[-1] == 3:
        return np.asarray(pillow.fromarray(picture).resize(size[::-1], method))
    planes = [np.asarray(pillow.fromarray(p).resize(size[::-1], method)) for p in np.moveaxis(picture, -1, 0)]
    return np.stack(planes, axis=-1)


def _fitted(picture: np.ndarray, spec: Image, *, squash: bool) -> np.ndarray:
    """Resizes to the card's size; "crop" and "pad" keep the aspect ratio."""
    (height, width), (h, w) = spec.size, picture.shape[:2]
    if squash or spec.fit == "squash":
        return _resize(picture, spec.size, spec.interpolation)
    over_h, over_w = height / spec.crop_fraction, width / spec.crop_fraction
    pick = max if spec.fit == "crop" else min
    scale = pick(over_h / h, over_w / w)
    size = (max(round(h * scale), 1), max(round(w * scale), 1))
    if spec.fit == "crop":
        size = (max(size[0], height), max(size[1], width))
    return _centred(_resize(picture, size, spec.interpolation), spec.size)


def _centred(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Crops the centre, or adds a border of the picture's median edge colour, along each axis as needed."""
    for axis, wanted in enumerate(size):
        have = picture.shape[axis]
        if have > wanted:
            start = round((have - wanted) / 2)
            picture = np.take(picture, np.arange(start, start + wanted), axis)
        elif have < wanted:
            edges = np.concatenate([np.take(picture, 0, axis), np.take(picture, -1, axis)])
            colour = np.median(edges, axis=0).astype(np.uint8)
            before = (wanted - have) // 2
            shape = list(picture.shape)
            shape[axis] = wanted
            padded = np.empty(shape, np.uint8)
            padded[...] = colour
            window = [slice(None)] * 3
            window[axis] = slice(before, before + have)
            padded[tuple(window)] = picture
            picture = padded
    return picture
