"""The settings of the commands that look before anything is trained: `probe` and `rank`.

They are part of `config`'s commands, and like it they import nothing that is heavy.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

from tyro.conf import Positional, arg

from flaxtl.data_settings import Data


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    """Solve a head at every depth: which layers' features transfer, and where to cut."""

    data: Positional[str] = ""
    """A folder of class folders, a .csv, .jsonl or .parquet table, tfds:name, hf:owner/name, or "digits"."""
    pretrained: Annotated[str, arg(name="from")] = "flaxtl:characters"
    """The model whose depths are probed."""
    examples_per_class: int | None = None
    """Draw this many examples of each class, by the seed."""
    out: str | None = None
    """A PNG file for the plot of accuracy by depth, which needs matplotlib."""
    seed: int = 0
    """Random seed of draws and folds."""
    cache: str = "auto"
    """As for finetune."""
    json: bool = False
    """Print the result as JSON."""
    data_options: Data = Data()


@dataclasses.dataclass(frozen=True)
class RankConfig:
    """Rank pretrained models by what a head on their frozen features is worth on your data."""

    data: Positional[str] = ""
    """A folder of class folders, a .csv, .jsonl or .parquet table, tfds:name, hf:owner/name, or "digits"."""
    models: Positional[tuple[str, ...]] = ()
    """The models, as --from takes them."""
    examples_per_class: int | None = None
    """Draw this many examples of each class, by the seed."""
    seed: int = 0
    """Random seed of draws and folds."""
    cache: str = "auto"
    """As for finetune."""
    json: bool = False
    """Print the result as JSON."""
    data_options: Data = Data()
