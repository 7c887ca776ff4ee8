"""How good a classifier is, each figure with its interval; calibration; the most confident errors."""

from flaxtl.metrics.balance import Majority, majority_of, unequal_note, unpredicted_note
from flaxtl.metrics.calibration import (
    USUAL_OFFSET,
    ReliabilityBin,
    calibration_band,
    fit_calibration,
    fit_temperature,
    reliability,
)
from flaxtl.metrics.conformal import fit_conformal, prediction_sets
from flaxtl.metrics.evaluation import evaluate
from flaxtl.metrics.figures import ClassRow, Figure, Metrics, mean_of_shares, wilson
from flaxtl.metrics.mistakes import Mistake, most_confident_mistakes
from flaxtl.metrics.optimism import corrected_winner
from flaxtl.metrics.outputs import OutputMetrics, OutputRow, evaluate_multilabel, evaluate_regression
from flaxtl.metrics.watching import WATCHED, loss_and_accuracy

__all__ = [
    "USUAL_OFFSET",
    "WATCHED",
    "ClassRow",
    "Figure",
    "Majority",
    "Metrics",
    "Mistake",
    "OutputMetrics",
    "OutputRow",
    "ReliabilityBin",
    "calibration_band",
    "corrected_winner",
    "evaluate",
    "evaluate_multilabel",
    "evaluate_regression",
    "fit_calibration",
    "fit_conformal",
    "fit_temperature",
    "loss_and_accuracy",
    "majority_of",
    "mean_of_shares",
    "most_confident_mistakes",
    "prediction_sets",
    "reliability",
    "unequal_note",
    "unpredicted_note",
    "wilson",
]
