"""A network of a few thousand parameters and pictures that it can learn, for tests of whole jobs."""

import dataclasses

import jax
import numpy as np
from PIL import Image as pillow

from flaxtl import nets, paths
from flaxtl.card import Card, Head, Image, NetworkSpec
from flaxtl.data import from_arrays
from flaxtl.model import Model

LABELS = ("2", "10", "a")
CARD = Card(
    input=Image(size=(8, 8), channels=1, mean=(0.5,), std=(0.25,)),
    network=NetworkSpec("resnet", {"depths": [1], "widths": [8], "stem": "cifar"}),
    heads=(Head(labels=("x", "y")),),
    provenance={"pretrained": {"data": "random numbers"}},
)


def model(seed=0):
    """A model whose statistics and head are not those of a fresh one."""
    network = nets.build(CARD.network, 2)
    variables = network.init(seed, np.zeros((1, 8, 8, 1)))
    rng = np.random.default_rng(seed)
    stats = jax.tree.map(lambda a: a + rng.uniform(0.1, 0.2, a.shape).astype(a.dtype), variables["batch_stats"])
    head = {"kernel": rng.normal(size=(8, 2)).astype(np.float32), "bias": np.array([1.0, -0.0], np.float32)}
    return Model(network, {"params": {**variables["params"], "head": head}, "batch_stats": stats}, CARD)


def pictures(per_class=4, seed=0, classes=3):
    """uint8 [n, 8, 8]: each class of another brightness, in noise; and class numbers."""
    rng = np.random.default_rng([seed, 7])
    targets = np.repeat(np.arange(classes), per_class)
    found = 80 * targets[:, None, None] + rng.integers(0, 80, (len(targets), 8, 8))
    return found.astype(np.uint8), targets


def source(per_class=4, seed=0, classes=3):
    return from_arrays(*pictures(per_class, seed, classes), labels=LABELS[:classes])


def folder(place, per_class=4, seed=0):
    """Writes the pictures as place/CLASS/NUMBER.png."""
    for number, (picture, target) in enumerate(zip(*pictures(per_class, seed), strict=True)):
        (place / LABELS[target]).mkdir(parents=True, exist_ok=True)
        pillow.fromarray(picture).save(place / LABELS[target] / f"{number}.png")
    return place


def with_card(card_model, **changes):
    return dataclasses.replace(card_model, card=dataclasses.replace(card_model.card, **changes))


def same(a, b):
    """Whether two trees are equal to the bit."""

    def equal(x, y):
        x, y = np.asarray(x), np.asarray(y)
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()

    return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(jax.tree.map(equal, a, b))


def changed(a, b):
    """The names of the leaves that differ between two trees of one structure."""
    before = dict(paths.leaves(a))
    return {leaf.name for leaf, value in paths.leaves(b) if not same(before[leaf], value)}
