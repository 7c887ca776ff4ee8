"""What timm's config.json says of a network's input (its `pretrained_cfg`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flaxtl.card import Image
from flaxtl.convert.weights import Weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def architecture(weights: Weights) -> str:
    """Returns timm's name of the architecture, or an empty string."""
    return str(weights.config.get("architecture", ""))


def timm_image(weights: Weights, default: Image | None = None) -> Image:
    """Returns the card's input for an image network.

    Args:
        weights: with timm's config.json, or without one.
        default: what is taken without one; by default ImageNet's usual 224 pixels, resized to 256 and cropped.

    Example:
        >>> timm_image(Weights({}, {'pretrained_cfg': {'input_size': [3, 160, 160], 'crop_pct': 0.95}})).size
        (160, 160)
    """
    config: Mapping[str, Any] = weights.config.get("pretrained_cfg") or {}
    if not config:
        return default or Image((224, 224), 3, IMAGENET_MEAN, IMAGENET_STD, "bilinear", 224 / 256)
    channels, height, width = config.get("input_size", (3, 224, 224))
    squash = config.get("crop_mode") == "squash"
    return Image(
        size=(int(height), int(width)),
        channels=int(channels),
        mean=tuple(config.get("mean", IMAGENET_MEAN)),
        std=tuple(config.get("std", IMAGENET_STD)),
        interpolation=config.get("interpolation", "bicubic"),
        crop_fraction=float(config.get("crop_pct", 0.875)),
        fit="squash" if squash else "crop",
    )
