"""Vision transformers: of timm, transformers (PyTorch and Flax), and vision_transformer/big_vision."""

from __future__ import annotations

from flaxtl.convert.families import Family, Recognised, vit_npz, vit_timm, vit_transformers
from flaxtl.convert.families.timm_names import VIT
from flaxtl.convert.mapping import Rule
from flaxtl.convert.weights import Weights
from flaxtl.nets.vit import Config

SOURCES = (vit_timm, vit_transformers, vit_npz)


def recognise(weights: Weights) -> Recognised | None:
    """Says which vision transformer weights are, whoever named their tensors."""
    for source in SOURCES:
        if source.is_named_so(weights):
            return source.recognise(weights)
    return None


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of a vision transformer."""
    source = next(s for s in SOURCES if s.is_named_so(weights))
    return source.rules(config, weights)


FAMILY = Family("vit", (*VIT, *sorted(vit_transformers.TYPES)), recognise, rules)
