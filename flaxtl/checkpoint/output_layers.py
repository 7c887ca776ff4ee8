"""Which re-initialised leaves may become zeros: those of an output layer, which learns from zeros as no other does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import jax

from flaxtl.checkpoint.planning import Plan
from flaxtl.errors import CheckpointError, listed
from flaxtl.paths import PARAMS, Leaf

Structs = Mapping[Leaf, jax.ShapeDtypeStruct]
Place = tuple[str, tuple[str, ...]]
# What output layers are called, as whole words of a name.
_NAMES = re.compile(
    r"(?:^|_)(?:head|heads|classifier|classifiers|logits?|outputs?|out|top|predictions?|predictor|fc|score)(?:_?\d+)?(?:$|_)"
)


def require_output_layers(plan: Plan) -> None:
    """Refuses a plan whose re-initialised leaves, as zeros, would not all be of output layers.

    An output layer is one matrix, perhaps with a bias, in a folder of its own, that is called like one, had another
    number of outputs in the checkpoint, or whose outputs nothing else in the model can take.

    Raises:
        CheckpointError: some are not; they are named.
    """
    fresh = {e.target: e.struct for e in plan.entries if e.action == "reinitialised" and e.target is not None}
    model = {e.target: e.wanted for e in plan.entries if e.target is not None and e.wanted is not None}
    layers: dict[Place, dict[Leaf, jax.ShapeDtypeStruct]] = {}
    for leaf, struct in fresh.items():
        layers.setdefault((leaf.collection, leaf.keys[:-1]), {})[leaf] = struct
    stored = {e.source: e.struct for e in plan.entries if e.action == "ignored" and e.source is not None}
    bad = [leaf for place, own in layers.items() if not _is_output(place, own, layers, model, stored) for leaf in own]
    if bad:
        raise CheckpointError(
            f"Without init, re-initialised leaves are zeros, from which only an output layer can learn; these are not "
            f"an output layer's: {listed((leaf.name for leaf in bad), 20)}. Pass init=, the model's freshly "
            "initialised variables, or make reinit narrower."
        )


def _is_output(place: Place, own: Structs, layers: Iterable[Place], model: Structs, stored: Structs) -> bool:
    matrices = [(leaf, struct) for leaf, struct in own.items() if len(struct.shape) >= 2]
    if place[0] != PARAMS or len(matrices) != 1:
        return False
    leaf, matrix = matrices[0]
    outputs = matrix.shape[-1]
    if any(len(struct.shape) > 2 or struct.shape[-1:] != (outputs,) for struct in own.values() if struct is not matrix):
        return False
    old = stored.get(leaf)
    if old is not None and old.shape[:-1] == matrix.shape[:-1] and old.shape != matrix.shape:
        return True
    if _is_called_output(place, layers):
        return True
    return not any(outputs in struct.shape for other, struct in model.items() if other not in own)


def _is_called_output(place: Place, layers: Iterable[Place]) -> bool:
    """Says whether the layer, or a folder in which no other layer is re-initialised, has an output layer's name."""
    collection, keys = place
    for depth in range(len(keys), 0, -1):
        beside = [
            other for other in layers if other != place and other[0] == collection and other[1][:depth] == keys[:depth]
        ]
        if beside:
            return False
        if _NAMES.search(keys[depth - 1].lower()):
            return True
    return False
