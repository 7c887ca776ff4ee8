"""Option 1: features once, and a head that is solved on them, its strength chosen by cross-validation."""

from flaxtl.probe.search import CvResult, SolvedHead, solve_head
from flaxtl.probe.solve import LogisticPath, fit_path

__all__ = ["CvResult", "LogisticPath", "SolvedHead", "fit_path", "solve_head"]
