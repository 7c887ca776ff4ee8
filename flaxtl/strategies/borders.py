"""Where in a network training begins: from what a person writes to the index of a segment."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import jax

from flaxtl.errors import ConfigError, did_you_mean, listed
from flaxtl.model import Model
from flaxtl.nets.network import Network


def segment_named(network: Network, name: str) -> int:
    """Returns the index of a segment.

    Args:
        network: whose segment it is.
        name: its name, or a share of the depth between 0 and 1; 1 is the head, "" the beginning.

    Raises:
        ConfigError: there is no such segment.

    Example:
        >>> from flaxtl import card, nets
        >>> net = nets.build(card.NetworkSpec('resnet', {'depths': (1, 1), 'widths': (8, 8)}), outputs=3)
        >>> net.segments
        ('stem', 'blocks_0', 'blocks_1', 'pool', 'head')
        >>> segment_named(net, 'blocks_1'), segment_named(net, '0.5'), segment_named(net, '')
        (2, 2, 0)
    """
    segments = network.segments
    if not name:
        return 0
    if name in segments:
        return segments.index(name)
    with contextlib.suppress(ValueError):
        share = float(name)
        if 0.0 <= share <= 1.0:
            return round(share * network.border)
    raise ConfigError(
        f"The network has no part {name!r}.{did_you_mean(name, segments)} Its parts are {listed(segments)}; "
        "a share of the depth from 0 to 1 is understood too."
    )


def segment_costs(model: Model) -> tuple[float, ...]:
    """Returns the multiplications and additions of each segment for one row, in matrix products and convolutions.

    Args:
        model: nothing is computed, only traced.

    Example:
        >>> from flaxtl.convert import load
        >>> costs = segment_costs(load('flaxtl:characters'))
        >>> len(costs), costs[1] > costs[-1] > 0
        (6, True)
    """
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), model.variables)
    x, costs = model.sample(), []
    for number in range(len(model.network.segments)):

        def run(variables: Any, x: Any, number: int = number) -> Any:
            return model.network.forward(variables, x, number, number + 1)[0]

        traced, x = jax.make_jaxpr(run, return_shape=True)(shapes, x)
        costs.append(_operations(traced.jaxpr))
    return tuple(costs)


def _operations(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2.0 * inner * equation.outvars[0].aval.size
        elif name == "conv_general_dilated":
            kernel, out = equation.invars[1].aval, equation.outvars[0].aval
            outputs = kernel.shape[parameters["dimension_numbers"].rhs_spec[0]]
            total += 2.0 * out.size * kernel.size / outputs
        elif name == "cond":  # alternatives, such as for different platforms; one of them runs
            total += max(_operations(branch.jaxpr) for branch in parameters["branches"])
        else:
            parts = [value for value in parameters.values() if hasattr(value, "jaxpr") or hasattr(value, "eqns")]
            times = parameters.get("length", 1) if name == "scan" else 1
            total += times * sum(_operations(getattr(part, "jaxpr", part)) for part in parts)
    return total


def border_by_cost(model: Model, share: float, costs: Sequence[float] | None = None) -> str:
    """Returns the lowest segment above which at most a share of a forward pass's operations lies.

    Args:
        model: whose segments are meant.
        share: between 0 and 1.
        costs: of its segments, if they are known.

    Example:
        >>> from flaxtl.convert import load
        >>> border_by_cost(load('flaxtl:characters'), 0.5)
        'blocks_2'
    """
    segments, border = model.network.segments, model.network.border
    costs = segment_costs(model) if costs is None else costs
    for start in range(border + 1):
        if sum(costs[start:]) <= share * sum(costs):
            return segments[start]
    return segments[border]
