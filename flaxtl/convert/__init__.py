"""From foreign weights to models; `load` is the one door for all of them."""

from flaxtl.convert.loading import load

__all__ = ["load"]
