"""Flax backbones, one family a file, the layers they share, and how a user's own module joins in."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flaxtl.errors import ConfigError, did_you_mean, listed

if TYPE_CHECKING:
    from flaxtl.card import NetworkSpec
    from flaxtl.nets.network import LinenNetwork

# A family's file defines `Config`, a frozen dataclass, and `backbone(config)`, which returns the Flax module.
FAMILIES = {
    "resnet": "flaxtl.nets.resnet",
    "mobilenet": "flaxtl.nets.mobilenet",
    "convnext": "flaxtl.nets.convnext",
    "vit": "flaxtl.nets.vit",
    "yamnet": "flaxtl.nets.yamnet",
    "keyword_transformer": "flaxtl.nets.keyword_transformer",
    "wav2vec2": "flaxtl.nets.wav2vec2",
    "ast": "flaxtl.nets.ast",
    "whisper": "flaxtl.nets.whisper",
    "bert": "flaxtl.nets.bert",
    "modernbert": "flaxtl.nets.modernbert",
}


def family_config(family: str, settings: Mapping[str, Any]) -> Any:
    """Returns a family's `Config` with the given settings.

    Raises:
        ConfigError: an unknown family or an unknown setting; the message names the nearest known ones.

    Example:
        >>> family_config('resnet', {'depths': [1, 1], 'widths': [8, 16]}).depths
        (1, 1)
    """
    if family not in FAMILIES:
        near = did_you_mean(family, FAMILIES) or f" Known families: {listed(FAMILIES)}."
        raise ConfigError(f"There is no network family {family!r}.{near}")
    kind = importlib.import_module(FAMILIES[family]).Config
    known = [f.name for f in dataclasses.fields(kind)]
    for key in settings:
        if key not in known:
            raise ConfigError(f"The network family {family!r} has no setting {key!r}.{did_you_mean(key, known)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})


def build(spec: NetworkSpec, outputs: int) -> LinenNetwork:
    """Builds the network that a card describes, with a head of `outputs` units; no parameters yet.

    Raises:
        ConfigError: the family or one of its settings is unknown.

    Example:
        >>> from flaxtl.card import NetworkSpec
        >>> build(NetworkSpec('resnet', {'depths': (1, 1), 'widths': (8, 16)}), outputs=3).segments
        ('stem', 'blocks_0', 'blocks_1', 'pool', 'head')
    """
    from flaxtl.nets.network import Classifier, LinenNetwork

    config = family_config(spec.family, spec.config)
    module = importlib.import_module(FAMILIES[spec.family])
    return LinenNetwork(Classifier(module.backbone(config), outputs))


def named_settings(family: str, variant: str) -> dict[str, Any]:
    """Returns the settings of a named member of a family, such as resnet18.

    Raises:
        ConfigError: the family or the name is unknown.

    Example:
        >>> named_settings('resnet', 'resnet20_cifar')['widths']
        (16, 32, 64)
    """
    family_config(family, {})
    return dataclasses.asdict(importlib.import_module(FAMILIES[family]).variant(variant))


def resized(
    spec: NetworkSpec, params: Mapping[str, Any], old_size: tuple[int, int], new_size: tuple[int, int]
) -> tuple[NetworkSpec, Mapping[str, Any], tuple[str, ...]]:
    """Fits a network to pictures of another size; a family that takes any size is returned as it is.

    A family whose parameters depend on the size defines `resize(config, params, old_size, new_size)`, which returns the
    new configuration, the new parameters and what was done to them.

    Args:
        spec: the network as a card describes it; of a user's own ("custom") nothing is known, and nothing changed.
        params: its params collection.
        old_size: height and width that it took.
        new_size: height and width that it is to take.

    Returns:
        (the new description, the new params, what was done, one phrase each).

    Raises:
        ConfigError: the family cannot take this size.

    Example:
        >>> from flaxtl.card import NetworkSpec
        >>> resized(NetworkSpec('resnet'), {'head': 1}, (224, 224), (160, 160))[1:]
        ({'head': 1}, ())
    """
    if spec.family not in FAMILIES:
        return spec, params, ()
    resize = getattr(importlib.import_module(FAMILIES[spec.family]), "resize", None)
    if resize is None:
        return spec, params, ()
    config, params, notes = resize(family_config(spec.family, spec.config), params, old_size, new_size)
    return dataclasses.replace(spec, config=dataclasses.asdict(config)), params, notes
