"""Option 1: features once, and a head that is solved on them, its strength chosen by cross-validation."""

from flaxtl.probe.results import CvResult, CvRow, SolvedHead
from flaxtl.probe.search import solve_head
from flaxtl.probe.solve import LogisticPath, fit_path

__all__ = ["CvResult", "CvRow", "LogisticPath", "SolvedHead", "fit_path", "solve_head"]
