"""What is kept of a result: each leaf's digest, and sums that say how far off it is where the bits differ."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl import paths


def digest(array: Any) -> str:
    """Returns a digest of an array's dtype, shape and bits."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()[:16]


def fact(array: Any) -> list[Any]:
    """Returns an array's digest, and two projections of its values."""
    values = np.asarray(array, np.float64).ravel()
    known = np.nan_to_num(values)
    return [digest(array), float(known.sum()), float(np.cos(np.arange(len(known))) @ known)]


def facts_of_tree(tree: Any) -> dict[str, Any]:
    """Returns the facts of each leaf of a tree by its path."""
    return {"leaves": {leaf.name: fact(value) for leaf, value in paths.leaves(tree)}}


def facts_of_model(model: Any, source: Any) -> dict[str, Any]:
    """Returns the facts of a model's parameters, and of what it says of examples."""
    found = facts_of_tree(model.variables)
    found["leaves"]["(logits)"] = fact(model.logits(source))
    found["numbers"] = [float(model.card.head.temperature)]
    found["words"] = [model.card.head.task, *model.card.head.labels]
    return found


def facts_of_result(result: Any, source: Any) -> dict[str, Any]:
    """Returns the facts of a model, and of what a job says of it.

    Args:
        result: of `finetune` or `pretrain`.
        source: examples that the model is asked about.
    """
    found, conformal = facts_of_model(result.model, source), result.model.card.head.conformal
    for name in ("test", "out_of_fold", "validation"):
        one = getattr(result, name)
        if one is not None:
            found["leaves"][f"({name})"] = fact(one.outputs)
    if conformal is not None:
        found["numbers"] += [value for value in vars(conformal).values() if isinstance(value, float)]
    found["numbers"].append(float(result.examples))
    found["words"].append(result.strategy)
    found["words"] += [record["chosen"] for record in result.to_dict()["evidence"] if record["kind"] == "auto"]
    return found


def machine() -> str:
    """Returns what decides the bits of a computation: versions, the processors, compiler settings."""
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "scipy", "optax", "flax")]
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else [platform.processor()]
    flags = next((" ".join(sorted(line.split())) for line in lines if line.startswith("flags")), platform.processor())
    told = [*versions, platform.machine(), flags, os.cpu_count(), os.environ.get("XLA_FLAGS", "")]
    return f"jax {versions[0]} {hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"


def compare(found: Any, wanted: Any, exact: bool, where: str = "") -> list[str]:
    """Returns where two jobs' facts differ: in any bit, or by more than rounding on another machine."""
    if isinstance(wanted, dict):
        if set(found) != set(wanted):
            return [f"{where}: {sorted(set(found) ^ set(wanted))} is in one of them only"]
        return [said for key in wanted for said in compare(found[key], wanted[key], exact, f"{where}/{key}")]
    if isinstance(wanted, list):
        if len(found) != len(wanted):
            return [f"{where}: {len(found)} values in place of {len(wanted)}"]
        skipped = 0 if exact or "/leaves/" not in where else 1  # another machine, other bits
        pairs = list(zip(found, wanted, strict=True))[skipped:]
        return [said for a, b in pairs for said in compare(a, b, exact, where)]
    if exact:
        return [] if found == wanted else [f"{where}: {found} in place of {wanted}"]
    if isinstance(wanted, str):  # rounding may decide between candidates that are as good
        return []
    close = abs(found - wanted) <= 5e-2 * max(1.0, abs(wanted))
    return [] if close else [f"{where}: {found} is not close to {wanted}"]
