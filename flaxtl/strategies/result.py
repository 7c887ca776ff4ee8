"""What a job leaves, and how it is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.metrics import Metrics, OutputMetrics
from flaxtl.model import Model


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a job leaves.

    Attributes:
        model: the finished model.
        strategy: how it was trained.
        examples: how many labelled examples it was trained on.
        seconds: wall time of the training phases.
        evidence: what each phase found out.
        metrics: on the test data, or None without any.
        probabilities: of the classes of each test example, calibrated, float [n, c]; None without test data, and where
            examples have several labels or numbers.
        directory: the run directory, or None.
        notes: what the user should know, one sentence each.
    """

    model: Model
    strategy: str
    examples: int
    seconds: float
    evidence: tuple[dict[str, Any], ...] = ()
    metrics: Metrics | OutputMetrics | None = None
    probabilities: np.ndarray | None = None
    directory: Path | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as plain data for JSON."""
        return {
            "strategy": self.strategy,
            "examples": self.examples,
            "classes": list(self.model.card.labels),
            "seconds": round(self.seconds, 2),
            "evidence": list(self.evidence),
            "test": None if self.metrics is None else self.metrics.to_dict(),
            "model": None if self.directory is None else str(self.directory / "model"),
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """Returns a few lines for people: what was trained, what the evidence says, how good it is."""
        head = self.model.card.head
        kind = "classes" if head.task == "classification" else f"outputs ({head.task})"
        lines = [f"{self.strategy}: {self.examples} examples, {len(head.labels)} {kind}, {self.seconds:.1f} s"]
        lines += [f"note: {note}" for note in self.notes]
        for found in self.evidence:
            if found["kind"] == "auto":
                lines += _search(found)
            elif found["kind"] == "solve":
                lines.append(f"head solved on {found['features']} features: {found['summary']}")
                lines += [found["class_names"]] if "class_names" in found else []
            elif "best" in found:
                lines.append(
                    f"best of {found['steps']} steps: step {found['best_step']} "
                    f"({found['monitor']} {found['best']:.4f} on validation data)"
                )
        if self.metrics is not None:
            lines.append("on the test data:")
            lines.append(self.metrics.summary())
        if self.directory is not None:
            lines.append(f"model saved in {self.directory / 'model'}")
        return "\n".join(lines)


def _search(found: Mapping[str, Any]) -> list[str]:
    """Returns the evidence of a search as a table, and what it says of more labels."""
    lines = [f"auto chose {found['chosen_label']}: {found['why']}"]
    if not found["possible"]:
        return lines
    lines.append("  strategy       accuracy         log-loss         seconds  peak memory")
    for row in found["candidates"]:
        name = f"  {row['label']:<13}"
        if not row["tried"]:
            lines.append(f"{name}  not tried: {row['note']}")
            continue
        memory = "" if row["memory_mb"] is None else f"{row['memory_mb']:>8} MB"
        figures = f"{row['accuracy']:.3f} ± {row['accuracy_se']:.3f}    {row['loss']:.3f} ± {row['loss_se']:.3f}"
        lines.append(f"{name}  {figures}  {row['seconds']:>8.1f} {memory}  {row['note']}".rstrip())
    corrected, curve = found["corrected"], found["learning_curve"]
    foretold = None if curve is None else curve["foretold"]
    if corrected is not None:
        interval = f"{corrected['low']:.1%} to {corrected['high']:.1%}"
        lines.append(f"accuracy without the optimism of the choice: {corrected['accuracy']:.1%} ({interval})")
    # Points of so few examples may lie below what the folds, which train on more, have shown already.
    if foretold is not None and foretold["accuracy"] >= found["candidates"][0]["accuracy"]:
        span = f"{foretold['low']:.1%} to {foretold['high']:.1%}"
        lines.append(
            f"with {foretold['examples']} examples the head alone may reach {foretold['accuracy']:.1%} ({span})"
        )
    return lines
