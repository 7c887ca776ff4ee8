"""The worker that runs scikit-learn's LogisticRegressionCV on frozen features, as one who knows it would."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold

from small_data.manifests import Manifest
from small_data.measuring import figures, given_batch, versions_of, work

STRENGTHS = np.logspace(-2, 4, 13)
FOLDS = 5


def fitted(
    features: np.ndarray, targets: np.ndarray, seed: int, strengths: np.ndarray = STRENGTHS, tolerance: float = 1e-4
) -> Any:
    """Fits a head, its C by stratified cross-validation on log-loss; C = 1 where a class has one example.

    The tolerance, by default scikit-learn's own, bounds the largest component of the gradient.
    """
    smallest = int(np.bincount(targets).min())
    if smallest < 2:
        return LogisticRegression(max_iter=2000).fit(features, targets)
    folds = StratifiedKFold(min(FOLDS, smallest), shuffle=True, random_state=seed)
    chosen = LogisticRegressionCV(
        Cs=strengths,
        cv=folds,
        max_iter=2000,
        tol=tolerance,
        scoring="neg_log_loss",
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    return chosen.fit(features, targets)


class Worker:
    """Runs jobs of one set on the features that torch computed of it."""

    def __init__(self, batch: dict[str, Any]):
        self.manifest = Manifest.read(batch["manifest"])
        with np.load(batch["features"]) as file:
            features, self.seconds_an_example = file["features"].astype(np.float64), float(file["seconds"])
        self.features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Fits a head on a draw and measures it; the features' own time is told apart."""
        train, test = self.manifest.draw(job["shots"], job["draw"])
        began = time.perf_counter()
        head = fitted(self.features[train], self.manifest.targets_of(train), job["draw"])
        seconds = time.perf_counter() - began
        said = head.predict_proba(self.features[test])
        return {
            **figures(said, self.manifest.targets_of(test)),
            "seconds": seconds,
            "feature_seconds": self.seconds_an_example * len(train),
            "evaluation_seconds": time.perf_counter() - began - seconds,
        }


def main() -> None:
    """Runs the batch that the argument names."""
    batch = given_batch()
    work(batch, Worker(batch).run, versions_of(["scikit-learn", "numpy", "scipy"]))


if __name__ == "__main__":
    main()
