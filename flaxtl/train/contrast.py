"""Supervised contrast within a batch: examples of one class are drawn together, those of different classes apart."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from flaxtl.errors import ConfigError
from flaxtl.nets.mode import Mode
from flaxtl.pipeline import Pipeline
from flaxtl.train import division
from flaxtl.train.losses import Batch, LossFn

Array = jax.Array
_AWAY = -1e9  # in place of a similarity that is not to count


def supervised_contrast(
    features_BD: Array, target_B: Array, others_KD: Array, target_K: Array, counts_BK: Array, temperature: float
) -> Array:
    """Returns the supervised contrastive loss of each example (Khosla et al. 2020, equation 2).

    -1/|P| Σ_p log(exp(s_p / τ) / Σ_k exp(s_k / τ)), with cosine similarities s to all other examples k of the batch, of
    which those of P are of the same class. It is 0 for an example that is the only one of its class.

    Args:
        features_BD: float [examples, features], of any length other than 0.
        target_B: int [examples], their classes.
        others_KD: float [others, features], of the whole batch.
        target_K: int [others].
        counts_BK: bool [examples, others], whether an example is to be compared with another; never with itself.
        temperature: τ.

    Returns:
        float32 [examples].

    Example:
        >>> x, y = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 0, 1])
        >>> supervised_contrast(x, y, x, y, ~jnp.eye(3, dtype=bool), 1.0).round(3).tolist()
        [0.31300002336502075, 0.31300002336502075, 0.0]
    """
    cosine_BK = jnp.matmul(_unit(features_BD), _unit(others_KD).T, precision="highest")
    similar_BK = jnp.where(counts_BK, cosine_BK / temperature, _AWAY)
    log_share_BK = jax.nn.log_softmax(similar_BK, axis=1)
    same_BK = counts_BK & (target_B[:, None] == target_K)
    number_B = same_BK.sum(axis=1)
    total_B = jnp.where(same_BK, log_share_BK, 0.0).sum(axis=1)
    return jnp.where(number_B > 0, -total_B / jnp.maximum(number_B, 1), 0.0)


def _unit(features: Array) -> Array:
    features = features.astype(jnp.float32)
    return features * jax.lax.rsqrt(jnp.square(features).sum(axis=1, keepdims=True) + 1e-12)


def contrast_loss(
    pipeline: Pipeline, *, temperature: float, live: frozenset[str] = frozenset(), start: int = 0
) -> LossFn:
    """Returns the loss function that draws a model's features together by class, for the engine.

    Each example is compared with all others of the whole batch, on whichever device they are; the head has no part in
    it. An example that is in the batch twice is not compared with itself.

    Args:
        pipeline: what is computed, up to the head.
        temperature: see `supervised_contrast`.
        live: normalisation layers that use batch statistics (`freeze.live_statistics`).
        start: the segment that the batch's inputs enter.

    Returns:
        loss_fn(params, state, batch, rng) → (losses [batch], new state, {}).

    Raises:
        ConfigError: when it is traced for a batch that is worked off in parts.
    """

    def loss_fn(params: Any, state: Any, batch: Batch, rng: Any) -> tuple[Array, Any, dict[str, Array]]:
        over = division.current()
        if over.parts > 1:
            raise ConfigError(WHOLE_BATCHES)
        index, weight, target = batch["example_index"], batch["weight"], batch["target"]
        mode = Mode(rng=rng, example_index=index, weight=weight, live=live, axis_name=over.axis_name)
        features, state = pipeline({"params": params, **state}, batch["inputs"], start, pipeline.network.border, mode)
        others, target_K, index_K, weight_K = over.everyones((features, target, index, weight))
        counts_BK = (weight_K > 0) & (index[:, None] != index_K)
        return supervised_contrast(features, target, others, target_K, counts_BK, temperature), state, {}

    return loss_fn


WHOLE_BATCHES = (
    "The strategy contrastive compares all examples of a batch with each other, so that no batch can be worked off in "
    "parts (`microbatch`), not to save memory either. Give a smaller `contrast_batch`."
)
