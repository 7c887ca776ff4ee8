"""The lists of examples that every method reads: one JSON file a set, with its draws by row numbers."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

Modality = Literal["image", "text", "audio"]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The examples of a set and how they are drawn.

    Attributes:
        name: of the set.
        modality: "image", "text" or "audio".
        root: the folder that items are relative to.
        items: one an example: the path of a file; or [part, row] of an IDX pair (pictures) or of a table (texts).
        targets: the class number of each.
        labels: class names in order.
        draws: "shots/draw" → {"train": […], "test": […]}, numbers of items.
        groups: what a cross-validation must not divide, one an example: a speaker, a recording; or None.
    """

    name: str
    modality: Modality
    root: str
    items: list[Any]
    targets: list[int]
    labels: list[str]
    draws: dict[str, dict[str, list[int]]]
    groups: list[str] | None = None

    @classmethod
    def read(cls, file: str | Path) -> Manifest:
        """Reads a manifest."""
        return cls(**json.loads(Path(file).read_text(encoding="utf-8")))

    def write(self, file: Path) -> None:
        """Writes the manifest."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(dataclasses.asdict(self)) + "\n", encoding="utf-8")

    def draw(self, shots: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the item numbers of (train, test)."""
        found = self.draws[f"{shots}/{draw}"]
        return np.asarray(found["train"]), np.asarray(found["test"])

    def targets_of(self, items: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the class numbers of items."""
        return np.asarray(self.targets)[np.asarray(items)]

    def digest(self, shots: int, draw: int) -> str:
        """Returns what changes whenever an example list of a draw does; it does not depend on where the files lie."""
        train, test = self.draw(shots, draw)
        named = [[self.items[i], self.targets[i]] for i in (*train, *test)]
        return digest([self.labels, len(train), named])

    def items_digest(self) -> str:
        """Returns what changes whenever the list of examples does."""
        return digest(self.items)

    def read_items(self) -> list[Any]:
        """Returns what is in the items: paths of pictures and clips, uint8 arrays [h, w], or texts."""
        if self.items and isinstance(self.items[0], str):
            return [Path(self.root) / item for item in self.items]
        read = _idx if self.modality == "image" else _texts
        parts = {part: read(Path(self.root), part) for part in {part for part, _ in self.items}}
        return [parts[part][row] for part, row in self.items]


def digest(content: Any) -> str:
    """Returns a short hash of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _idx(root: Path, part: str) -> np.ndarray:
    return read_idx(root / f"{part}-images-idx3-ubyte.gz")


def _texts(root: Path, part: str) -> list[str]:
    return [row["text"] for row in read_table(root / f"{part}.csv")]


def read_idx(file: Path) -> np.ndarray:
    """Reads a gzipped IDX file of bytes (the format of MNIST's files): big-endian sizes after a magic number."""
    data = gzip.decompress(file.read_bytes())
    axes = data[3]
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", axes, 4))
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_table(file: Path) -> list[dict[str, str]]:
    """Reads the rows of a CSV file with a header."""
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
