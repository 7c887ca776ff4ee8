"""What `flaxtl estimate` says of one CPU device beside the peak memory that training really shows.

    python scripts/benchmark_estimate.py --out docs/benchmarks/estimate.md
    python scripts/benchmark_estimate.py --networks vit_small --strategies cut --batch 8

Parameters and examples are random: memory does not depend on their values. Estimate and training run in processes of
their own, the training as the command `flaxtl finetune`; its peak is the VmHWM of /proc/self/status, which a process,
unlike its ru_maxrss, does not inherit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl import nets, paths
from flaxtl.card import Card, Head, Image, NetworkSpec, Text
from flaxtl.model import Model

CLASSES, TOKENS, SIDE = 4, 128, 224
MINILM = {"vocabulary": 30522, "positions": 512, "width": 384, "depth": 6, "heads": 12, "hidden": 1536}
NETWORKS = {
    "resnet50": ("resnet", "resnet50"),
    "vit_small": ("vit", "vit_small_patch16_224"),
    "minilm": ("bert", None),
}
STRATEGIES = ("head", "cut", "full")
WITHIN = 0.25
# Said by the training process as its last line, whatever the command printed.
RUN = (
    "import sys; from flaxtl.cli import main; from flaxtl.train import machine; "
    "code = main(sys.argv[1:]); print('peak', machine.peak()); sys.exit(code)"
)


def write_model(name: str, folder: Path) -> None:
    """Writes a network of the named size with random parameters."""
    family, variant = NETWORKS[name]
    spec = NetworkSpec(family, MINILM if variant is None else nets.named_settings(family, variant))
    text = family == "bert"
    entry = Text(max_length=TOKENS) if text else Image((SIDE, SIDE), 3, (0.5,), (0.5,))
    card = Card(entry, spec, (Head(labels=tuple(map(str, range(CLASSES)))),))
    network = nets.build(spec, CLASSES)
    rng = np.random.default_rng(0)

    def drawn(leaf: paths.Leaf, like: Any) -> np.ndarray:
        if leaf.keys[-1] in ("var", "scale"):
            return np.ones(like.shape, like.dtype)
        return (0.02 * rng.standard_normal(like.shape)).astype(like.dtype)

    files = {"tokenizer.json": write_tokenizer(folder.parent)} if text else {}
    model = Model(network, {}, card, files)
    model.with_variables(paths.map_with_leaf(drawn, network.abstract(model.sample()))).save(folder)


def write_tokenizer(folder: Path) -> Path:
    """Writes a tokenizer whose words are numbers, and returns its file."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{number}": number for number in range(MINILM["vocabulary"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def write_data(name: str, place: Path, examples: int) -> Path:
    """Writes random pictures as a folder, or random texts of full length as a table; returns it."""
    rng = np.random.default_rng(1)
    place.mkdir(parents=True)
    if NETWORKS[name][0] == "bert":
        rows = [
            {"text": " ".join(f"w{n}" for n in rng.integers(1000, 30000, TOKENS)), "label": str(i % CLASSES)}
            for i in range(examples)
        ]
        file = place / "texts.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return file
    from PIL import Image as pillow

    for i in range(examples):
        folder = place / str(i % CLASSES)
        folder.mkdir(exist_ok=True)
        pillow.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)).save(folder / f"{i}.png")
    return place


def command(words: Sequence[str], folder: Path) -> list[str]:
    """Runs a flaxtl command in a process of its own, with caches of its own; returns its lines."""
    own = {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **own},
        encoding="utf-8",
    )
    if done.returncode:
        raise RuntimeError(f"flaxtl {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout.splitlines()


def measured(name: str, strategy: str, batch: int, examples: int) -> tuple[int, int]:
    """Returns bytes: what the estimate says, and what training takes."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_model(name, folder / "model")
        data = write_data(name, folder / "data", examples)
        settings = ["--from", str(folder / "model"), "--strategy", strategy, "--batch-size", str(batch)]
        run = folder / "run"
        lines = command(["finetune", str(data), *settings, "--epochs", "1", "--out", str(run), "--json"], folder)
        words = ["estimate", str(run / "config.yaml"), "--classes", str(CLASSES), "--examples", str(examples), "--json"]
        said = json.loads("\n".join(command(words, folder)[:-1]))
        return int(said["peak"]), int(lines[-1].split()[1])


def line(name: str, strategy: str, batch: int, examples: int) -> str:
    """Returns a row of the table."""
    said, real = measured(name, strategy, batch, examples)
    ratio = said / real
    good = "yes" if abs(ratio - 1.0) <= WITHIN else "**no**"
    return f"| {name} | {strategy} | {said / 1e6:.0f} | {real / 1e6:.0f} | {ratio - 1.0:+.0%} | {good} |"


def main() -> None:
    """Measures the networks and prints or writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--strategies", nargs="*", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    import jax

    lines = [
        "# The estimate beside the memory that training takes",
        "",
        f"`python scripts/benchmark_estimate.py --batch {options.batch} --examples {options.examples}`: JAX "
        f"{jax.__version__}, one CPU device, {os.cpu_count()} cores ({platform.machine()}), float32, AdamW, pictures "
        f"of {SIDE} × {SIDE} or texts of {TOKENS} tokens. The peak is that of the whole process of `flaxtl finetune` "
        f"(VmHWM): Python, its libraries and compilation included. Asked: within {WITHIN:.0%}.",
        "",
        "| network | strategy | estimated, MB | measured, MB | difference | within |",
        "|---|---|---|---|---|---|",
    ]
    for name in options.networks:
        for strategy in options.strategies:
            lines.append(line(name, strategy, options.batch, options.examples))
            print(lines[-1], flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
