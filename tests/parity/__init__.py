"""Parity with the reference implementations: cases, deterministic weights and inputs, the reference side, ours."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent.parent / "fixtures" / "parity"


@dataclasses.dataclass(frozen=True)
class Case:
    """A network of a reference implementation, and how it is compared with ours.

    Attributes:
        name: of the fixture; "tiny" cases are recorded, "full" ones only compared live.
        build: code that the reference side evaluates to the torch module, with `timm`, `transformers`, `torch`, `nn` in
            scope; a timm model is made by `timm.create_model(...)`, a transformers one by `Class(Config(...))`.
        inputs: the module's inputs by name: ("normal", shape) | ("tokens", shape, vocabulary) | ("mask", shape) |
            ("types", shape) | ("padded", shape, vocabulary, padding). Images are given NHWC and turned for torch.
        network_input: (module inputs, all NumPy, images NHWC) → what our network takes.
        outputs: {"logits": …, "features": …}, as code with `y` (the module's output), `hooks` (outputs of
            the modules below) and `model` in scope.
        blocks: torch module name → our segment whose output equals it; feature maps are turned from NCHW.
        config: the config.json that would be published beside the weights, as code with `model` in scope; a dict.
        full: compared live only, at full size.
        tolerance: the largest relative error that passes.
        published: the weights have the names of the file that transformers' save_pretrained writes, and the reference
            reads them from such a file; in version 5 its modules' own names are others.
        preprocessor: the preprocessor_config.json that would be published beside the weights.
        call: what the module is called with beside its inputs.
    """

    name: str
    build: str
    inputs: Mapping[str, tuple[Any, ...]]
    outputs: Mapping[str, str]
    blocks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    config: str = "{}"
    network_input: str = "next(iter(inputs.values()))"
    full: bool = False
    tolerance: float = 1e-5
    published: bool = False
    preprocessor: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def cases() -> Sequence[Case]:
    """Returns the cases of every family, from the files cases_*.py beside this one."""
    found: list[Case] = []
    for file in sorted(Path(__file__).parent.glob("cases_*.py")):
        found += importlib.import_module(f"parity.{file.stem}").CASES
    return found
