"""Which leaves are trained and which are frozen, proven to the bit.

Frozen leaves never meet the optimizer: `partition` gives two trees of the full structure with None in the
holes, gradients are taken of the trainable one alone, and `transform` groups it with
`optax.multi_transform`. The same transform also serves a full tree, where it sets frozen updates to zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import optax

from flaxtl import paths
from flaxtl.errors import ConfigError, listed

TRAINABLE = "trainable"
FROZEN = "frozen"


def labels(
    params: Any,
    trainable: str | Iterable[str] | None = None,
    *,
    rules: Sequence[tuple[str, str]] | None = None,
) -> Any:
    """Labels every leaf of a tree as trainable or frozen, or with the group that a rule gives it.

    Args:
        params: a parameter tree, arrays or shapes.
        trainable: patterns of the leaves to train; all others are frozen.
        rules: instead of `trainable`, ordered (pattern, label) pairs that cover the tree; the label
            "frozen" freezes, every other label names a group with a transformation of its own.

    Returns:
        A tree of the same structure holding strings.

    Raises:
        PathError: a pattern matches nothing, or the rules leave a leaf uncovered.

    Example:
        >>> labels({'head': {'w': 1.}, 'stem': {'w': 2.}}, trainable=['head/**'])
        {'head': {'w': 'trainable'}, 'stem': {'w': 'frozen'}}
    """
    if (trainable is None) == (rules is None):
        raise ConfigError(
            "freeze.labels takes either trainable=[patterns] or rules=[(pattern, label)], and one of them."
        )
    if rules is not None:
        return paths.assign(rules, params)
    chosen = paths.select(trainable or (), params)
    return jax.tree.map(lambda yes: TRAINABLE if yes else FROZEN, chosen)


def partition(tree: Any, labels: Any) -> tuple[Any, Any]:
    """Splits a tree into its trainable and its frozen part, each with None where the other has its leaves.

    Example:
        >>> partition({'head': 1., 'stem': 2.}, {'head': 'trainable', 'stem': 'frozen'})
        ({'head': 1.0, 'stem': None}, {'head': None, 'stem': 2.0})
    """
    trainable = jax.tree.map(lambda x, label: None if label == FROZEN else x, tree, labels)
    frozen = jax.tree.map(lambda x, label: x if label == FROZEN else None, tree, labels)
    return trainable, frozen


def merge(trainable: Any, frozen: Any) -> Any:
    """Puts the two parts of `partition` together again.

    Example:
        >>> merge({'head': 1., 'stem': None}, {'head': None, 'stem': 2.})
        {'head': 1.0, 'stem': 2.0}
    """
    return jax.tree.map(lambda a, b: b if a is None else a, trainable, frozen, is_leaf=lambda x: x is None)


def transform(
    transforms: Mapping[str, optax.GradientTransformation], labels: Any
) -> optax.GradientTransformationExtraArgs:
    """Returns `optax.multi_transform` over labels, with frozen leaves set to zero.

    It accepts the trainable partition (None in the holes), where frozen leaves have no gradient, no
    state and no share in a gradient norm, and equally a full tree, for a training state of your own.

    Args:
        transforms: a gradient transformation for each label but "frozen".
        labels: a tree of labels from `labels`.

    Raises:
        ConfigError: a label without a transformation, or a transformation that no label uses.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {'head': jnp.ones(2), 'stem': jnp.ones(3)}
        >>> tx = transform({'trainable': optax.adamw(0.1)}, labels(params, ['head']))
        >>> updates, _ = tx.update(params, tx.init(params), params)
        >>> updates['stem'].tolist()
        [0.0, 0.0, 0.0]
    """
    used = set(jax.tree.leaves(labels))
    missing, unused = used - set(transforms) - {FROZEN}, set(transforms) - used
    if missing:
        raise ConfigError(f"No transformation is given for the labels {listed(sorted(missing))}.")
    if unused:
        raise ConfigError(
            f"No leaf has the labels {listed(sorted(unused))}; the tree's labels are {listed(sorted(used))}."
        )
    label_of = dict(paths.leaves(labels))

    def fit(tree: Any) -> Any:
        return paths.map_with_leaf(lambda leaf, _: label_of[leaf], tree)

    return optax.multi_transform({FROZEN: optax.set_to_zero(), **transforms}, fit)


def live_statistics(labels: Any, batch_stats: Any) -> frozenset[str]:
    """Returns the paths of the normalisation layers whose own parameters are trained.

    These may use batch statistics (in pretraining, or when asked); a layer in a frozen part always
    normalises with its stored statistics. A layer without parameters of its own counts as trained if
    anything beside it in its parent module is.

    Args:
        labels: labels of the parameter tree.
        batch_stats: the 'batch_stats' collection.

    Example:
        >>> live_statistics({'bn': {'scale': 'trainable'}}, {'bn': {'mean': 0., 'var': 1.}})
        frozenset({'bn'})
    """
    trained = {leaf.keys[:-1] for leaf, label in paths.leaves(labels) if label != FROZEN}
    parents = {keys[:d] for keys in trained for d in range(len(keys))}
    has_own = {leaf.keys[:-1] for leaf, _ in paths.leaves(labels)}
    layers = {leaf.keys[:-1] for leaf, _ in paths.leaves(batch_stats)}
    return frozenset(
        paths.join(layer)
        for layer in layers
        if layer in trained or (layer not in has_own and layer[:-1] in trained | parents)
    )
