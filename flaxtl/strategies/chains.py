"""Training phases that follow one another as one: a single schedule, and an optimizer state that is carried on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax

from flaxtl import freeze, paths
from flaxtl.model import Model
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.phases import Phase, epochs_for
from flaxtl.train import optim
from flaxtl.train.loop import Cadence


def cadence(phase: Phase, examples: int) -> Cadence:
    """Returns how many steps a phase takes on so many examples, and how often it is judged and kept.

    Example:
        >>> cadence(Phase('train'), 50).steps
        160
    """
    t = phase.training
    rows = min(t.batch_size, examples)
    if phase.contrast is not None and t.epochs is None:
        contrast = phase.contrast
        # Whole batches, so that folds of nearly the same size share one compiled step.
        batches = min(contrast.contrast_passes * examples, contrast.contrast_examples) // rows
    else:
        batches = (t.epochs if t.epochs is not None else epochs_for(examples)) * math.ceil(examples / rows)
    # Rounded first, since shares such as a third of three epochs must not give a step more.
    steps = max(1, math.ceil(round(phase.share * batches, 6)))
    return Cadence(steps, t.save_every or max(1, steps // 10), t.patience)


@dataclasses.dataclass(frozen=True)
class Chain:
    """The phases that share an optimizer state and a schedule with a phase, in order.

    Attributes:
        phases: all of them; a phase that is not carried on is alone.
        place: which of them the phase is.

    Example:
        >>> one, two = Phase('train', share=0.5), Phase('train', carry=True, share=0.5)
        >>> chain = Chain.of((Phase('solve'), one, two), 3)
        >>> chain.place, chain.steps(50), chain.done(50)
        (1, 160, 80)
    """

    phases: tuple[Phase, ...]
    place: int = 0

    @classmethod
    def of(cls, phases: Sequence[Phase], number: int) -> Chain:
        """Returns the chain of a phase; the first phase has the number 1."""
        first = last = number - 1
        while first > 0 and phases[first].carry:
            first -= 1
        while last + 1 < len(phases) and phases[last + 1].carry:
            last += 1
        return cls(tuple(phases[first : last + 1]), number - 1 - first)

    @property
    def phase(self) -> Phase:
        """The phase itself."""
        return self.phases[self.place]

    def steps(self, examples: int) -> int:
        """Returns how many steps all of them take together."""
        return sum(cadence(phase, examples).steps for phase in self.phases)

    def done(self, examples: int) -> int:
        """Returns how many steps those before the phase take."""
        return sum(cadence(phase, examples).steps for phase in self.phases[: self.place])

    def labels(self, model: Model) -> Any:
        """Labels a model's parameters as `optim.build` takes them, for the phase.

        Leaves that a phase of the chain adds are a group of their own: Adam divides by how often it has averaged, and
        for them it has not yet.
        """
        each = [_trained(phase, model) for phase in self.phases[: self.place + 1]]
        since = {
            leaf: next((place for place, trained in enumerate(each) if leaf in trained), 0)
            for leaf, _ in paths.leaves(model.params)
        }
        return _labels(self.phase, model, since if self.place else None)


def trained_patterns(phase: Phase, model: Model) -> tuple[str, ...]:
    """Returns the patterns of the parameters that a phase trains on a model; the head's are always among them."""
    adapters = () if phase.lora is None else ("lora/**",)
    return (*phase.trainable, *adapters, f"{model.card.head.path}/**")


def trained_labels(phase: Phase, model: Model) -> Any:
    """Labels a model's parameters as `optim.build` takes them; all below the phase's first segment is frozen.

    Where features are contrasted, so is the head, which has no part in it.
    """
    return _labels(phase, model, None)


def _labels(phase: Phase, model: Model, since: dict[paths.Leaf, int] | None) -> Any:
    labels = optim.group_labels(
        model.params,
        trained_patterns(phase, model),
        model.card.head.path,
        depth=None if phase.optimizer.layer_decay == 1.0 else _depths(model).__getitem__,
        since=None if since is None else since.__getitem__,
    )
    network = model.network
    start = segment_named(network, phase.start)
    stop = len(network.segments) if phase.contrast is None else network.border
    return paths.map_with_leaf(
        lambda leaf, label: label if start <= network.segment_of(leaf.path) < stop else freeze.FROZEN, labels
    )


def _trained(phase: Phase, model: Model) -> set[paths.Leaf]:
    return {leaf for leaf, label in paths.leaves(trained_labels(phase, model)) if label != freeze.FROZEN}


def _depths(model: Model) -> dict[str, int]:
    """Returns of each leaf's path how far its segment is from the head, counting segments that have parameters."""
    segment = {leaf.path: model.network.segment_of(leaf.path) for leaf, _ in paths.leaves(model.params)}
    place = {number: rank for rank, number in enumerate(sorted(set(segment.values()), reverse=True))}
    return {path: place[number] for path, number in segment.items()}


def carried(old: Any, fresh: Any) -> Any:
    """Returns a fresh optimizer state with what an earlier one knows of the leaves that stay trained.

    The schedule's count is not taken over: the new optimizer knows how many steps were taken before it.

    Args:
        old: the state at the end of the phase before.
        fresh: the new phase's state, as its optimizer initialises it.
    """
    known = {keys: value for keys, value in paths.items(old) if "inner_states" in keys}
    leaves = [
        known[keys] if keys in known and known[keys].shape == value.shape else value
        for keys, value in paths.items(fresh)
    ]
    return jax.tree.unflatten(jax.tree.structure(fresh), leaves)
