"""A user's own module, Linen or NNX, seen through the border that the head's input makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from flaxtl import paths
from flaxtl.errors import ConfigError
from flaxtl.nets.adapt import LinenModule, NnxModule
from flaxtl.nets.mode import Mode


class Linen(nn.Module):
    outputs: int = 3
    spoil: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(8, name="body")(x)
        # The statistics are fixed in the constructor here, which flaxtl must override all the same.
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        y = nn.Dense(self.outputs, name="top")(x)
        return nn.softmax(y) if self.spoil else y


class Nnx(nnx.Module):
    def __init__(self, outputs, rngs):
        self.body = nnx.Linear(5, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.top = nnx.Linear(8, outputs, rngs=rngs)

    def __call__(self, x):
        return self.top(self.drop(nnx.relu(self.norm(self.body(x)))))


def networks():
    return [
        pytest.param(LinenModule(Linen(), head="top", rebuild=lambda n: Linen(n)), id="linen"),
        pytest.param(NnxModule(Nnx(3, nnx.Rngs(0)), head="top", rebuild=lambda n: Nnx(n, nnx.Rngs(0))), id="nnx"),
    ]


X = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


@pytest.mark.parametrize("net", networks())
def test_the_two_segments_compose_to_the_whole(net):
    variables = net.init(1, X)
    whole, _ = jax.jit(lambda v, x: net.forward(v, x))(variables, X)
    features, _ = jax.jit(lambda v, x: net.forward(v, x, 0, net.border))(variables, X)
    logits, _ = jax.jit(lambda v, x: net.forward(v, x, net.border))(variables, features)
    assert features.shape == (6, 8)
    np.testing.assert_allclose(logits, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("net", networks())
def test_statistics_stay_to_the_bit_unless_the_layer_is_live(net):
    variables = net.init(1, X)
    frozen = Mode(rng=jax.random.key(0), example_index=jnp.arange(6))
    _, still = net.forward(variables, X, mode=frozen)
    _, moved = net.forward(variables, X, mode=Mode(live=frozenset({"norm"})))
    for key in ("mean", "var"):
        before = variables["batch_stats"]["norm"][key]
        assert np.array_equal(still["batch_stats"]["norm"][key], before)
        assert not np.array_equal(moved["batch_stats"]["norm"][key], before)


@pytest.mark.parametrize("net", networks())
def test_dropout_drops_only_with_a_key(net):
    variables = net.init(1, X)
    a, _ = net.forward(variables, X)
    b, _ = net.forward(variables, X)
    c, _ = net.forward(variables, X, mode=Mode(rng=jax.random.key(3), example_index=jnp.arange(6)))
    assert np.array_equal(a, b)
    assert not np.allclose(a, c)


@pytest.mark.parametrize("net", networks())
def test_padding_never_touches_batch_statistics(net):
    variables = net.init(1, X)
    live = frozenset({"norm"})
    padded = np.concatenate([X, np.full((2, 5), 1e6, np.float32)])
    weight = jnp.array([1.0] * 6 + [0.0] * 2)
    a, alone = net.forward(variables, X, mode=Mode(live=live))
    b, filled = net.forward(variables, padded, mode=Mode(live=live, weight=weight))
    np.testing.assert_allclose(b[:6], a, rtol=1e-5, atol=1e-5)
    for key in ("mean", "var"):
        np.testing.assert_allclose(
            filled["batch_stats"]["norm"][key], alone["batch_stats"]["norm"][key], rtol=1e-5, atol=1e-6
        )


def test_the_batch_statistics_of_an_nnx_module_are_those_that_it_computes_itself():
    module = Nnx(3, nnx.Rngs(0))
    net = NnxModule(module, head="top")
    own = nnx.clone(module)
    own.train()
    own.drop.rate = 0.0
    expected = own(X)
    found, state = net.forward(net.init(0, X), X, mode=Mode(live=frozenset({"norm"})))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for key in ("mean", "var"):
        np.testing.assert_allclose(state["batch_stats"]["norm"][key], getattr(own.norm, key)[...], rtol=1e-5)


@pytest.mark.parametrize("net", networks())
def test_dropout_follows_the_example_not_the_row(net):
    variables = net.init(1, X)
    index = jnp.arange(6)
    a, _ = net.forward(variables, X, mode=Mode(rng=jax.random.key(3), example_index=index))
    b, _ = net.forward(variables, X[::-1], mode=Mode(rng=jax.random.key(3), example_index=index[::-1]))
    np.testing.assert_allclose(a, b[::-1], rtol=1e-6)


@pytest.mark.parametrize("net", networks())
def test_a_head_of_another_size(net):
    wider = net.with_outputs(7)
    assert paths.subtree(wider.abstract(X)["params"], "top")["kernel"].shape == (8, 7)
    assert [wider.segment_of(p) for p in ("body/kernel", "top/kernel", "topping/kernel")] == [0, 1, 0]


def test_what_cannot_work_is_refused_with_a_sentence():
    with pytest.raises(ConfigError, match="fixed output layer 'top'"):
        LinenModule(Linen(), head="top").with_outputs(9)
    net = LinenModule(Linen(spoil=True), head="top")
    variables = net.init(0, X)
    with pytest.raises(ConfigError, match="changes what its head 'top' returns"):
        net.forward(variables, X)
    lost = LinenModule(Linen(), head="classifier")
    with pytest.raises(ConfigError, match="called 'classifier' 0 times"):
        lost.forward(variables, X)
    missing = NnxModule(Nnx(3, nnx.Rngs(0)), head="classifier")
    variables = missing.init(0, X)
    with pytest.raises(ConfigError, match="no attribute 'classifier'"):
        missing.forward(variables, X)
