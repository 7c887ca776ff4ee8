"""Which changes of training data are legitimate, and which of them happen on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from flaxtl.card import NOUNS, Audio, Card, Image
from flaxtl.data import Augment, Changes, SoundAugment
from flaxtl.errors import ConfigError, listed
from flaxtl.training_settings import Augmentation, SoundAugmentation

_STANDARD_CROP = (0.25, 1.0)
_ON_HOST = {field.name for field in dataclasses.fields(Augment)}
_UNCHANGED = SoundAugmentation()


def on_host(settings: Augmentation, sound: SoundAugmentation = _UNCHANGED) -> Changes:
    """Returns the part of an augmentation that changes single examples as they are read; the rest mixes batches.

    Args:
        settings: for pictures.
        sound: for sound; `resolved` lets only one of both change anything.

    Example:
        >>> on_host(Augmentation(flip=True, mixup=0.2)).flip
        True
        >>> on_host(Augmentation(), SoundAugmentation(gain=6.0)).gain
        6.0
    """
    if sound != _UNCHANGED:
        return SoundAugment(**dataclasses.asdict(sound))
    return Augment(**{name: value for name, value in dataclasses.asdict(settings).items() if name in _ON_HOST})


def resolved(
    settings: Augmentation, card: Card, labels: Sequence[str], sound: SoundAugmentation = _UNCHANGED
) -> tuple[Augmentation, list[str]]:
    """Returns an augmentation whose one word is spelt out, and notes for the user.

    "auto" takes the standard one for photographs: colour pictures whose classes are not signs of a script; for text,
    sound and plain numbers it takes none.

    Args:
        settings: as they were asked for.
        card: of the network.
        labels: the class names.
        sound: the changes of sound that were asked for, which have no such word.

    Raises:
        ConfigError: what is to be changed is not what the network takes, or a strength is impossible.

    Example:
        >>> settings, notes = resolved(Augmentation(augment='auto'), Card(Image()), ('cat', 'dog'))
        >>> settings.flip, settings.crop_scale
        (True, (0.25, 1.0))
    """
    word, modality = settings.augment, card.input.modality
    if isinstance(card.input, Audio):
        _require_possible_sound(sound, card.input)
    elif sound != _UNCHANGED:
        raise ConfigError(
            f"{listed(_names(sound))} would change sound, and this network takes {NOUNS[modality]}. Leave it out."
        )
    if not isinstance(card.input, Image):
        if settings != Augmentation(augment=word) or word == "standard":
            instead = f" For sound there are {listed(_names(SoundAugmentation()))}." if modality == "audio" else ""
            raise ConfigError(
                f"The augmentation changes pictures, and this network takes {NOUNS[modality]}. Leave its settings out; "
                f"`augment='auto'` does so by itself.{instead}"
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


def _names(sound: SoundAugmentation) -> list[str]:
    """Returns the settings that differ from their defaults; all where none does."""
    names = [f.name for f in dataclasses.fields(sound)]
    changed = [name for name in names if getattr(sound, name) != getattr(_UNCHANGED, name)]
    return [f"`{name}`" for name in changed or names]


def _signs(labels: Sequence[str]) -> bool:
    """Says whether classes are digits or letters; so few other things are called so that it is safe to believe it."""
    return bool(labels) and all(label.isdecimal() or len(label) == 1 for label in labels)


def _require_possible(settings: Augmentation) -> None:
    for name in ("mixup", "cutmix"):
        value = getattr(settings, name)
        if not 0.0 <= value < float("inf"):
            raise ConfigError(f"`{name}` is {value}; expected a number of at least 0.")
    if settings.rand_augment is not None:
        operations, magnitude = settings.rand_augment
        if operations < 1 or int(operations) != operations or not 0.0 <= magnitude <= 10.0:
            raise ConfigError(
                f"`rand_augment` is {operations} {magnitude}; expected a number of operations of at least 1 and a "
                "magnitude from 0 to 10."
            )


def _require_possible_sound(sound: SoundAugmentation, spec: Audio) -> None:
    for name, value in (("gain", sound.gain), ("time_shift", sound.time_shift)):
        if not 0.0 <= value < float("inf"):
            raise ConfigError(f"`{name}` is {value}; expected a number of at least 0.")
    if sound.snr is not None and not -100.0 <= sound.snr[0] <= sound.snr[1] <= 200.0:
        raise ConfigError(f"`snr` is {sound.snr[0]:g} {sound.snr[1]:g}; expected two ratios in dB, the lower first.")
    for name, masks in (("time_masks", sound.time_masks), ("frequency_masks", sound.frequency_masks)):
        if masks is None:
            continue
        number, share = masks
        if number < 1 or int(number) != number or not 0.0 < share <= 1.0:
            raise ConfigError(
                f"`{name}` is {number} {share:g}; expected a number of masks of at least 1 and a share of up to 1."
            )
        if spec.front_end == "waveform":
            raise ConfigError(
                f"`{name}` hides parts of a spectrum, and this network takes the waveform itself. Leave it out; "
                "`gain`, `time_shift` and `snr` change waveforms."
            )
