"""What solving a head returns: the dense layer, and what cross-validation said of every candidate."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from flaxtl.probe.simple_heads import scale


@dataclasses.dataclass(frozen=True)
class CvRow:
    """What cross-validation says of one scaling and strength: means over held-out examples ± standard errors.

    The loss is the log-loss and the accuracy the share of right predictions (multilabel: the binary
    losses' sum and the share of right labels; regression: the mean squared error and R²).
    """

    scaling: str
    strength: float
    loss: float
    loss_se: float
    accuracy: float
    accuracy_se: float


@dataclasses.dataclass(frozen=True, eq=False)
class CvResult:
    """What cross-validation found.

    Attributes:
        possible: whether there were enough examples for it.
        reason: why not, as a sentence; empty if it was possible.
        rows: one a scaling and strength.
        chosen: the row that was chosen; None without cross-validation.
        logits: float32 [n, c], out-of-fold outputs of the chosen row, of one head each: the first that did not see
            the example; rows that were never held out are NaN. None without cross-validation.
        parts: number of folds in all repeats together.
        groups: how many groups were kept together in them; 0 where examples stand alone.
    """

    possible: bool
    reason: str = ""
    rows: tuple[CvRow, ...] = ()
    chosen: int | None = None
    logits: np.ndarray | None = None
    parts: int = 0
    groups: int = 0

    @property
    def best(self) -> CvRow | None:
        """The chosen row."""
        return None if self.chosen is None else self.rows[self.chosen]

    @property
    def summary(self) -> str:
        """One line for people."""
        row = self.best
        if row is None:
            return f"no cross-validation: {self.reason}"
        folds = f"{self.parts} folds" + (f" that keep each of {self.groups} groups together" if self.groups else "")
        return (
            f"cross-validated loss {row.loss:.3f} ± {row.loss_se:.3f}, accuracy {row.accuracy:.1%} ± "
            f"{row.accuracy_se:.1%} (mean ± standard error, {folds}; {row.scaling} scaling, "
            f"strength {row.strength:.2g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON, without the logits."""
        rows = [dataclasses.asdict(r) for r in self.rows]
        about = {"possible": self.possible, "reason": self.reason, "folds": self.parts, "groups": self.groups}
        return {"summary": self.summary, "cross_validation": {**about, "chosen": self.chosen, "rows": rows}}


@dataclasses.dataclass(frozen=True, eq=False)
class SolvedHead:
    """A dense layer on features, and how it was found.

    Attributes:
        kernel: float32 [d, c]; on raw features, or on what `normalise` says.
        bias: float32 [c].
        scaling: "unit", "root", "standard" (already folded into kernel and bias) or "none".
        strength: of the penalty on scaled features.
        temperature: what logits are divided by to be calibrated; 1 if it could not be fitted.
        converged: whether the solution on all examples reached its tolerance.
        cv: what cross-validation found.
    """

    kernel: np.ndarray
    bias: np.ndarray
    scaling: str
    strength: float
    temperature: float
    converged: bool
    cv: CvResult

    @property
    def normalise(self) -> Literal["unit", "root", "none"]:
        """What has to be done to features before the dense layer: see `scale`."""
        return self.scaling if self.scaling in ("unit", "root") else "none"  # type: ignore[return-value]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns outputs float32 [m, c] of raw features [m, d], not divided by the temperature."""
        return scale(np.asarray(features, np.float32), self.normalise)[0] @ self.kernel + self.bias
