"""Random changes to training pictures, on the host, each drawn from the generator that it is given."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from PIL import Image as pillow
from PIL import ImageFilter

from flaxtl.data.augment_sound import SoundAugment
from flaxtl.data.rand_augment import rand_augment
from flaxtl.data.rows import Form

# Thickening is drawn nine times as often as thinning: a thin stroke made thinner is soon no stroke.
_STROKES = (ImageFilter.MinFilter(3), *4 * (ImageFilter.MaxFilter(3),), *5 * (ImageFilter.MaxFilter(5),))


@dataclasses.dataclass(frozen=True)
class Augment:
    """What is changed, and how far. The defaults change nothing; the fields are those of `config.Augmentation`.

    Attributes:
        flip: mirror left and right, half of the time.
        crop_scale: range of the share of the area that a random crop keeps (Szegedy et al. 2015, section 6).
        degrees: largest angle of rotation.
        shear: largest angle of shear, in degrees.
        zoom: range of the factor of enlargement.
        shift: largest move, as a share of the size.
        min_resolution: smallest side, in pixels, that the picture is shrunk to before it is enlarged again.
        thickness: probability of thickening bright strokes by one or two pixels a side (rarely of thinning by one).
        brightness: largest change, as a share.
        contrast: largest change, as a share.
        noise: largest standard deviation of Gaussian noise, as a share of the value range.
        rand_augment: number of operations and magnitude of `rand_augment`, which comes before the changes of tone.

    Example:
        >>> row = np.full((8, 8, 1), 100, np.uint8)
        >>> np.array_equal(Augment().apply(row, np.random.default_rng(0)), row)
        True
    """

    flip: bool = False
    crop_scale: tuple[float, float] | None = None
    degrees: float = 0.0
    shear: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    min_resolution: int | None = None
    thickness: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0
    rand_augment: tuple[int, float] | None = None

    @property
    def needs_whole(self) -> bool:
        """Whether a change needs the whole picture, not the row that was made of it: a random crop does."""
        return self.crop_scale is not None

    @property
    def added(self) -> dict[str, Form]:
        """The arrays that a changed row has besides its own: none."""
        return {}

    @property
    def geometric(self) -> bool:
        """Whether pixels move."""
        return bool(self.degrees or self.shear or self.shift or tuple(self.zoom) != (1.0, 1.0))

    def crop(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns a random part of uint8 [h, w, c], of a share of the area and an aspect ratio from 3/4 to 4/3."""
        assert self.crop_scale is not None
        h, w = picture.shape[:2]
        for _ in range(10):
            area = h * w * rng.uniform(*self.crop_scale)
            ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < height <= h and 0 < width <= w:
                top, left = int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1))
                return picture[top : top + height, left : left + width]
        return picture

    def apply(self, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns a changed copy of uint8 [h, w, c]; the same for the same state of the generator."""
        if self.flip and rng.random() < 0.5:
            row = row[:, ::-1]
        if self.geometric or self.thickness or self.min_resolution:
            row = self._moved(row, rng)
        if self.rand_augment is not None:
            row = rand_augment(row, rng, int(self.rand_augment[0]), float(self.rand_augment[1]))
        if self.brightness or self.contrast or self.noise:
            row = self._toned(row, rng)
        return np.ascontiguousarray(row)

    def _moved(self, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size = (row.shape[1], row.shape[0])
        matrix = self._affine(size, rng) if self.geometric else None
        draw, stroke = rng.random(), rng.random()
        side = int(rng.integers(min(self.min_resolution, *size), max(size) + 1)) if self.min_resolution else None

        def change(plane: pillow.Image) -> pillow.Image:
            if matrix is not None:
                plane = plane.transform(size, pillow.Transform.AFFINE, matrix, pillow.Resampling.BILINEAR)
            if draw < self.thickness:
                plane = plane.filter(_STROKES[min(int(stroke * len(_STROKES)), len(_STROKES) - 1)])
            if side is not None:
                small = plane.resize((min(side, size[0]), min(side, size[1])), pillow.Resampling.BOX)
                plane = small.resize(size, pillow.Resampling.BILINEAR)
            return plane

        if row.shape[-1] == 3:
            return np.asarray(change(pillow.fromarray(row)))
        return np.stack([np.asarray(change(pillow.fromarray(p))) for p in np.moveaxis(row, -1, 0)], axis=-1)

    def _affine(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[float, ...]:
        """Returns the six numbers that take an output pixel to its input pixel, about the centre."""
        angle = math.radians(rng.uniform(-self.degrees, self.degrees))
        slant = math.tan(math.radians(rng.uniform(-self.shear, self.shear)))
        factor = rng.uniform(*self.zoom)
        # A little stretch goes with a zoom: people's writing differs in width as much as in size.
        stretch = 1.0 if self.zoom[0] == self.zoom[1] else math.exp(rng.uniform(-0.16, 0.16))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        inverse = turn @ np.array([[1.0, slant], [0.0, 1.0]]) @ np.diag([1 / factor, 1 / (factor * stretch)])
        centre = (np.array(size) - 1) / 2 + 0.5
        move = rng.uniform(-self.shift, self.shift, 2) * size
        offset = centre - inverse @ (centre + move)
        return (*inverse[0], offset[0], *inverse[1], offset[1])

    def _toned(self, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        values = row.astype(np.float32)
        values *= 1.0 + rng.uniform(-self.brightness, self.brightness)
        mean = values.mean()
        values = mean + (values - mean) * (1.0 + rng.uniform(-self.contrast, self.contrast))
        if self.noise:
            values += rng.standard_normal(values.shape, np.float32) * (255.0 * rng.uniform(0.0, self.noise))
        return np.clip(np.round(values), 0, 255).astype(np.uint8)


Changes = Augment | SoundAugment
