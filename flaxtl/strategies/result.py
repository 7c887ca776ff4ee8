"""The result of a job, and its summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.metrics import Metrics, OutputMetrics
from flaxtl.model import Model
from flaxtl.report import HeldOut
from flaxtl.report.accuracies import front, others, shown_first
from flaxtl.report.sentences import best_step


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The result of a job.

    Attributes:
        model: the finished model.
        strategy: how it was trained.
        examples: how many labelled examples it was trained on.
        seconds: wall time of the training phases.
        evidence: a record of each phase.
        out_of_fold: predictions of training examples by models that were trained without them, with their figures
            (`out_of_fold.metrics`, `out_of_fold.probabilities`, `out_of_fold.source`); None where no example was held
            out in that way.
        validation: the finished model's predictions on the validation part, with their figures; None without one.
        test: the same on the test data; None without any.
        directory: the run directory, or None.
        notes: what the user should know, one sentence each.
    """

    model: Model
    strategy: str
    examples: int
    seconds: float
    evidence: tuple[dict[str, Any], ...] = ()
    out_of_fold: HeldOut | None = None
    validation: HeldOut | None = None
    test: HeldOut | None = None
    directory: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> Metrics | OutputMetrics | None:
        """The figures on the test data, or None without any."""
        return None if self.test is None else self.test.metrics

    @property
    def probabilities(self) -> np.ndarray | None:
        """Of the classes of each test example, calibrated, float [n, c]; None without test data or classes."""
        return None if self.test is None else self.test.probabilities

    @property
    def held_out(self) -> tuple[HeldOut, ...]:
        """All predictions on examples that the predicting model did not see."""
        return tuple(one for one in (self.test, self.out_of_fold, self.validation) if one is not None)

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as plain data for JSON."""
        return {
            "strategy": self.strategy,
            "task": self.model.card.head.task,
            "examples": self.examples,
            "classes": list(self.model.card.labels),
            "seconds": round(self.seconds, 2),
            "evidence": list(self.evidence),
            "test": None if self.test is None else self.test.to_dict(),
            "out_of_fold": None if self.out_of_fold is None else self.out_of_fold.to_dict(),
            "validation": None if self.validation is None else self.validation.to_dict(),
            "model": None if self.directory is None else str(self.directory / "model"),
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """Returns a few lines for people: how good the model is, how it was trained, and what to know about it."""
        head = self.model.card.head
        kind = "classes" if head.task == "classification" else f"outputs ({head.task})"
        about = {"task": head.task, "evidence": self.evidence}
        by_kind = {one.kind: one for one in self.held_out}
        first = shown_first(by_kind)
        lines = [f"{self.strategy}: {self.examples} examples, {len(head.labels)} {kind}, {self.seconds:.1f} s"]
        figure = front(about, first)
        lines += [
            figure.sentence,
            *(f"  {sentence}" for sentence in (figure.caveat, *others(about, by_kind)) if sentence),
        ]
        lines += [f"note: {note}" for note in self.notes]
        for record in self.evidence:
            if record["kind"] == "auto":
                lines += _search(record)
            elif record["kind"] == "solve":
                lines.append(f"head fitted on {record['features']} features: {record['summary']}")
                lines += [record["class_names"]] if "class_names" in record else []
            elif "best" in record:
                lines.append(best_step(record, head.task))
        if self.metrics is not None:
            lines.append("on the test data:")
            lines.append(self.metrics.summary(notes=False))
        if self.directory is not None:
            lines.append(f"model saved in {self.directory / 'model'}")
            lines.append(f"report saved in {self.directory / 'report.html'}")
        return "\n".join(lines)


def _search(record: Mapping[str, Any]) -> list[str]:
    """Returns the record of a search as a table, and the learning curve's extrapolation."""
    lines = [f"auto chose {record['chosen_label']}: {record['why']}"]
    if not record["possible"]:
        return lines
    width = max(13, *(len(row["label"]) for row in record["candidates"]))
    lines.append(f"  {'candidate':<{width}}  accuracy         log-loss         seconds  peak memory")
    for row in record["candidates"]:
        name = f"  {row['label']:<{width}}"
        if not row["tried"]:
            lines.append(f"{name}  not tried: {row['note']}")
            continue
        memory = "" if row["memory_mb"] is None else f"{row['memory_mb']:>8} MB"
        figures = f"{row['accuracy']:.3f} ± {row['accuracy_se']:.3f}    {row['loss']:.3f} ± {row['loss_se']:.3f}"
        lines.append(f"{name}  {figures}  {row['seconds']:>8.1f} {memory}  {row['note']}".rstrip())
    curve = record["learning_curve"]
    further = None if curve is None else curve["foretold"]
    # Points of so few examples may lie below what the folds, which train on more, have shown already.
    if further is not None and further["accuracy"] >= record["candidates"][0]["accuracy"]:
        span = f"[{further['low']:.1%}, {further['high']:.1%}]"
        lines.append(
            f"learning curve of the head alone, extrapolated to {further['examples']} examples: "
            f"{further['accuracy']:.1%} {span}"
        )
    return lines
