"""What transformers' image networks have in common: the card's input from preprocessor_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flaxtl.card import Image, Interpolation
from flaxtl.convert.weights import Weights

# Pillow's numbers, by which preprocessor_config.json names an interpolation.
RESAMPLE: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}


def transformers_image(weights: Weights, size: tuple[int, int], default: Image) -> Image:
    """Returns the card's input for an image network.

    Args:
        weights: with preprocessor_config.json, or without one.
        size: height and width that the network takes.
        default: mean, std, interpolation and fit where there is no preprocessor_config.json.

    Returns:
        The input; of a resize to a short side and a centre crop the crop's share is kept, a resize to height and width
        squashes.

    Example:
        >>> found = {'size': {'shortest_edge': 256}, 'crop_size': {'height': 224, 'width': 224}, 'resample': 3}
        >>> image = transformers_image(Weights({}, preprocessor=found), (224, 224), Image())
        >>> image.crop_fraction, image.interpolation, image.fit
        (0.875, 'bicubic', 'crop')
    """
    found = weights.preprocessor
    if not found:
        return Image(
            size, default.channels, default.mean, default.std, default.interpolation, default.crop_fraction, default.fit
        )
    normalised = found.get("do_normalize", True)
    short, cropped = _short_side(found.get("size")), _short_side(found.get("crop_size"))
    crops = bool(found.get("do_center_crop", cropped is not None)) and cropped is not None
    squash = not crops and "shortest_edge" not in _mapping(found.get("size"))
    return Image(
        size=size,
        channels=default.channels,
        mean=tuple(map(float, found.get("image_mean", default.mean))) if normalised else (0.0,),
        std=tuple(map(float, found.get("image_std", default.std))) if normalised else (1.0,),
        interpolation=RESAMPLE.get(found.get("resample", -1), default.interpolation),
        crop_fraction=min(cropped / short, 1.0) if crops and cropped and short else 1.0,
        fit="squash" if squash else "crop",
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _short_side(value: Any) -> int | None:
    """The short side of {"height", "width"}, {"shortest_edge"} or a bare number."""
    if isinstance(value, Mapping):
        sides = [int(value[k]) for k in ("height", "width", "shortest_edge") if value.get(k)]
        return min(sides) if sides else None
    return int(value) if value else None
