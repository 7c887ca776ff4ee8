"""Engines: where a training state and its batches live, and how the step is compiled.

The step function is the same for every engine, and so are its losses: the weighted mean over the whole batch, with
batch statistics over all of its rows.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import jax
import numpy as np
from jax.sharding import Mesh

from flaxtl import processes
from flaxtl.errors import ConfigError, listed
from flaxtl.nets.rows import rows_over
from flaxtl.run_settings import Parallel
from flaxtl.train import sharding
from flaxtl.train.division import Division, divided
from flaxtl.train.state import TrainState
from flaxtl.train.step import Step

Batch = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Engine(abc.ABC):
    """What runs the steps of a phase; make one with `Engine.of`.

    Attributes:
        mesh: the devices, all along its axis "data".
        microbatch: rows of the whole batch that are worked off at once; None for all.
    """

    mesh: Mesh
    microbatch: int | None = None

    @staticmethod
    def of(
        parallel: Parallel = "jit", devices: Sequence[jax.Device] | None = None, microbatch: int | None = None
    ) -> Engine:
        """Returns an engine.

        Args:
            parallel: "jit" compiles one program for all devices, with the batch spread over them and the state held
                by each; "fsdp" spreads the state too; "pmap" compiles one device's program and sums over devices.
            devices: which; all by default.
            microbatch: rows that are worked off at once, to save memory: the gradient stays that of the whole batch.
                Batch statistics are then those of the rows that are worked off together.

        Raises:
            ConfigError: there is no such engine, or the microbatch holds no row.

        Example:
            >>> engine = Engine.of('jit', jax.devices()[:1], microbatch=4)
            >>> engine.padded(10), engine.parts(10)
            (12, 3)
        """
        if parallel not in get_args(Parallel):
            raise ConfigError(f"There is no engine {parallel!r}; expected one of {listed(get_args(Parallel))}.")
        if microbatch is not None and microbatch < 1:
            raise ConfigError(f"A microbatch of {microbatch} rows holds nothing. Give at least 1, or leave it out.")
        mesh = sharding.mesh_of(jax.devices() if devices is None else devices)
        if parallel == "pmap":
            return PmapEngine(mesh, microbatch)
        return MeshEngine(mesh, microbatch, sharded=parallel == "fsdp")

    @property
    def devices(self) -> int:
        """How many devices there are, in all processes."""
        return self.mesh.size

    def parts(self, rows: int) -> int:
        """Returns how many parts a batch of so many rows is worked off in."""
        each = -(-rows // self.devices)
        return 1 if self.microbatch is None else -(-each // max(1, -(-self.microbatch // self.devices)))

    def padded(self, rows: int) -> int:
        """Returns how many rows a batch has once it can be cut evenly among the devices and into its parts."""
        multiple = self.devices * self.parts(rows)
        return -(-rows // multiple) * multiple

    def halved(self, rows: int) -> Engine | None:
        """Returns the engine that works off half as many rows at once, or None where each device has one already.

        Example:
            >>> engine = Engine.of('jit', jax.devices()[:1]).halved(10)
            >>> engine.microbatch, engine.halved(10).microbatch
            (5, 3)
        """
        each = -(-self.padded(rows) // self.devices // self.parts(rows))
        return None if each == 1 else dataclasses.replace(self, microbatch=-(-each // 2) * self.devices)

    @property
    def programs(self) -> int:
        """How many programs, each for its own rows, make up what is lowered for a step."""
        return 1

    @abc.abstractmethod
    def compile(self, step: Step) -> Step:
        """Returns the compiled form of a pure step (`make_step(…, jit=False)`); it takes over the state's memory.

        Its states and batches are those that `place_state` and `place_batch` return.
        """

    @abc.abstractmethod
    def place_state(self, state: TrainState) -> TrainState:
        """Puts a state where the step wants it; every process gives the same. The one given is not used again."""

    @abc.abstractmethod
    def place_batch(self, batch: Batch) -> Batch:
        """Puts a batch [rows, …] of NumPy arrays onto the devices, filled up with rows of weight 0.

        Of several processes each gives its own rows, as many as every other.
        """

    @abc.abstractmethod
    def shapes(self, batch: Batch) -> Batch:
        """Returns the shapes and places of a batch on the devices, filled up, from the shapes of all its rows."""

    def gather(self, tree: Any) -> Any:
        """Returns a placed state, or any part of it, as a tree of whole NumPy arrays, in every process."""
        with processes.waiting("a state, gathered"):
            return jax.tree.map(sharding.fetched, tree)

    def whole(self, tree: Any) -> Any:
        """Returns a placed state, or any part of it, as a program for one device takes it: fetched if it is spread."""
        return tree if self.devices == 1 else self.gather(tree)

    @property
    def share(self) -> tuple[int, int]:
        """This process's place among those that have devices, and how many these are: as a `Loader` takes it."""
        places = sorted({device.process_index for device in self.mesh.devices.flat})
        return places.index(jax.process_index()), len(places)

    def _filled(self, batch: Batch) -> Batch:
        """Adds copies of the first row, of weight 0, until the devices and the parts divide the batch."""
        rows = len(batch["weight"])
        processes = self.share[1]
        missing = self.padded(rows * processes) // processes - rows
        if missing == 0:
            return batch
        more = jax.tree.map(lambda a: np.concatenate([a, np.repeat(np.asarray(a)[:1], missing, 0)]), dict(batch))
        more["weight"] = np.concatenate([batch["weight"], np.zeros(missing, np.asarray(batch["weight"]).dtype)])
        return more


@dataclasses.dataclass(frozen=True)
class MeshEngine(Engine):
    """One program for all devices: `jax.jit` over a mesh, XLA puts in what must be exchanged.

    Attributes:
        sharded: whether the state is spread over the devices (FSDP) or held by each.
    """

    sharded: bool = False

    def compile(self, step: Step) -> Step:
        """Returns the compiled step; see `Engine.compile`."""
        whole = sharding.replicated(self.mesh)
        gather = self._gathered if self.sharded else None

        def run(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
            division = Division(parts=self.parts(batch["weight"].shape[0]), gather=gather)
            with divided(division), rows_over(self.devices):
                new, metrics = step(state, batch)
            # The new state lies where the old one did, whatever XLA would find convenient.
            new = jax.tree.map(jax.lax.with_sharding_constraint, new, self.places(new))
            return new, jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, whole), metrics)

        return jax.jit(run, donate_argnums=0)

    def place_state(self, state: TrainState) -> TrainState:
        """Returns the state, replicated or spread; see `Engine.place_state`."""
        return jax.tree.map(sharding.placed, state, self.places(state))

    def place_batch(self, batch: Batch) -> Batch:
        """Returns the batch with its rows spread over the devices; see `Engine.place_batch`."""
        rows = sharding.by_rows(self.mesh)
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(rows, a), self._filled(batch))

    def shapes(self, batch: Batch) -> Batch:
        """Returns the shapes of a placed batch; see `Engine.shapes`."""
        rows = sharding.by_rows(self.mesh)
        return jax.tree.map(lambda a: sharding.shaped((self.padded(a.shape[0]), *a.shape[1:]), a.dtype, rows), batch)

    def _gathered(self, params: Any) -> Any:
        return jax.tree.map(lambda a: sharding.gathered(a, self.mesh), params)

    def places(self, state: TrainState) -> TrainState:
        """Returns the sharding of each leaf of a state."""
        places = jax.tree.map(lambda _: sharding.replicated(self.mesh), state)
        if not self.sharded:
            return places
        large = ("trainable", "frozen", "opt_state", "ema")
        spread = {
            name: jax.tree.map(lambda a: sharding.fully_sharded(self.mesh, a.shape), getattr(state, name))
            for name in large
        }
        return dataclasses.replace(places, **spread)


@dataclasses.dataclass(frozen=True)
class PmapEngine(Engine):
    """One device's program, mapped over all: `jax.pmap`, the form of many people's TPU scripts."""

    @property
    def programs(self) -> int:
        """One for each device; see `Engine.programs`."""
        return self.devices

    def compile(self, step: Step) -> Step:
        """Returns the mapped step; see `Engine.compile`."""

        def run(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
            rows = batch["weight"].shape[0] * self.devices
            with divided(Division(sharding.DATA, self.parts(rows))):
                return step(state, batch)

        places = list(self.mesh.devices.flat)
        return jax.pmap(run, sharding.DATA, in_axes=(None, 0), out_axes=(None, None), devices=places, donate_argnums=0)

    def place_state(self, state: TrainState) -> TrainState:
        """Returns the state, replicated; see `Engine.place_state`."""
        return jax.tree.map(lambda a: sharding.placed(a, sharding.replicated(self.mesh)), state)

    def place_batch(self, batch: Batch) -> Batch:
        """Returns the batch as [devices, rows a device, …]; see `Engine.place_batch`."""
        local = len(self.mesh.local_devices)
        rows = sharding.by_rows(self.mesh)
        cut = jax.tree.map(lambda a: np.reshape(a, (local, -1, *np.shape(a)[1:])), self._filled(batch))
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(rows, a), cut)

    def shapes(self, batch: Batch) -> Batch:
        """Returns the shapes of a placed batch, or zeros of them in several processes; see `Engine.shapes`."""
        rows, n = sharding.by_rows(self.mesh), self.devices

        def shaped(a: Any) -> Any:
            found = sharding.shaped((n, self.padded(a.shape[0]) // n, *a.shape[1:]), a.dtype, rows)
            # pmap of several processes is lowered for arrays alone.
            return found if self.share[1] == 1 else sharding.placed(np.zeros(found.shape, found.dtype), rows)

        return jax.tree.map(shaped, batch)
