"""MobileNets, EfficientNets and ConvNeXts: parameter counts, segments that compose, equal blocks, what is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxtl import nets, paths
from flaxtl.card import NetworkSpec
from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.weights import Tensor, Weights
from flaxtl.errors import CheckpointError, ConfigError
from flaxtl.nets import convnext, mobilenet
from flaxtl.nets.running import Execution

MOBILE = {
    "stem": 8,
    "widths": (8, 8, 12, 12, 12),
    "hidden": (8, 24, 24, 36, 36),
    "kernels": (3, 5, 3, 3, 3),
    "strides": (1, 2, 2, 1, 1),
    "squeeze": (4, 0, 4, 0, 0),
    "activations": ("relu", "silu", "hard_swish", "relu6", "relu6"),
    "top": 20,
    "pooled": 10,
}
CONVNEXT = {"kernel": 3, "depths": (2, 1, 2), "widths": (8, 12, 16), "response_norm": True}
SMALL = [("mobilenet", MOBILE), ("mobilenet", {**MOBILE, "padding": "same", "pooled": 0}), ("convnext", CONVNEXT)]


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [  # as the reference implementation counts them
        ("mobilenetv2_035", 1_677_128),
        ("mobilenetv2_110d", 4_516_520),
        ("mobilenetv2_140", 6_108_776),
        ("mobilenetv3_large_100", 5_483_032),
        ("mobilenetv3_small_100", 2_542_856),
        ("mobilenetv3_small_050", 1_593_224),
        ("efficientnet_b0", 5_288_548),
        ("efficientnet_b4", 19_341_616),
        ("efficientnet_lite4", 13_006_568),
        ("convnext_atto", 3_695_520),
        ("convnextv2_atto", 3_708_400),
        ("convnextv2_tiny", 28_635_496),
    ],
)
def test_parameter_counts(variant, parameters):
    family = "convnext" if variant.startswith("convnext") else "mobilenet"
    net = nets.build(NetworkSpec(family, nets.named_settings(family, variant)), 1000)
    tree = net.abstract(jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree["params"])) == parameters


def drawn(network, x):
    """Fresh variables, with every leaf drawn so that none does nothing."""
    rng = np.random.default_rng(0)

    def draw(leaf, array):
        near = 1.0 if leaf.path.endswith(("var", "scale")) else 0.0
        width = np.sqrt(1.0 / max(np.prod(array.shape[:-1]), 1)) if len(array.shape) > 1 else 0.1
        return np.float32(near + width * rng.uniform(-1, 1, array.shape))

    return paths.map_with_leaf(draw, dict(network.abstract(x)))


@pytest.mark.parametrize(("family", "settings"), SMALL)
def test_segments_compose_and_own_every_leaf(family, settings):
    network = nets.build(NetworkSpec(family, settings), 3)
    x = np.random.default_rng(0).normal(size=(2, 37, 42, 3)).astype(np.float32)
    variables = drawn(network, x)
    cuts = range(len(network.segments) + 1)

    @jax.jit
    def outputs(variables, x):
        found = [x]
        for cut in cuts[:-1]:
            found.append(network.forward(variables, found[-1], cut, cut + 1)[0])
        return found, network.forward(variables, x)[0]

    parts, whole = outputs(variables, x)
    assert parts[-2].ndim == 2
    np.testing.assert_allclose(parts[-1], whole, rtol=1e-5, atol=1e-6)
    found = {network.segments[network.segment_of(leaf.path)] for leaf, _ in paths.leaves(variables["params"])}
    assert found == set(network.segments) - (
        {"pool"} if not settings.get("pooled") and family == "mobilenet" else set()
    )


@pytest.mark.slow
@pytest.mark.parametrize(("family", "settings"), SMALL[1:])
def test_a_network_is_the_same_scanned_and_nearly_so_in_bfloat16(family, settings):
    network = nets.build(NetworkSpec(family, settings), 3)
    assert network.module.backbone.equal_segments
    x = np.random.default_rng(1).normal(size=(2, 33, 32, 3)).astype(np.float32)
    variables = drawn(network, x)
    run = lambda execution: jax.jit(  # noqa: E731
        lambda v, x: dataclasses.replace(network, execution=execution).forward(v, x)[0]
    )(variables, x)
    plain = run(Execution())
    np.testing.assert_allclose(run(Execution(scan=True)), plain, rtol=1e-4, atol=1e-6)
    coarse = run(Execution(dtype="bfloat16"))
    assert coarse.dtype == jnp.float32
    assert np.abs(coarse - plain).max() <= 0.05 * np.abs(plain).max()


@pytest.mark.parametrize(("family", "settings"), SMALL[1:])
def test_fresh_depthwise_kernels_are_drawn_by_what_they_see_which_is_one_channel(family, settings):
    tree = nets.build(NetworkSpec(family, settings), 3).init(0, jnp.ones((1, 32, 32, 3)))["params"]
    found = [a for leaf, a in paths.leaves(tree) if "/depthwise/" in leaf.path and leaf.path.endswith("kernel")]
    assert len(found) == 5
    for kernel in found:
        assert kernel.std() == pytest.approx(np.sqrt(2 / np.prod(kernel.shape[:2])), rel=0.35)


def test_a_channel_of_zeros_has_a_derivative_under_response_normalisation():
    x = np.zeros((1, 3, 3, 4), np.float32)
    x[..., 1:] = np.random.default_rng(0).normal(size=(1, 3, 3, 3))
    tree = {"params": {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}}
    slope = jax.grad(lambda x: convnext.ResponseNorm().apply(tree, x).sum())(x)
    assert np.isfinite(slope).all()


def test_a_configuration_survives_the_card():
    for family, variants in (("mobilenet", mobilenet.VARIANTS), ("convnext", convnext.VARIANTS)):
        for name, config in variants.items():
            settings = json.loads(json.dumps(nets.named_settings(family, name)))
            assert nets.family_config(family, settings) == config


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: mobilenet.variant("mobilenetv2_10"), "called 'mobilenetv2_10'.*mobilenetv2_1"),
        (lambda: convnext.variant("convnext_tini"), "called 'convnext_tini'.*convnext_tiny"),
        (lambda: mobilenet.Config(widths=(8, 8)), "one entry a block.*'widths': 2"),
        (lambda: mobilenet.Config(activation="reluu"), "no activation 'reluu'.*relu"),
        (lambda: convnext.Config(depths=(1,)), "as many depths as widths"),
        (lambda: convnext.Config(activation="gelo"), "no activation 'gelo'.*gelu"),
    ],
)
def test_what_there_is_not_is_refused_with_the_nearest_names(call, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call()


def weights(config, **shapes):
    return Weights({n.replace("__", "."): Tensor.of(np.zeros(s, np.float32)) for n, s in shapes.items()}, config)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            weights({}, conv_stem__weight=(8, 3, 3, 3), blocks__0__0__conv_dw__weight=(8, 1, 5, 5)),
            "two kinds of padding.*config.json",
        ),
        (
            weights(
                {"architecture": "efficientnet_es"},
                conv_stem__weight=(8, 3, 3, 3),
                blocks__0__0__conv_dw__weight=(8, 1, 5, 5),
            ),
            "does not know the architecture 'efficientnet_es'.*efficientnet_",
        ),
        (
            weights(
                {"architecture": "convnext_atto_rms"},
                stages__0__blocks__0__conv_dw__weight=(8, 1, 7, 7),
                stages__0__blocks__0__mlp__fc1__weight=(32, 8),
            ),
            "does not know the architecture 'convnext_atto_rms', which has another normalisation",
        ),
    ],
)
def test_published_networks_that_are_not_built_are_refused_with_a_sentence(found, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        plan_conversion(found)
