"""ResNets: shapes, parameter counts, segments, initialisation; the forms of one layer agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxtl import nets, paths
from flaxtl.card import NetworkSpec
from flaxtl.errors import ConfigError
from flaxtl.nets import layers, resnet

SMALL = {"depths": (1, 1), "widths": (8, 16), "stem": "cifar"}


def count(variant, outputs, size, channels=3):
    net = nets.build(NetworkSpec("resnet", nets.named_settings("resnet", variant)), outputs)
    tree = net.abstract(jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree["params"]))


@pytest.mark.parametrize(
    ("variant", "outputs", "parameters"),
    [  # as the papers' reference implementations count them
        ("resnet18", 1000, 11_689_512),
        ("resnet34", 1000, 21_797_672),
        ("resnet50", 1000, 25_557_032),
        ("resnet101", 1000, 44_549_160),
        ("resnet152", 1000, 60_192_808),
        ("resnet50d", 1000, 25_576_264),
        ("resnet20_cifar", 10, 269_722),
        ("resnet56_cifar", 10, 853_018),
        ("resnet110_cifar", 10, 1_727_962),
    ],
)
def test_parameter_counts(variant, outputs, parameters):
    assert count(variant, outputs, 64 if outputs == 1000 else 32) == parameters


@pytest.mark.parametrize(("size", "channels"), [((8, 8), 1), ((9, 13), 3), ((16, 8), 4)])
def test_any_size_and_channel_count(size, channels):
    net = nets.build(NetworkSpec("resnet", SMALL), 5)
    x = jnp.ones((2, *size, channels))
    logits, _ = net.forward(net.init(0, x), x)
    assert logits.shape == (2, 5)


@pytest.mark.parametrize("stem", ["imagenet", "deep", "cifar"])
@pytest.mark.parametrize("shortcut", ["conv", "average", "pad"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_segments_compose_in_every_form(stem, shortcut, block):
    net = nets.build(NetworkSpec("resnet", {**SMALL, "stem": stem, "shortcut": shortcut, "block": block}), 3)
    x = np.random.default_rng(0).normal(size=(2, 17, 17, 3)).astype(np.float32)
    variables = net.init(1, x)
    variables["params"]["head"]["kernel"] = np.ones_like(variables["params"]["head"]["kernel"])
    whole, _ = net.forward(variables, x)
    for cut in range(1, len(net.segments)):
        below, _ = net.forward(variables, x, 0, cut)
        above, _ = net.forward(variables, below, cut)
        np.testing.assert_allclose(above, whole, rtol=1e-5)


def test_every_leaf_belongs_to_a_segment():
    net = nets.build(NetworkSpec("resnet", SMALL), 3)
    tree = net.abstract(jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))["params"]
    found = {net.segments[net.segment_of(leaf.path)] for leaf, _ in paths.leaves(tree)}
    assert found == {"stem", "blocks_0", "blocks_1", "head"}


def test_fresh_values_depend_on_the_seed_and_the_name_alone():
    net = nets.build(NetworkSpec("resnet", SMALL), 3)
    a, b, c = (net.init(seed, jnp.ones((1, 8, 8, 3))) for seed in (0, 0, 1))
    assert jax.tree.all(jax.tree.map(np.array_equal, a, b))
    kernel = lambda v: v["params"]["backbone"]["stem"]["conv1"]["kernel"]  # noqa: E731
    assert not np.array_equal(kernel(a), kernel(c))
    wider = net.with_outputs(9).init(0, jnp.ones((1, 8, 8, 3)))
    assert np.array_equal(kernel(a), kernel(wider))


def test_signals_keep_their_size_through_a_fresh_network():
    net = nets.build(NetworkSpec("resnet", {"depths": (3, 3, 3), "widths": (16, 32, 64), "stem": "cifar"}), 3)
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype(np.float32)
    features, _ = net.forward(net.init(0, x), x, 0, net.border)
    assert 0.1 < float(features.std()) < 100


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 1)])
def test_a_pointwise_convolution_equals_the_convolution_gradients_too(strides):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, 5)).astype(np.float32)
    kernel = rng.normal(size=(1, 1, 5, 4)).astype(np.float32)

    def plain(x, k):
        return jax.lax.conv_general_dilated(x, k, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    fast = lambda x, k: layers.pointwise(x, k, strides)  # noqa: E731
    np.testing.assert_allclose(fast(x, kernel), plain(x, kernel), rtol=1e-5, atol=1e-5)
    grads = [jax.grad(lambda x, k, f=f: jnp.sin(f(x, k)).sum(), (0, 1))(x, kernel) for f in (fast, plain)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *grads)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: nets.build(NetworkSpec("resnext", {}), 3), "no network family 'resnext'.*'resnet'"),
        (lambda: nets.build(NetworkSpec("resnet", {"width": 3}), 3), "no setting 'width'.*'widths'"),
        (lambda: resnet.variant("resnet19"), "no ResNet called 'resnet19'.*resnet1"),
        (
            lambda: nets.build(NetworkSpec("resnet", {"depths": (1,), "widths": (8, 8)}), 3),
            "as many depths as widths",
        ),
    ],
)
def test_unknown_networks_are_refused_with_the_nearest_names(call, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call()
