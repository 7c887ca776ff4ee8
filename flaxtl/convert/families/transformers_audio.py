"""What transformers' sound networks have in common: attention, heads, and a word for what is not built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flaxtl.convert.families.transformers_image import processor_name, processor_settings
from flaxtl.convert.mapping import CONCAT, CONCAT_LINEAR, Rule, linear
from flaxtl.convert.settings import READ, Setting, irrelevant, only, read_settings, where
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError


def refuse_if(found: object, what: str) -> None:
    """Refuses a variant that flaxtl has no network for.

    Raises:
        CheckpointError: `found` is true.
    """
    if found:
        raise CheckpointError(f"This network has {what}, which flaxtl does not build. Take one without it.")


def attention(source: str, target: str, parts: Sequence[str], out: str, *, bias: bool = True) -> list[Rule]:
    """Rules of self-attention: query, key and value side by side as one kernel, and the output.

    Args:
        source: the attention's name.
        target: ours.
        parts: names of query, key and value below it.
        out: the name of the output below it.
        bias: whether query, key and value have a bias.
    """
    table = [Rule(tuple(f"{source}.{p}.weight" for p in parts), f"{target}/qkv/kernel", CONCAT_LINEAR)]
    if bias:
        table.append(Rule(tuple(f"{source}.{p}.bias" for p in parts), f"{target}/qkv/bias", CONCAT))
    return table + linear(f"{source}.{out}", f"{target}/out")


def head(source: str, weights: Weights) -> list[Rule]:
    """Rules of the output layer, if the source has one."""
    return linear(source, "head") if f"{source}.weight" in weights else []


# What every feature extractor of transformers may say; a family lists its own beside.
_EXTRACTOR: dict[str, Setting] = {
    **dict.fromkeys(("feature_extractor_type", "image_processor_type"), READ),
    "sampling_rate": where(lambda v: v is None or (type(v) is int and v > 0), "a number of samples a second"),
    "padding_value": only(0.0),
    "padding_side": only("right"),
    **irrelevant("a clip here gives what it gives alone, whatever it is padded to", "return_attention_mask"),
    **irrelevant("names a class that pairs the extractor with a tokenizer", "processor_class"),
    **irrelevant("names code that is run only on request", "auto_map"),
    **irrelevant("how arrays are passed", "return_tensors", "model_input_names"),
    **irrelevant("where the file came from", "name_or_path", "_name_or_path", "transformers_version"),
}


def extractor_settings(
    weights: Weights, name: str, own: Mapping[str, Setting]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns what a feature extractor's file says that can change its outputs, and a note where there is no file.

    Args:
        weights: with preprocessor_config.json or a newer processor_config.json, or without either.
        name: the class whose steps are followed.
        own: what becomes of this class's own settings.

    Raises:
        CheckpointError: another class, or a setting that is not followed; it is named.
    """
    found, place = processor_settings(weights, "feature_extractor")
    if not found:
        note = (
            f"There is no preprocessor_config.json beside the weights, so sound is prepared by the defaults of {name}, "
            "at 16,000 samples a second. If these weights were trained otherwise, put the file there."
        )
        return {}, (note,)
    processor_name(found, {}, name, "FeatureExtractor", {name: None}, place)
    given = read_settings(found, {**_EXTRACTOR, **own}, source=place, ignore=weights.ignore_settings)
    # Null switches normalisation off, as transformers keeps it; a number that is null is that of the class.
    given = {k: False if v is None and k == "do_normalize" else v for k, v in given.items()}
    return {k: v for k, v in given.items() if v is not None}, ()
