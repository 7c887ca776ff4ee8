"""How good a classifier is, each figure with its interval; calibration; the mistakes it is surest of."""

from flaxtl.metrics.calibration import fit_temperature
from flaxtl.metrics.evaluation import evaluate
from flaxtl.metrics.figures import ClassRow, Figure, Metrics, mean_of_shares, wilson
from flaxtl.metrics.mistakes import Mistake, most_confident_mistakes
from flaxtl.metrics.watching import loss_and_accuracy

__all__ = [
    "ClassRow",
    "Figure",
    "Metrics",
    "Mistake",
    "evaluate",
    "fit_temperature",
    "loss_and_accuracy",
    "mean_of_shares",
    "most_confident_mistakes",
    "wilson",
]
