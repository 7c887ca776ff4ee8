"""What a training will need of its machine, found by compiling its steps for that machine, which need not be there."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxtl import config as configs
from flaxtl import paths
from flaxtl.config import EstimateConfig, FinetuneConfig
from flaxtl.convert import load
from flaxtl.errors import ConfigError
from flaxtl.model import Model, stream_rows
from flaxtl.pipeline import compiled
from flaxtl.strategies.adapters import with_adapters
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.chains import Chain
from flaxtl.strategies.phases import Phase, phases_of
from flaxtl.strategies.settling import settled
from flaxtl.strategies.stepping import step_of
from flaxtl.train import init_state, machine, optim, sharding
from flaxtl.train.engine import Engine, MeshEngine
from flaxtl.train.hardware import Topology
from flaxtl.train.programs import Exchange, Memory, exchanges, memory_of

# A process that writes a tree holds it twice more, and what the allocator has had for it, it does not all give back:
# saving 256 MB in leaves of 1, 8 and 64 MB took 1.9, 1.8 and 1.5 times as much.
_WRITING = 2


# Where there is no TPU there is no metadata server to ask, and libtpu would complain of what that did not say.
_NO_TPU = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-1"}


@dataclasses.dataclass(frozen=True)
class PhaseEstimate:
    """What a phase needs; bytes and numbers of one device, a step.

    Attributes:
        name: of the phase.
        params: bytes of parameters, statistics and moving average.
        optimizer: bytes of the optimizer's state.
        kept: bytes of all that is written to the disk, of all devices together, each part once.
        memory: of the compiled step, parameters and optimizer included.
        exchanged: between the devices.
        flops: additions and multiplications.
        seconds: {"compute", "memory", "exchange"}: how long each would take alone, at the table's peaks; empty without.
    """

    name: str
    params: int
    optimizer: int
    kept: int
    memory: Memory
    exchanged: tuple[Exchange, ...]
    flops: float
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Returns the estimate as plain data."""
        return {**dataclasses.asdict(self), "peak": self.memory.peak}

    def lines(self) -> list[str]:
        """Returns the estimate for people."""
        memory = self.memory
        said = [
            f"{self.name}: {_size(memory.peak)} on each device at its peak "
            f"(parameters {_size(self.params)}, optimizer {_size(self.optimizer)}, "
            f"activations and other temporary memory {_size(memory.temporary)})",
            f"  {self.flops:.3g} floating-point operations a step",
        ]
        said += [f"  {e.times} {e.kind}, {_size(e.nbytes)} a step" for e in self.exchanged]
        if self.seconds:
            each = ", ".join(f"{name} {1000 * value:.3g} ms" for name, value in self.seconds.items())
            said.append(f"  a step takes {1000 * max(self.seconds.values()):.3g} ms at best ({each})")
        return said


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a training needs.

    Attributes:
        topology: the devices.
        phases: in their order.
        host: bytes that the process holds besides, measured here; None where the devices have memory of their own.
    """

    topology: Topology
    phases: tuple[PhaseEstimate, ...]
    host: int | None

    @property
    def peak(self) -> int:
        """Bytes of one device at the peak of the largest phase; of a CPU the whole process's."""
        if self.host is None:
            return max(phase.memory.peak for phase in self.phases)
        count = self.topology.count
        return self.host + max(phase.memory.peak * count + _WRITING * phase.kept for phase in self.phases)

    @property
    def fits(self) -> bool:
        """Whether the devices have as much memory as is needed."""
        there = self.topology.memory * (1 if self.host is None else self.topology.count)
        return self.peak <= there

    def to_dict(self) -> dict[str, Any]:
        """Returns the estimate as plain data for JSON."""
        return {
            "topology": self.topology.name,
            "devices": self.topology.count,
            "device": None if self.topology.device is None else dataclasses.asdict(self.topology.device),
            "phases": [phase.to_dict() for phase in self.phases],
            "peak": self.peak,
            "fits": self.fits,
        }

    def summary(self) -> str:
        """Returns the estimate for people."""
        topology = self.topology
        device = "" if topology.device is None else f" ({topology.device.name}: {topology.device.source})"
        lines = [f"{topology.name}: {topology.count} devices{device}"]
        for phase in self.phases:
            lines += phase.lines()
        whole = "the process" if self.host is not None else "a device"
        there = topology.memory * (topology.count if self.host is not None else 1)
        verdict = "it fits" if self.fits else "it does not fit: lower the batch size, or set `microbatch`"
        lines.append(f"{whole} needs {_size(self.peak)} of {_size(there)}: {verdict}")
        return "\n".join(lines)


def run_estimate(config: EstimateConfig) -> Estimate:
    """Compiles the phases of a fine-tuning for a topology and returns what they need; see `Estimate`."""
    topology = Topology.of(config.topology)
    wanted = configs.load(FinetuneConfig, config.config) if config.config else FinetuneConfig()
    devices = _devices(topology)
    labels = tuple(str(number) for number in range(config.classes))
    model = load(wanted.pretrained).with_head(labels, seed=wanted.run.seed)
    detailed, _ = settled(wanted, model.card, labels, config.examples)
    phases = phases_of(detailed)
    engine = Engine.of("fsdp" if wanted.run.parallel == "fsdp" else "jit", devices, wanted.run.microbatch)
    assert isinstance(engine, MeshEngine)
    found = []
    for number, phase in enumerate(phases, 1):
        name = f"phase {number}, {phase.kind}"
        if phase.kind == "train":
            chain = Chain.of(phases, number)
            found.append(_training(name, model, phase, chain, engine, topology, config.examples))
        elif phase.kind == "solve":
            found.append(_features(name, model, topology, devices[0], config.examples))
    return Estimate(topology, tuple(found), (machine.resident() or 0) if topology.platform == "cpu" else None)


def _devices(topology: Topology) -> list[Any]:
    """Returns the devices to compile for: those of a TPU that is not here, or CPUs in their place."""
    if topology.platform == "tpu":
        return _tpu(topology)
    devices = jax.devices("cpu")
    if len(devices) < topology.count:
        raise ConfigError(
            f"{topology.name} needs {topology.count} virtual devices and this process has {len(devices)}. "
            "Run flaxtl estimate as a command, or set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={topology.count}."
        )
    return devices[: topology.count]


def _tpu(topology: Topology) -> list[Any]:
    for name, value in _NO_TPU.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(topology.name, platform="tpu").devices)
    except (ImportError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"A program for {topology.name} cannot be compiled here: {str(error).splitlines()[0]}. It needs the "
            "package libtpu (pip install 'flaxtl[tpu-estimate]'), though no TPU, and a slice that exists."
        ) from error


def _training(
    name: str, model: Model, phase: Phase, chain: Chain, engine: MeshEngine, topology: Topology, examples: int
) -> PhaseEstimate:
    start = segment_named(model.network, phase.start)
    if phase.lora is not None:
        model = with_adapters(model, phase.lora, start=start, seed=0)
    labels = chain.labels(model)
    tx = optim.build(phase.optimizer, labels, chain.steps(examples), chain.done(examples))
    step = step_of(phase, model, labels, tx)
    stats = {k: v for k, v in model.variables.items() if k != paths.PARAMS}
    state = jax.eval_shape(
        lambda params, stats: init_state(params, tx, labels, stats=stats, ema=phase.training.ema is not None),
        model.params,
        stats,
    )
    batch = _batch(model, min(phase.training.batch_size, examples), start)
    flops = jax.jit(step).lower(state, batch).cost_analysis()
    places = engine.places(state)
    placed = jax.tree.map(lambda a, place: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), state, places)
    run: Any = engine.compile(step)
    program = run.lower(placed, engine.shapes(batch)).compile()
    held = (_held((placed.trainable, placed.frozen, placed.stats, placed.ema)), _held(placed.opt_state))
    return _estimate(name, program, held, _whole(state), _flops(flops) / engine.devices, topology)


def _features(name: str, model: Model, topology: Topology, device: Any, examples: int) -> PhaseEstimate:
    """Returns what it takes to compute features, which is done on one device; solving the head takes less."""
    place = sharding.replicated(sharding.mesh_of([device]))
    variables = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), model.variables)
    shapes = _batch(model, stream_rows(examples), 0)["inputs"]
    inputs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), shapes)
    run: Any = compiled(model.pipeline, 0, model.network.border)
    # Counted without the loop over slices of a batch, whose body would count once.
    whole = jax.jit(lambda v, x: model.pipeline(v, x, 0, model.network.border)[0])
    flops, held = _flops(whole.lower(variables, inputs).cost_analysis()), (_held(variables), 0)
    return _estimate(name, run.lower(variables, inputs).compile(), held, held[0], flops, topology)


def _estimate(
    name: str, program: jax.stages.Compiled, held: tuple[int, int], kept: int, flops: float, topology: Topology
) -> PhaseEstimate:
    """Returns what a program says of itself; `held` is bytes of parameters and of the optimizer's state."""
    exchanged = exchanges(program.as_text() or "")
    seconds = {}
    if topology.device is not None:
        moved: Any = program.cost_analysis() or {}
        seconds = {
            "compute": flops / topology.device.flops,
            "memory": float(moved.get("bytes accessed", 0.0)) / topology.device.bandwidth,
            "exchange": sum(_sent(e, topology.count) for e in exchanged) / topology.device.link,
        }
    memory = memory_of(program)
    if memory is None:
        raise ConfigError(f"What a program for {topology.name} takes is not told by this version of JAX.")
    return PhaseEstimate(name, *held, kept, memory, exchanged, flops, seconds)


def _sent(exchange: Exchange, devices: int) -> float:
    """Returns the bytes that a device sends and receives, by the ring algorithms."""
    share = (devices - 1) / devices
    return {"all-reduce": 4.0 * share, "reduce-scatter": 2.0 * (devices - 1)}.get(exchange.kind, 2.0 * share) * (
        exchange.nbytes
    )


def _batch(model: Model, rows: int, start: int) -> dict[str, Any]:
    """Returns the shapes of a batch as it enters a segment; texts at their full length."""
    forms = model.pipeline.preprocess.row
    inputs = jax.tree.map(lambda form: jax.ShapeDtypeStruct((rows, *form.shape), form.dtype), forms)
    if start:
        inputs = jax.eval_shape(lambda v, x: model.pipeline(v, x, 0, start)[0], model.variables, inputs)
    return {
        "inputs": inputs,
        "target": jax.ShapeDtypeStruct((rows,), jnp.int32),
        "weight": jax.ShapeDtypeStruct((rows,), jnp.float32),
        "example_index": jax.ShapeDtypeStruct((rows,), jnp.int32),
    }


def _held(tree: Any) -> int:
    """Returns the bytes of a tree on one device."""
    return sum(
        int(np.prod(a.sharding.shard_shape(a.shape), dtype=np.int64)) * a.dtype.itemsize for a in jax.tree.leaves(tree)
    )


def _whole(tree: Any) -> int:
    return sum(int(np.prod(a.shape, dtype=np.int64)) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def _flops(cost: Any) -> float:
    return float((cost or {}).get("flops", 0.0))


def _size(nbytes: float) -> str:
    return f"{nbytes / 2**30:.2f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.1f} MiB"
