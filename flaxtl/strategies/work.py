"""What the phases of a run share: the data, the seed, where things are kept, what was found."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from flaxtl.activations import Store, enter
from flaxtl.activations.identity import View
from flaxtl.data import Augment, Entry, Source
from flaxtl.model import Model
from flaxtl.strategies.phases import Phase
from flaxtl.train.progress import progress_bar
from flaxtl.train.rundir import RunDirectory


@dataclasses.dataclass
class Work:
    """What phases are run on.

    Attributes:
        train: the training data.
        validation: what decides which step is best; None keeps the last.
        seed: of everything that is drawn.
        run: where states and metrics are kept; None keeps the best state in memory.
        store: where the activations of frozen parts are kept; None forgets them.
        shown: whether a progress bar is shown.
        evidence: what the phases found out, one entry a phase, for the report.
        notes: what the user should know, one sentence each.
    """

    train: Source
    validation: Source | None = None
    seed: int = 0
    run: RunDirectory | None = None
    store: Store | None = None
    shown: bool = False
    evidence: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def log(self, **entry: Any) -> None:
        """Writes a line of metrics."""
        if self.run is not None:
            self.run.log(**entry)

    def views(self, phase: Phase) -> tuple[View, ...]:
        """Returns the random changes that are drawn once and kept for a phase."""
        augment = Augment(**dataclasses.asdict(phase.augment))
        return tuple(View(number, augment, self.seed) for number in range(1, phase.views + 1))

    def enter(self, model: Model, source: Source, start: int, views: Sequence[View] = ()) -> Entry:
        """Returns examples as they enter a segment of a model; what lies below is computed once."""
        if start == 0:
            return model.entry(source)
        with progress_bar("activations", len(source), shown=self.shown) as report:
            return enter(model, source, start, self.store, views=views, report=lambda done: report(done, ""))

    def fingerprint(self) -> str:
        """Returns a digest of which examples are trained and judged on, by their keys, classes and weights."""
        digest = hashlib.sha256()
        for source in (self.train, self.validation):
            if source is not None:
                digest.update(repr((source.modality, source.labels, source.keys)).encode())
                digest.update(source.targets.tobytes() + source.weights.tobytes())
        return digest.hexdigest()
