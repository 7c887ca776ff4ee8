"""What a training program saved beside a network's tensors: the architecture, and how its pictures were prepared.

timm's train.py saves `arch` and its arguments (`args`), PyTorch's own ImageNet example `arch`, Lightning
`hyper_parameters`. They are data like config.json's; the rest of them is of training and is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flaxtl.errors import listed

SAYS = ("args", "hyper_parameters", "hparams", "config", "cfg", "opt")
_NAMES = ("architecture", "arch", "model", "model_name", "backbone")
# A program's own arguments may call anything a model; what begins so is the name of an architecture.
_ARCHITECTURE = re.compile(
    r"(tf_|tv_|ssl_|swsl_|gluon_|wide_|legacy_|test_|se|eca|gc)*"
    r"(resnet|resnext|vit_|deit|eva_|flexivit|efficientnet|mobilenet|convnext)[\w.]*"
)
# timm's command line → config.json of timm.
_PICTURES = ("mean", "std", "crop_pct", "crop_mode", "interpolation")
_BUILT = {"gp": "global_pool", "bn_eps": "bn_eps"}


def settings_of(beside: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns what a training program's checkpoint says of its network in the words of timm's config.json, and notes.

    Args:
        beside: what lies beside the tensors.

    Example:
        >>> settings_of({'epoch': 3, 'arch': 'resnet18'})
        ({'architecture': 'resnet18'}, ("The checkpoint says the architecture 'resnet18' (arch).",))
    """
    found: dict[str, Any] = {}
    notes: list[str] = []
    if isinstance(beside.get("arch"), str):
        found["architecture"] = beside["arch"]
        notes.append(f"The checkpoint says the architecture {beside['arch']!r} (arch).")
    for place in SAYS:
        said = beside.get(place)
        if not isinstance(said, Mapping) or not said:
            continue
        read = []
        for key in _NAMES:
            name = said.get(key)
            if isinstance(name, str) and _ARCHITECTURE.fullmatch(name) and "architecture" not in found:
                found["architecture"] = name
                read.append(f"{key}={name!r}")
        if {"crop_pct", "gp"} <= set(said):
            read += _timms_arguments(said, found)
        words = f"{listed(read, len(read))} was read" if read else "nothing was read"
        notes.append(f"Of the checkpoint's {place} {words}; the rest is taken to be of training.")
    return found, tuple(notes)


def _timms_arguments(said: Mapping[str, Any], found: dict[str, Any]) -> list[str]:
    """Adds what timm's command line said to `found`, and returns what that was."""
    pictures = {k: said[k] for k in _PICTURES if said.get(k)}
    size = said.get("input_size") or (said.get("img_size") and [3, said["img_size"], said["img_size"]])
    pictures |= {"input_size": list(size)} if size else {}
    kwargs = said.get("model_kwargs")
    built = {ours: said[k] for k, ours in _BUILT.items() if said.get(k) is not None}
    built |= dict(kwargs) if isinstance(kwargs, Mapping) else {}
    found |= {"pretrained_cfg": pictures} | ({"model_args": built} if built else {})
    return [f"{k}={v!r}" for k, v in {**pictures, **built}.items()]
