"""The cut at half depth beside full fine-tuning: time of a training step, and peak memory.

    python scripts/benchmark_cut.py --out docs/benchmarks/cut.md
    python scripts/benchmark_cut.py --networks vit_tiny --batch 8 --repeats 3

Parameters and inputs are random: neither time nor memory depends on their values. Steps are interleaved A B A B and the
median of the ratios of neighbours is given. Memory is the peak of a process of its own that does nothing but train,
whose program another process has compiled before, and beside it what the compiled program says that it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxtl import nets, paths
from flaxtl.card import Card, Head, Image, NetworkSpec, Text
from flaxtl.model import Model
from flaxtl.pipeline import Pipeline
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.chains import trained_labels
from flaxtl.strategies.phases import Phase
from flaxtl.train import init_state, machine, make_step, model_loss, optim

CLASSES, TOKENS = 10, 128
MINILM = {"vocabulary": 30522, "positions": 512, "width": 384, "depth": 6, "heads": 12, "hidden": 1536}
NETWORKS = {
    "mobilenetv2": ("mobilenet", "mobilenetv2_100"),
    "vit_tiny": ("vit", "vit_tiny_patch16_224"),
    "minilm": ("bert", None),
}
KINDS = ("full", "cut")
FASTER, SMALLER = 1.8, 0.6


def random_model(name: str) -> Model:
    """Returns a network of the named size with random parameters."""
    family, variant = NETWORKS[name]
    spec = NetworkSpec(family, MINILM if variant is None else nets.named_settings(family, variant))
    entry = Text(max_length=TOKENS) if family == "bert" else Image((224, 224), 3, (0.5,), (0.5,))
    network = nets.build(spec, CLASSES)
    card = Card(entry, spec, (Head(labels=tuple(map(str, range(CLASSES)))),))
    rng = np.random.default_rng(0)

    def drawn(leaf: paths.Leaf, like: Any) -> np.ndarray:
        if leaf.keys[-1] in ("var", "scale"):
            return np.ones(like.shape, like.dtype)
        return (0.02 * rng.standard_normal(like.shape)).astype(like.dtype)

    return Model(network, paths.map_with_leaf(drawn, network.abstract(sample(family, 1))), card)


def sample(family: str, batch: int) -> Any:
    """Returns a batch as it enters the network."""
    rng = np.random.default_rng(0)
    if family == "bert":
        ids = rng.integers(1000, 30000, (batch, TOKENS)).astype(np.int32)
        return {"ids": ids, "mask": np.ones_like(ids)}
    return rng.normal(size=(batch, 224, 224, 3)).astype(np.float32)


class Given:
    """Preprocessing that takes what it is given: everything here begins at the network."""

    row = None
    lengths = ()

    def device(self, inputs: Any) -> Any:
        """Returns the batch as it is."""
        return inputs


def prepared(name: str, kind: str, batch: int) -> tuple[Any, Any, Any]:
    """Returns (step, state, batch) of full fine-tuning, or of the cut at half depth."""
    model = random_model(name)
    phase = Phase("train", start="0.5" if kind == "cut" else "")
    start = segment_named(model.network, phase.start)
    labels = trained_labels(phase, model)
    tx = optim.build(phase.optimizer, labels, 100)
    stats = {k: v for k, v in model.variables.items() if k != paths.PARAMS}
    state = init_state(model.params, tx, labels, stats=stats)
    x: Any = sample(NETWORKS[name][0], batch)
    if start:
        shapes = jax.eval_shape(lambda v, x: model.network.forward(v, x, 0, start)[0], model.variables, x)
        rng = np.random.default_rng(1)
        x = {"mask": np.ones_like(x["mask"]), **_drawn(shapes, rng)} if isinstance(x, dict) else _drawn(shapes, rng)
    pipeline = Pipeline(model.network, Given())  # type: ignore[arg-type]
    step = make_step(model_loss(pipeline, start=start), tx)
    rows = np.arange(batch, dtype=np.int32)
    given = {"inputs": x, "target": rows % CLASSES, "weight": np.ones(batch, np.float32), "example_index": rows}
    return step, state, given


def _drawn(shapes: Any, rng: np.random.Generator) -> Any:
    if isinstance(shapes, dict):
        return {k: _drawn(v, rng) for k, v in shapes.items() if k != "mask"}
    return rng.standard_normal(shapes.shape).astype(shapes.dtype)


def times(name: str, batch: int, repeats: int) -> dict[str, list[float]]:
    """Returns the seconds of steps of both kinds, interleaved."""
    runs, taken = {}, {kind: [] for kind in KINDS}
    for kind in KINDS:
        step, state, given = prepared(name, kind, batch)
        state, _ = step(state, given)
        runs[kind] = [step, state, given]
    for _ in range(repeats):
        for kind, run in runs.items():
            began = time.perf_counter()
            run[1], metrics = run[0](run[1], run[2])
            jax.block_until_ready((run[1], metrics))
            taken[kind].append(time.perf_counter() - began)
    return taken


def memory(name: str, kind: str, batch: int) -> dict[str, float]:
    """Returns megabytes: the peak of this process, and what the compiled program needs."""
    step, state, given = prepared(name, kind, batch)
    compiled = step.lower(state, given).compile()
    said = compiled.memory_analysis()
    for _ in range(3):
        state, _ = jax.block_until_ready(compiled(state, given))
    held = said.temp_size_in_bytes + said.argument_size_in_bytes + said.output_size_in_bytes - said.alias_size_in_bytes
    peak = machine.peak()
    return {"process": float("nan") if peak is None else peak / 1e6, "program": held / 1e6}


def memories(name: str, batch: int, cache: str) -> dict[str, dict[str, float]]:
    """Measures memory in a process for each kind; a first one fills the compilation cache."""
    found = {}
    for kind in KINDS:
        words = [sys.executable, __file__, "--only", name, kind, "--batch", str(batch)]
        own = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        environment = {**os.environ, **own}
        for _ in range(2):
            done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment, encoding="utf-8")
        found[kind] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(name: str, batch: int, repeats: int, cache: str) -> str:
    """Returns a network's row of the table."""
    taken, held = times(name, batch, repeats), memories(name, batch, cache)
    ratios = np.array(taken["full"]) / np.array(taken["cut"])
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    share = {kind: held["cut"][kind] / held["full"][kind] for kind in ("process", "program")}
    return (
        f"| {name} | {np.median(taken['full']):.3f} | {np.median(taken['cut']):.3f} | **{middle:.2f} ×** "
        f"({low:.2f}…{high:.2f}) | {held['full']['process']:.0f} | {held['cut']['process']:.0f} | "
        f"**{share['process']:.0%}** | {held['full']['program']:.0f} | {held['cut']['program']:.0f} | "
        f"**{share['program']:.0%}** |"
    )


def main() -> None:
    """Measures the networks and prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs=2, metavar=("NETWORK", "KIND"), help="print one kind's memory as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(memory(*options.only, options.batch)))
        return
    lines = [
        "# The cut at half depth beside full fine-tuning",
        "",
        f"`python scripts/benchmark_cut.py --batch {options.batch} --repeats {options.repeats}`: JAX "
        f"{jax.__version__}, {jax.device_count()} × {jax.devices()[0].device_kind}, {os.cpu_count()} cores "
        f"({platform.machine()}), float32, AdamW, pictures of 224 × 224 or {TOKENS} tokens. Asked: a step at least "
        f"{FASTER} × faster, with at most {SMALLER:.0%} of the peak memory.",
        "",
        f"| network | full, s | cut, s | faster (≥ {FASTER} ×; quartiles) | process, full, MB | cut, MB | "
        f"≤ {SMALLER:.0%} | program, full, MB | cut, MB | ≤ {SMALLER:.0%} |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as cache:
        for name in options.networks:
            lines.append(line(name, options.batch, options.repeats, cache))
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
