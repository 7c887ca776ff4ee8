"""flaxtl: transfer learning for JAX and Flax.

Published weights in, a new head for your classes, honest numbers out::

    model = flaxtl.load("flaxtl:characters")
    result = flaxtl.finetune(model, flaxtl.data.from_folder("photos/"), strategy="head")
    result.model.save("my_model")

Names are imported when they are first used, so that ``import flaxtl`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flaxtl import checkpoint, data, freeze, metrics, nets, paths, probe, surgery, train
    from flaxtl.card import Array, Audio, Card, Head, Image, Text
    from flaxtl.convert import load
    from flaxtl.errors import FlaxtlError
    from flaxtl.model import Model
    from flaxtl.nets.adapt import LinenModule, NnxModule
    from flaxtl.predictions import Predictions
    from flaxtl.strategies.jobs import Result, evaluate, finetune, pretrain
    from flaxtl.strategies.rate_finder import lr_find

_MODULES = ("checkpoint", "data", "freeze", "metrics", "nets", "paths", "probe", "surgery", "train")
_HOMES = {
    "Array": "card",
    "Audio": "card",
    "Card": "card",
    "FlaxtlError": "errors",
    "Head": "card",
    "Image": "card",
    "LinenModule": "nets.adapt",
    "Model": "model",
    "NnxModule": "nets.adapt",
    "Predictions": "predictions",
    "Result": "strategies.jobs",
    "Text": "card",
    "evaluate": "strategies.jobs",
    "finetune": "strategies.jobs",
    "load": "convert",
    "lr_find": "strategies.rate_finder",
    "pretrain": "strategies.jobs",
}

__all__ = [
    "Array",
    "Audio",
    "Card",
    "FlaxtlError",
    "Head",
    "Image",
    "LinenModule",
    "Model",
    "NnxModule",
    "Predictions",
    "Result",
    "Text",
    "checkpoint",
    "data",
    "evaluate",
    "finetune",
    "freeze",
    "load",
    "lr_find",
    "metrics",
    "nets",
    "paths",
    "pretrain",
    "probe",
    "surgery",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"flaxtl.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"flaxtl.{_HOMES[name]}"), name)
    from flaxtl.errors import did_you_mean

    raise AttributeError(f"flaxtl has no {name!r}.{did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return __all__
