"""LoRA on a model: adapters put beside its kernels for a training phase, and merged into them afterwards."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from flaxtl import paths
from flaxtl.errors import ConfigError
from flaxtl.model import Model
from flaxtl.nets import lora
from flaxtl.training_settings import Lora


def with_adapters(model: Model, settings: Lora, *, start: int = 0, seed: int = 0) -> Model:
    """Returns the model with fresh adapters, which change nothing yet.

    Args:
        model: without adapters.
        settings: rank, alpha and patterns.
        start: the first segment that is trained.
        seed: of the draws.

    Raises:
        ConfigError: the parameters have a "lora" of their own, or there is nothing to adapt.
        PathError: a pattern matches nothing.
    """
    if lora.LORA in model.params:
        raise ConfigError(
            f"The network has a part called {lora.LORA!r}, which is what adapters would be called. "
            "Train it with another strategy, such as lpft."
        )
    kernels = lora.adapted(model.network, model.params, settings.lora_patterns, start)
    adapters = lora.fresh_adapters(model.params, kernels, settings.lora_rank, seed)
    network = lora.LoraNetwork(model.network, settings.lora_alpha / settings.lora_rank)
    variables = {**model.variables, paths.PARAMS: {**model.params, lora.LORA: adapters}}
    return dataclasses.replace(model, network=network, variables=variables)


def merged(model: Model) -> Model:
    """Returns an ordinary model that says what one with adapters says; any other as it is."""
    network = model.network
    if not isinstance(network, lora.LoraNetwork):
        return model
    params = jax.tree.map(np.asarray, lora.merge(model.params, network.scale))
    count = len({leaf.keys[:-1] for leaf, _ in paths.leaves(model.params[lora.LORA])})
    return dataclasses.replace(
        model,
        network=network.network,
        variables={**model.variables, paths.PARAMS: params},
        notes=(*model.notes, f"adapters of {count} kernels merged"),
    )
