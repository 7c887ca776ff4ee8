"""Numbers to be predicted are learned with mean 0 and spread 1, whatever their unit; the head is put back afterwards.

Gradient steps are sized for outputs of that order: prices of a hundred thousand would not be reached in any number of
them. A head that is solved does not mind.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np

from flaxtl import paths, surgery
from flaxtl.data import Source
from flaxtl.model import Model

S = TypeVar("S", bound=Source | None)


@dataclasses.dataclass(frozen=True, eq=False)
class OutputScale:
    """What the outputs of a regression are shifted and divided by; nothing for other tasks.

    Attributes:
        mean: float64 [outputs], or None.
        spread: float64 [outputs], 1 where an output never differs.
    """

    mean: np.ndarray | None = None
    spread: np.ndarray | None = None

    @classmethod
    def of(cls, train: Source) -> OutputScale:
        """Measures training targets; examples of weight 0 do not count."""
        if train.task != "regression":
            return cls()
        targets = train.targets[train.weights > 0].astype(np.float64)
        spread = targets.std(axis=0)
        return cls(targets.mean(axis=0), np.where(spread > 0, spread, 1.0))

    def applied(self, source: S) -> S:
        """Returns a source whose targets have mean 0 and spread 1 by this scale; None stays None."""
        if source is None or self.mean is None:
            return source
        targets = ((source.targets - self.mean) / self.spread).astype(np.float32)
        return dataclasses.replace(source, targets=targets)

    def in_own_unit(self, outputs: np.ndarray) -> np.ndarray:
        """Returns outputs [n, outputs] of a model that was trained on such targets in the targets' own unit."""
        return outputs if self.mean is None or self.spread is None else outputs * self.spread + self.mean

    def undone(self, model: Model) -> Model:
        """Returns a model, trained on such targets, whose dense head gives the numbers in their own unit.

        Example:
            >>> OutputScale().undone(None) is None
            True
        """
        if self.mean is None or self.spread is None:
            return model
        path = model.card.head.path
        head = {name: np.asarray(value, np.float64) for name, value in paths.subtree(model.params, path).items()}
        whole = {"kernel": head["kernel"] * self.spread, "bias": head["bias"] * self.spread + self.mean}
        kinds = paths.subtree(model.params, path)
        params = surgery.graft(model.params, path, {n: v.astype(kinds[n].dtype) for n, v in whole.items()})
        return model.with_variables({**model.variables, paths.PARAMS: params})
