"""Rematerialised, scanned or in bfloat16, a network says the same, and so do its gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxtl import nets
from flaxtl.card import NetworkSpec
from flaxtl.nets.mode import Mode
from flaxtl.nets.running import Execution

X = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
SPEC = NetworkSpec("resnet", {"depths": (3, 1), "widths": (8, 16), "stem": "cifar"})


def network(**execution):
    return dataclasses.replace(nets.build(SPEC, 3), execution=Execution(**execution))


def variables():
    fresh = network().init(0, X)
    fresh["params"]["head"]["kernel"] = np.ones((16, 3), np.float32)
    return fresh


def outputs_and_gradients(net, mode):
    v = variables()
    rest = {"batch_stats": v["batch_stats"]}

    def loss(params):
        y, state = net.forward({"params": params, **rest}, X, 0, None, mode)
        return jnp.square(y).sum(), (y, state)

    (_, (y, state)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(v["params"])
    return y, state, grads


def close(a, b, tolerance):
    def near(x, y):
        scale = float(jnp.abs(jnp.asarray(x)).max()) + 1e-6
        return bool(jnp.abs(jnp.asarray(x) - jnp.asarray(y)).max() <= tolerance * scale)

    return jax.tree.all(jax.tree.map(near, a, b))


@pytest.mark.parametrize("live", [frozenset(), frozenset({"backbone/stem/bn1"})], ids=["stored", "batch"])
@pytest.mark.parametrize("execution", [{"remat": True}, {"scan": True}, {"remat": True, "scan": True}], ids=str)
def test_the_way_of_running_changes_no_output_and_no_gradient(execution, live):
    mode = Mode(live=live, weight=jnp.ones(4))
    plain, other = outputs_and_gradients(network(), mode), outputs_and_gradients(network(**execution), mode)
    assert close(plain, other, 1e-5)
    if live:
        assert not close(variables()["batch_stats"], other[1]["batch_stats"], 1e-5)


def test_bfloat16_computes_in_it_and_leaves_parameters_and_outputs_float32():
    net = network(dtype="bfloat16")
    y, state, grads = outputs_and_gradients(net, Mode())
    assert {a.dtype.name for a in jax.tree.leaves((y, state, grads))} == {"float32"}
    exact = outputs_and_gradients(network(), Mode())[0]
    assert not np.array_equal(y, exact)
    assert close(exact, y, 0.05)
    text = jax.jit(lambda v: net.forward(v, X)[0]).lower(variables()).as_text()
    assert "bf16" in text


def test_a_scanned_network_is_one_loop_over_its_equal_blocks():
    jaxpr = jax.make_jaxpr(lambda v: network(scan=True).forward(v, X)[0])(variables())
    lengths = [e.params["length"] for e in jaxpr.eqns if e.primitive.name == "scan"]
    assert lengths == [2]  # blocks 1 and 2 of the first stage; its block 0 and the second stage stand alone


def test_a_network_without_outputs_says_its_features():
    net = nets.build(SPEC, 0)
    v = net.init(0, X)
    assert "head" not in v["params"]
    y, _ = net.forward(v, X)
    assert np.array_equal(y, net.forward(v, X, 0, net.border)[0])
