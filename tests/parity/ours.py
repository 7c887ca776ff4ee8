"""Our side: a case's weights converted as any published weights are, and what our network says."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from flaxtl.convert.converting import Conversion, plan_conversion
from flaxtl.convert.weights import Tensor, Weights
from flaxtl.model import Model
from parity import Case, values


def weights_of(tensors: list[list[Any]], config: dict[str, Any], preprocessor: Any = None) -> Weights:
    """Returns the weights that the reference was filled with, with the settings published beside them."""

    def tensor(name: str, shape: list[int], dtype: str) -> Tensor:
        size, kind = tuple(shape), np.dtype(dtype)
        if kind == np.float32:
            return Tensor(size, kind, lambda: values.weight(name, size))
        return Tensor(size, kind, lambda: np.zeros(size, kind))

    return Weights({n: tensor(n, s, d) for n, s, d in tensors}, config, preprocessor or {})


def compare(case: Case, model: Model, wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the relative error of each recorded output: the largest difference over the largest value."""
    network = model.network
    given = {k: values.inputs(f"{case.name} {k}", v) for k, v in case.inputs.items()}
    x = eval(case.network_input, {"inputs": given, "np": np})
    stops = {f"block/{name}": i + 1 for i, name in enumerate(network.segments)}
    stops |= {"features": network.border, "logits": len(network.segments)}

    def everything(variables: Any, x: Any) -> dict[str, Any]:
        found, start = {}, 0
        for name in sorted(wanted, key=lambda n: stops[n]):
            x, _ = network.forward(variables, x, start, stops[name])
            start = stops[name]
            found[name] = x["x"] if isinstance(x, dict) else x
        return found

    ours = jax.jit(everything)(model.variables, x)
    return {name: relative(np.asarray(ours[name]), value) for name, value in wanted.items()}


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the largest difference over the largest absolute value of the reference."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.abs(a.astype(np.float64) - b).max() / max(np.abs(b).max(), 1e-30))


def planned(tensors: list[list[Any]], config: dict[str, Any], preprocessor: Any = None) -> Conversion:
    """Returns the conversion of a case."""
    return plan_conversion(weights_of(tensors, config, preprocessor))
