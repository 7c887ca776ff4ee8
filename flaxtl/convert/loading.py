"""One line from a name to a model."""

from __future__ import annotations

from pathlib import Path

from flaxtl.errors import CheckpointError, did_you_mean, listed
from flaxtl.model import Model
from flaxtl.nets.network import Network

EMBEDDED = {"characters": Path(__file__).parent.parent / "demo" / "characters"}
PREFIX = "flaxtl:"


def load(source: str | Path, *, network: Network | None = None) -> Model:
    """Loads a model.

    Args:
        source: a directory that `Model.save` or a run wrote, or "flaxtl:characters", the small network
            that is part of the package.
        network: the network, if it is a user's own module.

    Raises:
        CheckpointError: there is no such model, or it is damaged.

    Example:
        >>> load('flaxtl:characters').card.input.modality
        'image'
    """
    name = str(source)
    if name.startswith(PREFIX):
        short = name.removeprefix(PREFIX)
        if short not in EMBEDDED:
            near = did_you_mean(short, EMBEDDED) or f" Embedded models: {listed(EMBEDDED)}."
            raise CheckpointError(f"flaxtl holds no embedded model {short!r}.{near}")
        return Model.load(EMBEDDED[short])
    folder = Path(source).expanduser()
    if (folder / "model" / "card.json").exists() and not (folder / "card.json").exists():
        folder = folder / "model"
    return Model.load(folder, network=network)
