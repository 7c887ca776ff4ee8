"""Few and unequal examples of the small data sets: features once, then draws of every regime."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from small_data.manifests import Manifest
from small_data.sets import SETS

import flaxtl
from flaxtl.data import Source

POOL, TESTED, SEED = 3000, 1000, 7
# Nine classes of one to twenty-seven of banking77's intents each, as unequal as topics of letters are.
TOPICS = (1, 1, 2, 3, 5, 8, 12, 18, 27)

PICTURES = ("flowers", "sign_digits", "fashion_mnist")


@dataclasses.dataclass(frozen=True)
class Regime:
    """How many examples of each class are drawn.

    Attributes:
        kind: "even" (so many of each class), "few" (so many of some classes drawn at random), "tail" (from the most
            to the fewest in a geometric row) or "natural" (so many in all, whatever their class).
        counts: the numbers.
    """

    kind: str
    counts: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its name in tables."""
        shown = {"even": "{} a class", "few": "{}", "tail": "{} (long tail)", "natural": "{} in all, nine topics"}
        joint = " to " if self.kind == "tail" else " / "
        return shown[self.kind].format(joint.join(map(str, self.counts)))


def _regimes(even: Sequence[int], few: Sequence[tuple[int, ...]], tail: Sequence[tuple[int, int]]) -> list[Regime]:
    return [
        *(Regime("even", (n,)) for n in even),
        *(Regime("few", counts) for counts in few),
        *(Regime("tail", counts) for counts in tail),
    ]


_FEW = ((10, 3, 2), (20, 3, 3), (30, 3), (40, 10))
PLAN: dict[str, list[Regime]] = {
    "flowers": _regimes((2, 5, 10, 20, 50, 100), _FEW, ((20, 2), (50, 3))),
    "sign_digits": _regimes((2, 5, 10, 20, 50), _FEW, ((20, 2), (50, 3))),
    "fashion_mnist": _regimes((2, 5, 10, 20, 50, 100), _FEW, ((20, 2), (50, 3), (100, 5))),
    "banking77_10": _regimes((1, 2, 5, 10, 50), _FEW[:3], ((50, 3),)),
    "banking77": [Regime("natural", (n,)) for n in (200, 600, 2000)],
    "esc10_folds123": _regimes((2, 5, 10), ((10, 3, 2), (12, 3)), ()),
    "fsdd": _regimes((5, 20), ((20, 5, 5),), ()),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Draw:
    """Labelled features to learn from and others to measure on; classes are numbered from 0.

    Attributes:
        train, test: float32 [n, d].
        targets, tested: int64 [n].
        groups: of the training examples, or None.
        classes: how many.
    """

    train: np.ndarray
    targets: np.ndarray
    groups: list[str] | None
    test: np.ndarray
    tested: np.ndarray
    classes: int

    @property
    def shares(self) -> np.ndarray:
        """The class shares of the training examples."""
        return np.bincount(self.targets, minlength=self.classes) / len(self.targets)


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """A set's features.

    Attributes:
        x: float32 [n, d].
        y: int64 [n].
        tested: bool [n], those that are only measured on; none where a draw measures on what it leaves.
        groups: str [n], empty where there are none.
    """

    x: np.ndarray
    y: np.ndarray
    tested: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, name: str, data: Path, weights: Path, work: Path) -> Features:
        """Computes a set's features, or reads those of an earlier run."""
        file = work / f"{name}-features.npz"
        if not file.exists():
            work.mkdir(parents=True, exist_ok=True)
            np.savez(file, **dataclasses.asdict(_computed(name, data, weights)))
        with np.load(file) as found:
            return cls(**{key: found[key] for key in found.files})

    def draw(self, name: str, regime: Regime, seed: int) -> Draw:
        """Draws the examples of a regime."""
        rng = np.random.default_rng([SEED, seed])
        y = _topics(self.y, seed) if regime.kind == "natural" else self.y
        pool, test = np.flatnonzero(~self.tested), np.flatnonzero(self.tested)
        if name == "fsdd":  # measured on a speaker whom the training part lacks
            speakers = sorted(set(self.groups))
            left_out = self.groups == speakers[seed % len(speakers)]
            pool, test = np.flatnonzero(~left_out), np.flatnonzero(left_out)
        train = _taken(regime, y, pool, rng)
        known = np.unique(y[train])
        test = np.setdiff1d(pool, train) if not len(test) else test
        test = test[np.isin(y[test], known)]
        test = np.sort(np.random.default_rng(SEED).permutation(test)[:TESTED])
        targets, tested = (np.searchsorted(known, y[part]) for part in (train, test))
        groups = [str(group) for group in self.groups[train]] if len(self.groups) else None
        return Draw(self.x[train], targets, groups, self.x[test], tested, len(known))


def _computed(name: str, data: Path, weights: Path) -> Features:
    small = SETS[name]
    root = data / small.folder
    pool = small.pool(root)
    labels = list(pool.labels or sorted(set(pool.names)))
    several = pool.test is not None and len(pool.test) > 1  # each draw measures on another part
    only_tested = np.asarray([] if pool.test is None or several else pool.test[0], np.int64)
    others = np.setdiff1d(np.arange(len(pool.items)), only_tested)
    if len(others) > 20 * POOL:
        raise SystemExit(f"{name} has {len(others)} examples to draw from; expected fewer.")
    if small.modality == "image" and len(others) > POOL:
        others = np.random.default_rng(SEED).permutation(others)[:POOL]
    kept = np.sort(np.concatenate([others, only_tested]))
    targets = [labels.index(pool.names[i]) for i in kept]
    groups = None if pool.groups is None else [pool.groups[i] for i in kept]
    items: list[Any] = [pool.items[i] for i in kept]
    manifest = Manifest(name, small.modality, str(root.resolve()), items, targets, labels, {}, groups)
    named = [labels[t] for t in targets]
    source = Source.of(small.modality, manifest.read_items(), named, labels=labels, keys=[str(item) for item in items])
    x = flaxtl.load(weights / small.weights).features(source)
    return Features(x, np.asarray(targets), np.isin(kept, only_tested), np.asarray(groups or [], str))


def _topics(y: np.ndarray, seed: int) -> np.ndarray:
    """Returns the topic of each example: classes are dealt to nine topics by the seed."""
    order = np.random.default_rng([SEED, seed]).permutation(sum(TOPICS))
    topic = np.empty(sum(TOPICS), np.int64)
    topic[order] = np.repeat(np.arange(len(TOPICS)), TOPICS)
    return topic[y]


def _taken(regime: Regime, y: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the numbers of the training examples."""
    if regime.kind == "natural":
        return np.sort(rng.permutation(pool)[: regime.counts[0]])
    counts = _counts(regime, np.unique(y), rng)
    parts = [rng.permutation(pool[y[pool] == label])[:number] for label, number in counts.items()]
    return np.sort(np.concatenate(parts))


def _counts(regime: Regime, labels: np.ndarray, rng: np.random.Generator) -> dict[int, int]:
    """Returns how many of each class: label → number."""
    if regime.kind == "even":
        return dict.fromkeys(labels.tolist(), regime.counts[0])
    order = rng.permutation(labels).tolist()
    if regime.kind == "few":
        return dict(zip(order, regime.counts, strict=False))
    most, fewest = regime.counts
    row = np.geomspace(most, fewest, len(order)).round().astype(int)
    return dict(zip(order, row.tolist(), strict=True))
