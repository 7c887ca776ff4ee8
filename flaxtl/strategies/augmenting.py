"""Which changes of training data are legitimate, and which of them happen on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from flaxtl.card import Card, Image
from flaxtl.data import Augment
from flaxtl.errors import ConfigError
from flaxtl.training_settings import Augmentation

_STANDARD_CROP = (0.25, 1.0)
_ON_HOST = {field.name for field in dataclasses.fields(Augment)}


def on_host(settings: Augmentation) -> Augment:
    """Returns the part of an augmentation that changes single pictures as they are read; the rest mixes batches.

    Example:
        >>> on_host(Augmentation(flip=True, mixup=0.2)).flip
        True
    """
    return Augment(**{name: value for name, value in dataclasses.asdict(settings).items() if name in _ON_HOST})


def resolved(settings: Augmentation, card: Card, labels: Sequence[str]) -> tuple[Augmentation, list[str]]:
    """Returns an augmentation whose one word is spelt out, and notes for the user.

    "auto" takes the standard one for photographs: colour pictures whose classes are not signs of a script; for text,
    sound and plain numbers it takes none.

    Args:
        settings: as they were asked for.
        card: of the network.
        labels: the class names.

    Raises:
        ConfigError: pictures are to be changed and there are none, or a strength is impossible.

    Example:
        >>> settings, notes = resolved(Augmentation(augment='auto'), Card(Image()), ('cat', 'dog'))
        >>> settings.flip, settings.crop_scale
        (True, (0.25, 1.0))
    """
    word = settings.augment
    if not isinstance(card.input, Image):
        if settings != Augmentation(augment=word) or word == "standard":
            raise ConfigError(
                f"The augmentation changes pictures, and this network takes {card.input.modality}. "
                "Leave its settings out; --augment auto does so by itself."
            )
        return Augmentation(), []
    _require_possible(settings)
    if word == "auto":
        photographs = card.input.channels == 3 and card.input.polarity == "as_is" and not _signs(labels)
        word = "standard" if photographs else "none"
    spelt = dataclasses.replace(settings, augment="none")
    if word == "standard":
        spelt = dataclasses.replace(spelt, flip=True, crop_scale=settings.crop_scale or _STANDARD_CROP)
    notes = []
    if spelt.flip and _signs(labels):
        notes.append(
            "The classes are digits or single letters, and mirrored (flip) many of these are other or no signs."
        )
    return spelt, notes


def _signs(labels: Sequence[str]) -> bool:
    """Says whether classes are digits or letters; so few other things are called so that it is safe to believe it."""
    return bool(labels) and all(label.isdecimal() or len(label) == 1 for label in labels)


def _require_possible(settings: Augmentation) -> None:
    for name in ("mixup", "cutmix"):
        value = getattr(settings, name)
        if not 0.0 <= value < float("inf"):
            raise ConfigError(f"--{name} is {value}; expected a number of at least 0.")
    if settings.rand_augment is not None:
        operations, magnitude = settings.rand_augment
        if operations < 1 or int(operations) != operations or not 0.0 <= magnitude <= 10.0:
            raise ConfigError(
                f"--rand-augment is {operations} {magnitude}; expected a number of operations of at least 1 and a "
                "magnitude from 0 to 10."
            )
