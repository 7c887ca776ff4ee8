"""How every method is measured: the same figures of its probabilities, and the peak memory of its job."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

BINS = 10
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def figures(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Returns accuracy, log-loss and calibration error (bins of equal mass) of probabilities [n, c]."""
    p = np.asarray(probabilities, np.float64)
    p = p / p.sum(1, keepdims=True)
    targets = np.asarray(targets)
    right = (p.argmax(1) == targets).astype(np.float64)
    loss = -np.log(np.maximum(p[np.arange(len(p)), targets], 1e-15))
    return {
        "accuracy": float(right.mean()),
        "log_loss": float(loss.mean()),
        "ece": calibration_error(p.max(1), right),
    }


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Returns Σ |mean of (confidence - right)| over bins of equal mass, each by its share of the examples."""
    _, group = np.unique(confidence.round(9), return_inverse=True)
    mass = np.bincount(group)
    middle = np.cumsum(mass) - mass / 2
    place = np.minimum(middle / len(right) * bins, bins - 1).astype(np.int64)[group]
    return float(np.abs(np.bincount(place, confidence - right, bins)).sum() / len(right))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities [n, c]."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def mean_by_example(rows: np.ndarray, example: np.ndarray) -> np.ndarray:
    """Averages rows [r, …] that belong to one example; examples are numbered from 0, each with a row."""
    total = np.zeros((int(example.max()) + 1, *rows.shape[1:]), np.float64)
    np.add.at(total, example, rows)
    return total / np.bincount(example).reshape(-1, *[1] * (rows.ndim - 1))


def forget_peak() -> None:
    """Makes the peak of this process's memory what it holds now, where the system (Linux) lets it."""
    if _CLEAR.exists():
        _CLEAR.write_text("5", encoding="utf-8")


def peak_mb() -> float | None:
    """Returns the peak resident memory since `forget_peak` in MB, or None where the system does not tell."""
    if not _STATUS.exists():
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"))
    return None if found is None else int(found[1]) * 1024 / 1e6


def work(batch: dict[str, Any], run: Callable[[dict[str, Any]], dict[str, Any]], versions: dict[str, str]) -> None:
    """Runs a batch's jobs one after the other and prints a JSON line of each as soon as it is done."""
    for job in batch["jobs"]:
        forget_peak()
        began = time.process_time()
        found = run(job)
        used = {"cpu_seconds": time.process_time() - began, "peak_mb": peak_mb()}
        print(json.dumps({**job, **found, **used, "versions": versions}), flush=True)


def given_batch() -> dict[str, Any]:
    """Returns the batch whose file is the worker's one argument."""
    return json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Returns the versions of installed distributions."""
    from importlib.metadata import version

    return {name: version(name) for name in names}
