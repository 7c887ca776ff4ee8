"""A step that fits into the devices' memory: compiled before training, its batch worked off in parts if need be.

What is learnt stays that of the whole batch, whose gradient is the sum of its parts' (`step`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from flaxtl import processes
from flaxtl.errors import ConfigError
from flaxtl.train import machine, sharding
from flaxtl.train.engine import Engine
from flaxtl.train.programs import Memory, memory_of
from flaxtl.train.state import TrainState
from flaxtl.train.step import Step

# Of what is free a program is given so much: what allocators lose, and what the process takes besides, is the rest.
_USABLE = 0.9
_GB = 1e9


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A step that was found to fit.

    Attributes:
        engine: the one that was asked for, or one with a smaller microbatch.
        step: what was compiled; batches of other lengths than it was compiled for are compiled as they come.
        flops: floating-point operations a step on all devices together; None where they were not counted.
        note: what the user should know; None where nothing had to be changed.
    """

    engine: Engine
    step: Step
    flops: float | None = None
    note: str | None = None


def fitted(
    engine: Engine,
    step: Step,
    state: TrainState,
    batch: Mapping[str, Any],
    *,
    gigabytes: float | None = None,
    counted: bool = False,
    statistics: bool = False,
) -> Fitted:
    """Compiles a step, and halves the rows that it works off at once until it fits into the devices' memory.

    Args:
        engine: what shall run it.
        step: a pure step (`make_step(…, jit=False)`).
        state: as the engine placed it.
        batch: shapes [rows, …] of the largest batch, of all processes, not filled up.
        gigabytes: what each device may hold, on a CPU this process; None for what is there.
        counted: whether operations are counted, for which a step that works in parts is traced once more.
        statistics: whether the step normalises with batch statistics, which in parts are those of each; it is told.

    Raises:
        ConfigError: not even one row at a time fits on each device, or there is no memory.
    """
    rows, there = len(batch["weight"]), _room(engine, state, gigabytes)
    found, memory, lowered = _compiled(engine, step, state, batch)
    flops = _flops(engine, step, state, batch, lowered) if counted else None
    first, tried = memory, engine
    while memory is not None and memory.peak > there:
        smaller = tried.halved(rows)
        # What does not depend on the rows is not made smaller by halving them.
        if smaller is None or memory.arguments + memory.outputs > there:
            raise ConfigError(_too_large(memory, there, alone=smaller is None))
        tried = smaller
        found, memory, _ = _compiled(tried, step, state, batch)
    note = None if tried is engine else _note(rows, first, there, tried, statistics=statistics)
    return Fitted(tried, found, flops, note)


class _Checked:
    """A compiled step for the batches that it was compiled for, and one that compiles anew for others."""

    def __init__(self, program: jax.stages.Compiled, shapes: Any, other: Step) -> None:
        self._program, self._shapes, self._other = program, _shapes(shapes), other

    def __call__(self, state: TrainState, batch: Mapping[str, Any]) -> tuple[TrainState, dict[str, jax.Array]]:
        return self._program(state, batch) if _shapes(batch) == self._shapes else self._other(state, batch)


def _shapes(batch: Any) -> list[Any]:
    return [(a.shape, a.dtype) for a in jax.tree.leaves(batch)]


def _compiled(engine: Engine, step: Step, state: TrainState, batch: Any) -> tuple[Step, Memory | None, Any]:
    run: Any = engine.compile(step)
    shapes = engine.shapes(batch)
    lowered = run.lower(state, shapes)
    program = lowered.compile()
    return _Checked(program, shapes, run), memory_of(program), lowered


def _flops(engine: Engine, step: Step, state: TrainState, batch: Any, lowered: Any) -> float:
    """Returns the operations of a step before it is compiled, which a library's kernels hide from later counts."""
    if engine.parts(len(batch["weight"])) > 1:  # the body of a loop is counted once
        engine = dataclasses.replace(engine, microbatch=None)
        run: Any = engine.compile(step)
        lowered = run.lower(state, engine.shapes(batch))
    return float((lowered.cost_analysis() or {}).get("flops", 0.0)) * engine.programs


def _room(engine: Engine, state: TrainState, gigabytes: float | None) -> float:
    """Returns the bytes that a program may take on each device, the state included; infinity where nothing says."""
    local = engine.mesh.local_devices
    shared = len(local) if local[0].platform == "cpu" else 1
    if gigabytes is not None:
        if not gigabytes > 0:
            raise ConfigError(f"`memory_gigabytes` is {gigabytes}; expected a number above 0.")
        return gigabytes * _GB / shared
    held = sharding.bytes_a_device(state)
    rooms = [held.get(device, 0) + _USABLE * room / shared for device in local if (room := _free(device)) is not None]
    return processes.least(min(rooms) if len(rooms) == len(local) else np.inf)


def _free(device: jax.Device) -> int | None:
    if device.platform == "cpu":
        return machine.free()
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats or "bytes_in_use" not in stats:
        return None
    return int(stats["bytes_limit"]) - int(stats["bytes_in_use"])


def _too_large(memory: Memory, there: float, *, alone: bool) -> str:
    what = "training one example at a time" if alone else "the network with its optimizer's state"
    need = memory.peak if alone else memory.arguments + memory.outputs
    return (
        f"Even {what} needs {need / _GB:.3g} GB of the {there / _GB:.3g} GB that a device has. Train less "
        "(`strategy` head, cut or lora), spread the parameters (`parallel='fsdp'`), or take a smaller "
        "network; or say how much there really is (`memory_gigabytes`)."
    )


def _note(rows: int, memory: Memory | None, there: float, engine: Engine, *, statistics: bool) -> str:
    assert memory is not None, "only what is known to be too large is divided"
    learnt = "the gradient is" if statistics else "what is learnt stays"
    apart = "; each part has batch statistics of its own" if statistics else ""
    return (
        f"A batch of {rows} needs {memory.peak / _GB:.3g} GB of the {there / _GB:.3g} GB that a device has; it is "
        f"worked off in parts of {engine.microbatch}, and {learnt} that of the whole batch{apart}."
    )
