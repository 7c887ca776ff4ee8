"""Vision transformers: ViT, DeiT, DINOv2, and the image towers of CLIP and SigLIP.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; Touvron et al., "Training data-efficient image
transformers & distillation through attention", ICML 2021 (distillation token) and "Going deeper with Image
Transformers", ICCV 2021 (LayerScale); Darcet et al., "Vision Transformers Need Registers", ICLR 2024; Radford et al.,
"Learning Transferable Visual Models From Natural Language Supervision", ICML 2021 (a norm before the blocks); Zhai et
al., "Scaling Vision Transformers", CVPR 2022 (attention pooling).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxtl import surgery
from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.nets.transformer import GatedMlp, Mlp, SelfAttention, attend

Array = jax.Array
Pooling = Literal["token", "distilled", "average", "token_average", "map"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one vision transformer differ from another.

    The tokens are, in this order: class token, distillation token, registers, and the patches row by row.

    Attributes:
        grid: rows and columns of patches that the position embeddings are for.
        patch: height and width of a patch in pixels.
        width: features of a token.
        depth: blocks.
        heads: of attention.
        hidden: features between the two layers of the feed-forward part.
        class_token: whether there is one.
        distillation_token: whether there is one.
        registers: number of register tokens.
        positioned: how many of the tokens before the patches have a position embedding: all of them in the original,
            none where the class token is left out, the class token alone in transformers' DINOv2 with registers.
        patch_bias: whether the patch embedding has a bias.
        pre_norm: whether tokens are normalised before the first block (CLIP).
        qkv_bias: whether query, key and value have a bias.
        layer_scale: whether each branch is scaled feature by feature.
        gated: whether the feed-forward part is gated (DINOv2 giant's SwiGLU).
        activation: of the feed-forward part.
        epsilon: of the normalisation.
        pooling: the features: "token" (the class token), "distilled" (class and distillation token, one after the
            other), "average" (the mean of the patches), "token_average" (the class token, then the mean of the
            patches), or "map" (attention with a learnt query).
        pool_prefix: whether "average" and "map" see the tokens before the patches too.
        final_norm: where the last normalisation is: on the "tokens", on what is "pooled" of them, or "none".
        dropout: after embedding, attention and feed-forward, in training.
    """

    grid: tuple[int, int] = (14, 14)
    patch: tuple[int, int] = (16, 16)
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    class_token: bool = True
    distillation_token: bool = False
    registers: int = 0
    positioned: int = 1
    patch_bias: bool = True
    pre_norm: bool = False
    qkv_bias: bool = True
    layer_scale: bool = False
    gated: bool = False
    activation: str = "gelu"
    epsilon: float = 1e-6
    pooling: Pooling = "token"
    pool_prefix: bool = False
    final_norm: Literal["tokens", "pooled", "none"] = "tokens"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"A ViT's width must be a multiple of its heads; found {self.width} and {self.heads}.")
        if not 0 <= self.positioned <= self.prefix:
            raise ConfigError(
                f"{self.positioned} tokens before the patches cannot have positions: found {self.prefix}."
            )
        needs = {"token": self.class_token, "token_average": self.class_token}
        needs["distilled"] = self.class_token and self.distillation_token
        if not needs.get(self.pooling, True):
            raise ConfigError(f"This ViT has no token for pooling={self.pooling!r}; take 'average'.")

    @property
    def prefix(self) -> int:
        """The number of tokens before the patches."""
        return int(self.class_token) + int(self.distillation_token) + self.registers

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture that the grid covers."""
        return self.grid[0] * self.patch[0], self.grid[1] * self.patch[1]


class PatchEmbedding(nn.Module):
    """A picture cut into patches, each of which becomes a token; what is left over at the far edges is not seen.

    Stride and kernel are equal, so the convolution is a matrix product over patches, which is what CPU gets.
    """

    patch: tuple[int, int]
    width: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        shape = (*self.patch, x_BHWC.shape[-1], self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32).astype(x_BHWC.dtype)
        y = jax.lax.platform_dependent(x_BHWC, kernel, cpu=self._product, default=self._convolution)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros_init(), (self.width,), jnp.float32).astype(y.dtype)
        return y

    def _product(self, x_BHWC: Array, kernel: Array) -> Array:
        (height, width), channels = self.patch, x_BHWC.shape[-1]
        rows, columns = x_BHWC.shape[1] // height, x_BHWC.shape[2] // width
        x = x_BHWC[:, : rows * height, : columns * width]
        x = x.reshape(-1, rows, height, columns, width, channels).swapaxes(2, 3)
        x = x.reshape(-1, rows * columns, height * width * channels)
        return x @ kernel.reshape(-1, self.width)

    def _convolution(self, x_BHWC: Array, kernel: Array) -> Array:
        y = jax.lax.conv_general_dilated(
            x_BHWC, kernel, self.patch, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y.reshape(y.shape[0], -1, self.width)


class Stem(nn.Module):
    """Patches become tokens, further tokens come before them, positions are added."""

    config: Config

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        c = self.config
        grid = x_BHWC.shape[1] // c.patch[0], x_BHWC.shape[2] // c.patch[1]
        if grid != c.grid:
            raise ConfigError(
                f"This ViT's positions are for pictures of {c.size[0]}×{c.size[1]} pixels ({c.grid[0]}×{c.grid[1]} "
                f"patches); found {x_BHWC.shape[1]}×{x_BHWC.shape[2]}. Fit them to another size with vit.resize."
            )
        x_BLF = PatchEmbedding(c.patch, c.width, c.patch_bias, name="patch")(x_BHWC)
        normal = nn.initializers.normal(0.02)
        named = (("class_token", int(c.class_token)), ("distillation_token", int(c.distillation_token)))
        first = [
            jnp.broadcast_to(self.param(name, normal, (1, n, c.width)), (x_BLF.shape[0], n, c.width))
            for name, n in (*named, ("registers", c.registers))
            if n
        ]
        x_BLF = jnp.concatenate([*(t.astype(x_BLF.dtype) for t in first), x_BLF], axis=1)
        position = self.param("position", normal, (1, c.positioned + grid[0] * grid[1], c.width))
        bare = jnp.zeros((1, c.prefix - c.positioned, c.width), position.dtype)
        position = jnp.concatenate([position[:, : c.positioned], bare, position[:, c.positioned :]], axis=1)
        x_BLF = x_BLF + position.astype(x_BLF.dtype)
        x_BLF = nn.Dropout(c.dropout, deterministic=True)(x_BLF) if c.dropout else x_BLF
        return nn.LayerNorm(epsilon=c.epsilon, name="norm")(x_BLF) if c.pre_norm else x_BLF


class LayerScale(nn.Module):
    """Multiplies each feature by a learnt number (Touvron et al., ICCV 2021, equation 2)."""

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones_init(), (x_BLF.shape[-1],), jnp.float32)
        return x_BLF * scale.astype(x_BLF.dtype)


class Block(nn.Module):
    """One pre-norm block."""

    config: Config

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        c = self.config
        y = nn.LayerNorm(epsilon=c.epsilon, name="norm1")(x_BLF)
        y = SelfAttention(c.heads, c.qkv_bias, dropout=c.dropout, name="attention")(y)
        x_BLF = x_BLF + (LayerScale(name="layer_scale1")(y) if c.layer_scale else y)
        y = nn.LayerNorm(epsilon=c.epsilon, name="norm2")(x_BLF)
        y = (GatedMlp if c.gated else Mlp)(c.hidden, c.activation, c.dropout, name="mlp")(y)
        return x_BLF + (LayerScale(name="layer_scale2")(y) if c.layer_scale else y)


class AttentionPool(nn.Module):
    """Attention with one learnt query over all tokens, then a feed-forward part (Zhai et al., CVPR 2022).

    The parameters are query [1, 1, features], qkv (query, key and value side by side, as in `SelfAttention`), out,
    norm and mlp.
    """

    config: Config

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        c = self.config
        batch, length, features = x_BLF.shape
        probe = self.param("query", nn.initializers.normal(0.02), (1, 1, features)).astype(x_BLF.dtype)
        kernel, bias = _DenseParameters(3 * features, name="qkv")(x_BLF)
        q = probe @ kernel[:, :features] + bias[:features]
        kv = x_BLF @ kernel[:, features:] + bias[features:]
        q = jnp.broadcast_to(q, (batch, 1, features)).reshape(batch, 1, c.heads, -1).swapaxes(1, 2)
        kv = kv.reshape(batch, length, 2, c.heads, -1).transpose(2, 0, 3, 1, 4)
        y = attend(q, kv[0], kv[1]).reshape(batch, features)
        y = nn.Dense(features, name="out")(y)
        return y + Mlp(c.hidden, c.activation, name="mlp")(nn.LayerNorm(epsilon=c.epsilon, name="norm")(y))


class _DenseParameters(nn.Module):
    """The kernel and bias of a dense layer, of which the caller takes parts."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return kernel.astype(x.dtype), bias.astype(x.dtype)


class Pool(nn.Module):
    """From tokens to features; where only some tokens count, only these are normalised."""

    config: Config

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        c = self.config
        norm = nn.LayerNorm(epsilon=c.epsilon, name="norm") if c.final_norm != "none" else lambda x: x
        tokens, pooled = (norm, lambda x: x) if c.final_norm == "tokens" else (lambda x: x, norm)
        if c.pooling in ("token", "distilled"):
            return norm(x_BLF[:, : 1 if c.pooling == "token" else 2]).reshape(x_BLF.shape[0], -1)
        if c.pooling == "token_average":
            y = tokens(x_BLF)
            return pooled(jnp.concatenate([y[:, 0], y[:, c.prefix :].mean(axis=1)], axis=-1))
        y = tokens(x_BLF if c.pool_prefix else x_BLF[:, c.prefix :])
        return pooled(AttentionPool(c, name="attention")(y) if c.pooling == "map" else y.mean(axis=1))


class VisionTransformer(nn.Module):
    """The backbone: a picture [batch, height, width, channels] → [batch, features]."""

    config: Config

    def setup(self) -> None:
        c = self.config
        self.stem = Stem(c)
        self.blocks = [Block(c) for _ in range(c.depth)]
        self.pool = Pool(c)

    @property
    def segments(self) -> tuple[str, ...]:
        """The names of the parts in order."""
        return ("stem", *(f"blocks_{i}" for i in range(self.config.depth)), "pool")

    @property
    def equal_segments(self) -> tuple[tuple[str, ...], ...]:
        """All blocks have the same shapes."""
        return (self.segments[1:-1],)

    def run(self, segment: str, x: Array) -> Array:
        """Applies one segment."""
        if segment == "stem":
            return self.stem(x)
        if segment == "pool":
            return self.pool(x)
        return self.blocks[int(segment.removeprefix("blocks_"))](x)


# name → width, depth, heads; hidden is four times the width where nothing else is said.
SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
    "so400m": (1152, 27, 16),
}


def _variants() -> dict[str, Config]:
    def of(size: str, patch: int, pixels: int, **changes: Any) -> Config:
        width, depth, heads = SIZES[size]
        hidden = 4304 if size == "so400m" else 4 * width
        side = pixels // patch
        return Config((side, side), (patch, patch), width, depth, heads, hidden, **changes)

    clip = {"pre_norm": True, "patch_bias": False, "epsilon": 1e-5}
    siglip = {"class_token": False, "positioned": 0, "pooling": "map"}
    registers = {"layer_scale": True, "registers": 4, "positioned": 0}
    distilled = {"distillation_token": True, "positioned": 2, "pooling": "distilled"}
    found = {}
    for size, patches in {"tiny": (16,), "small": (8, 16, 32), "base": (8, 16, 32), "large": (14, 16, 32)}.items():
        for patch in patches:
            for pixels in (224, 384) if patch > 14 else (224,):
                found[f"vit_{size}_patch{patch}_{pixels}"] = of(size, patch, pixels)
    for size in ("tiny", "small", "base"):
        found[f"deit_{size}_patch16_224"] = of(size, 16, 224)
        found[f"deit_{size}_distilled_patch16_224"] = of(size, 16, 224, **distilled)
    for size in ("small", "base", "large"):
        found[f"vit_{size}_patch14_dinov2"] = of(size, 14, 518, layer_scale=True)
        found[f"vit_{size}_patch14_reg4_dinov2"] = of(size, 14, 518, **registers)
    for size, patch in (("base", 32), ("base", 16), ("large", 14), ("huge", 14)):
        found[f"vit_{size}_patch{patch}_clip_224"] = of(size, patch, 224, **clip)
        found[f"vit_{size}_patch{patch}_clip_quickgelu_224"] = of(size, patch, 224, activation="quick_gelu", **clip)
    for size, patch, pixels in (("base", 16, 224), ("base", 16, 256), ("large", 16, 256), ("so400m", 14, 224)):
        found[f"vit_{size}_patch{patch}_siglip_{pixels}"] = of(size, patch, pixels, **siglip)
    return found


VARIANTS = _variants()


def variant(name: str) -> Config:
    """Returns the configuration of a named network, by timm's names.

    Raises:
        ConfigError: the name is unknown; the message names the nearest.

    Example:
        >>> variant('vit_base_patch14_reg4_dinov2').grid
        (37, 37)
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no ViT called {name!r}.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


def backbone(config: Config) -> VisionTransformer:
    """Returns the backbone of a configuration."""
    return VisionTransformer(config)


def resize(
    config: Config,
    params: Mapping[str, Any],
    old_size: tuple[int, int],
    new_size: tuple[int, int],
    patch: tuple[int, int] | None = None,
) -> tuple[Config, dict[str, Any], tuple[str, ...]]:
    """Fits a vision transformer to pictures of another size, or to another patch size.

    Args:
        config: of the network as it is.
        params: its params collection.
        old_size: height and width that it took.
        new_size: height and width that it is to take; multiples of the patch.
        patch: the new height and width of a patch; None keeps it.

    Returns:
        (the new configuration, the new params, what was done, one phrase each; nothing if nothing had to be).

    Raises:
        ConfigError: the new size is not a multiple of the patch; the message names the nearest that are.

    Example:
        >>> config = Config(grid=(2, 2), patch=(4, 4))
        >>> stem = {'position': jnp.ones((1, 5, 768))}
        >>> new, params, notes = resize(config, {'backbone': {'stem': stem}}, (8, 8), (12, 8))
        >>> new.grid, params['backbone']['stem']['position'].shape, notes
        ((3, 2), (1, 7, 768), ('positions 2×2 → 3×2 by antialiased bicubic, 1 other token kept',))
    """
    size, notes, stem = patch or config.patch, [], params["backbone"]["stem"]
    uneven = any(pixels % step for pixels, step in zip(new_size, size, strict=True))
    if uneven and (new_size != old_size or size != config.patch):
        near = [sorted({p // s * s, -(-p // s) * s} - {0}) for p, s in zip(new_size, size, strict=True)]
        raise ConfigError(
            f"This ViT cuts pictures into patches of {size[0]}×{size[1]} pixels; {new_size[0]}×{new_size[1]} is no "
            f"multiple of that. Take {' or '.join(map(str, near[0]))} by {' or '.join(map(str, near[1]))}."
        )
    grid = new_size[0] // size[0], new_size[1] // size[1]
    changed = dict(stem)
    if grid != config.grid:
        changed["position"], said = surgery.resize_positions(
            stem["position"], config.grid, grid, prefix=config.positioned
        )
        notes.append(said)
    if size != config.patch:
        kernel, said = surgery.resize_patches(stem["patch"]["kernel"], size)
        changed["patch"] = {**stem["patch"], "kernel": kernel}
        notes.append(said)
    config = dataclasses.replace(config, grid=grid, patch=size)
    return config, surgery.graft(params, "backbone/stem", changed), tuple(notes)
