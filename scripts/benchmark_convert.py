"""Measures a conversion: peak memory, and time beside reading with safetensors and saving with Orbax.

python scripts/benchmark_convert.py --size 1000    # MB

Each part runs in a process of its own, interleaved, as often as --repeats says; the ratio is of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CONVERT = """
import sys, time, json
from flaxtl.convert.converting import convert
start, busy = time.perf_counter(), time.process_time()
convert(sys.argv[1], sys.argv[2])
print(json.dumps([time.perf_counter() - start, time.process_time() - busy]))
"""
PLAIN = """
import sys, time, json
import orbax.checkpoint as ocp
from safetensors.numpy import load_file
start, busy = time.perf_counter(), time.process_time()
tree = load_file(sys.argv[1])
with ocp.PyTreeCheckpointer() as checkpointer:
    checkpointer.save(sys.argv[2], tree)
print(json.dumps([time.perf_counter() - start, time.process_time() - busy]))
"""
PEAK = 'print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024)'


def write_vit(folder: Path, size: int, width: int = 1024) -> tuple[Path, int]:
    """Writes random weights of a vision transformer as timm publishes them, tensor by tensor.

    Args:
        folder: for model.safetensors and config.json; made if need be.
        size: about how many bytes.
        width: features of a token; 1024 as of the large ones.

    Returns:
        (the safetensors file, the bytes of its largest tensor).
    """
    depth = max(round(size / (4 * 12 * width * width)), 1)
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 197, width), "patch_embed.proj.weight": (width, 3, 16, 16)}
    shapes |= {"patch_embed.proj.bias": (width,), **_layer("norm", width), **_layer("head", 1000, width)}
    for block in range(depth):
        name = f"blocks.{block}"
        shapes |= {**_layer(f"{name}.norm1", width), **_layer(f"{name}.norm2", width)}
        shapes |= {**_layer(f"{name}.attn.qkv", 3 * width, width), **_layer(f"{name}.attn.proj", width, width)}
        shapes |= {**_layer(f"{name}.mlp.fc1", 4 * width, width), **_layer(f"{name}.mlp.fc2", width, 4 * width)}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps({"architecture": "vit_large_patch16_224", "global_pool": "token"}), encoding="utf-8"
    )
    _write(folder / "model.safetensors", shapes)
    return folder / "model.safetensors", max(4 * int(np.prod(s)) for s in shapes.values())


def _layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _write(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(0)
    with open(file, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            stream.write(rng.standard_normal(shape, dtype=np.float32).tobytes())


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="of the file, in MB")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file, largest = write_vit(Path(folder) / "big", options.size * 1_000_000)
        found: dict[str, list[list[float]]] = {"convert": [], "plain": []}
        peak = 0
        for number in range(options.repeats):
            for kind, code in (("convert", CONVERT + PEAK), ("plain", PLAIN)):
                out = os.path.join(folder, f"{kind}{number}")
                done = subprocess.run(
                    [sys.executable, "-c", code, str(file), out],
                    capture_output=True,
                    text=True,
                    check=True,
                    encoding="utf-8",
                )
                lines = done.stdout.split("\n")
                found[kind].append(json.loads(lines[0]))
                peak = max(peak, int(lines[1])) if kind == "convert" else peak
                subprocess.run(["rm", "-r", out], check=True)
        _print(file, largest, peak, found)


def _print(file: Path, largest: int, peak: int, found: dict[str, list[list[float]]]) -> None:
    print(f"file {file.stat().st_size / 1e6:.0f} MB, largest tensor {largest / 1e6:.1f} MB")
    print(f"peak memory {peak / 1e6:.0f} MB; allowed 2 × largest + 300 MB = {(2 * largest + 300e6) / 1e6:.0f} MB")
    for place, what in enumerate(("wall", "processor")):
        ours, plain = (statistics.median(run[place] for run in found[kind]) for kind in ("convert", "plain"))
        print(
            f"{what} time: convert {ours:.2f} s, safetensors load + Orbax save {plain:.2f} s, ratio {ours / plain:.2f}"
        )


if __name__ == "__main__":
    main()
