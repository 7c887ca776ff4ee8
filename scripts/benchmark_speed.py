"""Feature extraction beside PyTorch: the same weights, interleaved A B A B, medians of ratios.

    python scripts/benchmark_speed.py --out docs/benchmarks/speed.md           # needs the [parity] extra
    python scripts/benchmark_speed.py --networks resnet50 --repeats 9

Torch runs in `channels_last` for convolutional networks, as an informed user does, with as many threads as JAX has. A
ratio is JAX's time over torch's in the same pair of runs: below 1, JAX is faster. Bare times of a shared machine prove
nothing, so they are given only to read the ratios by.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import timm
import torch
import transformers

from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.weights import Tensor, Weights
from flaxtl.pipeline import compiled

TARGETS = {"mobilenetv2_100": 1.0, "resnet50": 1.05, "vit_tiny_patch16_224": 1.0, "minilm_l6": 0.95}


def weights_of(model: torch.nn.Module, config: dict[str, Any]) -> Weights:
    """Returns a torch module's tensors as published weights."""
    tensors = {n: Tensor.of(t.detach().numpy()) for n, t in model.state_dict().items()}
    return Weights(tensors, config)


def picture_network(name: str, batch: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Returns (ours, torch's) feature extraction of a timm network on photographs of 224 × 224."""
    model = timm.create_model(name, pretrained=False).eval()
    x = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3)).astype(np.uint8)
    given = ((x.astype(np.float32) / 255.0 - 0.5) / 0.5).transpose(0, 3, 1, 2)
    tensor = torch.from_numpy(np.ascontiguousarray(given))
    if not name.startswith("vit"):
        model, tensor = model.to(memory_format=torch.channels_last), tensor.to(memory_format=torch.channels_last)
    config = {
        "architecture": name,
        "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    return _ours(weights_of(model, config), x), lambda: model.forward_head(model.forward_features(tensor), True)


def text_network(batch: int, length: int = 128) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Returns (ours, torch's) mean-pooled features of MiniLM-L6 on 128 tokens."""
    config = transformers.BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    ids = np.random.default_rng(0).integers(1000, 30000, (batch, length)).astype(np.int32)
    mask = np.ones_like(ids)
    given = {"input_ids": torch.from_numpy(ids).long(), "attention_mask": torch.from_numpy(mask).long()}

    def theirs() -> Any:
        hidden = model(**given).last_hidden_state
        weight = given["attention_mask"].unsqueeze(-1).float()
        return (hidden * weight).sum(1) / weight.sum(1)

    inputs = {"ids": ids, "mask": mask, "types": np.zeros_like(ids)}
    return _ours(weights_of(model, config.to_dict()), inputs), theirs


def _ours(weights: Weights, inputs: Any) -> Callable[[], Any]:
    model = plan_conversion(weights).read()
    run = compiled(model.pipeline, 0, model.network.border)
    variables = jax.device_put(model.variables)
    return lambda: run(variables, inputs).block_until_ready()


def measure(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> tuple[list[float], list[float], float]:
    """Returns (our seconds, torch's seconds, largest relative difference of the results)."""
    with torch.inference_mode():
        a, b = np.asarray(ours()), theirs().numpy()
        difference = float(np.abs(a - b).max() / np.abs(b).max())
        theirs()
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            for function, taken in ((ours, times[0]), (theirs, times[1])):
                began = time.perf_counter()
                function()
                taken.append(time.perf_counter() - began)
    return (*times, difference)


def main() -> None:
    """Measures the networks and prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=list(TARGETS))
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    lines = [
        "# Feature extraction beside PyTorch",
        "",
        f"`python scripts/benchmark_speed.py --repeats {options.repeats} --batch {options.batch}`: "
        f"JAX {jax.__version__}, torch {torch.__version__}, {os.cpu_count()} cores ({platform.machine()}), float32, "
        f"batch {options.batch} at 224 × 224 (text: 16 × 128 tokens). Ratio = our time / torch's (channels_last for "
        "convolutional networks), the median of interleaved pairs, with the quartiles; below 1 we are faster.",
        "",
        "| network | ratio | quartiles | ours, s | torch, s | asked | largest relative difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in options.networks:
        pair = text_network(16) if name == "minilm_l6" else picture_network(name, options.batch)
        ours, theirs, difference = measure(*pair, options.repeats)
        ratios = np.array(ours) / np.array(theirs)
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        asked = f"≤ {TARGETS[name]}" if name in TARGETS else ""
        lines.append(
            f"| {name} | {middle:.2f} | {low:.2f}–{high:.2f} | {np.median(ours):.3f} | {np.median(theirs):.3f} | "
            f"{asked} | {difference:.1e} |"
        )
        print(lines[-1], flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
