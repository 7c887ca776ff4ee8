"""What enters a segment of a network, computed once for each example and kept: features and cuts alike."""

from flaxtl.activations.computing import compute, enter
from flaxtl.activations.store import Store

__all__ = ["Store", "compute", "enter"]
