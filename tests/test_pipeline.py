"""One compiled function from the loader's batch to logits; slicing a batch changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxtl import nets, pipeline
from flaxtl.card import Card, Head, Image, NetworkSpec
from flaxtl.pipeline import Pipeline, compiled, sliced

CARD = Card(
    Image((16, 16), 3, (0.5,), (0.25,)),
    NetworkSpec("resnet", {"depths": (1,), "widths": (8,), "stem": "cifar"}),
    (Head(labels=("a", "b"), normalise="rms"),),
)


@pytest.mark.parametrize("rows", [1, 4, 7, 12])
def test_slices_give_what_the_whole_batch_gives(rows, monkeypatch):
    monkeypatch.setattr(pipeline, "_SLICE_ELEMENTS", 4 * 16 * 16 * 3)
    network = nets.build(CARD.network, 2)
    variables = network.init(0, jnp.zeros((1, 16, 16, 3)))
    variables["params"]["head"]["kernel"] = np.ones((8, 2), np.float32)
    line = Pipeline.of(network, CARD)
    x = np.random.default_rng(0).integers(0, 256, (rows, 16, 16, 3)).astype(np.uint8)
    whole, _ = jax.jit(line)(variables, x)
    parts = jax.jit(lambda v, x: sliced(lambda part: line(v, part)[0], x))(variables, x)
    assert parts.shape == whole.shape
    assert np.allclose(whole, parts, rtol=1e-5, atol=1e-6)


def test_slices_keep_trees(monkeypatch):
    monkeypatch.setattr(pipeline, "_SLICE_ELEMENTS", 2 * pipeline._ELEMENTS_A_TOKEN)
    batch = {"ids": jnp.arange(5, dtype=jnp.int32)[:, None], "mask": jnp.ones((5, 1), jnp.int32)}
    found = sliced(lambda b: {"sum": b["ids"] + b["mask"]}, batch)
    assert found["sum"].ravel().tolist() == [1, 2, 3, 4, 5]


def test_equal_pipelines_share_their_compiled_function():
    lines = [Pipeline.of(nets.build(CARD.network, 2), CARD) for _ in range(2)]
    assert compiled(lines[0], 0, None) is compiled(lines[1], 0, None)


def test_the_root_has_a_derivative_everywhere_and_the_right_one_away_from_zero():
    x = jnp.array([4.0, -0.25, 0.0, 1e-30])
    slope = jax.vmap(jax.grad(pipeline.signed_root))(x)
    assert np.allclose(slope[:2], [0.25, 1.0])
    assert np.isfinite(slope).all()
    assert np.allclose(pipeline.signed_root(x), [2.0, -0.5, 0.0, 1e-15])


def test_the_head_sees_features_of_unit_root_mean_square():
    network = nets.build(CARD.network, 2)
    variables = network.init(0, jnp.zeros((1, 16, 16, 3)))
    line = Pipeline.of(network, CARD)
    x = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    features, _ = line(variables, x, 0, network.border)
    kernel = np.ones((8, 2), np.float32)
    variables["params"]["head"]["kernel"] = kernel
    unit = features / np.linalg.norm(features, axis=1, keepdims=True) * np.sqrt(8)
    assert np.allclose(line(variables, x)[0], unit @ kernel, rtol=1e-5)
