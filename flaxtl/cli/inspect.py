"""What a checkpoint holds, told without reading its arrays: leaves, their sizes, and the card."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from flaxtl import card, checkpoint, paths
from flaxtl.checkpoint import Description
from flaxtl.convert.loading import EMBEDDED, PREFIX
from flaxtl.errors import PathError
from flaxtl.places import expanded


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A checkpoint's description and, if it is a model of flaxtl, its card.

    Attributes:
        found: the leaves that were asked for.
        card: the card as plain data, or None.
    """

    found: Description
    card: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON: leaves of {path, shape, dtype, bytes, sha256}, totals, notes, card."""
        leaves = [
            {
                "path": leaf.name,
                "shape": list(struct.shape),
                "dtype": struct.dtype.name,
                "bytes": checkpoint.nbytes(struct),
                "sha256": self.found.checksums.get(leaf),
            }
            for leaf, struct in self.found.leaves.items()
        ]
        return {
            "checkpoint": str(self.found.item),
            "leaves": leaves,
            "bytes": self.found.nbytes,
            "notes": list(self.found.notes),
            "metadata": self.found.metadata,
            "card": self.card,
        }

    def summary(self) -> str:
        """Returns the leaves as a table, and the card below it."""
        if self.card is None:
            return str(self.found)
        return f"{self.found}\n\n{card.FILE_NAME}:\n{json.dumps(self.card, indent=2, ensure_ascii=False)}"


def inspection(source: str, pattern: str = "**") -> Inspection:
    """Describes a checkpoint.

    Args:
        source: a model directory, a run directory, any Orbax checkpoint, or an embedded model's name.
        pattern: only the leaves that match are told of.

    Raises:
        CheckpointError: there is no checkpoint, or its metadata is damaged.
        PathError: the pattern matches no leaf.
    """
    embedded = EMBEDDED.get(source.removeprefix(PREFIX)) if source.startswith(PREFIX) else None
    place = embedded or expanded(source)
    if (place / "model" / card.FILE_NAME).exists():
        place = place / "model"
    found = checkpoint.describe(place)
    leaves = {leaf: s for leaf, s in found.leaves.items() if paths.matches(pattern, leaf)}
    if not leaves:
        near = paths.suggestion(pattern, found.leaves)
        raise PathError(f"The pattern {pattern!r} matches none of the {len(found.leaves)} leaves.{near}")
    told = card.Card.read(place).to_dict() if (place / card.FILE_NAME).exists() else None
    return Inspection(dataclasses.replace(found, leaves=leaves), told)
