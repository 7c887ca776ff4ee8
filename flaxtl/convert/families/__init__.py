"""What each family's published weights look like: how they are recognised, and the table from their names to ours.

A module of this folder defines `FAMILY`. Adding one is a file in `nets/`, a file here, and a fixture.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flaxtl.card import Input, NetworkSpec, Task
from flaxtl.convert.mapping import Rule
from flaxtl.convert.weights import Weights

MODULES = (
    "resnet",
    "mobilenet",
    "convnext",
    "vit",
    "yamnet",
    "keyword_transformer",
    "wav2vec2",
    "ast",
    "whisper",
    "bert",
    "modernbert",
)


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What published weights turned out to be.

    Attributes:
        network: the family in `flaxtl.nets` and its configuration.
        input: what goes in, from the source's own preprocessing settings.
        outputs: units of the head; 0 where the source has no output layer.
        labels: class names in the order of the outputs; () numbers them.
        task: what the outputs mean.
        files: files that the model needs beside it, such as tokenizer.json.
        notes: what was assumed because the source does not say it, and what of it is left out; one sentence each.
    """

    network: NetworkSpec
    input: Input
    outputs: int
    labels: tuple[str, ...] = ()
    task: Task = "classification"
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Family:
    """How one family's weights are read.

    Attributes:
        name: as in `flaxtl.nets.FAMILIES`.
        architectures: names by which sources call its members (timm architectures, transformers model types), for
            suggestions.
        recognise: weights → what they are, or None if they are of another family; by config.json where there is one,
            else by names and shapes.
        rules: (the family's Config, weights) → the table.
    """

    name: str
    architectures: tuple[str, ...]
    recognise: Callable[[Weights], Recognised | None]
    rules: Callable[[Any, Weights], Sequence[Rule]]


def families() -> Iterable[Family]:
    """Returns all families, in the order in which they are asked."""
    return [importlib.import_module(f"flaxtl.convert.families.{name}").FAMILY for name in MODULES]
