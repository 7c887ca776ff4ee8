"""The small data sets: where their examples lie, which network they start from, and how they are drawn."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.data import Source, few_shot
from small_data.manifests import Manifest, Modality, read_idx, read_table

FASHION_TESTED, FASHION_SEED = 2000, 0
FASHION_LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot")
INTENTS = 10


@dataclasses.dataclass(frozen=True)
class Pool:
    """The examples of a set before they are drawn.

    Attributes:
        items: as in a manifest.
        names: the class of each.
        train: numbers of those that may be trained on; an entry of its own for each division of the set.
        test: numbers of those that are measured on, likewise; None takes what the largest draw leaves.
        labels: class names in order; by default natural order.
        groups: what belongs together, one an example. Draws pay no heed to it; our cross-validation does.
    """

    items: list[Any]
    names: list[str]
    train: Sequence[Sequence[int]]
    test: Sequence[Sequence[int]] | None
    labels: Sequence[str] | None = None
    groups: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class SmallSet:
    """A small data set.

    Attributes:
        modality: of its examples.
        folder: of its files, below the data folder.
        weights: the folder of the pretrained network, below the weights folder.
        shots: labelled examples of each class.
        pool: reads its examples from its folder.
    """

    modality: Modality
    folder: str
    weights: str
    shots: tuple[int, ...]
    pool: Callable[[Path], Pool]


def _class_folders(root: Path) -> Pool:
    """Pictures in class folders; a draw's test part is what the largest draw of the same seed leaves."""
    files = sorted(p for p in (root / "images").glob("*/*") if p.suffix == ".jpg")
    items = [str(p.relative_to(root)) for p in files]
    return Pool(items, [p.parent.name for p in files], [range(len(items))], None)


def _fashion(root: Path) -> Pool:
    """All training pictures may be drawn; the same test pictures, drawn once, measure every draw."""
    train, test = (read_idx(root / f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k"))
    tested = np.sort(np.random.default_rng(FASHION_SEED).choice(len(test), FASHION_TESTED, replace=False))
    items = [["train", i] for i in range(len(train))] + [["t10k", int(i)] for i in tested]
    names = [FASHION_LABELS[t] for t in (*train, *test[tested])]
    return Pool(items, names, [range(len(train))], [range(len(train), len(items))], FASHION_LABELS)


def _banking(intents: int | None) -> Callable[[Path], Pool]:
    def pool(root: Path) -> Pool:
        labels = json.loads((root / "categories.json").read_text(encoding="utf-8"))[:intents]
        items, names, parts = [], [], []
        for part in ("train", "test"):
            first = len(items)
            for row, found in enumerate(read_table(root / f"{part}.csv")):
                if found["category"] in labels:
                    items.append([part, row])
                    names.append(found["category"])
            parts.append(range(first, len(items)))
        return Pool(items, names, parts[:1], parts[1:], labels)

    return pool


def _esc10(root: Path) -> Pool:
    """Folds 1 and 2 may be drawn, fold 3 measures; clips of one field recording lie in one fold."""
    rows = read_table(root / "files.csv")
    items = [f"audio/{row['file']}" for row in rows]
    folds = [int(row["fold"]) for row in rows]
    train, test = ([i for i, fold in enumerate(folds) if fold in wanted] for wanted in ((1, 2), (3,)))
    recordings = [row["file"].split("-")[1] for row in rows]
    return Pool(items, [row["label"] for row in rows], [train], [test], groups=recordings)


def _fsdd(root: Path) -> Pool:
    """Each draw leaves out another speaker, on whom it is measured."""
    items = sorted(f"recordings/{p.name}" for p in (root / "recordings").glob("*.wav"))
    digits, speakers = zip(*(Path(item).stem.split("_")[:2] for item in items))
    left_out = [[i for i, s in enumerate(speakers) if s == speaker] for speaker in sorted(set(speakers))]
    others = [sorted(set(range(len(items))) - set(test)) for test in left_out]
    return Pool(items, list(digits), others, left_out, groups=speakers)


_MOBILENET, _MINILM = "mobilenet_v2_imagenet", "minilm_l6_v2"
SETS = {
    "flowers": SmallSet("image", "flowers", _MOBILENET, (1, 5, 10, 50), _class_folders),
    "sign_digits": SmallSet("image", "sign_digits", _MOBILENET, (1, 5, 10, 50), _class_folders),
    "fashion_mnist": SmallSet("image", "fashion_mnist", _MOBILENET, (1, 5, 10, 50), _fashion),
    "banking77_10": SmallSet("text", "banking77", _MINILM, (1, 5, 10), _banking(INTENTS)),
    "banking77": SmallSet("text", "banking77", _MINILM, (1, 5, 10), _banking(None)),
    "esc10_folds123": SmallSet("audio", "esc10_folds123", "yamnet_audioset", (1, 5), _esc10),
    "fsdd": SmallSet("audio", "fsdd", "kwt1_speech_commands", (5, 20), _fsdd),
}


def make_manifest(name: str, data: Path, draws: int) -> Manifest:
    """Draws a set's examples for all its shots.

    Args:
        name: one of `SETS`.
        data: the folder of data sets.
        draws: how many; draw d has the seed d, and of one draw the smaller is part of the larger.
    """
    small = SETS[name]
    root = data / small.folder
    pool = small.pool(root)
    whole = Source.of(small.modality, pool.items, pool.names, labels=pool.labels)
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for draw in range(draws):
        division = draw % len(pool.train)
        candidates = np.asarray(pool.train[division])
        parts = {k: few_shot(whole.subset(candidates), k, seed=draw) for k in small.shots}
        test = candidates[parts[max(small.shots)][1]] if pool.test is None else np.asarray(pool.test[division])
        for shots, (chosen, _) in parts.items():
            drawn[f"{shots}/{draw}"] = {"train": candidates[chosen], "test": test}
    return _compact(name, small.modality, root, whole, drawn, pool.groups)


def _compact(
    name: str,
    modality: Modality,
    root: Path,
    whole: Source,
    drawn: dict[str, dict[str, np.ndarray]],
    groups: Sequence[str] | None,
) -> Manifest:
    """Leaves out the examples that no draw has."""
    used = np.unique(np.concatenate([part for parts in drawn.values() for part in parts.values()]))
    place = {int(item): number for number, item in enumerate(used)}
    draws = {
        key: {part: [place[int(i)] for i in items] for part, items in parts.items()} for key, parts in drawn.items()
    }
    items, targets = [whole.raw[i] for i in used], [int(whole.targets[i]) for i in used]
    kept = None if groups is None else [groups[i] for i in used]
    return Manifest(name, modality, str(root.resolve()), items, targets, list(whole.labels), draws, kept)
