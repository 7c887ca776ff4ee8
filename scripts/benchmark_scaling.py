"""Examples a second of training on one and several processes of this machine, with one and several threads each.

    python scripts/benchmark_scaling.py --out docs/benchmarks/scaling.md
    python scripts/benchmark_scaling.py --networks mobilenetv2 --kinds full --batch 4 --steps 2 --repeats 1

Parameters and examples are random and lie ready: what is measured is the step of the engine, the exchange between
processes (gloo) included, and neither reading nor evaluation. Each process is bound to as many cores as it has threads,
the next free ones in turn; where there are fewer cores than threads in all, they share them. The batch is that of all
processes together, so that every column does the same work. Configurations are interleaved, and the median of the
repeats is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from launch_local import free_port

_KINDS = ("head", "cut", "full")
_NETWORKS = ("vit_tiny", "mobilenetv2")
_LAYOUTS = ((1, 1), (1, 2), (2, 1), (2, 2))
_WARM = 2  # steps before the clock starts: the first compiles, the second finds its memory


def bound(number: int, threads: int) -> None:
    """Binds this process to the cores of its threads; must come before JAX is imported."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[(number * threads + i) % len(cores)] for i in range(threads)})


def prepared(name: str, kind: str, batch: int) -> tuple[Any, Any, Any]:
    """Returns (pure step, state, batch of all processes) of training the head alone, from the cut on, or everything."""
    import jax
    import numpy as np
    from benchmark_cut import NETWORKS, Given, random_model, sample

    from flaxtl import paths
    from flaxtl.pipeline import Pipeline
    from flaxtl.strategies.borders import segment_named
    from flaxtl.strategies.chains import trained_labels
    from flaxtl.strategies.phases import Phase
    from flaxtl.train import init_state, make_step, model_loss, optim

    model = random_model(name)
    trainable = ("head/**",) if kind == "head" else ("**",)
    phase = Phase("train", start="0.5" if kind == "cut" else "", trainable=trainable)
    start = segment_named(model.network, phase.start)
    labels = trained_labels(phase, model)
    tx = optim.build(phase.optimizer, labels, 1000)
    stats = {k: v for k, v in model.variables.items() if k != paths.PARAMS}
    x: Any = sample(NETWORKS[name][0], batch)
    if start:
        shape = jax.eval_shape(lambda v, x: model.network.forward(v, x, 0, start)[0], model.variables, x)
        x = np.random.default_rng(1).standard_normal(shape.shape).astype(shape.dtype)
    pipeline = Pipeline(model.network, Given())  # type: ignore[arg-type]
    rows = np.arange(batch, dtype=np.int32)
    given = {"inputs": x, "target": rows % 10, "weight": np.ones(batch, np.float32), "example_index": rows}
    step = make_step(model_loss(pipeline, start=start), tx, jit=False)
    return step, init_state(model.params, tx, labels, stats=stats), given


def measure(options: argparse.Namespace) -> float:
    """Returns the examples a second of this process's run, all processes together."""
    import jax

    from flaxtl import processes
    from flaxtl.train import Engine

    name, kind = options.worker
    with processes.connected(options.coordinator, options.processes, options.process_id, 600.0):
        # Their connection must be made within half a minute, and one may compile for longer than the other.
        processes.together("the start")
        step, state, given = prepared(name, kind, options.batch)
        engine = Engine.of("jit")
        share = options.batch // options.processes
        own = slice(options.process_id * share, (options.process_id + 1) * share)
        placed = engine.place_batch(jax.tree.map(lambda a: a[own], given))
        run, state = engine.compile(step), engine.place_state(state)
        for _ in range(_WARM):
            state, metrics = jax.block_until_ready(run(state, placed))
        began = time.perf_counter()
        for _ in range(options.steps):
            state, metrics = run(state, placed)
        jax.block_until_ready((state, metrics))
        return options.batch * options.steps / (time.perf_counter() - began)


def launched(name: str, kind: str, layout: tuple[int, int], options: argparse.Namespace) -> float:
    """Starts the processes of a layout and returns the examples a second that the first one says."""
    count, threads = layout
    port, running = free_port(), []
    for number in range(count):
        words = [sys.executable, __file__, "--worker", name, kind, "--threads", str(threads)]
        words += ["--batch", str(options.batch), "--steps", str(options.steps)]
        words += ["--processes", str(count), "--process-id", str(number)]
        words += ["--coordinator", f"127.0.0.1:{port}"] if count > 1 else []
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment, encoding="utf-8"))
    said = [process.communicate(timeout=1800)[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"{name} {kind} on {count} × {threads} ended with {[p.returncode for p in running]}")
    return float(json.loads(said[0].splitlines()[-1]))


def rows(name: str, options: argparse.Namespace) -> list[str]:
    """Returns a network's rows of the table."""
    found: dict[tuple[str, tuple[int, int]], list[float]] = {}
    for _ in range(options.repeats):
        for kind in options.kinds:
            for layout in _LAYOUTS:
                found.setdefault((kind, layout), []).append(launched(name, kind, layout, options))
    lines = []
    for kind in options.kinds:
        speeds = [statistics.median(found[kind, layout]) for layout in _LAYOUTS]
        cells = " | ".join(f"{speed:.1f} ({speed / speeds[0]:.2f} ×)" for speed in speeds)
        lines.append(f"| {name} | {kind} | {cells} |")
    return lines


def table(options: argparse.Namespace) -> str:
    """Measures and returns the page."""
    import jax

    cores = len(os.sched_getaffinity(0))
    heads = " | ".join(f"{n} process{'es' if n > 1 else ''} × {t} thread{'s' if t > 1 else ''}" for n, t in _LAYOUTS)
    lines = [
        "# Scaling on one machine",
        "",
        f"`python scripts/benchmark_scaling.py --batch {options.batch} --steps {options.steps} --repeats "
        f"{options.repeats}`: JAX {jax.__version__}, {cores} cores ({platform.machine()}), float32, AdamW, pictures "
        f"of 224 × 224, a batch of {options.batch} in all. Examples a second, median of {options.repeats}, and in "
        "brackets how many times those of one process with one thread.",
        "",
        f"| network | trained | {heads} |",
        "|---|---|" + "---|" * len(_LAYOUTS),
        *(line for name in options.networks for line in rows(name, options)),
        "",
        f"There are {cores} cores: two processes of two threads share them. Processes here exchange through "
        "gloo over the loopback, of which another network or a TPU's links say nothing. `head` "
        "trains the head in steps, with the frozen backbone run forward in each "
        "(`--strategy full --trainable 'head/**'`); the strategy `head` computes features once, and every "
        "process all of them, so that more processes do not make it faster. `cut` trains what lies above half"
        " the depth, from activations that are there.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and prints or writes the table; with --worker runs one process of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=list(_NETWORKS), choices=_NETWORKS)
    parser.add_argument("--kinds", nargs="*", default=list(_KINDS), choices=_KINDS)
    parser.add_argument("--batch", type=int, default=32, help="rows of all processes together")
    parser.add_argument("--steps", type=int, default=10, help="that are timed in each run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", nargs=2, metavar=("NETWORK", "KIND"), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--process-id", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        bound(options.process_id, options.threads)
        print(json.dumps(measure(options)))
        return
    text = table(options)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
