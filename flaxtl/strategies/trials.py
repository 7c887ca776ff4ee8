"""What a strategy is worth on the data at hand: its predictions for examples that it did not see, fold by fold."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import log_softmax, softmax

from flaxtl import metrics, processes
from flaxtl.data import Source
from flaxtl.model import Model
from flaxtl.report.sentences import alpha_label
from flaxtl.strategies.averaging import between
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.clock import Clock
from flaxtl.strategies.executor import execute
from flaxtl.strategies.phases import Phase
from flaxtl.strategies.work import Work
from flaxtl.train import machine

Fold = tuple[np.ndarray, np.ndarray]
# Parts of the way from the solved head to the trained model (WiSE-FT); the whole way is tried too.
SHARES = (0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A strategy's out-of-fold predictions.

    Attributes:
        name: of the strategy.
        phases: that make it up; () for one that was not tried.
        share: WiSE-FT's alpha, from 0 for the solved head to 1 for the trained model.
        logits: float32 [n, c], NaN for examples that were never held out.
        temperature: what they are divided by to be calibrated.
        seconds: that the folds took.
        memory: bytes at the peak; None where the system does not say.
        note: why it was not tried, or only on some folds.
        state: "behind" where another is better, "late" where too little time is left for its final run; only what is
            "eligible" and was tried may be chosen.
    """

    name: str
    phases: tuple[Phase, ...]
    share: float
    logits: np.ndarray
    temperature: float
    seconds: float
    memory: float | None
    note: str = ""
    state: Literal["eligible", "behind", "late"] = "eligible"

    @property
    def label(self) -> str:
        """What tells it from the others: the strategy, and WiSE-FT's alpha where it is not 1."""
        return alpha_label(self.name, self.share)

    @property
    def known(self) -> np.ndarray:
        """Whether an example was held out: bool [n]."""
        return ~np.isnan(self.logits[:, 0])

    @property
    def probabilities(self) -> np.ndarray:
        """Calibrated, NaN where unknown: float64 [n, c]."""
        return softmax(self.logits.astype(np.float64) / self.temperature, axis=1)

    @property
    def eligible(self) -> bool:
        """Whether it may be chosen."""
        return self.state == "eligible" and bool(self.known.any())

    def on(self, there: np.ndarray, source: Source) -> Trial:
        """Returns it as if it knew no other examples than these (bool [n]); they then decide on its temperature."""
        if not (self.known & ~there).any():
            return self
        there = there & self.known
        logits = np.where(there[:, None], self.logits, np.nan).astype(np.float32)
        temperature = metrics.fit_temperature(logits[there], source.targets[there], _weights(source)[there])
        return dataclasses.replace(self, logits=logits, temperature=temperature)

    def losses(self, targets: np.ndarray) -> np.ndarray:
        """Returns the calibrated log-loss of each example, NaN where unknown: float64 [n]."""
        logs = log_softmax(self.logits.astype(np.float64) / self.temperature, axis=1)
        return np.where(self.known, -logs[np.arange(len(targets)), targets], np.nan)

    def correct(self, targets: np.ndarray) -> np.ndarray:
        """Returns 1 where the prediction is right, 0 where it is wrong, NaN where unknown: float64 [n]."""
        return np.where(self.known, np.nan_to_num(self.logits, nan=-np.inf).argmax(1) == targets, np.nan)


class Journal:
    """What folds have given, kept so that a search that was interrupted goes on; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint

    def get(self, name: str) -> Any:
        """Returns what was kept under a name for the same data, or None."""
        file = self._file(name)
        if file is None or not file.exists():
            return None
        with np.load(file) as kept:
            said = json.loads(str(kept["about"]))
            return {**said, "values": kept["values"]} if said.pop("data") == self.fingerprint else None

    def put(self, name: str, values: np.ndarray, **about: Any) -> None:
        """Keeps an array and what goes with it; beside its place first, then renamed. One process does so for all."""
        file = self._file(name)
        if file is None or not processes.first():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".partial.npz")
        np.savez(beside, values=values, about=np.array(json.dumps({**about, "data": self.fingerprint})))
        os.replace(beside, file)

    def _file(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """Tries strategies on the same folds.

    Attributes:
        work: whose training data is divided.
        model: with a head of the right number of outputs.
        folds: (training, test) each.
        clock: of the budget.
        journal: of what was tried before.
        heads: the solved head of each fold, which all strategies that begin with it share.
    """

    work: Work
    model: Model
    folds: Sequence[Fold]
    clock: Clock
    journal: Journal
    heads: dict[int, Model] = dataclasses.field(default_factory=dict)

    def held_out(self, name: str, phases: tuple[Phase, ...], fold: int) -> np.ndarray:
        """Returns what a strategy says of a fold's test part: float32 [shares, m, c], see `shares_of`.

        In each fold a solved head chooses its own strength, so that nothing is seen twice.

        Raises:
            OutOfTimeError: the budget was spent before it was done.
        """
        kept = self.journal.get(f"{name}_{fold}")
        if kept is not None:
            return np.asarray(kept["values"])
        if shares_of(phases) == SHARES:
            values = self._of_training(fold, phases)
        elif len(phases) == 1 and phases[0].kind == "solve":
            values = self._of_head(fold, phases[0])[None]
        else:
            values = self._of_tuning(fold, phases)[None]
        self.journal.put(f"{name}_{fold}", values)
        return values

    def trials(self, parts: Sequence[np.ndarray], **about: Any) -> list[Trial]:
        """Returns a trial for each share, from what a strategy said of the first folds, and all else of a trial."""
        return [
            self._trial([values[place] for values in parts], share=share, **about)
            for place, share in enumerate(shares_of(about["phases"]))
        ]

    def _part(self, fold: int) -> Work:
        """Returns the work on a fold's training part, which keeps nothing and shows nothing."""
        work = self.work
        train = work.train.subset(self.folds[fold][0])
        return Work(
            train,
            seed=work.seed,
            store=work.store,
            engine=work.engine,
            clock=self.clock,
            steps=work.steps,
            memory_gigabytes=work.memory_gigabytes,
        )

    def _solved(self, fold: int, phase: Phase) -> Model:
        if fold not in self.heads:
            self.heads[fold] = execute(self._part(fold), self.model, (phase,))
        return self.heads[fold]

    def _of_head(self, fold: int, phase: Phase) -> np.ndarray:
        model = self._solved(fold, phase)
        return self._said(model, fold, model.network.border) / model.card.head.temperature

    def _of_training(self, fold: int, phases: tuple[Phase, ...]) -> np.ndarray:
        before = self._solved(fold, phases[0]).with_temperature_in_head()
        after = execute(self._part(fold), before, phases[1:])
        start = min(segment_named(after.network, phase.start) for phase in phases[1:])
        return np.stack(
            [
                self._said(after.with_variables(between(before.variables, after.variables, share)), fold, start)
                for share in SHARES
            ]
        )

    def _of_tuning(self, fold: int, phases: tuple[Phase, ...]) -> np.ndarray:
        model = execute(self._part(fold), self.model, phases)
        start = min(segment_named(model.network, phase.start) for phase in phases if phase.kind == "train")
        return self._said(model, fold, start) / model.card.head.temperature

    def _said(self, model: Model, fold: int, start: int) -> np.ndarray:
        held_out = self.work.train.subset(self.folds[fold][1])
        return model.logits(self._part(fold).enter(model, held_out, start))

    def _trial(self, parts: Sequence[np.ndarray], **about: Any) -> Trial:
        source = self.work.train
        total = np.zeros((len(source), len(source.labels)))
        often = np.zeros(len(source))
        for values, (training, test) in zip(parts, self.folds, strict=False):
            counted = np.isin(source.targets[test], source.targets[training])
            total[test[counted]] += values[counted]
            often[test[counted]] += 1
        logits = np.where(often[:, None] > 0, total / np.maximum(often, 1)[:, None], np.nan).astype(np.float32)
        there, temperature = often > 0, 1.0
        if there.any():
            temperature = metrics.fit_temperature(logits[there], source.targets[there], _weights(source)[there])
        return Trial(logits=logits, temperature=temperature, **about)


def shares_of(phases: tuple[Phase, ...]) -> tuple[float, ...]:
    """Returns the parts of the way to the trained model that are tried: all where it goes on from a solved head."""
    return SHARES if len(phases) > 1 and phases[0].kind == "solve" else (1.0,)


def paired(difference: np.ndarray, source: Source) -> tuple[float, float]:
    """Returns the weighted mean of differences and its standard error; a group counts as one draw.

    Args:
        difference: float [n], NaN where one of the two is unknown.
        source: the n examples.
    """
    there = ~np.isnan(difference)
    w, v = _weights(source)[there], difference[there]
    if len(v) == 0:
        return float("nan"), float("nan")
    groups = np.arange(len(source)) if source.groups is None else np.unique(source.groups, return_inverse=True)[1]
    _, unit = np.unique(groups[there], return_inverse=True)
    mean = float(w @ v / w.sum())
    part = np.bincount(unit, w * (v - mean))
    if len(part) < 2:
        return mean, float("inf")
    return mean, float(np.sqrt(np.square(part).sum() * len(part) / (len(part) - 1)) / w.sum())


def _weights(source: Source) -> np.ndarray:
    return np.asarray(source.weights, np.float64)


@contextmanager
def peak_memory() -> Iterator[Callable[[], float | None]]:
    """Yields a function that says this process's peak of resident memory since the beginning, in bytes.

    Where the system cannot forget an earlier peak (it can on Linux), a peak that is not a new one is None.
    """
    before = _peak()
    reset = False
    if sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
            reset = True
        except OSError:  # a sandbox may forbid it
            reset = False

    def peak() -> float | None:
        now = _peak()
        return now if reset or now > before else None

    yield peak


def _peak() -> float:
    known = machine.peak()
    if known is not None:
        return float(known)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else 1024 * most)
