"""The optimizer of a phase: a rate for each depth, the pull to the start, moments that are carried on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import flaxtl
from flaxtl import freeze, paths
from flaxtl.config import FinetuneConfig
from flaxtl.strategies import chains, phases_of
from flaxtl.train import optim
from flaxtl.train.optim import PullState
from flaxtl.training_settings import Optimizer

PLAIN = {"learning_rate": 0.1, "schedule": "constant", "warmup": 0.0, "clip_norm": None, "weight_decay": 0.0}


def after(optimizer, labels, params, grads, steps=1):
    tx = optim.build(optimizer, labels, steps)
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params, state


def test_each_depth_has_its_rate():
    params = {"head": jnp.zeros(3), "top": jnp.zeros(3), "low": jnp.zeros(3)}
    depth = {"head": 0, "top": 1, "low": 2}.__getitem__
    tree = {name: {"w": value} for name, value in params.items()}
    labels = optim.group_labels(tree, ("**",), "head", depth=lambda path: depth(path.split("/")[0]))
    found, _ = after(Optimizer(optimizer="sgd", momentum=0.0, layer_decay=0.5, **PLAIN), labels, tree, _ones(tree))
    for name, rate in (("head", 0.1), ("top", 0.05), ("low", 0.025)):
        np.testing.assert_allclose(found[name]["w"], -rate, rtol=1e-6)


def _ones(tree):
    return jax.tree.map(jnp.ones_like, tree)


def test_layer_decay_counts_the_parts_that_have_parameters():
    model = tiny.model()
    [phase] = phases_of(FinetuneConfig(strategy="full", optimizer=Optimizer(layer_decay=0.75)))
    labels = chains.trained_labels(phase, model)
    # The pooling between the block and the head has no parameters, and is no layer.
    assert set(jax.tree.leaves(labels["backbone"]["blocks_0"])) == {"backbone-depth-1"}
    assert set(jax.tree.leaves(labels["backbone"]["stem"])) == {"backbone-depth-2"}
    assert set(jax.tree.leaves(labels["head"])) == {"head"}


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_decay_of_one_is_no_decay_to_the_bit(name):
    tree = {"head": {"w": jnp.ones((2, 2))}, "low": {"w": jnp.ones((2, 2))}}
    grads = jax.tree.map(lambda a: jnp.arange(4.0).reshape(2, 2), tree)
    plain = optim.group_labels(tree, ("**",), "head")
    grouped = optim.group_labels(tree, ("**",), "head", depth=lambda path: 3)
    optimizer = Optimizer(optimizer=name, weight_decay=0.1)
    one, _ = after(optimizer, plain, tree, grads, 3)
    two, _ = after(optimizer, grouped, tree, grads, 3)
    assert tiny.same(one, two)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_l2_sp_pulls_the_backbone_to_its_start_and_decays_the_head(name):
    tree = {"head": {"w": jnp.full((2, 2), 4.0)}, "low": {"w": jnp.full((2, 2), 4.0), "b": jnp.full(2, 4.0)}}
    labels = optim.group_labels(tree, ("**",), "head")
    optimizer = Optimizer(optimizer=name, momentum=0.0, l2_sp=0.5, **{**PLAIN, "weight_decay": 0.5})
    tx = optim.build(optimizer, labels, 1)
    state = tx.init(tree)
    moved = jax.tree.map(lambda a: a + 2.0, tree)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, tree), state, moved)
    np.testing.assert_allclose(updates["low"]["w"], -0.1 * 0.5 * 2.0, rtol=1e-6)
    np.testing.assert_allclose(updates["low"]["b"], -0.1 * 0.5 * 2.0, rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["w"], -0.1 * 0.5 * 6.0, rtol=1e-6)


def test_the_pulls_start_is_held_for_the_trained_backbone_alone():
    tree = {"head": {"w": jnp.ones((2, 2))}, "low": {"w": jnp.ones((2, 2))}, "frozen": {"w": jnp.ones((2, 2))}}
    labels = optim.group_labels(tree, ("low/**", "head/**"), "head")
    trainable, _ = freeze.partition(tree, labels)
    state = optim.build(Optimizer(l2_sp=0.1), labels, 1).init(trainable)
    pulls = [s for s in jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, PullState)) if isinstance(s, PullState)]
    [kept] = pulls
    [start] = jax.tree.leaves(kept)
    assert start.shape == (2, 2)
    assert start.unsafe_buffer_pointer() != tree["low"]["w"].unsafe_buffer_pointer()


@functools.cache
def pulled(strength):
    settings = {"strategy": "lpft", "epochs": 20, "batch_size": 12, "learning_rate": 0.02}
    return flaxtl.finetune(tiny.model(), tiny.source(), l2_sp=strength, **settings).model


def distance(model):
    start = tiny.model().params["backbone"]
    parts = jax.tree.map(lambda a, b: float(np.square(a - b).sum()), start, model.params["backbone"])
    return sum(jax.tree.leaves(parts)) ** 0.5


def test_a_pulled_network_stays_nearer():
    assert distance(pulled(10.0)) < 0.5 * distance(pulled(0.0))


# Carried on


def carried_labels(tree, trainable, since):
    return optim.group_labels(tree, trainable, "head", since=since)


def test_moments_are_carried_and_new_leaves_begin_anew():
    tree = {"head": {"w": jnp.ones((2, 2))}, "low": {"w": jnp.ones((2, 2))}}
    first = optim.group_labels(tree, ("head/**",), "head")
    trainable, _ = freeze.partition(tree, first)
    tx = optim.build(Optimizer(), first, 4)
    old = tx.init(trainable)
    grads, _ = freeze.partition(_ones(tree), first)
    _, old = tx.update(grads, old, trainable)
    second = optim.group_labels(tree, ("**",), "head", since=lambda leaf: int(leaf.keys[0] == "low"))
    fresh = optim.build(Optimizer(), second, 4, done=1).init(tree)
    state = chains.carried(old, fresh)
    by_name = {paths.join(keys): value for keys, value in paths.items(state)}
    counts = {name: int(v) for name, v in by_name.items() if name.endswith("count")}
    assert sorted(counts.values()) == [0, 0, 1]  # of the schedule and of what joined: 0
    means = {name: float(v.max()) for name, v in by_name.items() if "/mu/" in name}
    assert {name.split("/")[-2]: value > 0 for name, value in means.items()} == {"head": True, "low": False}
