"""Text networks: padding changes nothing, pooling is what it says, and every way of running gives the same."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxtl import nets, paths
from flaxtl.card import NetworkSpec
from flaxtl.errors import ConfigError
from flaxtl.nets import bert, modernbert
from flaxtl.nets.bert import bias_by_distance, distance_buckets, pooled
from flaxtl.nets.modernbert import local_bias, rotate
from flaxtl.nets.running import Execution

_SIZE = {"vocabulary": 30, "width": 24, "heads": 3, "hidden": 32, "epsilon": 1e-5}
_BERT = {**_SIZE, "positions": 24, "depth": 2}
KINDS = {
    "bert": ("bert", _BERT),
    "roberta": ("bert", {**_BERT, "first_position": 2, "types": 1, "pooling": "pooler"}),
    "mpnet": ("bert", {**_BERT, "first_position": 2, "types": 0, "buckets": 32, "normalise": True}),
    "modernbert": ("modernbert", {**_SIZE, "longest": 24, "local": (False, True, True), "reach": 2}),
}


def network_of(kind):
    family, settings = KINDS[kind]
    network = nets.build(NetworkSpec(family, settings), 0)
    variables = network.init(1, batch(2, 4))
    # Fresh embeddings are small; as large as trained ones, attention is not uniform.
    larger = paths.map_with_leaf(lambda leaf, a: a * 25.0 if leaf.path.endswith("embedding") else a, variables)
    return network, larger


def batch(rows, length, longer=0, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.zeros((rows, length + longer), np.int32)
    mask = np.zeros_like(ids)
    ids[:, :length], mask[:, :length] = rng.integers(1, 30, (rows, length)), 1
    return {"ids": ids, "mask": mask}


@functools.cache
def compiled(network):
    return jax.jit(lambda variables, x: network.forward(variables, x)[0])


def features(network, variables, x):
    return compiled(network)(variables, x)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    network, variables = network_of(kind)
    x = batch(2, 7, longer=6)
    first = features(network, variables, x)
    assert np.isfinite(first).all()
    assert np.abs(first[0] - first[1]).max() > 1e-2
    noise = np.random.default_rng(1).integers(0, 30, x["ids"].shape)  # whatever stands where the mask is 0
    other = {**x, "ids": np.where(x["mask"], x["ids"], noise).astype(np.int32)}
    short = {name: a[:, :7] for name, a in x.items()}
    for same in (other, short):
        np.testing.assert_allclose(features(network, variables, same), first, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["mpnet", "modernbert"])
def test_scanned_blocks_and_cuts_give_the_same(kind):
    network, variables = network_of(kind)
    x = batch(2, 9, longer=2)
    plain = features(network, variables, x)
    scanned = dataclasses.replace(network, execution=Execution(scan=True))
    np.testing.assert_allclose(features(scanned, variables, x), plain, rtol=1e-5, atol=1e-5)

    def in_two(variables, x):
        between = network.forward(variables, x, 0, 2)[0]
        rows = [jax.tree.map(lambda a, i=i: a[i : i + 1], between) for i in (0, 1)]
        return jnp.concatenate([network.forward(variables, row, 2)[0] for row in rows])

    np.testing.assert_allclose(jax.jit(in_two)(variables, x), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["mpnet", "modernbert"])
def test_bfloat16_says_nearly_the_same(kind):
    network, variables = network_of(kind)
    x = batch(2, 6, longer=2)
    half = dataclasses.replace(network, execution=Execution(dtype="bfloat16"))
    plain, rough = features(network, variables, x), features(half, variables, x)
    assert rough.dtype == jnp.float32
    assert np.abs(plain - rough).max() <= 0.1 * np.abs(plain).max()


def test_every_parameter_of_mpnet_is_trained():
    network, variables = network_of("mpnet")
    x = batch(2, 6)
    target = jnp.arange(24.0)
    loss = lambda v: jnp.square(network.forward(v, x)[0] * target).sum()  # noqa: E731
    gradients = jax.jit(jax.grad(loss))(variables)["params"]["backbone"]
    moved = {k: bool(np.abs(v["embedding"]).max() > 1e-6) for k, v in gradients["stem"].items() if k != "norm"}
    assert moved == {"tokens": True, "positions": True, "distances": True}


def test_pooling_is_over_real_tokens():
    x, mask = jnp.array([[[1.0], [5.0], [9.0]], [[-1.0], [9.0], [9.0]]]), jnp.array([[1, 1, 0], [1, 0, 0]])
    assert pooled(x, mask, "mean").ravel().tolist() == [3.0, -1.0]
    assert pooled(x, mask, "max").ravel().tolist() == [5.0, -1.0]
    assert pooled(x, mask, "cls").ravel().tolist() == [1.0, -1.0]
    assert pooled(x, jnp.zeros((2, 3)), "mean").ravel().tolist() == [0.0, 0.0]


def test_distances_have_their_bucket_on_either_side():
    buckets = distance_buckets(300, 32)
    behind, ahead = buckets[299::-1], buckets[299:]
    assert behind[:8].tolist() == list(range(8))
    assert behind[[8, 11, 12, 16, 127, 128, 299]].tolist() == [8, 8, 9, 10, 15, 15, 15]
    assert np.array_equal(ahead[1:], behind[1:] + 16)
    bias = bias_by_distance(jnp.arange(-2.0, 3.0)[:, None], 3)[0, 0]
    assert np.array_equal(bias, [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]])


def test_rotated_products_depend_on_the_distance_alone():
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 1, 1, 1, 8)).astype(np.float32)
    turned_q, turned_k = (rotate(jnp.tile(a, (1, 1, 12, 1)), 100.0)[0, 0] for a in (q, k))
    products = np.asarray(turned_q @ turned_k.T)
    for distance in (0, 1, 5):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-5)
    assert products[0, 0] == pytest.approx(float((q * k).sum()), rel=1e-5)


def test_local_attention_reaches_as_far_as_it_says():
    network, variables = network_of("modernbert")
    assert (local_bias(5, 1)[0, 0] == 0).sum() == 13
    block = {k: v for k, v in batch(1, 12).items() if k == "mask"} | {"x": jnp.ones((1, 12, 24))}
    sixth = lambda x: network.forward(variables, {**block, "x": x}, 2, 3)[0]["x"][0, 6, 3]  # noqa: E731
    seen = jax.jit(jax.grad(sixth))(block["x"])
    assert np.flatnonzero(np.abs(seen[0]).max(-1) > 1e-9).tolist() == [4, 5, 6, 7, 8]


def test_blocks_that_are_equal_are_named():
    assert modernbert.backbone(modernbert.Config()).equal_segments[0] == ("blocks_1", "blocks_2")
    assert len(modernbert.backbone(modernbert.Config()).equal_segments) == 7
    assert bert.backbone(bert.Config(depth=2)).equal_segments == (("blocks_0", "blocks_1"),)


@pytest.mark.parametrize("kind", ["roberta", "modernbert"])
def test_a_row_without_positions_is_refused(kind):
    family, settings = KINDS[kind]
    network = nets.build(NetworkSpec(family, settings), 0)
    with pytest.raises(ConfigError, match="25 tokens"):
        network.abstract(batch(1, 25))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: bert.Config(width=10, heads=3), "multiple of its heads"),
        (lambda: bert.Config(activation="gleu"), "gelu"),
        (lambda: modernbert.Config(width=15, heads=3), "even multiple"),
        (lambda: modernbert.Config(dense_activation="tanhh"), "no activation 'tanhh'"),
        (lambda: bert.variant("bert-bas-uncased"), "bert-base-uncased"),
        (lambda: modernbert.variant("ModernBERT"), "ModernBERT-base"),
    ],
)
def test_impossible_settings_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
