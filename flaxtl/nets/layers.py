"""Layers that the families share, in the forms that are fast on each platform.

A 1×1 convolution is a matrix product: XLA's CPU convolution is about half as fast at it, so the product
is chosen at lowering time for CPU alone (`jax.lax.platform_dependent`); GPU and TPU keep the convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Array = jax.Array

kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _convolve(x_BHWC: Array, kernel_hwIO: Array, strides: tuple[int, int], padding: Any, groups: int) -> Array:
    return jax.lax.conv_general_dilated(
        x_BHWC,
        kernel_hwIO,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def pointwise(x_BHWC: Array, kernel_11IO: Array, strides: tuple[int, int] = (1, 1)) -> Array:
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


class Conv(nn.Module):
    """A two-dimensional convolution with PyTorch's symmetric padding.

    Attributes:
        features: output channels.
        kernel_size: height and width.
        strides: steps in rows and columns.
        padding: pixels on each side, or "SAME"/"VALID" as XLA defines them; None means kernel_size // 2.
        groups: groups of channels.
        use_bias: whether a bias is added.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: int | str | Sequence[tuple[int, int]] | None = None
    groups: int = 1
    use_bias: bool = False

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        shape = (*self.kernel_size, x_BHWC.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", kaiming_fan_out, shape, jnp.float32)
        padding = self.padding
        if padding is None:
            padding = tuple((k // 2, k // 2) for k in self.kernel_size)
        elif isinstance(padding, int):
            padding = ((padding, padding), (padding, padding))
        kernel = kernel.astype(x_BHWC.dtype)
        if (
            self.kernel_size == (1, 1)
            and self.groups == 1
            and not isinstance(padding, str)
            and not any(map(any, padding))
        ):
            y = pointwise(x_BHWC, kernel, self.strides)
        else:
            y = _convolve(x_BHWC, kernel, self.strides, padding, self.groups)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).astype(y.dtype)
        return y


def batch_norm(name: str | None = None, *, epsilon: float = 1e-5, momentum: float = 0.9) -> nn.BatchNorm:
    """Returns a BatchNorm that uses its stored statistics unless the network's `Mode` says otherwise."""
    return nn.BatchNorm(use_running_average=True, epsilon=epsilon, momentum=momentum, name=name)


def max_pool(x_BHWC: Array, window: int = 3, stride: int = 2, padding: int = 1) -> Array:
    """Returns the maximum over windows, padded with minus infinity as PyTorch does."""
    pads = ((padding, padding), (padding, padding))
    return nn.max_pool(x_BHWC, (window, window), strides=(stride, stride), padding=pads)
