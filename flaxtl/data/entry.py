"""Examples on their way into a network: what they are, what makes rows of them, which segment the rows enter."""

from __future__ import annotations

import dataclasses

from flaxtl.data.preprocess import Preprocess
from flaxtl.data.source import Source


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """Examples and the segment that they enter.

    Attributes:
        source: the examples.
        preprocess: what makes rows of them.
        start: the index of the segment that the rows enter: 0 where they are the card's input, more where they are
            activations that were computed before.
    """

    source: Source
    preprocess: Preprocess
    start: int = 0

    def __len__(self) -> int:
        return len(self.source)
