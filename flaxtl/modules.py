"""A model's pipeline as an ordinary Linen or NNX module, for training loops and programs outside flaxtl.

Everything that lies between prepared rows and logits is inside: the card's device-side preprocessing (scaling and
normalisation of pictures, audio front ends), the network, the head's feature normalisation, and if asked the
temperature. Nothing is written twice: both modules run the `Pipeline` that `Model.logits` runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from flaxtl import paths
from flaxtl.nets.mode import BATCH_STATS, DROPOUT, EVAL, Mode
from flaxtl.nets.mode_nnx import with_string_keys
from flaxtl.pipeline import Pipeline

Array = jax.Array


def _layers(stats: Mapping[str, Any], live: Collection[str] | None) -> frozenset[str]:
    return frozenset(paths.join(keys[:-1]) for keys in paths.flatten(stats)) if live is None else frozenset(live)


def _plain(tree: Any) -> Any:
    return {name: _plain(value) for name, value in tree.items()} if isinstance(tree, Mapping) else tree


class LinenModel(nn.Module):
    """A model as a Linen module; its variables are the model's own tree.

    Training is `apply(variables, inputs, train=True, rngs={'dropout': key}, mutable=['batch_stats'])`. Without
    'batch_stats' among the mutable collections BatchNorm keeps to its stored statistics, as fine-tuning on little data
    wants it. A network without dropout needs no key.

    Attributes:
        pipeline: what is computed.
        temperature: what logits are divided by.
    """

    pipeline: Pipeline
    temperature: float = 1.0

    def __call__(
        self,
        inputs: Any,
        train: bool = False,
        *,
        live: Collection[str] | None = None,
        example_index: Array | None = None,
        weight: Array | None = None,
    ) -> Array:
        """Returns logits, float [rows, outputs].

        Args:
            inputs: rows as `Model.preprocess` returns them.
            train: whether dropout drops and BatchNorm uses batch statistics.
            live: paths of the BatchNorm layers that do in training, such as `freeze.live_statistics` returns; None for
                all.
            example_index: int32 [rows], on which dropout's masks then depend instead of on the row; see `Mode`.
            weight: float32 [rows]; rows of weight 0 are padding, which batch statistics leave out.

        Raises:
            ConfigError: dropout is to drop and has no key.
        """
        mode = self._mode(train, live, example_index, weight)
        logits = self._run(inputs, 0, None, mode)
        return logits if self.temperature == 1.0 else logits / self.temperature

    def features(self, inputs: Any) -> Array:
        """Returns what the backbone hands the head, before the head's normalisation, float [rows, features]."""
        return self._run(inputs, 0, self.pipeline.network.border, EVAL)

    def head(self, features: Array) -> Array:
        """Returns the logits of features, float [rows, outputs]."""
        return self._run(features, self.pipeline.network.border, None, EVAL) / self.temperature

    def _mode(self, train: bool, live: Collection[str] | None, example_index: Any, weight: Any) -> Mode:
        if not train or self.is_initializing():
            return EVAL
        writes = self.is_mutable_collection(BATCH_STATS)
        return Mode(
            rng=self.make_rng(DROPOUT) if self.has_rng(DROPOUT) else None,
            example_index=example_index,
            weight=weight,
            live=_layers(self.variables.get(BATCH_STATS, {}), live) if writes else frozenset(),
            require_rng=True,
        )

    def _run(self, x: Any, start: int, stop: int | None, mode: Mode) -> Array:
        if self.is_initializing():
            self._put(self.pipeline.network.init(0, self.pipeline.preprocess.device(x)))
        variables = {name: _plain(tree) for name, tree in self.variables.items()}
        y, state = self.pipeline(variables, x, start, stop, mode)
        if mode is not EVAL:
            self._put({name: tree for name, tree in state.items() if self.is_mutable_collection(name)})
        return y

    def _put(self, collections: Mapping[str, Mapping[str, Any]]) -> None:
        for collection, tree in collections.items():
            for name, value in tree.items():
                self.put_variable(collection, name, value)


class NnxModel(nnx.Module):
    """A model as an NNX module that holds its state: `params` of `nnx.Param`, `batch_stats` of `nnx.BatchStat`.

    `train()` and `eval()` switch dropout and BatchNorm as everywhere in NNX; a fresh one is in evaluation.

    Args:
        pipeline: what is computed.
        variables: the model's; they are copied.
        temperature: what logits are divided by.
        rngs: with the stream 'dropout' or a default one; needed where dropout is to drop.
    """

    def __init__(
        self, pipeline: Pipeline, variables: Mapping[str, Any], temperature: float = 1.0, rngs: nnx.Rngs | None = None
    ) -> None:
        kinds: dict[str, Any] = {paths.PARAMS: nnx.Param, BATCH_STATS: nnx.BatchStat}
        self.pipeline, self.temperature = pipeline, temperature
        self.collections = tuple(variables)
        for name, tree in variables.items():
            setattr(self, name, _nested(tree, kinds.get(name, nnx.Variable)))
        self.rngs = nnx.data(rngs)
        self.deterministic = True
        self.use_running_average = True

    def variables(self) -> dict[str, Any]:
        """Returns the state as a model's variables, for `Model.with_variables` and checkpoints."""
        state = {name: nnx.to_pure_dict(nnx.state(getattr(self, name))) for name in self.collections}
        return {name: with_string_keys(tree) for name, tree in state.items()}

    def __call__(
        self,
        inputs: Any,
        *,
        train: bool | None = None,
        live: Collection[str] | None = None,
        example_index: Array | None = None,
        weight: Array | None = None,
    ) -> Array:
        """Returns logits, float [rows, outputs].

        Args:
            inputs: rows as `Model.preprocess` returns them.
            train: whether dropout drops and BatchNorm uses batch statistics; None goes by `train()` and `eval()`.
            live: paths of the BatchNorm layers that do in training, such as `freeze.live_statistics` returns; None for
                all.
            example_index: int32 [rows], on which dropout's masks then depend instead of on the row; see `Mode`.
            weight: float32 [rows]; rows of weight 0 are padding, which batch statistics leave out.

        Raises:
            ConfigError: dropout is to drop and there are no random streams.
        """
        drops = not self.deterministic if train is None else train
        batch = not self.use_running_average if train is None else train
        variables = self.variables()
        mode = EVAL
        if drops or batch:
            mode = Mode(
                rng=self.rngs.dropout() if drops and self.rngs is not None else None,
                example_index=example_index,
                weight=weight,
                live=_layers(variables.get(BATCH_STATS, {}), live) if batch else frozenset(),
                require_rng=drops,
            )
        y, state = self.pipeline(variables, inputs, mode=mode)
        if mode is not EVAL:
            for name, tree in state.items():
                _write(getattr(self, name), tree)
        return y if self.temperature == 1.0 else y / self.temperature


def _nested(tree: Any, kind: Any) -> Any:
    if isinstance(tree, Mapping):
        return nnx.Dict({name: _nested(value, kind) for name, value in tree.items()})
    return kind(jnp.array(tree, copy=True))


def _write(node: Any, tree: Any) -> None:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            _write(node[name], value)
        else:
            node[name][...] = value
