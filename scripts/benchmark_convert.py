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


def write_resnet(file: Path, size: int) -> tuple[Path, int]:
    """Writes random weights of a deep residual network as safetensors, tensor by tensor.

    Args:
        file: the place.
        size: about how many bytes.

    Returns:
        (the file, the bytes of its largest tensor).
    """
    width = 256
    shapes = {"conv1.weight": (64, 3, 7, 7), **_norm("bn1", 64)}
    block = 4 * (2 * width * width * 9 + 8 * width)
    wide = 16 * block if size < 400 << 20 else 0
    blocks = max((size - wide) // block, 4)
    widths = (64, 128, width, width)
    depths = (1, 1, max(blocks - 1, 1), 1)
    before = 64
    for stage, (wide_now, depth) in enumerate(zip(widths, depths, strict=True), 1):
        for number in range(depth):
            name = f"layer{stage}.{number}"
            shapes |= {f"{name}.conv1.weight": (wide_now, before, 3, 3), **_norm(f"{name}.bn1", wide_now)}
            shapes |= {f"{name}.conv2.weight": (wide_now, wide_now, 3, 3), **_norm(f"{name}.bn2", wide_now)}
            if number == 0 and stage > 1:
                shapes |= {
                    f"{name}.downsample.0.weight": (wide_now, before, 1, 1),
                    **_norm(f"{name}.downsample.1", wide_now),
                }
            before = wide_now
    outputs = 16384
    shapes |= {"fc.weight": (outputs, width), "fc.bias": (outputs,)}
    _write(file, shapes)
    return file, max(4 * int(np.prod(s)) for s in shapes.values())


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


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
        file, largest = write_resnet(Path(folder) / "big.safetensors", options.size * 1_000_000)
        found: dict[str, list[list[float]]] = {"convert": [], "plain": []}
        peak = 0
        for number in range(options.repeats):
            for kind, code in (("convert", CONVERT + PEAK), ("plain", PLAIN)):
                out = os.path.join(folder, f"{kind}{number}")
                done = subprocess.run(
                    [sys.executable, "-c", code, str(file), out], capture_output=True, text=True, check=True
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
