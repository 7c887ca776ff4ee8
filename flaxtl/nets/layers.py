"""Layers that the convolutional families share, in the forms that are fast on each platform.

XLA's CPU convolution is slow at three things that these networks are made of: 1×1 convolutions (half as fast as the
matrix product that they are), convolutions that cut a picture into patches (likewise a product), and depthwise
convolutions (tens of times slower than multiplying and adding shifted pictures). The fast form is chosen at lowering
time for CPU alone (`jax.lax.platform_dependent`); GPU and TPU keep the convolution.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from flaxtl.nets.rows import one_by_one, summed_one_by_one
from flaxtl.nets.transformer import gelu, gelu_tanh

Array = jax.Array
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": jax.nn.silu,
    "hard_swish": jax.nn.hard_swish,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": jax.nn.hard_sigmoid,
}


def _pads(padding: Any, size: Sequence[int], kernel_size: Sequence[int], strides: Pair) -> Pads:
    """Pixels above, below, left and right, from any way to say them."""
    if padding is None:
        padding = [(k // 2, k // 2) for k in kernel_size]
    elif isinstance(padding, int):
        padding = [(padding, padding)] * 2
    elif isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(size, kernel_size, strides, padding)
    (top, bottom), (left, right) = padding
    return (int(top), int(bottom)), (int(left), int(right))


def _convolve(x_BHWC: Array, kernel_hwIO: Array, strides: Pair, padding: Any, groups: int) -> Array:
    return jax.lax.conv_general_dilated(
        x_BHWC,
        kernel_hwIO,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def pointwise(x_BHWC: Array, kernel_11IO: Array, strides: Pair = (1, 1)) -> Array:
    """Returns a 1×1 convolution, computed as a matrix product on CPU.

    Args:
        x_BHWC: float [batch, height, width, channels].
        kernel_11IO: float [1, 1, channels, outputs].
        strides: steps in rows and columns.

    Returns:
        float [batch, ⌈height/stride⌉, ⌈width/stride⌉, outputs].

    Example:
        >>> pointwise(jnp.ones((1, 4, 4, 2)), jnp.ones((1, 1, 2, 3)), (2, 2)).shape
        (1, 2, 2, 3)
    """
    none = ((0, 0), (0, 0))
    return jax.lax.platform_dependent(
        x_BHWC,
        kernel_11IO,
        cpu=lambda x, k: x[:, :: strides[0], :: strides[1], :] @ k[0, 0],
        default=lambda x, k: _convolve(x, k, strides, none, 1),
    )


def patches(x_BHWC: Array, kernel_hwIO: Array) -> Array:
    """Returns a convolution whose strides are its kernel's size, without padding; on CPU a matrix product.

    Args:
        x_BHWC: float [batch, height, width, channels].
        kernel_hwIO: float [patch height, patch width, channels, outputs].

    Returns:
        float [batch, ⌊height / patch height⌋, ⌊width / patch width⌋, outputs].

    Example:
        >>> patches(jnp.ones((1, 9, 8, 2)), jnp.ones((4, 4, 2, 3))).shape
        (1, 2, 2, 3)
    """

    def product(x: Array, k: Array) -> Array:
        (high, wide, channels, outputs), (batch, height, width, _) = k.shape, x.shape
        rows, columns = height // high, width // wide
        x = x[:, : rows * high, : columns * wide].reshape(batch, rows, high, columns, wide * channels)
        x = x.swapaxes(2, 3).reshape(batch, rows, columns, high * wide * channels)
        return x @ k.reshape(-1, outputs)

    none = ((0, 0), (0, 0))
    return jax.lax.platform_dependent(
        x_BHWC, kernel_hwIO, cpu=product, default=lambda x, k: _convolve(x, k, (k.shape[0], k.shape[1]), none, 1)
    )


def depthwise(x_BHWC: Array, kernel_hw1C: Array, strides: Pair = (1, 1), padding: str | Pads = "SAME") -> Array:
    """Returns a convolution of each channel with a kernel of its own; on CPU a sum of shifted pictures.

    On CPU one picture after the other is computed, so that what is worked on stays in the cache; sums are kept in
    float32. First derivatives are reverse-mode only.

    Args:
        x_BHWC: float [batch, height, width, channels].
        kernel_hw1C: float [rows, columns, 1, channels]; at least as large as the strides.
        strides: steps in rows and columns.
        padding: "SAME" or "VALID" as XLA defines them, or pixels ((above, below), (left, right)).

    Returns:
        float [batch, rows, columns, channels].

    Example:
        >>> depthwise(jnp.ones((1, 5, 5, 2)), jnp.ones((3, 3, 1, 2)), (2, 2))[0, :, :, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    return _depthwise(x_BHWC, kernel_hw1C, strides, _pads(padding, x_BHWC.shape[1:3], kernel_hw1C.shape[:2], strides))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    def shifted(x: Array, k: Array) -> Array:
        return one_by_one(lambda picture: _shifted(picture, k, strides, pads), x)

    return jax.lax.platform_dependent(
        x, kernel, cpu=shifted, default=lambda x, k: _convolve(x, k, strides, pads, x.shape[-1])
    )


def _depthwise_forward(x: Array, kernel: Array, strides: Pair, pads: Pads) -> tuple[Array, tuple[Array, Array]]:
    return _depthwise(x, kernel, strides, pads), (x, kernel)


def _depthwise_backward(strides: Pair, pads: Pads, kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    def scanned(x: Array, k: Array, dy: Array) -> tuple[Array, Array]:
        def one(picture: Array, above: Array) -> tuple[Array, Array]:
            slope = _kernel_gradient(picture, above, k.shape, strides, pads)
            return _input_gradient(above, k, picture.shape, strides, pads), slope

        dx, total = summed_one_by_one(one, x, dy)
        return dx, total.astype(k.dtype)

    def plain(x: Array, k: Array, dy: Array) -> tuple[Array, Array]:
        return jax.vjp(lambda x, k: _convolve(x, k, strides, pads, x.shape[-1]), x, k)[1](dy)

    return jax.lax.platform_dependent(*kept, dy, cpu=scanned, default=plain)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _shifted(x_HWC: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    """One picture: the sum over the kernel's elements of the shifted picture times the element."""
    x = jnp.pad(x_HWC.astype(jnp.float32), (*pads, (0, 0)))
    rows, columns = ((size - k) // step + 1 for size, k, step in zip(x.shape, kernel.shape, strides))
    total = jnp.zeros((rows, columns, x.shape[-1]), jnp.float32)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            total += x[_steps(i, rows, strides[0]), _steps(j, columns, strides[1])] * kernel[i, j, 0]
    return total.astype(x_HWC.dtype)


def _steps(start: int, count: int, step: int) -> slice:
    return slice(start, start + (count - 1) * step + 1, step)


def _input_gradient(dy_HWC: Array, kernel: Array, shape: Sequence[int], strides: Pair, pads: Pads) -> Array:
    """One picture: rows of the padded input that are equal modulo the stride see the same kernel rows."""
    padded = [size + sum(pad) for size, pad in zip(shape, pads)]
    sizes = [-(-size // step) for size, step in zip(padded, strides)]

    def phase(*offsets: int) -> Array:
        part = kernel[offsets[0] :: strides[0], offsets[1] :: strides[1]]
        room = tuple((k - 1, n - d) for k, n, d in zip(part.shape, sizes, dy_HWC.shape))
        return _shifted(jax.lax.pad(dy_HWC, jnp.zeros((), dy_HWC.dtype), _edges(room)), part[::-1, ::-1], (1, 1), _NONE)

    lines = [jnp.stack([phase(a, b) for b in range(strides[1])], axis=2) for a in range(strides[0])]
    whole = jnp.stack(lines, axis=1).reshape(sizes[0] * strides[0], sizes[1] * strides[1], -1)
    (top, _), (left, _) = pads
    return whole[top : top + shape[0], left : left + shape[1]]


_NONE = ((0, 0), (0, 0))


def _edges(pads: Sequence[Pair]) -> list[tuple[int, int, int]]:
    return [*((a, b, 0) for a, b in pads), (0, 0, 0)]


def _kernel_gradient(x_HWC: Array, dy_HWC: Array, shape: Sequence[int], strides: Pair, pads: Pads) -> Array:
    """One picture: sums over its rows, one by one, kept for each column until the end."""
    high, wide = shape[:2]
    rows, columns, channels = dy_HWC.shape
    x = jnp.pad(x_HWC.astype(jnp.float32), (*pads, (0, 0)))

    def add(sums: list[Array], row: Array) -> tuple[list[Array], None]:
        band = jax.lax.dynamic_slice_in_dim(x, row * strides[0], high)
        above = dy_HWC[row].astype(jnp.float32)
        return [s + band[:, _steps(j, columns, strides[1])] * above for j, s in enumerate(sums)], None

    zeros = [jnp.zeros((high, columns, channels), jnp.float32)] * wide
    sums, _ = jax.lax.scan(add, zeros, jnp.arange(rows))
    return jnp.stack([s.sum(axis=1) for s in sums], axis=1)[:, :, None]


class Conv(nn.Module):
    """A two-dimensional convolution with PyTorch's symmetric padding, in the fastest form for what it is.

    The kernel is [height, width, channels / groups, features]; with as many groups as channels and features the
    convolution is depthwise.

    Attributes:
        features: output channels.
        kernel_size: height and width.
        strides: steps in rows and columns.
        padding: pixels on each side, or "SAME"/"VALID" as XLA defines them; None means kernel_size // 2.
        groups: groups of channels.
        use_bias: whether a bias is added.
    """

    features: int
    kernel_size: Pair = (3, 3)
    strides: Pair = (1, 1)
    padding: int | str | Sequence[Pair] | None = None
    groups: int = 1
    use_bias: bool = False

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        shape = (*self.kernel_size, x_BHWC.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", kaiming_fan_out, shape, jnp.float32).astype(x_BHWC.dtype)
        pads = _pads(self.padding, x_BHWC.shape[1:3], self.kernel_size, self.strides)
        unpadded = not any(map(any, pads))
        depthwise_sized = all(k >= s for k, s in zip(self.kernel_size, self.strides))
        if self.groups > 1 and self.groups == x_BHWC.shape[-1] == self.features and depthwise_sized:
            y = depthwise(x_BHWC, kernel, self.strides, pads)
        elif self.kernel_size == (1, 1) and self.groups == 1 and unpadded:
            y = pointwise(x_BHWC, kernel, self.strides)
        elif self.kernel_size == self.strides and self.groups == 1 and unpadded:
            y = patches(x_BHWC, kernel)
        else:
            y = _convolve(x_BHWC, kernel, self.strides, pads, self.groups)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).astype(y.dtype)
        return y


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that all channels' means decide (Hu et al., CVPR 2018, section 3).

    Attributes:
        hidden: channels between the two products.
        activation: between them.
        gate: after them.
    """

    hidden: int
    activation: str = "relu"
    gate: str = "sigmoid"

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        y = x_BHWC.mean(axis=(1, 2), keepdims=True)
        y = ACTIVATIONS[self.activation](Conv(self.hidden, (1, 1), use_bias=True, name="reduce")(y))
        y = Conv(x_BHWC.shape[-1], (1, 1), use_bias=True, name="expand")(y)
        return x_BHWC * ACTIVATIONS[self.gate](y)


def batch_norm(name: str | None = None, *, epsilon: float = 1e-5, momentum: float = 0.9) -> nn.BatchNorm:
    """Returns a BatchNorm that uses its stored statistics unless the network's `Mode` says otherwise."""
    return nn.BatchNorm(use_running_average=True, epsilon=epsilon, momentum=momentum, name=name)


def max_pool(x_BHWC: Array, window: int = 3, stride: int = 2, padding: int = 1) -> Array:
    """Returns the maximum over windows, padded with minus infinity as PyTorch does."""
    pads = ((padding, padding), (padding, padding))
    return nn.max_pool(x_BHWC, (window, window), strides=(stride, stride), padding=pads)


def average_pool(x_BHWC: Array) -> Array:
    """Returns the means of 2×2 windows; a last row or column that fills none is left out, as in PyTorch."""
    return nn.avg_pool(x_BHWC, (2, 2), strides=(2, 2))


def blur_pool(x_BHWC: Array) -> Array:
    """Returns every second pixel of a picture blurred by the binomial filter 1 2 1 (Zhang, ICML 2019, section 3.2).

    Edges are mirrored.

    Args:
        x_BHWC: float [batch, height, width, channels].

    Returns:
        float [batch, ⌈height/2⌉, ⌈width/2⌉, channels].

    Example:
        >>> blur_pool(jnp.ones((1, 5, 4, 1)))[0, :, :, 0].tolist()
        [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    x = jnp.pad(x_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    rows = (x[:, :-2:2] + 2 * x[:, 1:-1:2] + x[:, 2::2]) / 4
    return (rows[:, :, :-2:2] + 2 * rows[:, :, 1:-1:2] + rows[:, :, 2::2]) / 4


def grid_mean(x_BHWC: Array, grid: int = 1) -> Array:
    """Returns the means over a grid of parts of the picture, side by side; the parts overlap where sizes do not divide.

    Args:
        x_BHWC: float [batch, height, width, channels].
        grid: parts a side.

    Returns:
        float [batch, grid · grid · channels].

    Example:
        >>> grid_mean(jnp.arange(4.0).reshape(1, 2, 2, 1), 2).tolist(), grid_mean(jnp.ones((1, 3, 5, 1)), 2).shape
        ([[0.0, 1.0, 2.0, 3.0]], (1, 4))
    """
    if grid == 1:
        return x_BHWC.mean(axis=(1, 2))
    rows, columns = (_part_weights(size, grid).astype(x_BHWC.dtype) for size in x_BHWC.shape[1:3])
    return jnp.einsum("bhwc,gh,kw->bgkc", x_BHWC, rows, columns).reshape(x_BHWC.shape[0], -1)


def _part_weights(size: int, parts: int) -> np.ndarray:
    """Returns [parts, size]: how much each row counts in the mean of each part, as in PyTorch's adaptive pooling."""
    weights = np.zeros((parts, size), np.float32)
    for i in range(parts):
        first, last = i * size // parts, -(-(i + 1) * size // parts)
        weights[i, first:last] = 1.0 / (last - first)
    return weights
