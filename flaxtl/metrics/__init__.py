"""How good a classifier is, each figure with its interval; calibration; the mistakes it is surest of."""

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
from flaxtl.metrics.watching import loss_and_accuracy

__all__ = [
    "USUAL_OFFSET",
    "ClassRow",
    "Figure",
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
    "mean_of_shares",
    "most_confident_mistakes",
    "prediction_sets",
    "reliability",
    "wilson",
]
