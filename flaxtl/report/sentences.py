"""What a run records of its choices, as sentences: the terminal's summary and the report's page say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

# What the two figures are that are followed while training and in cross-validation, by task.
SCORE = {"classification": "accuracy", "multilabel": "right labels", "regression": "R²"}
LOSS = {"classification": "log-loss", "multilabel": "sum of binary log-losses", "regression": "mean squared error"}
NORMALISED = {
    "unit": "features of unit length",
    "root": "square roots of features, of unit length",
    "standard": "standardised features",
    "none": "features as they are",
}


def score(value: float | None, error: float | None = None, task: str = "classification") -> str:
    """Returns a score as people read it: shares in percent, R² as a number.

    Example:
        >>> score(0.876, 0.021), score(0.83, 0.02, 'regression'), score(None)
        ('87.6% ± 2.1', '0.830 ± 0.020', '–')
    """
    if value is None or value != value:
        return "–"
    if task == "regression":
        return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")
    return f"{value:.1%}" + ("" if error is None else f" ± {100 * error:.1f}")


def cross_validated(record: Record, task: str) -> str:
    """Returns what cross-validation says of a solved head, or why there was none."""
    validation = record.get("cross_validation") or {}
    rows = validation.get("rows") or ()
    if validation.get("possible") and rows:
        row = rows[validation["chosen"]]
        groups = validation.get("groups")
        folds = f"{validation['folds']} folds" + (f" that keep each of {groups} groups together" if groups else "")
        return (
            f"cross-validated {LOSS[task]} {row['loss']:.3f} ± {row['loss_se']:.3f}, {SCORE[task]} "
            f"{score(row['accuracy'], row['accuracy_se'], task)} (mean ± standard error, {folds}; "
            f"{_penalty(row, rows)})"
        )
    if validation.get("reason"):
        return f"no cross-validation: {validation['reason']}"
    return str(record.get("summary", "no cross-validation"))


def _penalty(row: Record, rows: Sequence[Record]) -> str:
    normalised = NORMALISED.get(str(row["scaling"]), str(row["scaling"]))
    if len({r["strength"] for r in rows}) < 2:
        return normalised  # a head of class means has no penalty
    return f"l2 penalty {row['strength']:.2g} on {normalised}"


def alpha_label(strategy: str, alpha: float) -> str:
    """Returns what tells candidates of a strategy apart: WiSE-FT's coefficient, where it is not 1.

    Example:
        >>> alpha_label('lpft', 0.5), alpha_label('lpft', 1.0)
        ('lpft, alpha 0.5', 'lpft')
    """
    return strategy if alpha == 1.0 else f"{strategy}, alpha {alpha:g}"


def best_step(record: Record, task: str) -> str:
    """Returns which step of training was kept, by which figure."""
    monitor = str(record["monitor"])
    name = LOSS[task] if monitor == "loss" else SCORE[task]
    value = f"{record['best']:.4f}" if monitor == "loss" else score(record["best"], None, task)
    return f"step {record['best_step']} of {record['steps']} was best ({name} {value} on validation data)"
