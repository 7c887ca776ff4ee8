"""Frozen means frozen, to the bit; the trainable partition is all that the optimizer ever sees."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxtl import freeze, nets
from flaxtl.card import Card, Head, Image, NetworkSpec
from flaxtl.config import Optimizer
from flaxtl.pipeline import Pipeline
from flaxtl.train import init_state, make_step, model_loss, optim

CARD = Card(
    input=Image(size=(8, 8), channels=1, mean=(0.5,), std=(0.25,)),
    network=NetworkSpec("resnet", {"depths": (1, 1), "widths": (8, 16), "stem": "cifar"}),
    heads=(Head(labels=("a", "b", "c")),),
)


def network():
    return nets.build(CARD.network, 3)


def variables(seed=0):
    fresh = network().init(seed, jnp.zeros((1, 8, 8, 1)))
    rng = np.random.default_rng(seed)
    fresh["params"]["head"]["kernel"] = rng.normal(size=(16, 3)).astype(np.float32)
    return fresh


def batch(n=6, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "inputs": rng.integers(0, 256, (n, 8, 8, 1)).astype(np.uint8),
        "target": rng.integers(0, 3, n).astype(np.int32),
        "weight": np.ones(n, np.float32),
        "example_index": np.arange(n, dtype=np.int32),
    }


def train(trainable, steps=20, live="batch", **changes):
    v = variables()
    labels = optim.group_labels(v["params"], trainable, "head")
    tx = optim.build(Optimizer(learning_rate=0.01, weight_decay=0.1, clip_norm=0.5, **changes), labels, steps)
    layers = freeze.live_statistics(labels, v["batch_stats"]) if live == "batch" else frozenset()
    loss = model_loss(Pipeline.of(network(), CARD), live=layers)
    state = init_state(v["params"], tx, labels, stats={"batch_stats": v["batch_stats"]}, ema=True)
    step = make_step(loss, tx, ema_decay=0.9)
    for i in range(steps):
        state, metrics = step(state, batch(seed=i))
    return v, labels, state, metrics


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_frozen_leaves_and_statistics_are_bit_equal_after_twenty_steps(name):
    before, labels, state, _ = train(("head/**", "backbone/blocks_1/**"), optimizer=name)
    for tree in (state.params, state.averaged_params):
        same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), before["params"], tree)
        frozen = jax.tree.map(lambda label: label == "frozen", labels)
        assert same == frozen  # what is frozen stayed to the bit, and all that is trainable moved
    stats = state.stats["batch_stats"]["backbone"]
    old = before["batch_stats"]["backbone"]
    for part in ("stem", "blocks_0"):
        assert jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), old[part], stats[part]))
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), old["blocks_1"], stats["blocks_1"])
    assert jax.tree.all(moved)


def test_stored_statistics_never_move_when_fine_tuning():
    before, _, state, _ = train(("**",), live="stored")
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), before["batch_stats"], state.stats["batch_stats"])
    assert jax.tree.all(same)


def test_the_optimizer_state_is_as_large_as_two_copies_of_the_trainable_leaves():
    _, _, state, _ = train(("head/**",), steps=1)
    trainable = sum(a.nbytes for a in jax.tree.leaves(state.trainable))
    moments = sum(a.nbytes for a in jax.tree.leaves(state.opt_state) if a.ndim)
    assert trainable == (16 * 3 + 3) * 4
    assert moments == 2 * trainable


def _cost(trainable):
    v = variables()
    labels = optim.group_labels(v["params"], trainable, "head")
    tx = optim.build(Optimizer(clip_norm=1.0), labels, 10)
    state = init_state(v["params"], tx, labels, stats={"batch_stats": v["batch_stats"]})
    step = make_step(model_loss(Pipeline.of(network(), CARD)), tx)
    return step.lower(state, batch()).compile().cost_analysis()["flops"]


def test_a_head_only_step_has_no_backward_pass_through_the_backbone():
    v = variables()
    pipeline = Pipeline.of(network(), CARD)
    forward = jax.jit(lambda v, x: pipeline(v, x)[0]).lower(v, batch()["inputs"]).compile().cost_analysis()["flops"]
    head, full = _cost(("head/**",)), _cost(("**",))
    assert head < 1.1 * forward  # clipping and the gradient norm included
    assert full > 2.5 * forward


def test_the_partition_and_the_full_tree_give_the_same_updates():
    v = variables()
    labels = freeze.labels(v["params"], ["head/**", "backbone/stem/**"])
    tx = freeze.transform({"trainable": optax.adamw(0.01, weight_decay=0.1)}, labels)
    grads = jax.tree.map(lambda a: jnp.cos(a), v["params"])
    full, _ = tx.update(grads, tx.init(v["params"]), v["params"])
    part, frozen = freeze.partition(v["params"], labels)
    part_grads, _ = freeze.partition(grads, labels)
    updates, _ = tx.update(part_grads, tx.init(part), part)
    merged = freeze.merge(updates, jax.tree.map(jnp.zeros_like, frozen))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), full, merged))


def test_padding_rows_change_nothing():
    v = variables()
    labels = optim.group_labels(v["params"], ("**",), "head")
    tx = optim.build(Optimizer(), labels, 10)
    live = freeze.live_statistics(labels, v["batch_stats"])
    step = make_step(model_loss(Pipeline.of(network(), CARD), live=live), tx)
    results = []
    for filler in (0, 255):
        padded = batch(8)
        padded["weight"][6:] = 0
        padded["inputs"][6:] = filler
        state = init_state(v["params"], tx, labels, stats={"batch_stats": v["batch_stats"]})
        results.append(step(state, padded))
    (a, metrics_a), (b, metrics_b) = results
    assert float(metrics_a["loss"]) == float(metrics_b["loss"])
    assert jax.tree.all(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a.stats, b.stats))
    close = jax.tree.map(lambda x, y: bool(np.allclose(x, y, rtol=1e-6, atol=1e-8)), a.params, b.params)
    assert jax.tree.all(close)


def test_the_loss_falls():
    v = variables()
    labels = optim.group_labels(v["params"], ("**",), "head")
    tx = optim.build(Optimizer(learning_rate=0.01), labels, 30)
    step = make_step(model_loss(Pipeline.of(network(), CARD)), tx)
    state = init_state(v["params"], tx, labels, stats={"batch_stats": v["batch_stats"]})
    losses = []
    for _ in range(30):
        state, metrics = step(state, batch())
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.1 * losses[0]
