"""Pictures as transformers' image processors prepare them: cases, the reference side, ours."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NORMAL = {"do_normalize": True, "image_mean": MEAN, "image_std": STD}


@dataclasses.dataclass(frozen=True)
class Pixels:
    """A processor's file, and what model it lies beside.

    Attributes:
        name: of the case.
        type: model type of the config.json beside it.
        settings: preprocessor_config.json.
        place: the file that holds the settings.
        pictures: which of PICTURES are prepared.
        size: the network's own.
        full: at published size, compared live only.
    """

    name: str
    type: str
    settings: Mapping[str, Any]
    place: str = "preprocessor_config.json"
    pictures: tuple[str, ...] = ("wide", "tall", "odd", "tiny")
    size: int = 32
    full: bool = False


def picture(name: str) -> pillow.Image:
    """Returns a picture of fixed noise, smooth as photos are."""
    height, width, mode = PICTURES[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    small = rng.integers(0, 256, (max(height // 9, 2), max(width // 9, 2), 3), dtype=np.uint8)
    made = pillow.fromarray(small).resize((width, height), pillow.Resampling.BICUBIC)
    if mode == "RGBA":
        ramp = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
        made.putalpha(pillow.fromarray(ramp))
        return made
    return made.convert(mode)


PICTURES = {
    "wide": (48, 64, "RGB"),
    "tall": (90, 61, "RGB"),
    "odd": (47, 33, "RGB"),
    "tiny": (19, 40, "RGB"),
    "square": (32, 32, "RGB"),
    "grey": (50, 41, "L"),
    "clear": (45, 70, "RGBA"),
    "palette": (40, 44, "P"),
    "photo": (480, 640, "RGB"),
    "portrait": (1001, 667, "RGB"),
}
ANY = ("wide", "tall", "tiny", "grey", "clear", "palette")


def _sides(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _published() -> list[Pixels]:
    """Files as they lie beside published weights."""
    deit = {"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224, "do_center_crop": True}
    convnext = {"do_resize": True, "resample": 3, "crop_pct": 0.875}
    bit = {"do_center_crop": True, "do_convert_rgb": True, "do_rescale": True, "resample": 3}
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    files: dict[str, tuple[str, dict[str, Any]]] = {
        "vit": ("vit", {"feature_extractor_type": "ViTFeatureExtractor", "size": _sides(224), "resample": 2, **half}),
        "deit": ("deit", {**NORMAL, **deit, "resample": 3}),
        "convnext_224": (
            "convnext",
            {**NORMAL, **convnext, "feature_extractor_type": "ConvNextFeatureExtractor", "size": 224},
        ),
        "convnext_384": (
            "convnextv2",
            {**NORMAL, **convnext, "image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
        ),
        "dinov2": (
            "dinov2",
            {
                **NORMAL,
                **bit,
                "image_processor_type": "BitImageProcessor",
                "crop_size": _sides(224),
                "size": {"shortest_edge": 256},
            },
        ),
        "dinov2_with_registers": (
            "dinov2_with_registers",
            {
                **NORMAL,
                **bit,
                "image_processor_type": "BitImageProcessor",
                "crop_size": _sides(224),
                "size": {"shortest_edge": 256},
            },
        ),
        "clip": (
            "clip",
            {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "resample": 3},
        ),
        "siglip": (
            "siglip",
            {"image_processor_type": "SiglipImageProcessor", "size": _sides(224), "resample": 3, **half},
        ),
    }
    found = [
        Pixels(f"{n}_full", t, s, pictures=("photo", "portrait"), size=224, full=True) for n, (t, s) in files.items()
    ]
    return found


def _small() -> list[Pixels]:
    vit = {"image_processor_type": "ViTImageProcessor", "size": _sides(32)}
    clip = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40}, "crop_size": _sides(32)}
    convnext = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}}
    deit = {"image_processor_type": "DeiTImageProcessor", "size": 40, "crop_size": 32}
    net = {"image_processor_type": "EfficientNetImageProcessor", "size": _sides(36), "crop_size": _sides(32)}
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "vit": ("vit", vit),
        "vit_number": ("vit", {**vit, "size": 32}),
        "vit_sides": ("vit", {**vit, "size": [24, 40]}),
        "vit_values_from_0_to_255": (
            "vit",
            {**vit, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [60.0] * 3},
        ),
        "vit_from_minus_1_to_1": (
            "vit",
            {**vit, "rescale_factor": 1 / 127.5, "do_normalize": True, "image_mean": [1.0] * 3},
        ),
        "vit_bare_numbers": ("vit", {**vit, "do_normalize": False, "rescale_factor": 0.5}),
        "vit_nothing_said": ("vit", {"image_processor_type": "ViTImageProcessorFast", "size": 32}),
        "deit_null": ("deit", {**deit, "do_center_crop": None, "do_rescale": None}),
        "vit_one_mean": ("vit", {**vit, "image_mean": 0.4, "image_std": 0.3}),
        "vit_nearest": ("vit", {**vit, "resample": 0}),
        "vit_lanczos": ("vit", {**vit, "resample": 1}),
        "vit_box": ("vit", {**vit, "resample": 4}),
        "vit_hamming": ("vit", {**vit, "resample": 5}),
        "vit_crops": ("vit", {**vit, "size": 40, "do_center_crop": True, "crop_size": {"height": 31, "width": 26}}),
        "deit": ("deit", deit),
        "deit_odd_crop": ("deit", {**deit, "crop_size": 33}),
        "deit_without_crop": ("deit", {**deit, "do_center_crop": False}),
        "deit_crops_alone": ("deit", {**deit, "do_resize": False}),
        "deit_crop_larger": ("deit", {**deit, "crop_size": 47}),
        "beit": ("vit", {"image_processor_type": "BeitImageProcessor", "size": 32}),
        "convnext": ("convnext", convnext),
        "convnext_crop_pct": ("convnext", {**convnext, "crop_pct": 0.95, "resample": 2}),
        "convnext_old": (
            "convnextv2",
            {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 32, "crop_pct": 1.0},
        ),
        "convnext_squashes": ("convnext", {**convnext, "size": {"shortest_edge": 384}, "crop_pct": 0.5}),
        "bit": ("dinov2", {**clip, "image_processor_type": "BitImageProcessor", **NORMAL}),
        "bit_sides": ("dinov2", {**clip, "image_processor_type": "BitImageProcessor", "size": _sides(36)}),
        "clip": ("clip", clip),
        "clip_numbers": ("clip", {"feature_extractor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": 32}),
        "clip_square": ("clip", {**clip, "size": 40, "default_to_square": True}),
        "siglip": ("siglip", {"image_processor_type": "SiglipImageProcessor", "size": _sides(32)}),
        "efficientnet": ("vit", net),
        "efficientnet_offset": (
            "vit",
            {**net, "rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False},
        ),
        "efficientnet_crops": ("vit", {**net, "do_center_crop": True, "do_normalize": False}),
        "mobilenet": ("vit", {"image_processor_type": "MobileNetV2ImageProcessor", "size": 40, "crop_size": 32}),
        "pvt": ("vit", {"image_processor_type": "PvtImageProcessor", "size": 32}),
    }
    found = [
        Pixels(n, t, s, pictures=ANY if t in ("clip", "siglip") else Pixels.pictures) for n, (t, s) in cases.items()
    ]
    nested = Pixels("vit_nested", "vit", vit, "processor_config.json, image_processor")
    exact = Pixels("vit_resizes_nothing", "vit", {**vit, "do_resize": False}, pictures=("square",))
    return [*found, nested, exact]


CASES = [*_small(), *_published()]


def key(case: Pixels, name: str) -> str:
    """Returns what a fixture calls the pixels of a picture."""
    return f"{case.name} {name}"


def thinned(pixels: np.ndarray) -> np.ndarray:
    """Returns every second row and third column of small pictures, every 29th pixel of large ones."""
    return pixels[::29, ::29] if max(pixels.shape) > 100 else pixels[::2, ::3]


def write(case: Pixels, folder: Path) -> None:
    """Writes the settings and the config.json beside them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": case.type}), encoding="utf-8")
    file, _, part = case.place.partition(", ")
    held = {part: dict(case.settings)} if part else dict(case.settings)
    (folder / file).write_text(json.dumps(held), encoding="utf-8")


def theirs(case: Pixels, folder: Path, backend: str = "pil") -> dict[str, np.ndarray]:
    """Returns the reference's pixels [height, width, channels] by picture."""
    import transformers

    write(case, folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend=backend)
    found = {n: processor(picture(n), return_tensors="np")["pixel_values"] for n in case.pictures}
    return {n: np.asarray(p)[0].transpose(1, 2, 0) for n, p in found.items()}


def ours(case: Pixels, folder: Path) -> dict[str, np.ndarray]:
    """Returns our pixels [height, width, channels] by picture."""
    from flaxtl.card import Image
    from flaxtl.convert.families.transformers_image import transformers_image
    from flaxtl.convert.weights import Weights
    from flaxtl.data.image import ImagePreprocess

    write(case, folder)
    files = {f.name: f for f in folder.iterdir()}
    named = json.loads(files["preprocessor_config.json"].read_text()) if "preprocessor_config.json" in files else {}
    weights = Weights({}, {"model_type": case.type}, named, files)
    image, _ = transformers_image(weights, case.type, (case.size, case.size), Image())
    pre = ImagePreprocess(image)
    return {n: np.asarray(pre.device(pre.rows(picture(n))[0][None]))[0] for n in case.pictures}
