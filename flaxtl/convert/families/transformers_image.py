"""transformers' image processors, followed step by step: resize, centre crop, rescale, normalise.

The steps are those of the classes that compute with Pillow (transformers 5: `…ImageProcessorPil`; before: those without
"Fast"). The ones that compute with torchvision differ from them by a grey level here and there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flaxtl.card import Image, Interpolation
from flaxtl.convert.families.transformers_files import json_settings
from flaxtl.convert.settings import READ, Setting, irrelevant, only, read_settings, where
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError, did_you_mean

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# Pillow's numbers, by which preprocessor_config.json names an interpolation.
RESAMPLE: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
# From this size on ConvNextImageProcessor stretches pictures and crops nothing.
_CONVNEXT_SQUASHES = 384


@dataclasses.dataclass(frozen=True)
class Processor:
    """The defaults of one class of image processors, for what preprocessor_config.json leaves out.

    Attributes:
        size: what is resized to: {"height", "width"} stretches, {"shortest_edge"} keeps the aspect ratio.
        resample: Pillow's number of the interpolation.
        mean: subtracted after rescaling, per channel.
        std: divided by, per channel.
        crop_size: side of the centre crop; None where a crop needs a size of its own.
        crops: whether the centre is cropped if nothing says so.
        square: whether a size that is one number means a square, or else the short side.
        own: settings that this class has beyond those of all.
    """

    size: Mapping[str, int]
    resample: int
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    crop_size: int | None = None
    crops: bool = False
    square: bool = True
    own: tuple[str, ...] = ()


def _stretched(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


_CLIP = Processor({"shortest_edge": 224}, 3, OPENAI_MEAN, OPENAI_STD, 224, True, False)
_MOBILENET = Processor({"shortest_edge": 256}, 2, crop_size=224, crops=True, square=False)
PROCESSORS: dict[str, Processor] = {
    "ViTImageProcessor": Processor(_stretched(224), 2),
    "DeiTImageProcessor": Processor(_stretched(256), 3, crop_size=224, crops=True),
    "BeitImageProcessor": Processor(_stretched(224), 3, crop_size=224),
    "ConvNextImageProcessor": Processor({"shortest_edge": 384}, 3, square=False, own=("crop_pct",)),
    "CLIPImageProcessor": dataclasses.replace(_CLIP, own=("use_square_size",)),
    "BitImageProcessor": _CLIP,
    "SiglipImageProcessor": Processor(_stretched(224), 3, square=False),
    "EfficientNetImageProcessor": Processor(_stretched(346), 3, crop_size=289, own=("rescale_offset", "include_top")),
    "MobileNetV1ImageProcessor": _MOBILENET,
    "MobileNetV2ImageProcessor": _MOBILENET,
    "PvtImageProcessor": Processor(_stretched(224), 3, IMAGENET_MEAN, IMAGENET_STD),
}
# model type → the class that transformers takes where no file names one.
OF_TYPE = {
    "vit": "ViTImageProcessor",
    "deit": "DeiTImageProcessor",
    "dinov2": "BitImageProcessor",
    "dinov2_with_registers": "BitImageProcessor",
    "clip": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "convnext": "ConvNextImageProcessor",
    "convnextv2": "ConvNextImageProcessor",
}
_NUMBER = where(lambda v: v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)), "with a number")
_FLAG = where(lambda v: v is None or isinstance(v, bool), "with true or false")
_SWITCHES = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
# Whatever else is true or false, too, is false when it is null.
_FLAGS = (*_SWITCHES, "default_to_square", "use_square_size", "rescale_offset", "include_top")
UNDERSTOOD: dict[str, Setting] = {
    **dict.fromkeys((*_SWITCHES, "default_to_square"), _FLAG),
    **dict.fromkeys(("size", "crop_size", "image_mean", "image_std"), READ),
    **dict.fromkeys(("image_processor_type", "feature_extractor_type"), READ),
    "resample": where(lambda v: v is None or (type(v) is int and v in RESAMPLE), "by Pillow's filters 0 to 5"),
    "rescale_factor": _NUMBER,
    "do_pad": only(False),
    "do_flip_channel_order": only(False),
    **irrelevant("pictures are brought to the channels that the network takes", "do_convert_rgb"),
    **irrelevant("nothing is padded unless do_pad says so", "pad_size"),
    **irrelevant("for labels of every pixel", "do_reduce_labels", "reduce_labels"),
    **irrelevant("names a class that pairs the processor with a tokenizer", "processor_class"),
    **irrelevant("names code that is run only on request", "auto_map"),
    **irrelevant("how arrays are passed", "data_format", "input_data_format", "return_tensors", "model_input_names"),
    **irrelevant("where and in which order it is computed", "device", "disable_grouping", "use_fast", "backend"),
    **irrelevant("lists the settings of a call", "_valid_processor_keys", "_valid_kwargs_names"),
    **irrelevant("counts tokens of a language model", "image_seq_length"),
    **irrelevant("where the file came from", "name_or_path", "_name_or_path", "transformers_version"),
}
# What processor_config.json may hold: each processor's settings, and the tokenizer's, whose own files say them.
_NESTED: dict[str, Setting] = {
    **dict.fromkeys(("image_processor", "feature_extractor"), READ),
    **irrelevant("the tokenizer's own files say it", "tokenizer", "chat_template"),
    **irrelevant("names a class that pairs the processor with a tokenizer", "processor_class"),
    **irrelevant("names code that is run only on request", "auto_map"),
    **irrelevant("where the file came from", "transformers_version", "name_or_path"),
}
_OWN: dict[str, Setting] = {
    "crop_pct": _NUMBER,
    "use_square_size": _FLAG,
    "rescale_offset": _FLAG,
    "include_top": _FLAG,
}


def transformers_image(
    weights: Weights, kind: str, size: tuple[int, int], default: Image
) -> tuple[Image, tuple[str, ...]]:
    """Returns the card's input for an image network of transformers.

    Args:
        weights: with preprocessor_config.json or a newer processor_config.json, or without either.
        kind: the model type, which says the class of the processor if no file does.
        size: height and width that the network was trained for; taken where there is no file.
        default: what is done where there is no file: that of the type's published members.

    Returns:
        The input, whose size is that of the processor's pictures, and notes.

    Raises:
        CheckpointError: a processor or a setting that is not followed; it is named.

    Example:
        >>> found = {'size': {'shortest_edge': 256}, 'crop_size': {'height': 224, 'width': 224}, 'resample': 3}
        >>> image, _ = transformers_image(Weights({}, preprocessor=found), 'clip', (224, 224), Image())
        >>> image.size, image.resized, image.interpolation, image.fit
        ((224, 224), (256,), 'bicubic', 'crop')
    """
    found, place = processor_settings(weights, "image_processor")
    if not found:
        image = dataclasses.replace(default, size=size)
        return image, (_assumed(kind, image),)
    name = processor_name(found, weights.config, OF_TYPE[kind], "ImageProcessor", PROCESSORS, place)
    processor = PROCESSORS[name]
    understood = {**UNDERSTOOD, **{k: _OWN[k] for k in processor.own}}
    given = read_settings(found, understood, source=place, ignore=weights.ignore_settings)
    # Null switches a step off; a number that is null is that of the class.
    given = {k: v if v is not None else False for k, v in given.items() if v is not None or k in _FLAGS}
    steps = _Steps(name, processor, given, place, size)
    return steps.image(default.channels), ()


def _assumed(kind: str, image: Image) -> str:
    height, width = image.size
    return (
        f"There is no preprocessor_config.json beside the weights, so pictures are prepared as those of the published "
        f"{kind} models: {height}×{width} pixels, {image.interpolation}, fit {image.fit!r}, "
        f"mean {', '.join(f'{m:g}' for m in image.mean)}. If these weights were trained otherwise, put the file there."
    )


def processor_settings(weights: Weights, part: str) -> tuple[Mapping[str, Any], str]:
    """Returns a processor's settings and the name of the file that they are of; the newer file goes first.

    Args:
        weights: with the files beside them.
        part: "image_processor" or "feature_extractor", below which processor_config.json has them.

    Raises:
        CheckpointError: processor_config.json pairs them with something else than a tokenizer, such as videos.
    """
    held = json_settings(weights, "processor_config.json")
    nested = read_settings(held, _NESTED, source="processor_config.json", ignore=weights.ignore_settings).get(part)
    if isinstance(nested, Mapping):
        return nested, f"processor_config.json, {part}"
    return weights.preprocessor, "preprocessor_config.json"


def processor_name(
    found: Mapping[str, Any],
    config: Mapping[str, Any],
    default: str,
    ending: str,
    known: Mapping[str, Any],
    place: str,
) -> str:
    """Returns the class of a processor by its name today, however the file calls it.

    Raises:
        CheckpointError: it is none that is followed.

    Example:
        >>> known = {'ViTImageProcessor': ...}
        >>> processor_name({'feature_extractor_type': 'ViTFeatureExtractor'}, {}, '', 'ImageProcessor', known, '')
        'ViTImageProcessor'
    """
    keys = ("image_processor_type", "feature_extractor_type")
    said = next((str(s[k]) for s in (found, config) for k in keys if s.get(k)), default)
    name = said
    for version in ("Fast", "Pil"):
        name = name.removesuffix(version)
    if ending == "ImageProcessor":
        name = name.replace("FeatureExtractor", "ImageProcessor")
    if name not in known:
        raise CheckpointError(
            f"{place} names the processor {said!r}, whose steps flaxtl does not follow.{did_you_mean(name, known)} "
            f"Known are {', '.join(known)}."
        )
    return name


@dataclasses.dataclass(frozen=True)
class _Steps:
    """One processor's steps, with what its file says of them."""

    name: str
    processor: Processor
    given: Mapping[str, Any]
    place: str
    network: tuple[int, int]

    def image(self, channels: int) -> Image:
        """Returns the steps as a card's input."""
        fit, resized, size = self._geometry()
        mean, std = self._scaling(channels)
        resample = RESAMPLE[self.given.get("resample", self.processor.resample)]
        image = Image(size, channels, mean, std, resample, fit=fit)
        if fit == "exact" or resized == size:
            return image
        return dataclasses.replace(image, resized=resized, rounding="down", border="black")

    def _geometry(self) -> tuple[Any, tuple[int, ...], tuple[int, int]]:
        """Returns the fit, what is resized to, and the size of what comes out."""
        crop = self._crop()
        if not self.given.get("do_resize", True):
            return ("none", (), crop) if crop else ("exact", (), self.network)
        wanted = self._size()
        if self.name == "ConvNextImageProcessor":
            return self._convnext(wanted, crop)
        if set(wanted) == {"height", "width"}:
            sides = wanted["height"], wanted["width"]
            return "squash", sides, crop or sides
        if set(wanted) != {"shortest_edge"}:
            raise self._refused("size", wanted, "{height, width} or {shortest_edge}")
        if crop is None:
            raise self._refused(
                "do_center_crop", False, "pictures of one size: resized to a short side alone, each keeps its own shape"
            )
        return "crop", (wanted["shortest_edge"],), crop

    def _convnext(self, wanted: Mapping[str, int], crop: tuple[int, int] | None) -> Any:
        """ConvNeXt's own rule: below 384 pixels the centre of a larger picture, from there on a stretched one."""
        if set(wanted) != {"shortest_edge"}:
            raise self._refused("size", wanted, "{shortest_edge}, as its class does")
        side = wanted["shortest_edge"]
        if crop not in (None, (side, side)):
            raise self._refused("crop_size", crop, f"one crop, to {side}×{side}")
        if side >= _CONVNEXT_SQUASHES:
            return "squash", (side, side), (side, side)
        return "crop", (int(side / float(self.given.get("crop_pct", 224 / 256))),), (side, side)

    def _size(self) -> Mapping[str, int]:
        processor = self.processor
        if self.given.get("use_square_size"):
            return _stretched(processor.size["shortest_edge"])
        square = self.given.get("default_to_square", processor.square)
        return self._sides("size", self.given.get("size", processor.size), square)

    def _crop(self) -> tuple[int, int] | None:
        if not self.given.get("do_center_crop", self.processor.crops):
            return None
        found = self.given.get("crop_size", self.processor.crop_size)
        if found is None:
            raise self._refused("do_center_crop", True, "with a crop_size")
        sides = self._sides("crop_size", found, True)
        if set(sides) != {"height", "width"}:
            raise self._refused("crop_size", found, "{height, width}")
        return sides["height"], sides["width"]

    def _sides(self, key: str, found: Any, square: bool) -> Mapping[str, int]:
        """A number, [height, width], or what is measured by name, as a mapping from names to pixels."""
        if isinstance(found, int) and not isinstance(found, bool):
            found = _stretched(found) if square else {"shortest_edge": found}
        elif isinstance(found, (list, tuple)) and len(found) == 2:
            found = {"height": found[0], "width": found[1]}
        pixels = isinstance(found, Mapping) and {k: v for k, v in found.items() if v is not None}
        if not pixels or not all(type(v) is int and v > 0 for v in pixels.values()):
            raise self._refused(key, found, "pixels: a number, [height, width] or a mapping")
        return pixels

    def _scaling(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Rescaling and normalising as the card's one subtraction and division of values from 0 to 1."""
        given = self.given
        rescales, normalises = given.get("do_rescale", True), given.get("do_normalize", True)
        factor = float(given.get("rescale_factor", 1 / 255)) if rescales else 1.0
        offset = 1.0 if rescales and given.get("rescale_offset") else 0.0
        again = "include_top" in self.processor.own and given.get("include_top", True)
        zeros, ones = (0.0,) * channels, (1.0,) * channels
        mean = self._numbers("image_mean", self.processor.mean, channels) if normalises else zeros
        std = self._numbers("image_std", self.processor.std, channels) if normalises or again else ones
        if not factor or 0.0 in std:
            raise self._refused("rescale_factor" if not factor else "image_std", 0, "numbers other than 0")
        # (x · factor - offset - mean) / std, and EfficientNet's once more / std, of x = 255 · (a value from 0 to 1)
        scale = 255.0 * factor
        power = int(normalises) + int(again)
        return tuple((m + offset) / scale for m in mean), tuple(s**power / scale for s in std)

    def _numbers(self, key: str, default: tuple[float, ...], channels: int) -> tuple[float, ...]:
        found = self.given.get(key, default)
        numbers = tuple(found) if isinstance(found, (list, tuple)) else (found,) * channels
        if len(numbers) != channels or not all(isinstance(n, (int, float)) for n in numbers):
            raise self._refused(key, found, f"a number for each of the {channels} channels")
        return tuple(map(float, numbers))

    def _refused(self, key: str, found: Any, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{self.place} says {key}={found!r} for {self.name}, where flaxtl computes {expected}. "
            "Take the file that was published with the weights."
        )
