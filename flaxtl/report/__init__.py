"""What a run leaves to read: one HTML page, the plots in it, the predictions it made, and comparing runs by them."""

from flaxtl.report.compare import Comparison, compare
from flaxtl.report.held_out import HeldOut
from flaxtl.report.page import write
from flaxtl.report.prediction_files import SavedPredictions, read_predictions, save_predictions

__all__ = ["Comparison", "HeldOut", "SavedPredictions", "compare", "read_predictions", "save_predictions", "write"]
