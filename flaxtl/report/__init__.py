"""What a run leaves to read: one HTML page, the plots in it, the predictions it made, and comparing runs by them."""

from flaxtl.report.compare import Comparison, compare
from flaxtl.report.kept import Kept, keep_predictions, read_predictions
from flaxtl.report.page import write

__all__ = ["Comparison", "Kept", "compare", "keep_predictions", "read_predictions", "write"]
