"""The layers' fast CPU forms equal the plain convolutions, gradients too; other platforms keep the convolution."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.stats import norm

from flaxtl.nets import layers
from flaxtl.nets.rows import rows_over


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def plain(x, kernel, strides, padding, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=jax.lax.Precision.HIGHEST,
    )


def assert_equal_to_1e_5(a, b):
    assert a.shape == b.shape
    assert np.abs(np.asarray(a) - np.asarray(b)).max() <= 1e-5 * max(np.abs(np.asarray(b)).max(), 1e-30)


def compare(fast, slow, x, kernel):
    """Values, and both gradients of a scalar that weighs every output differently."""
    weights = normal(*jax.eval_shape(slow, x, kernel).shape, seed=1)

    def both(function):
        return jax.jit(jax.value_and_grad(lambda x, k: (weights * function(x, k)).sum(), (0, 1)))(x, kernel)

    assert_equal_to_1e_5(jax.jit(fast)(x, kernel), slow(x, kernel))
    for a, b in zip(both(fast)[1], both(slow)[1], strict=True):
        assert_equal_to_1e_5(a, b)


@pytest.mark.parametrize(
    ("window", "strides", "size", "padding"),
    [
        (3, (1, 1), (9, 8), "symmetric"),
        (3, (2, 2), (9, 8), "symmetric"),
        (3, (2, 2), (7, 12), "SAME"),
        (5, (1, 1), (7, 12), "symmetric"),
        (5, (2, 2), (8, 8), "symmetric"),
        (5, (2, 2), (8, 11), "SAME"),
        (5, (1, 2), (7, 9), "VALID"),
        (7, (1, 1), (9, 8), "symmetric"),
        (7, (2, 2), (8, 7), "SAME"),
    ],
)
def test_depthwise_equals_the_grouped_convolution(window, strides, size, padding):
    x, kernel = normal(2, *size, 6), normal(window, window, 1, 6)
    pads = ((window // 2,) * 2,) * 2 if padding == "symmetric" else padding
    fast = lambda x, k: layers.depthwise(x, k, strides, pads)  # noqa: E731
    compare(fast, lambda x, k: plain(x, k, strides, pads, 6), x, kernel)


@pytest.mark.parametrize(("high", "wide"), [(1, 3), (2, 2)])
def test_depthwise_of_other_kernels(high, wide):
    x, kernel = normal(3, 6, 5, 4), normal(high, wide, 1, 4)
    pads = ((1, 0), (0, 2))
    fast = lambda x, k: layers.depthwise(x, k, (1, 1), pads)  # noqa: E731
    compare(fast, lambda x, k: plain(x, k, (1, 1), pads, 4), x, kernel)


@pytest.mark.parametrize("batch", [4, 3, 1])
def test_depthwise_of_rows_that_lie_on_two_devices(batch):
    x, kernel = normal(batch, 6, 5, 4), normal(3, 3, 1, 4)

    def spread(x, k):
        with rows_over(2):
            return layers.depthwise(x, k)

    compare(spread, lambda x, k: plain(x, k, (1, 1), "SAME", 4), x, kernel)


@pytest.mark.parametrize(("patch", "size"), [((2, 2), (8, 12)), ((4, 4), (9, 14)), ((4, 3), (9, 14))])
def test_patches_equal_the_strided_convolution(patch, size):
    x, kernel = normal(2, *size, 3), normal(*patch, 3, 5)
    compare(layers.patches, lambda x, k: plain(x, k, patch, "VALID"), x, kernel)


def test_second_derivatives_of_a_depthwise_convolution():
    x, kernel = normal(1, 5, 5, 2), normal(3, 3, 1, 2)

    def slope(function):
        inner = jax.grad(lambda x, k: jnp.sin(function(x, k)).sum())
        return jax.jit(jax.grad(lambda k: (inner(x, k) ** 2).sum()))(kernel)

    slow = slope(lambda x, k: plain(x, k, (1, 1), "SAME", 2))
    assert_equal_to_1e_5(slope(layers.depthwise), slow)
    assert np.abs(slow).max() > 0.1


def test_a_depthwise_convolution_in_bfloat16_sums_in_float32():
    x, kernel = jnp.bfloat16(normal(2, 8, 9, 4)), jnp.bfloat16(normal(7, 7, 1, 4))
    exact = plain(jnp.float32(x), jnp.float32(kernel), (1, 1), "SAME", 4)
    value, pull = jax.vjp(lambda x, k: layers.depthwise(x, k), x, kernel)
    assert value.dtype == jnp.bfloat16
    assert np.all(np.abs(jnp.float32(value) - exact) <= 2**-8 * np.abs(exact) + 1e-5)
    dx, dk = pull(jnp.ones_like(value))
    assert (dx.dtype, dk.dtype) == (jnp.bfloat16, jnp.bfloat16)
    wanted = jax.vjp(lambda x, k: plain(x, k, (1, 1), "SAME", 4), jnp.float32(x), jnp.float32(kernel))[1](
        jnp.ones(value.shape)
    )
    for a, b in zip((dx, dk), wanted, strict=True):
        assert np.abs(jnp.float32(a) - b).max() <= 2**-8 * np.abs(b).max()


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"features": 6, "groups": 6}, (7, 6)),
        ({"features": 6, "groups": 6, "kernel_size": (5, 5), "strides": (2, 2), "padding": "SAME"}, (7, 6)),
        ({"features": 6, "groups": 6, "kernel_size": (1, 1), "strides": (2, 2)}, (7, 6)),
        ({"features": 12, "groups": 6}, (7, 6)),
        ({"features": 8, "kernel_size": (1, 1), "strides": (2, 2), "padding": "SAME"}, (7, 6)),
        ({"features": 8, "kernel_size": (2, 2), "strides": (2, 2), "padding": 0}, (7, 6)),
        ({"features": 8, "kernel_size": (2, 2), "strides": (2, 2), "padding": "SAME"}, (7, 6)),
        ({"features": 8, "kernel_size": (3, 3), "strides": (2, 2), "padding": "SAME"}, (8, 5)),
        ({"features": 8, "kernel_size": (3, 5), "padding": 2}, (7, 6)),
    ],
)
def test_a_conv_module_is_the_plain_convolution_with_bias(settings, size):
    module = layers.Conv(**settings, use_bias=True)
    x = normal(2, *size, 6)
    kernel = normal(*module.kernel_size, 6 // module.groups, module.features)
    bias = normal(module.features)
    padding = settings.get("padding", [(k // 2, k // 2) for k in module.kernel_size])
    padding = [(padding, padding)] * 2 if isinstance(padding, int) else padding
    wanted = plain(x, kernel, module.strides, padding, module.groups) + bias
    assert_equal_to_1e_5(module.apply({"params": {"kernel": kernel, "bias": bias}}, x), wanted)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(
    "settings",
    [
        {"features": 6, "groups": 6},
        {"features": 6, "kernel_size": (1, 1)},
        {"features": 6, "kernel_size": (2, 2), "strides": (2, 2), "padding": 0},
    ],
)
def test_other_platforms_keep_one_convolution_and_no_loop(platform, settings):
    module = layers.Conv(**settings)
    x = jnp.ones((2, 6, 6, 6))
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    forward = jax.jit(module.apply).trace(variables, x)
    text = forward.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 1
    assert "stablehlo.while" not in text


def test_the_cpu_form_of_a_depthwise_convolution_holds_no_convolution_forward_or_backward():
    module = layers.Conv(6, groups=6)
    x = jnp.ones((2, 6, 6, 6))
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    gradient = jax.jit(jax.grad(lambda v, x: module.apply(v, x).sum(), (0, 1))).trace(variables, x)
    assert "stablehlo.convolution" not in gradient.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" in gradient.lower(lowering_platforms=("cuda",)).as_text()


def test_squeeze_and_excitation_is_what_its_definition_says():
    module = layers.SqueezeExcite(3, "relu", "hard_sigmoid")
    x = normal(2, 4, 5, 6)
    tree = {
        "reduce": {"kernel": normal(1, 1, 6, 3), "bias": normal(3)},
        "expand": {"kernel": normal(1, 1, 3, 6), "bias": normal(6)},
    }
    mean = x.mean((1, 2))
    hidden = np.maximum(mean @ tree["reduce"]["kernel"][0, 0] + tree["reduce"]["bias"], 0)
    gate = np.clip((hidden @ tree["expand"]["kernel"][0, 0] + tree["expand"]["bias"]) / 6 + 0.5, 0, 1)
    assert_equal_to_1e_5(module.apply({"params": tree}, x), x * gate[:, None, None])


def test_activations_are_what_their_definitions_say():
    x = np.linspace(-8, 8, 321, dtype=np.float32)
    sigmoid = 1 / (1 + np.exp(-x))
    gate = np.clip(x + 3, 0, 6) / 6
    wanted = {
        "relu": np.maximum(x, 0),
        "relu6": np.clip(x, 0, 6),
        "silu": x * sigmoid,
        "hard_swish": x * gate,
        "sigmoid": sigmoid,
        "hard_sigmoid": gate,
        "gelu": x * norm.cdf(x),
        "gelu_tanh": 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    }
    assert set(wanted) == set(layers.ACTIVATIONS)
    for name, value in wanted.items():
        assert_equal_to_1e_5(layers.ACTIVATIONS[name](x), value)


def test_a_module_of_fast_layers_is_a_plain_flax_module():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = layers.batch_norm("bn")(layers.Conv(6, groups=6, name="depthwise")(x))
            return layers.max_pool(layers.SqueezeExcite(2, name="squeeze")(x))

    variables = jax.jit(Net().init)(jax.random.key(0), jnp.ones((1, 5, 5, 6)))
    assert variables["params"]["depthwise"]["kernel"].shape == (3, 3, 1, 6)
    assert Net().apply(variables, jnp.ones((2, 5, 5, 6))).shape == (2, 3, 3, 6)
