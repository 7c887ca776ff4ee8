"""A race: strategies are tried fold by fold, what is clearly behind is tried no more, and the budget is kept.

A race of models (Maron and Moore 1994) stops judging what is already known to lose. Here all that compete are judged
on the first fold before any is on the second, so that a budget too short for every fold still lets the dear ones
compete, and the time that it takes to train the one that leads is kept for it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from flaxtl import processes
from flaxtl.strategies.clock import OutOfTimeError, compiling
from flaxtl.strategies.phases import Phase
from flaxtl.strategies.trials import Judge, Trial, paired, peak_memory

# Nothing falls behind, nor is one fold alone judged by, before so many examples or groups were held out; fewer say
# little of their own spread.
_ENOUGH = 15
# So many standard errors of the paired difference are clear. One was too few: with ten examples a class of flowers, of
# which a fold holds 17, two draws of ten then gave up the cut that was worth 2 and 4 points.
_CLEARLY = 2.0
# Estimates err to both sides: a final run that was let in to the race is let out of it for more than this part of the
# budget, not for a second.
_SLACK = 0.1


@dataclasses.dataclass(eq=False)
class Entry:
    """A strategy in the race.

    Attributes:
        name: of the strategy.
        phases: that make it up.
        cost: what a step of it costs, in any unit that all entries of a race share.
        parts: what it said of the first folds, one array a fold.
        taken: the seconds of each of these in the slowest process, and those of them that went to compiling.
        memory: bytes at the peak; None where the system does not say.
        note: why it was tried no further.
        behind: the name of another that is better; "" for none.
    """

    name: str
    phases: tuple[Phase, ...]
    cost: float = 1.0
    parts: list[np.ndarray] = dataclasses.field(default_factory=list)
    taken: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    memory: float | None = None
    note: str = ""
    behind: str = ""

    @property
    def each(self) -> float:
        """Seconds of a fold but for compiling, which the next is spared."""
        return float(np.mean([seconds - compiled for seconds, compiled in self.taken]))

    @property
    def compiling(self) -> float:
        """Seconds of compiling in the fold that had most of it; the final run's shapes may be new again."""
        return max(compiled for _, compiled in self.taken)


def alone(judge: Judge, entry: Entry) -> Trial:
    """Tries a strategy on all folds for which there is time; it may be chosen whatever time is left."""
    while len(entry.parts) < len(judge.folds) and not entry.note:
        _advance(judge, entry, [entry])
    trial = _trials(judge, entry)[0]
    return dataclasses.replace(trial, state="eligible")


def race(judge: Judge, entries: Sequence[Entry], known: Sequence[Trial]) -> list[Trial]:
    """Lets strategies compete; returns their trials.

    Args:
        judge: that tries them.
        entries: from the cheapest to the dearest; they are changed.
        known: trials on all folds that they are compared with as well, such as the head's.
    """
    for _ in judge.folds:
        for entry in entries:
            if not entry.note:
                _advance(judge, entry, entries)
                if len(entry.parts) < len(judge.folds):
                    _compare(judge, entry, entries, known)
    late = {entry.name for entry in entries if entry.parts and _late(judge, entry)}
    for entry in entries:
        if entry.behind in late:  # what cannot be chosen stands in nobody's way
            entry.behind = ""
    return [trial for entry in entries for trial in _trials(judge, entry)]


def _advance(judge: Judge, entry: Entry, entries: Sequence[Entry]) -> None:
    """Tries an entry on its next fold, or notes why not."""
    entry.note = _no_time(judge, entry, entries)
    if entry.note:
        return
    with peak_memory() as memory, compiling() as compiled:
        since = time.perf_counter()
        try:
            entry.parts.append(judge.held_out(entry.name, entry.phases, len(entry.parts)))
        except OutOfTimeError:
            entry.note = "given up when the budget was spent"
        entry.taken.append((processes.most(time.perf_counter() - since), processes.most(compiled())))
        entry.memory = max(filter(None, (entry.memory, memory())), default=None)


def _no_time(judge: Judge, entry: Entry, entries: Sequence[Entry]) -> str:
    """Says why no further fold fits into the budget beside the final run, its own or the leader's, or nothing."""
    left = judge.clock.left
    if entry.parts:
        leader = _leader(judge, entries)
        wanted = entry.each + max(_final(judge, other) for other in (entry, leader or entry))
        what = "another fold and the final run"
    else:
        before = entries[: list(entries).index(entry)]
        if not before:
            return "" if left > 0 else "no time left"
        if not before[-1].parts:
            return f"{before[-1].name}, which is cheaper, did not fit into the budget"
        # What was tried before tells what its steps take here.
        each, folds = entry.cost / before[-1].cost * before[-1].each, _fewest(judge)
        wanted = (folds + _more(judge)) * each + before[-1].compiling
        what = f"{folds} fold{'s' * (folds > 1)} and the final run"
    return "" if wanted < left else f"{what} would take about {wanted:.0f} s, and {max(left, 0.0):.0f} are left"


def _leader(judge: Judge, entries: Sequence[Entry]) -> Entry | None:
    """Returns the entry with the lowest loss so far, of those that can be judged and trained in the time left."""
    judged = [entry for entry in entries if len(entry.parts) >= _fewest(judge) and not entry.behind]
    running = [entry for entry in judged if not _late(judge, entry)]
    folds = min((len(entry.parts) for entry in running), default=0)

    def loss(entry: Entry) -> float:
        source = judge.work.train
        return min(paired(trial.losses(source.targets), source)[0] for trial in _trials(judge, entry, folds))

    return min(running, key=loss, default=None)


def _final(judge: Judge, entry: Entry) -> float:
    """Returns the seconds that an entry's final run may take."""
    return _more(judge) * entry.each + entry.compiling


def _late(judge: Judge, entry: Entry) -> str:
    """Says why too little time is left for an entry's final run, or nothing."""
    wanted, left = _final(judge, entry), judge.clock.left
    if wanted <= left + _SLACK * judge.clock.budget:
        return ""
    return f"its final run would take about {wanted:.0f} s, and {max(left, 0.0):.0f} are left"


def _more(judge: Judge) -> float:
    """Returns how many times as much the final run, on all labels, takes as a fold's."""
    trained = np.mean([len(training) for training, _ in judge.folds])
    return float(len(judge.work.train) / trained)


def _compare(judge: Judge, entry: Entry, entries: Sequence[Entry], known: Sequence[Trial]) -> None:
    """Notes who has fallen behind now that an entry has been tried on one more fold."""
    for trial in known:
        if _told_apart(judge, len(entry.parts)):
            _note_behind(judge, entry, _trials(judge, entry), trial.name, [trial])
    for rival in entries:
        # Only folds that both have been tried on; what is tried fold after fold has the first ones.
        shared = min(len(entry.parts), len(rival.parts))
        if rival is entry or rival.behind or not _told_apart(judge, shared):
            continue
        ours, theirs = _trials(judge, entry, shared), _trials(judge, rival, shared)
        if theirs[0].state == "eligible":
            _note_behind(judge, entry, ours, rival.name, theirs)
        if ours[0].state == "eligible" and len(rival.parts) < len(judge.folds):
            _note_behind(judge, rival, theirs, entry.name, ours)


def _note_behind(judge: Judge, entry: Entry, mine: Sequence[Trial], name: str, theirs: Sequence[Trial]) -> None:
    source, there = judge.work.train, mine[0].known

    def best(trials: Sequence[Trial]) -> np.ndarray:
        losses = [trial.on(there, source).losses(source.targets) for trial in trials]
        return min(losses, key=lambda loss: paired(loss, source)[0])

    worse, error = paired(best(mine) - best(theirs), source)
    if worse > _CLEARLY * error and not entry.behind:
        entry.behind = name
        entry.note = f"given up: log-loss {worse:.3f} ± {error:.3f} above that of {name}"


def _fewest(judge: Judge) -> int:
    """Returns how many folds it takes to judge by: two where the first one holds out too little."""
    return 1 if _told_apart(judge, 1) else min(2, len(judge.folds))


def _told_apart(judge: Judge, folds: int) -> bool:
    """Whether the first so many folds hold out enough to tell strategies apart by."""
    held_out = np.unique(np.concatenate([np.zeros(0, int), *(test for _, test in judge.folds[:folds])]))
    groups = judge.work.train.groups
    return (len(held_out) if groups is None else len({groups[i] for i in held_out})) >= _ENOUGH


def _trials(judge: Judge, entry: Entry, folds: int | None = None) -> list[Trial]:
    """Returns an entry's trials, as of its first so many folds; one of no use where too few examples judge it."""
    parts, note = entry.parts[:folds], entry.note
    if len(parts) < _fewest(judge):
        parts = []
    state = "behind" if entry.behind else "eligible"
    if parts and not entry.behind and (late := _late(judge, entry)):
        state, note = "late", late
    if note and 0 < len(parts) < len(judge.folds):
        note = f"on {len(parts)} of {len(judge.folds)} folds: {note}"
    seconds = sum(spent for spent, _ in entry.taken)
    about = {"name": entry.name, "phases": entry.phases, "seconds": seconds, "memory": entry.memory}
    trials = judge.trials(parts, **about, note=note, state=state)
    return trials if parts else trials[-1:]
