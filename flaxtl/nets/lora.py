"""Low-rank adapters (LoRA; Hu et al. 2022) on any network: kernels W become W + alpha/rank · A B, and only A, B train.

The adapters are a subtree "lora" of the parameters with the kernels' own paths, so that one pattern, ``lora/**``, names
them all. Merged into the kernels they are gone: what is saved and exported is an ordinary network.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxtl import paths
from flaxtl.errors import ConfigError, listed
from flaxtl.nets.mode import EVAL, Mode, Variables
from flaxtl.nets.network import Network
from flaxtl.nets.normalising import in_network

LORA = "lora"
_FEW = 0.25


@dataclasses.dataclass(frozen=True)
class LoraNetwork:
    """A network with adapters beside its parameters.

    Attributes:
        network: the network itself.
        scale: alpha / rank, what the adapters' products count.

    Example:
        >>> from flaxtl.convert import load
        >>> model = load('flaxtl:characters')
        >>> adapters = fresh_adapters(model.params, adapted(model.network, model.params), rank=2)
        >>> network = LoraNetwork(model.network, 2.0)
        >>> variables = {**model.variables, 'params': {**model.params, 'lora': adapters}}
        >>> x = np.zeros((1, 32, 32, 1), np.float32)
        >>> bool((network.forward(variables, x)[0] == model.network.forward(model.variables, x)[0]).all())
        True
    """

    network: Network
    scale: float

    @property
    def segments(self) -> tuple[str, ...]:
        """The network's own."""
        return self.network.segments

    @property
    def border(self) -> int:
        """The network's own."""
        return self.network.border

    @property
    def execution(self) -> Any:
        """How the network is run, if it is one of flaxtl's own."""
        return getattr(self.network, "execution", None)

    def forward(
        self, variables: Variables, x: Any, start: int = 0, stop: int | None = None, mode: Mode = EVAL
    ) -> tuple[Any, dict[str, Any]]:
        """Applies segments start…stop-1 with the adapters' products added to their kernels; see `Network`."""
        params = merge(variables[paths.PARAMS], self.scale)
        return self.network.forward({**variables, paths.PARAMS: params}, x, start, stop, mode)

    def abstract(self, x: Any) -> dict[str, Any]:
        """Returns the shapes of the network's own variables, without adapters."""
        return self.network.abstract(x)

    def init(self, seed: int, x: Any) -> dict[str, Any]:
        """Returns fresh variables of the network's own, without adapters."""
        return self.network.init(seed, x)

    def with_outputs(self, outputs: int) -> LoraNetwork:
        """Returns the same network with a head of another size."""
        return dataclasses.replace(self, network=self.network.with_outputs(outputs))

    def normalising(self, how: str) -> tuple[LoraNetwork, str]:
        """Returns the same network whose head normalises features so, and what is left to do of it."""
        network, left = in_network(self.network, how)
        return (self if network is self.network else dataclasses.replace(self, network=network)), left

    def segment_of(self, path: str) -> int:
        """Returns the index of the segment that a parameter path belongs to; an adapter is where its kernel is."""
        keys = paths.split(path)
        return self.network.segment_of(paths.join(keys[1:-1]) if keys[0] == LORA else path)


def adapted(network: Network, params: Mapping[str, Any], patterns: Sequence[str] = (), start: int = 0) -> list[str]:
    """Returns the paths of the kernels that get adapters.

    Args:
        network: whose they are.
        params: its parameters.
        patterns: of the kernels. By default the dense kernels and 1×1 convolutions between the first segment and the
            head; where these hold less than a quarter of the numbers of all kernels there, every kernel that sees
            more than one channel.
        start: the first segment that is trained; kernels below it get none.

    Raises:
        PathError: a pattern matches nothing.
        ConfigError: nothing is left to adapt.
    """
    between = {
        leaf.path: value
        for leaf, value in paths.leaves(params)
        if start <= network.segment_of(leaf.path) < network.border and np.ndim(value) >= 2
    }
    if patterns:
        chosen = paths.select(patterns, params)
        found = [leaf.path for leaf, yes in paths.leaves(chosen) if yes and leaf.path in between]
    else:
        found = _usual(network, between)
    if not found and patterns:
        raise ConfigError(
            f"There are no kernels for LoRA in what lora_patterns match ({listed(map(repr, patterns))}): they have two "
            "or more axes and lie between the first part that is trained and the head. Such kernels are "
            f"{listed(between) or 'none'}."
        )
    if not found:
        raise ConfigError(
            "There are no kernels for LoRA between the network's first part and its head. Name kernels of two or more "
            "axes by `lora_patterns`, or train otherwise, with `strategy='lpft'`."
        )
    return found


def _usual(network: Network, between: Mapping[str, Any]) -> list[str]:
    first = 0 if network.border == 1 else 1  # a user's own module has one part before its head
    kernels = {
        path: value
        for path, value in between.items()
        if paths.split(path)[-1] == "kernel" and network.segment_of(path) >= first and value.shape[-2] > 1
    }
    pointwise = [path for path, value in kernels.items() if math.prod(value.shape[:-2]) == 1]
    every = sum(math.prod(value.shape) for value in kernels.values())
    own = sum(math.prod(kernels[path].shape) for path in pointwise)
    return pointwise if own >= _FEW * every else list(kernels)


def fresh_adapters(params: Mapping[str, Any], kernels: Sequence[str], rank: int, seed: int = 0) -> dict[str, Any]:
    """Returns the subtree of adapters for some kernels: A drawn, B zero, so that nothing is changed by them yet.

    A kernel [..., in, out] counts as a matrix [... · in, out]; A is [... · in, rank] with variance 1/(... · in), B
    [rank, out].

    Args:
        params: the parameters.
        kernels: paths as `adapted` returns them.
        rank: of the product; reduced to what a kernel can have.
        seed: of the draws; each kernel has its own.
    """
    flat: dict[tuple[str, ...], Any] = {}
    for path in kernels:
        *inner, outputs = paths.subtree(params, path).shape
        inputs = math.prod(inner)
        own = min(rank, inputs, outputs)
        rng = np.random.default_rng([seed, zlib.crc32(path.encode())])
        keys = paths.split(path)
        flat[(*keys, "a")] = (rng.standard_normal((inputs, own)) / math.sqrt(inputs)).astype(np.float32)
        flat[(*keys, "b")] = np.zeros((own, outputs), np.float32)
    return paths.unflatten(flat)


def merge(params: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """Returns parameters whose kernels have their adapters' products added and whose adapters are gone.

    Args:
        params: with a subtree "lora".
        scale: alpha / rank.

    Example:
        >>> adapters = {'w': {'kernel': {'a': np.ones((2, 1)), 'b': np.ones((1, 2))}}}
        >>> merge({'w': {'kernel': np.ones((2, 2))}, 'lora': adapters}, 0.5)['w']['kernel'].tolist()
        [[1.5, 1.5], [1.5, 1.5]]
    """
    own = {name: tree for name, tree in params.items() if name != LORA}
    return _merged(own, params[LORA], scale)


def _merged(tree: Mapping[str, Any], adapters: Mapping[str, Any], scale: float) -> dict[str, Any]:
    found = dict(tree)
    for key, part in adapters.items():
        old = tree[key]
        if isinstance(old, Mapping):
            found[key] = _merged(old, part, scale)
        else:
            found[key] = old + ((part["a"] @ part["b"]) * scale).reshape(old.shape).astype(old.dtype)
    return found
