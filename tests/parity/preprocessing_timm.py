"""Pictures as timm's transforms prepare them: cases, the reference side, ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity.preprocessing_image import picture

FIXTURE = Path(__file__).parent.parent / "fixtures" / "preprocessing" / "timm.npz"
# Transparency is laid on white here and dropped there, which is why no picture with it is among these.
SMALL = ("wide", "tall", "odd", "tiny", "square", "grey", "palette")
LARGE = ("photo", "portrait")


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What a config.json of timm says of pictures.

    Attributes:
        name: of the case.
        settings: pretrained_cfg.
        pictures: which of `preprocessing_image.PICTURES` are prepared.
        full: at published size, compared live only.
    """

    name: str
    settings: Mapping[str, Any]
    pictures: tuple[str, ...] = SMALL
    full: bool = False


def _small(name: str, height: int = 32, width: int = 32, **settings: Any) -> Pixels:
    return Pixels(name, {"input_size": [3, height, width], **settings})


HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
# The settings of published weights, by the tag that has them.
PUBLISHED = {
    "resnet18.a1_in1k": {"crop_pct": 0.95, "interpolation": "bicubic"},
    "resnet50.tv_in1k": {"crop_pct": 0.875, "interpolation": "bilinear"},
    "resnetaa50.a1h_in1k": {"input_size": [3, 256, 256], "crop_pct": 0.95, "interpolation": "bicubic"},
    "mobilenetv3_small_100.lamb_in1k": {"crop_pct": 0.875, "interpolation": "bicubic"},
    "tf_efficientnet_b0.ns_jft_in1k": {"crop_pct": 0.875, "interpolation": "bicubic"},
    "convnext_tiny.in12k_ft_in1k_384": {"input_size": [3, 384, 384], "crop_pct": 1.0, "crop_mode": "squash"},
    "vit_base_patch16_224.augreg_in21k": {"crop_pct": 0.9, "interpolation": "bicubic", **HALF},
    "vit_large_patch14_clip_336.openai": {"input_size": [3, 336, 336], "crop_pct": 1.0, **CLIP},
    "vit_base_patch16_siglip_224.webli": {"crop_pct": 0.9, "interpolation": "bicubic", **HALF},
    "vit_so150m2_patch16_reg1_gap_448": {"input_size": [3, 448, 448], "crop_pct": 1.0, "crop_mode": "border", **HALF},
}
CASES = [
    _small("timm_nothing_said"),
    _small("timm_crop", crop_pct=0.9, interpolation="bilinear"),
    _small("timm_crop_all", crop_pct=1.0),
    _small("timm_zero_is_default", crop_pct=0.0),
    _small("timm_oblong", 24, 40, crop_pct=0.875),
    _small("timm_oblong_tall", 41, 23, crop_pct=0.95, interpolation="bilinear"),
    _small("timm_squash", crop_mode="squash", crop_pct=1.0),
    _small("timm_squash_crops", 30, 44, crop_mode="squash", crop_pct=0.9, interpolation="lanczos"),
    _small("timm_border", crop_mode="border", crop_pct=1.0),
    _small("timm_border_crops", crop_mode="border", crop_pct=0.8, **HALF),
    _small("timm_border_oblong", 27, 45, crop_mode="border", crop_pct=0.95, interpolation="nearest"),
    _small("timm_box", interpolation="box", crop_pct=0.7),
    _small("timm_hamming", interpolation="hamming", crop_pct=0.93, **CLIP),
    *(Pixels(n, {"input_size": [3, 224, 224], **s}, LARGE, full=True) for n, s in PUBLISHED.items()),
]


def theirs(case: Pixels) -> dict[str, np.ndarray]:
    """Returns timm's pixels [height, width, channels] by picture."""
    from timm.data import create_transform, resolve_data_config

    transform = create_transform(**resolve_data_config({}, pretrained_cfg=dict(case.settings)))
    return {n: transform(picture(n).convert("RGB")).numpy().transpose(1, 2, 0) for n in case.pictures}


def ours(case: Pixels) -> dict[str, np.ndarray]:
    """Returns our pixels [height, width, channels] by picture."""
    from flaxtl.convert.families.timm_config import read_timm, timm_image
    from flaxtl.convert.weights import Weights
    from flaxtl.data.image import ImagePreprocess

    config = {"architecture": "resnet18", "pretrained_cfg": dict(case.settings)}
    pre = ImagePreprocess(timm_image(read_timm(Weights({}, config), {}), 3))
    return {n: np.asarray(pre.device(pre.rows(picture(n))[0][None]))[0] for n in case.pictures}
