"""Ways of running a network that leave its parameters as they are: in bfloat16, rematerialised, scanned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxtl import paths
from flaxtl.nets.mode import Mode, Variables
from flaxtl.nets.mode_linen import apply_linen

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a network of flaxtl's own is run; its parameters and what it says stay the same.

    Attributes:
        dtype: "bfloat16" computes in it: parameters stay float32 and are cast on the way in, the output on the way out.
        remat: keep only what enters each segment and compute the rest again in the backward pass (`jax.checkpoint`;
            Chen et al. 2016): less memory, about a third more time.
        scan: run equal blocks as one scanned block (`jax.lax.scan`): compiles faster, on CPU it trains slower.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    scan: bool = False


def forward(
    module: nn.Module, execution: Execution, variables: Variables, x: Any, part: tuple[int, int], mode: Mode
) -> tuple[Any, dict[str, Any]]:
    """Applies the segments of `part` (start, stop) of a Classifier as `execution` says.

    Scanned blocks draw their dropout from the first block's key and their number, so their masks are others than those
    of blocks that run one by one.

    Returns:
        (output, the collections other than params afterwards).
    """
    variables = {**variables, paths.PARAMS: _cast(variables[paths.PARAMS], execution.dtype)}
    x = _cast(x, execution.dtype)
    state = {k: v for k, v in variables.items() if k != paths.PARAMS}
    for start, stop in _stretches(module, execution, part, scannable=not mode.live):
        if stop - start > 1 and execution.scan:
            x = _scanned(module, execution, variables, x, (start, stop), mode)
            continue

        def run(variables: Variables, x: Any, start: int = start, stop: int = stop) -> Any:
            return apply_linen(module, variables, mode, x, start, stop)

        x, state = (jax.checkpoint(run) if execution.remat else run)({**variables, **state}, x)
    return _cast(x, "float32"), state


def _cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def _stretches(
    module: nn.Module, execution: Execution, part: tuple[int, int], *, scannable: bool
) -> Iterator[tuple[int, int]]:
    """Divides a part into what is run at once: a run of equal blocks where these are scanned, else one segment."""
    groups = getattr(module.backbone, "equal_segments", ())
    group = {name: number for number, names in enumerate(groups) for name in names}
    segments, (start, end) = module.segments, part
    while start < end:
        stop = start + 1
        if execution.scan and scannable and segments[start] in group:
            while stop < end and group.get(segments[stop]) == group[segments[start]]:
                stop += 1
        yield start, stop
        start = stop


def _scanned(
    module: nn.Module, execution: Execution, variables: Variables, x: Any, part: tuple[int, int], mode: Mode
) -> Any:
    start, stop = part
    names = module.segments[start:stop]
    own = [{c: tree["backbone"][n] for c, tree in variables.items() if n in tree.get("backbone", {})} for n in names]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)

    def block(x: Any, numbered: tuple[Any, Array]) -> tuple[Any, None]:
        values, number = numbered
        rng = None if mode.rng is None else jax.random.fold_in(mode.rng, number)
        first = {c: {"backbone": {names[0]: tree}} for c, tree in values.items()}
        y, _ = apply_linen(module, first, dataclasses.replace(mode, rng=rng), x, start, start + 1)
        return y, None

    body = jax.checkpoint(block) if execution.remat else block
    return jax.lax.scan(body, x, (stacked, jnp.arange(stop - start)))[0]
