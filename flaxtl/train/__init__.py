"""Training: one state, one step for every engine and strategy, the loop around it, and its schedule."""

from flaxtl.train.engine import Engine
from flaxtl.train.losses import model_loss, per_example_loss
from flaxtl.train.state import TrainState, init_state
from flaxtl.train.step import make_step

__all__ = ["Engine", "TrainState", "init_state", "make_step", "model_loss", "per_example_loss"]
