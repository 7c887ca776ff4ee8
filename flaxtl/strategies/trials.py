"""What a strategy is worth on the data at hand: its predictions for examples that it did not see, fold by fold."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from flaxtl import metrics
from flaxtl.data import Source
from flaxtl.model import Model
from flaxtl.strategies.averaging import between
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.clock import Clock, OutOfTimeError, compiling
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
        share: how far from the solved head to the trained model (WiSE-FT).
        logits: float32 [n, c], NaN for examples that were never held out.
        temperature: what they are divided by to be calibrated.
        seconds: that all folds took.
        memory: bytes at the peak; None where the system does not say.
        note: why it was not tried, or only on some folds.
    """

    name: str
    phases: tuple[Phase, ...]
    share: float
    logits: np.ndarray
    temperature: float
    seconds: float
    memory: float | None
    note: str = ""

    @property
    def label(self) -> str:
        """What tells it from the others: the strategy, and the share where it is not the whole way."""
        return self.name if self.share == 1.0 else f"{self.name} {self.share:.0%}"

    @property
    def known(self) -> np.ndarray:
        """Whether an example was held out: bool [n]."""
        return ~np.isnan(self.logits[:, 0])

    @property
    def probabilities(self) -> np.ndarray:
        """Calibrated, NaN where unknown: float64 [n, c]."""
        return softmax(self.logits.astype(np.float64) / self.temperature, axis=1)

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
        """Keeps an array and what goes with it; beside its place first, then renamed."""
        file = self._file(name)
        if file is None:
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

    def head(self, phases: tuple[Phase, ...]) -> Trial:
        """Tries the solved head: in each fold it chooses its own strength, so that nothing is seen twice."""
        return self._tried("head", phases, lambda fold: self._of_head(fold, phases[0])[None], (1.0,))[0]

    def trained(self, name: str, phases: tuple[Phase, ...]) -> list[Trial]:
        """Tries a strategy that goes on from the solved head; one trial for each of `SHARES`."""
        return self._tried(name, phases, lambda fold: self._of_training(fold, phases), SHARES)

    def tuned(self, name: str, phases: tuple[Phase, ...]) -> Trial:
        """Tries a strategy that ends with a solved head."""
        return self._tried(name, phases, lambda fold: self._of_tuning(fold, phases)[None], (1.0,))[0]

    def _tried(
        self, name: str, phases: tuple[Phase, ...], run: Callable[[int], np.ndarray], shares: Sequence[float]
    ) -> list[Trial]:
        began, note = time.perf_counter(), ""
        found: list[np.ndarray] = []
        taken: list[tuple[float, float]] = []
        with peak_memory() as memory:
            for fold in range(len(self.folds)):
                note = self._note(taken)
                if note:
                    break
                try:
                    with compiling() as compiled:
                        since = time.perf_counter()
                        found.append(self._kept(f"{name}_{fold}", fold, run))
                    taken.append((time.perf_counter() - since, compiled()))
                except OutOfTimeError:
                    note = "given up when the budget was spent"
                    break
        seconds = time.perf_counter() - began
        if len(found) < 2:
            empty = np.full((len(self.work.train), len(self.work.train.labels)), np.nan, np.float32)
            return [Trial(name, phases, share, empty, 1.0, seconds, memory(), note) for share in shares]
        note = f"on {len(found)} of {len(self.folds)} folds: {note}" if note else ""
        return [
            self._trial(name, phases, share, [parts[place] for parts in found], seconds, memory(), note)
            for place, share in enumerate(shares)
        ]

    def _note(self, taken: Sequence[tuple[float, float]]) -> str:
        """Says why no further fold fits into the budget, or nothing where one does; the last run is on everything.

        `taken` holds the seconds of each fold and those of them that went to compiling, which the next is spared.
        """
        if not taken:
            return "" if self.clock.left > 0 else "no time left"
        each = float(np.mean([seconds - compiled for seconds, compiled in taken]))
        wanted = 2.2 * each + max(compiled for _, compiled in taken)
        if wanted < self.clock.left:
            return ""
        return f"another fold and the final run would take {wanted:.0f} s, and {max(self.clock.left, 0):.0f} are left"

    def _kept(self, name: str, fold: int, run: Callable[[int], np.ndarray]) -> np.ndarray:
        kept = self.journal.get(name)
        if kept is not None:
            return kept["values"]
        values = run(fold)
        self.journal.put(name, values)
        return values

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

    def _trial(
        self,
        name: str,
        phases: tuple[Phase, ...],
        share: float,
        parts: Sequence[np.ndarray],
        seconds: float,
        memory: float | None,
        note: str,
    ) -> Trial:
        source = self.work.train
        total = np.zeros((len(source), len(source.labels)))
        often = np.zeros(len(source))
        for values, (training, test) in zip(parts, self.folds, strict=False):
            counted = np.isin(source.targets[test], source.targets[training])
            total[test[counted]] += values[counted]
            often[test[counted]] += 1
        logits = np.where(often[:, None] > 0, total / np.maximum(often, 1)[:, None], np.nan).astype(np.float32)
        there = often > 0
        temperature = metrics.fit_temperature(logits[there], source.targets[there], _weights(source)[there])
        return Trial(name, phases, share, logits, temperature, seconds, memory, note)


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
            Path("/proc/self/clear_refs").write_text("5")
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
