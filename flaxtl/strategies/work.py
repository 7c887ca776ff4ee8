"""What the phases of a run share: the data, the seed, where things are kept, what was found."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flaxtl import checkpoint, processes
from flaxtl.activations import Store, enter
from flaxtl.activations.identity import View, example_digests, is_file
from flaxtl.data import Entry, Source
from flaxtl.model import Model
from flaxtl.strategies.augmenting import on_host
from flaxtl.strategies.clock import Clock
from flaxtl.strategies.phases import Phase
from flaxtl.train.engine import Engine
from flaxtl.train.fitting import Fitted
from flaxtl.train.progress import progress_bar
from flaxtl.train.rundir import RunDirectory


@dataclasses.dataclass(frozen=True, eq=False)
class OutOfFold:
    """Out-of-fold predictions of training examples.

    Attributes:
        logits: float64 [n, c], divided by the temperature; NaN for examples that were never held out.
        predicted_by: what predicted each example, in words.
        caveat: what was chosen with these predictions, as a sentence.
    """

    logits: np.ndarray
    predicted_by: str
    caveat: str


@dataclasses.dataclass
class Work:
    """What phases are run on.

    Attributes:
        train: the training data.
        validation: what decides which step is best; None keeps the last.
        seed: of everything that is drawn.
        run: where states and metrics are kept; None keeps the best state in memory.
        store: where the activations of frozen parts are kept; None forgets them.
        engine: what runs the steps of training.
        memory_gigabytes: what each device may hold; None for what is there.
        shown: whether a progress bar is shown.
        clock: that training must not outlast.
        evidence: what the phases found out, one entry a phase, for the report.
        notes: what the user should know, one sentence each.
        out_of_fold: predictions of training examples by models that did not see them, where the model that comes out of
            the phases is of the same making; None where it is not.
        steps: compiled steps by what decides them; runs that differ in their data alone share theirs.
        memory: variables that later phases come back to, by name, where there is no run directory for them.
    """

    train: Source
    validation: Source | None = None
    seed: int = 0
    run: RunDirectory | None = None
    store: Store | None = None
    engine: Engine = dataclasses.field(default_factory=Engine.of)
    memory_gigabytes: float | None = None
    shown: bool = False
    clock: Clock = dataclasses.field(default_factory=lambda: Clock(None))
    evidence: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    out_of_fold: OutOfFold | None = None
    steps: dict[Any, Fitted] = dataclasses.field(default_factory=dict)
    memory: dict[str, Any] = dataclasses.field(default_factory=dict)

    def log(self, **entry: Any) -> None:
        """Writes a line of metrics."""
        if self.run is not None:
            self.run.log(**entry)

    def keep(self, name: str, variables: Any) -> None:
        """Keeps variables for later phases, and for the run that goes on should this one be killed."""
        if self.run is None:
            self.memory[name] = variables
            return
        if processes.first():
            checkpoint.save(self.run.kept(name), variables, overwrite=True)
        processes.together("variables, kept")

    def kept(self, name: str) -> Any:
        """Returns variables that were kept.

        Raises:
            CheckpointError: they are not there, or damaged.
        """
        return self.memory[name] if self.run is None else checkpoint.load(self.run.kept(name))

    def step(self, key: Any, make: Callable[[], Fitted]) -> Fitted:
        """Returns the compiled step of a key, made if it is not there."""
        if key not in self.steps:
            self.steps[key] = make()
        found = self.steps[key]
        if found.note is not None and found.note not in self.notes:
            self.notes.append(found.note)
        return found

    def views(self, phase: Phase) -> tuple[View, ...]:
        """Returns the random changes that are drawn once and kept for a phase."""
        augment = on_host(phase.augment, phase.sound)
        return tuple(View(number, augment, self.seed) for number in range(1, phase.views + 1))

    def enter(self, model: Model, source: Source, start: int, views: Sequence[View] = ()) -> Entry:
        """Returns examples as they enter a segment of a model; what lies below is computed once."""
        if start == 0:
            return model.entry(source)
        with progress_bar("activations", len(source), shown=self.shown) as report:
            return enter(model, source, start, self.store, views=views, report=lambda done: report(done, ""))

    def fingerprint(self) -> str:
        """Returns a digest of which examples are trained and judged on: keys, classes, weights, and files' contents."""
        digest = hashlib.sha256()
        for source in (self.train, self.validation):
            if source is not None:
                digest.update(repr((source.modality, source.labels, source.keys)).encode())
                digest.update(source.targets.tobytes() + source.weights.tobytes())
                files = [raw for raw in source.raw if is_file(raw, source.modality)]
                digest.update(b"".join(example_digests(files, source.modality) or ()))
        return digest.hexdigest()
