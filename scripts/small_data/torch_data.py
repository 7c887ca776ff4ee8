"""What the networks in PyTorch are given: pictures through torchvision's transforms, tokens, and front-end output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from small_data.manifests import Manifest

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE, WHOLE = 224, 256
TOKENS = 256


class Inputs(Protocol):
    """Makes batches of one modality."""

    def rows(self, items: Sequence[int]) -> np.ndarray:
        """Returns the rows [r] that examples are made of: windows of a clip, otherwise the examples themselves."""

    def example(self, rows: np.ndarray) -> np.ndarray:
        """Returns the example of each row."""

    def batch(self, rows: Sequence[int], train: bool) -> Any:
        """Returns the network's input; augmented for training, where the modality is."""


class Whole:
    """Of modalities whose examples are one row each."""

    def rows(self, items: Sequence[int]) -> np.ndarray:
        """Returns the examples."""
        return np.asarray(items)

    def example(self, rows: np.ndarray) -> np.ndarray:
        """Returns the rows."""
        return rows


class Pictures(Whole):
    """Random resized crops and flips for training, the centre otherwise, as in PyTorch's transfer-learning tutorial."""

    def __init__(self, manifest: Manifest):
        from torchvision import transforms as t

        self.raw = manifest.read_items()
        scaled = [t.ToTensor(), t.Normalize(MEAN, STD)]
        self.train = t.Compose([t.RandomResizedCrop(SIZE), t.RandomHorizontalFlip(), *scaled])
        self.test = t.Compose([t.Resize(WHOLE), t.CenterCrop(SIZE), *scaled])

    def batch(self, rows: Sequence[int], train: bool) -> torch.Tensor:
        """Returns float32 [batch, 3, 224, 224]."""
        transform = self.train if train else self.test
        return torch.stack([transform(_opened(self.raw[i])) for i in rows]).contiguous(
            memory_format=torch.channels_last
        )


def _opened(raw: Any) -> Any:
    from PIL import Image

    picture = Image.open(raw) if isinstance(raw, Path) else Image.fromarray(raw)
    return picture.convert("RGB")


class Texts(Whole):
    """Tokens by the weights' own tokenizer, padded to the longest of the batch."""

    def __init__(self, manifest: Manifest, weights: Path):
        from tokenizers import Tokenizer

        self.raw = manifest.read_items()
        self.tokenizer = Tokenizer.from_file(str(weights / "tokenizer.json"))
        self.tokenizer.enable_truncation(TOKENS)
        self.tokenizer.enable_padding()

    def batch(self, rows: Sequence[int], train: bool) -> dict[str, torch.Tensor]:
        """Returns {"input_ids", "attention_mask"}, int64 [batch, tokens]."""
        found = self.tokenizer.encode_batch([self.raw[i] for i in rows])
        return {
            "input_ids": torch.tensor([e.ids for e in found]),
            "attention_mask": torch.tensor([e.attention_mask for e in found]),
        }


class Clips:
    """What flaxtl's front end made of the clips, row by row; it is tested against the networks' own."""

    def __init__(self, file: str):
        with np.load(file) as found:
            self.inputs, self.examples = torch.from_numpy(found["inputs"]), found["example"]

    def rows(self, items: Sequence[int]) -> np.ndarray:
        """Returns the windows of clips, clip by clip."""
        return np.concatenate([np.flatnonzero(self.examples == i) for i in items])

    def example(self, rows: np.ndarray) -> np.ndarray:
        """Returns the clip of each window."""
        return self.examples[rows]

    def batch(self, rows: Sequence[int], train: bool) -> torch.Tensor:
        """Returns float32 [batch, frames, …]."""
        return self.inputs[torch.as_tensor(np.asarray(rows))]


def inputs_of(manifest: Manifest, weights: Path, front_end: str | None) -> Inputs:
    """Returns what makes batches of a set."""
    if manifest.modality == "image":
        return Pictures(manifest)
    if manifest.modality == "text":
        return Texts(manifest, weights)
    assert front_end is not None
    return Clips(front_end)


def shuffled(rows: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields the rows once, in random order, `size` at a time and the rest last."""
    order = rng.permutation(rows)
    for first in range(0, len(order), size):
        yield order[first : first + size]
