"""Makes out what an Orbax tree holds: variables, bare parameters, a training or NNX state, wrapped or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import jax

from flaxtl.errors import listed
from flaxtl.paths import PARAMS, Leaf

Keys = tuple[str, ...]
_WRAPPERS = ("state", "model", "target", "default", "train_state", "variables")
_NOT_VARIABLES = (
    *("opt_state", "step", "rng", "ema", "optimizer", "tx", "apply_fn", "key", "rngs", "epoch", "opt", "ema_params"),
    *("rng_key", "prng_key", "dropout_rng", "dropout_key", "global_step", "iteration", "dynamic_scale", "loss_scale"),
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A checkpoint's leaves as a model's.

    Attributes:
        leaves: for each place in a model, its keys on disk and its shape and dtype.
        variables: whether the model's tree has collections on top; otherwise it is all parameters.
        notes: what was made of the layout, one sentence each.
    """

    leaves: dict[Leaf, tuple[Keys, jax.ShapeDtypeStruct]]
    variables: bool
    notes: tuple[str, ...] = ()

    def keys(self, leaf: Leaf) -> Keys:
        """Returns a leaf's keys in the model's tree."""
        return (leaf.collection, *leaf.keys) if self.variables else leaf.keys


def as_saved(found: Mapping[Keys, jax.ShapeDtypeStruct]) -> Layout:
    """Returns a tree's leaves as they are, nothing taken off."""
    return _layout(found, {keys: keys for keys in found}, ())


def understand(found: Mapping[Keys, jax.ShapeDtypeStruct]) -> Layout:
    """Returns what the leaves of an Orbax tree are to a model.

    Example:
        >>> number = jax.ShapeDtypeStruct((), 'float32')
        >>> layout = understand({('params', 'w'): number, ('step',): number})
        >>> [leaf.name for leaf in layout.leaves], layout.notes
        (['params:w'], ('Beside the parameters the checkpoint holds step, which a model does not need.',))
    """
    inner = {keys: keys for keys in found}
    notes: list[str] = []
    while (wrapper := _wrapper(inner)) is not None:
        _tell_beside({keys[0] for keys in inner} - {wrapper}, notes)
        inner = {keys[1:]: disk for keys, disk in inner.items() if keys[0] == wrapper}
        notes.append(f"The checkpoint's tree lies under {wrapper!r}.")
    if any(keys[0] == PARAMS and len(keys) > 1 for keys in inner):
        _tell_beside({keys[0] for keys in inner} & set(_NOT_VARIABLES), notes)
        inner = {keys: disk for keys, disk in inner.items() if keys[0] not in _NOT_VARIABLES}
    if inner and all(len(keys) > 1 and keys[-1] == "value" for keys in inner):
        inner = {keys[:-1]: disk for keys, disk in inner.items()}
        notes.append("Each leaf lies under 'value', as an NNX state is saved.")
    if {keys[1:2] for keys in inner if keys[0] == PARAMS} == {(PARAMS,)}:
        inner = {keys[1:] if keys[0] == PARAMS else keys: disk for keys, disk in inner.items()}
        notes.append(f"The parameters lie under {PARAMS!r} twice.")
    if random := random_states(Leaf(PARAMS, keys) for keys in inner):
        notes.append(f"{listed(sorted(leaf.path for leaf in random))} are states of random streams.")
    return _layout(found, inner, tuple(notes))


def random_states(leaves: Iterable[Leaf]) -> set[Leaf]:
    """Returns the leaves that are random streams of NNX: a key and its count, by themselves under one name.

    Example:
        >>> sorted(leaf.path for leaf in random_states([Leaf('params', ('drop', 'rngs', k)) for k in ('count', 'key')]))
        ['drop/rngs/count', 'drop/rngs/key']
    """
    places, below = set(leaves), dict[tuple[str, Keys], set[str]]()
    for leaf in places:
        for depth in range(len(leaf.keys)):
            below.setdefault((leaf.collection, leaf.keys[:depth]), set()).add(leaf.keys[depth])
    streams = [place for place, names in below.items() if names == {"key", "count"}]
    return places & {Leaf(collection, (*keys, name)) for collection, keys in streams for name in ("key", "count")}


def _tell_beside(tops: set[str], notes: list[str]) -> None:
    if tops:
        notes.append(f"Beside the parameters the checkpoint holds {listed(sorted(tops))}, which a model does not need.")


def _layout(found: Mapping[Keys, jax.ShapeDtypeStruct], inner: Mapping[Keys, Keys], notes: tuple[str, ...]) -> Layout:
    variables = any(keys[0] == PARAMS and len(keys) > 1 for keys in inner)
    leaves = {
        Leaf(keys[0], keys[1:]) if variables else Leaf(PARAMS, keys): (disk, found[disk])
        for keys, disk in inner.items()
    }
    return Layout(leaves, variables, notes)


def _wrapper(inner: Mapping[Keys, Keys]) -> str | None:
    """Returns the top key that wraps the whole model, if one does.

    A name such as 'model' may as well be the first module's own; it wraps only where a training state's
    entries lie beside it or the parameters lie right below it, and nothing else but these is beside it.
    """
    tops = {keys[0] for keys in inner if keys}
    below = {top: {keys[1] for keys in inner if keys[0] == top and len(keys) > 1} for top in tops}
    if PARAMS in tops:
        # A training state whose `params` is a whole variables dict.
        return PARAMS if PARAMS in below[PARAMS] and tops - set(_NOT_VARIABLES) == {PARAMS} else None
    for name in _WRAPPERS:
        if tops - set(_NOT_VARIABLES) == {name} and below[name] and (PARAMS in below[name] or len(tops) > 1):
            return name
    return None
