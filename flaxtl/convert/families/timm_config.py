"""timm's config.json: the architecture, what it was built with, and its input, each against a closed list.

The present form holds `pretrained_cfg` and `model_args`; the first one, up to timm 0.6, has everything at the top; a
network that transformers' Trainer fine-tuned has transformers' settings beside timm's (model_type timm_wrapper).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from flaxtl.card import Image, Interpolation, Task
from flaxtl.convert.families.timm_names import current_name
from flaxtl.convert.families.transformers_files import COMMON
from flaxtl.convert.settings import READ, Setting, irrelevant, only, read_settings, where
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WRAPPER = "timm_wrapper"
SHAPES = "seen in the tensors"
TRAINING = "of training alone"
AVERAGE = only("avg", "fast", "fastavg")
FITS: dict[str, Literal["crop", "squash", "pad"]] = {"center": "crop", "squash": "squash", "border": "pad"}
# Arguments that every network of timm has and that no output depends on.
ARGUMENTS: dict[str, Setting] = {
    **irrelevant(SHAPES, "num_classes", "in_chans"),
    **irrelevant(TRAINING, "drop_rate", "drop_path_rate", "drop_block_rate", "drop_connect_rate"),
    **irrelevant("of how PyTorch runs it", "scriptable", "exportable", "no_jit", "device", "dtype"),
    **irrelevant("of how timm fetched it", "pretrained", "pretrained_strict", "checkpoint_path", "cache_dir"),
    "features_only": only(False),
}


def _is_size(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(type(v) is int and v > 0 for v in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _each(value: Any) -> tuple[Any, ...]:
    """The numbers of a setting that is a number for each channel, or one for all."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


_TOP: dict[str, Setting] = {
    "architecture": where(lambda v: v is None or isinstance(v, str), "a name"),
    **dict.fromkeys(
        ("pretrained_cfg", "model_args"), where(lambda v: v is None or isinstance(v, Mapping), "settings by name")
    ),
    **dict.fromkeys(("label_names", "labels", "id2label"), READ),
    **irrelevant(SHAPES, "num_classes", "num_features", "label2id"),
    **irrelevant("tells what labels mean", "label_descriptions"),
}
_INPUT: dict[str, Setting] = {
    "input_size": where(_is_size, "[channels, height, width]"),
    "interpolation": only(*get_args(Interpolation), ""),
    "crop_pct": where(lambda v: v is None or (_is_number(v) and 0 <= v <= 1), "a share from 0 to 1"),
    "crop_mode": only(*FITS, ""),
    "label_offset": only(0),
    **dict.fromkeys(("tag", "label_names"), READ),
    "mean": where(lambda v: v is None or all(map(_is_number, _each(v))), "a number for each channel"),
    "std": where(
        lambda v: v is None or all(_is_number(n) and n > 0 for n in _each(v)), "a number above 0 for each channel"
    ),
    **irrelevant(SHAPES, "num_classes", "num_features", "pool_size", "first_conv", "classifier", "architecture"),
    **irrelevant("of tests at another size", "test_input_size", "test_crop_pct", "test_pool_size", "min_input_size"),
    **irrelevant("the card names one size", "fixed_input_size"),
    **irrelevant("tells what labels mean", "label_descriptions"),
    **irrelevant("says where or how timm fetches weights", "url", "file", "state_dict", "source", "custom_load"),
    **irrelevant("says where or how timm fetches weights", "hf_hub", "hf_hub_id", "hf_hub_filename"),
    **irrelevant("tells of the weights", "license", "description", "origin_url", "paper_name", "paper_ids", "notes"),
}
_PICTURES = {"input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std"}
_TASKS: dict[Any, Task] = {"multi_label_classification": "multilabel", "regression": "regression"}
_TRANSFORMERS: dict[str, Setting] = {**COMMON, "model_type": only(WRAPPER), "do_pooling": only(True)}


@dataclasses.dataclass(frozen=True)
class Timm:
    """What timm's config.json says; empty where there is none.

    Attributes:
        name: timm's present name of the architecture.
        input: the settings of its pictures.
        arguments: what the network was built with beside its name.
        task: what the outputs mean.
        said: whether there is a config.json that says more than class names.
        notes: what lies beside the weights and is not read.
    """

    name: str = ""
    input: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    task: Task = "classification"
    said: bool = False
    notes: tuple[str, ...] = ()


def architecture(weights: Weights) -> str:
    """Returns timm's present name of the architecture that config.json says, or an empty string."""
    if "architecture" in weights.ignore_settings:
        return ""
    return current_name(str(weights.config.get("architecture") or ""))


def is_timms(weights: Weights) -> bool:
    """Says whether config.json, if any, may be timm's; transformers' own has a model_type."""
    return weights.config.get("model_type", WRAPPER) == WRAPPER


def read_timm(weights: Weights, arguments: Mapping[str, Setting]) -> Timm:
    """Reads timm's config.json.

    Args:
        weights: with it, or without any.
        arguments: what becomes of each argument of the family's networks; those of `ARGUMENTS` are added.

    Raises:
        CheckpointError: it says something that is not honoured; all of that is named.
    """
    config, ignore = weights.config, weights.ignore_settings
    if not config:
        return Timm()
    understood = {**ARGUMENTS, **arguments}
    flat = "pretrained_cfg" not in config
    table = {**(_INPUT if flat else {}), **_TOP, "global_pool": understood.get("global_pool", AVERAGE)}
    table |= _TRANSFORMERS if config.get("model_type") == WRAPPER else {}
    top = read_settings(config, table, source="config.json", ignore=ignore)
    pictures = top
    if not flat:
        pictures = read_settings(
            config["pretrained_cfg"] or {}, _INPUT, source="config.json, pretrained_cfg", ignore=ignore
        )
    built = read_settings(config.get("model_args") or {}, understood, source="config.json, model_args", ignore=ignore)
    if top.get("global_pool"):
        built = {"global_pool": top["global_pool"], **built}
    task = _TASKS.get(top.get("problem_type"), "classification")
    aside = "preprocessor_config.json was not read: of timm's networks config.json says how pictures are prepared."
    said = bool({"architecture", "pretrained_cfg", "model_args"} & set(top) or _PICTURES & set(pictures))
    return Timm(architecture(weights), pictures, built, task, said, (aside,) if weights.preprocessor else ())


def timm_image(timm: Timm, channels: int, default: Image | None = None) -> Image:
    """Returns the card's input for an image network.

    Args:
        timm: what config.json says.
        channels: that the first layer takes.
        default: what is taken without a config.json; by default ImageNet's usual 224 pixels, resized to 256 and
            cropped. Where there is one, what it does not say is timm's own default.

    Example:
        >>> timm_image(Timm(input={'input_size': [3, 160, 160], 'crop_pct': 0.95}, said=True), 3).size
        (160, 160)
    """
    if not timm.said:
        default = default or Image((224, 224), 3, IMAGENET_MEAN, IMAGENET_STD, "bilinear", 224 / 256)
        return _with_channels(default, channels)
    said = {k: v for k, v in timm.input.items() if v not in (None, "", 0, [])}
    _, height, width = map(int, said.get("input_size", (3, 224, 224)))
    mode, share = said.get("crop_mode", "center"), float(said.get("crop_pct", 0.875))
    image = Image(
        size=(height, width),
        channels=3,
        mean=tuple(map(float, _each(said.get("mean", IMAGENET_MEAN)))),
        std=tuple(map(float, _each(said.get("std", IMAGENET_STD)))),
        interpolation=said.get("interpolation", "bicubic"),
        crop_fraction=share,
        fit=FITS[mode],
        # Where timm cuts squares out of the centre it resizes by torchvision, else by itself, which rounds.
        sides="nearest" if mode == "border" or (mode == "center" and height != width) else "down",
        border="mean" if mode == "border" else "edge",
    )
    return _with_channels(image, channels)


def _with_channels(image: Image, channels: int) -> Image:
    """Returns an input of as many channels as the network takes; ImageNet's statistics serve three alone."""
    image = dataclasses.replace(image, channels=channels)
    if {len(image.mean), len(image.std)} <= {1, channels}:
        return image
    if (image.mean, image.std) == (IMAGENET_MEAN, IMAGENET_STD):
        mean, std = sum(IMAGENET_MEAN) / 3, sum(IMAGENET_STD) / 3
        return dataclasses.replace(image, mean=(mean,), std=(std,))
    raise CheckpointError(
        f"config.json says mean={list(image.mean)} and std={list(image.std)}, but the network takes {channels} "
        "channels. Write as many numbers as there are channels, or one."
    )


def assumed(timm: Timm, image: Image, network: str) -> tuple[str, ...]:
    """Returns what is assumed of weights because nothing beside them says it, one sentence each.

    Args:
        timm: what config.json says.
        image: what was made of it.
        network: what the tensors show, in words.
    """
    if timm.said and set(timm.input) & _PICTURES:
        return timm.notes
    height, width = image.size
    fit = "stretched" if image.fit == "squash" else f"the centre {image.crop_fraction:.3g} of the short side"
    pictures = (
        f"pictures of {height}×{width}, {image.interpolation}, {fit}, mean {_numbers(image.mean)}, std "
        f"{_numbers(image.std)}"
    )
    if timm.said:
        return (*timm.notes, f"Nothing beside the weights says how pictures are prepared; assumed: {pictures}.")
    return (f"No config.json says what these weights are. Taken from the tensors: {network}; assumed: {pictures}.",)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:.4g}" for v in values)
