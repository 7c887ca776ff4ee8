"""Pictures: decoded from anything into uint8 arrays, and fitted to what a card asks for."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow
from PIL import ImageOps

from flaxtl.card import Image
from flaxtl.data.augment import Augment, Changes
from flaxtl.data.records import Record
from flaxtl.data.rows import Form
from flaxtl.errors import DataError

_RESAMPLING = {
    "nearest": pillow.Resampling.NEAREST,
    "bilinear": pillow.Resampling.BILINEAR,
    "bicubic": pillow.Resampling.BICUBIC,
    "lanczos": pillow.Resampling.LANCZOS,
    "box": pillow.Resampling.BOX,
}
# An encrypted member of an archive is a RuntimeError, a damaged one zlib's own error or an early end.
UNREADABLE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    pillow.DecompressionBombError,
)


@dataclasses.dataclass(frozen=True)
class ZipMember:
    """A file inside a zip archive."""

    archive: Path
    name: str

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    @property
    def size(self) -> int:
        """Bytes of the file as it was before it was packed."""
        return _opened(self.archive, file_stamp(self.archive)).getinfo(self.name).file_size

    def read(self) -> bytes:
        """Returns the file's contents."""
        return _opened(self.archive, file_stamp(self.archive)).read(self.name)


def file_stamp(path: Path) -> tuple[int, ...]:
    """Returns what changes when a file does: its size, its times of change, and which file it is."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_dev


@functools.lru_cache(maxsize=16)
def _opened(archive: Path, _stamp: tuple[int, ...]) -> zipfile.ZipFile:
    """Keeps an archive open: reading its directory anew for each member takes longer than the member."""
    return zipfile.ZipFile(archive)


def decode(raw: Any) -> np.ndarray:
    """Turns a picture into an array as a person sees it.

    Camera orientation (EXIF) is applied, palettes are resolved, transparency is laid on white, 16-bit
    pictures are scaled to 8, CMYK becomes RGB, and of an animation the first frame is taken.

    Args:
        raw: a path, bytes, a `ZipMember`, a `Record`, a Pillow picture, or an array [h, w] or [h, w, c] of uint8 (or
            other integers in 0…255), of floats in 0…1, or of booleans.

    Returns:
        uint8 [height, width, channels]; files give 1 (grey) or 3 channels.

    Raises:
        DataError: it cannot be decoded; the message names the file.

    Example:
        >>> decode(np.zeros((4, 5))).shape
        (4, 5, 1)
    """
    if hasattr(raw, "__array__"):
        return _from_array(np.asarray(raw))
    name = "The picture" if isinstance(raw, (bytes, pillow.Image)) else f"The picture {raw}"
    try:
        if isinstance(raw, Record):
            raw = raw.value()
            if hasattr(raw, "__array__"):
                return _from_array(np.asarray(raw))
        if raw is None:
            raise DataError(f"{name} is missing (null).")
        if isinstance(raw, pillow.Image):
            return _from_pillow(raw)
        data = raw if isinstance(raw, bytes) else raw.read() if isinstance(raw, ZipMember) else Path(raw).read_bytes()
        if not data:
            raise DataError(f"{name} is empty (zero bytes).")
        with pillow.open(io.BytesIO(data)) as picture:
            return _from_pillow(picture)
    except pillow.UnidentifiedImageError as error:
        raise DataError(f"{name} is not in a format that can be read.") from error
    except UNREADABLE as error:
        raise DataError(f"{name} cannot be decoded: {error}.") from error


def _from_pillow(picture: pillow.Image) -> np.ndarray:
    if getattr(picture, "is_animated", False):
        picture.seek(0)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        return _from_array(_scaled(np.asarray(picture), picture.mode))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = pillow.new("RGBA", picture.size, "white")
        picture = pillow.alpha_composite(white, picture).convert("RGB")
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return _from_array(np.array(picture))


def _scaled(values: np.ndarray, mode: str) -> np.ndarray:
    """Brings 16-bit pictures to 0…1 by their type's range, so that a dark one stays dark; floats by their own."""
    values = values.astype(np.float64)
    top = 65535.0 if mode.startswith("I") else 1.0 if values.max() <= 1.0 else 255.0
    if not (values.min() >= 0.0 and values.max() <= top):
        found = f"its values (mode {mode}) run from {values.min():g} to {values.max():g}"
        raise ValueError(f"{found}; expected 16-bit integers, or floats from 0 to 1 or 255")
    return values / top


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
    if values.dtype.kind not in "fiu":
        raise DataError(f"A picture holds {values.dtype}; expected uint8, or floats from 0 to 1.")
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
    def row(self) -> Form:
        """uint8 [height, width, channels]."""
        return Form((*self.spec.size, self.spec.channels), np.dtype(np.uint8))

    @property
    def lengths(self) -> tuple[int, ...]:
        """None: every row is full."""
        return ()

    def rows(
        self, raw: Any, rng: np.random.Generator | None = None, augment: Changes | None = None
    ) -> list[np.ndarray]:
        """Returns one row: uint8 [height, width, channels] as the card asks."""
        picture = _polarised(_with_channels(decode(raw), self.spec.channels), self.spec.polarity)
        if rng is None or not isinstance(augment, Augment):
            return [_fitted(picture, self.spec)]
        if augment.crop_scale is None:
            return [augment.apply(_fitted(picture, self.spec), rng)]
        cropped = augment.crop(picture, rng)
        return [augment.apply(_resize(cropped, self.spec.size, self.spec.interpolation), rng)]

    def augmented(self, row: np.ndarray, rng: np.random.Generator, augment: Changes) -> np.ndarray:
        """Changes a row at random, as `rows` does where nothing is cropped."""
        return augment.apply(row, rng) if isinstance(augment, Augment) else row

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
    raise DataError(
        f"A picture has {have} channels; the network takes {channels}. "
        "Give it arrays [height, width, channels] with that many."
    )


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


def _fitted(picture: np.ndarray, spec: Image) -> np.ndarray:
    """Resizes so that the centre of the card's size is the card's share of the whole, and cuts it out."""
    # Sides are rounded down, as timm and torchvision do; the small number undoes what division by a fraction loses.
    height, width = (math.floor(side / spec.crop_fraction + 1e-6) for side in spec.size)
    whole = (height, width)
    if spec.fit != "squash":
        whole = _kept_in_shape(picture.shape[:2], whole, cover=spec.fit == "crop")
    return _centred(_resize(picture, whole, spec.interpolation), spec.size)


def _kept_in_shape(shape: tuple[int, ...], wanted: tuple[int, int], *, cover: bool) -> tuple[int, int]:
    """Returns the size of the same aspect ratio that just covers what is wanted, or just fits into it."""
    (h, w), (height, width) = shape, wanted
    by_height = (height * w >= width * h) == cover
    return (height, max(height * w // h, 1)) if by_height else (max(width * h // w, 1), width)


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
