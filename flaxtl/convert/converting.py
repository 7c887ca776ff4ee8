"""From published weights to a model: prefixes taken off, the family recognised, every tensor accounted for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from flaxtl import nets, paths
from flaxtl.card import Card, Head
from flaxtl.convert import mapping
from flaxtl.convert.families import Family, Recognised, families
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError, did_you_mean, listed
from flaxtl.model import Model

# What training frameworks wrap a network's names in.
PREFIXES = ("module.", "model.", "_orig_mod.", "backbone.", "encoder.", "net.", "state_dict.", "model_ema.")


@dataclasses.dataclass(frozen=True)
class Conversion:
    """Weights, what they are, and the resolved table; nothing has been read yet.

    Attributes:
        weights: with their prefixes taken off.
        family: whose table it is.
        recognised: what the weights are.
        steps: tensor(s) → leaf, covering both sides.
        model: the model with shapes in place of arrays.
    """

    weights: Weights
    family: Family
    recognised: Recognised
    steps: tuple[mapping.Step, ...]
    model: Model

    def arrays(self) -> Iterator[tuple[paths.Leaf, np.ndarray]]:
        """Yields each leaf, made as it is asked for, so that one at a time is in memory."""
        structs = dict(paths.leaves(self.model.variables))
        for step in self.steps:
            if step.target is not None:
                yield step.target, mapping.apply(step, lambda n: self.weights[n].read(), structs[step.target])

    def read(self) -> Model:
        """Returns the model with its arrays, all in memory."""
        made = dict(self.arrays())
        variables = paths.map_with_leaf(lambda leaf, _: made[leaf], self.model.variables)
        return self.model.with_variables(variables)

    def explain(self) -> str:
        """Returns the table source → target as text."""
        from flaxtl.checkpoint.store import table

        shapes = {name: tensor.shape for name, tensor in self.weights.items()}
        return "\n".join([*self.weights.notes, *table(mapping.explain(self.steps, shapes))])


def plan_conversion(weights: Weights) -> Conversion:
    """Finds out what weights are and how each tensor becomes a leaf.

    Args:
        weights: as a reader gives them.

    Raises:
        CheckpointError: no family recognises them (the nearest names are given), or they do not fit the family that
            does (both lists are given, with the family's name).
    """
    found, family, bare = _recognise(weights)
    network = nets.build(found.network, found.outputs)
    labels = found.labels or tuple(map(str, range(found.outputs)))
    card = Card(found.input, found.network, (Head(labels=labels, task=found.task),))
    model = Model(network, {}, card, dict(found.files))
    variables = network.abstract(model.sample())
    config = nets.family_config(found.network.family, found.network.config)
    try:
        steps = tuple(mapping.resolve(family.rules(config, bare), bare))
        mapping.check_targets(steps, variables)
    except CheckpointError as error:
        raise CheckpointError(f"The weights look like the family {family.name!r}, but: {error}") from error
    card = card.with_provenance(converted=_provenance(bare, steps))
    model = dataclasses.replace(model, card=card, variables=variables, notes=bare.notes)
    return Conversion(bare, family, found, steps, model)


def _recognise(weights: Weights) -> tuple[Recognised, Family, Weights]:
    for bare in _unwrapped(weights):
        for family in families():
            found = family.recognise(bare)
            if found is not None:
                return found, family, bare
    known = [a for f in families() for a in f.architectures]
    named = weights.config.get("architecture") or weights.config.get("model_type")
    if named:
        near = did_you_mean(str(named), known) or f" Known: {listed(known, 30)}."
        raise CheckpointError(f"flaxtl does not know the architecture {named!r}.{near}")
    raise CheckpointError(
        f"These weights are of no family that flaxtl knows ({listed(sorted({f.name for f in families()}), 30)}). "
        f"Their {len(weights)} tensors begin with {listed(weights, 5)}. A config.json beside them would say more."
    )


def _unwrapped(weights: Weights) -> Iterator[Weights]:
    """Yields the weights as they are, and then with known prefixes taken off, one after the other."""
    yield weights
    current = weights
    for _ in PREFIXES:
        prefix = next((p for p in PREFIXES if any(n.startswith(p) for n in current)), None)
        if prefix is None:
            return
        all_have_it = all(n.startswith(prefix) for n in current)
        current = current.without_prefix(prefix) if all_have_it else current.within(prefix)
        yield current


def _provenance(weights: Weights, steps: Sequence[mapping.Step]) -> dict[str, Any]:
    """Returns what the card says of the conversion; `dtypes` lets the export restore the source's own."""
    dtypes = {weights[n].dtype.name for s in steps if s.target is not None for n in s.sources}
    return {
        **weights.origin,
        "converter": f"flaxtl {version('flaxtl')}",
        "source_dtypes": sorted(dtypes),
        "tensors": len(weights),
        "notes": list(weights.notes),
    }


def leaf_bytes(tree: Any) -> int:
    """Returns the bytes of all leaves of a tree of arrays or shapes."""
    return sum(int(np.prod(a.shape, dtype=np.int64)) * np.dtype(a.dtype).itemsize for a in jax.tree.leaves(tree))
