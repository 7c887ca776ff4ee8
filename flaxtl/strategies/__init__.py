"""Strategies: a strategy is a tuple of phases; one executor runs them all and resumes them all alike."""

from flaxtl.strategies.phases import STRATEGIES, Phase, phases_of

__all__ = ["STRATEGIES", "Phase", "phases_of"]
