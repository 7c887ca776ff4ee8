"""The card: what a pretrained network expects, what it says, and where it came from.

A card travels with the parameters as ``card.json`` and is enforced: data of another modality is refused,
and the preprocessing that it records is the one code path for training and for prediction.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from flaxtl.errors import CardError, did_you_mean, listed

FORMAT = 1
FILE_NAME = "card.json"

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]
Task = Literal["classification", "multilabel", "regression"]


@dataclasses.dataclass(frozen=True)
class Image:
    """Pictures: what the network was trained on and therefore expects.

    Attributes:
        size: height and width in pixels.
        channels: 1 grey, 3 red-green-blue, or what a converted network has.
        mean: per channel, of values scaled to 0…1; one number serves all channels.
        std: per channel, likewise.
        interpolation: how a picture is resized.
        crop_fraction: the share of the resized short side that the centre crop keeps.
        fit: "crop" keeps the aspect ratio and crops the centre, "squash" stretches, "pad" adds a border.
        polarity: "bright_on_dark" inverts a picture whose border is brighter than middle grey, so that
            ink on paper and chalk on slate look alike to a network trained on strokes.
    """

    modality: ClassVar[str] = "image"
    size: tuple[int, int] = (224, 224)
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    interpolation: Interpolation = "bilinear"
    crop_fraction: float = 1.0
    fit: Literal["crop", "squash", "pad"] = "crop"
    polarity: Literal["as_is", "bright_on_dark"] = "as_is"


@dataclasses.dataclass(frozen=True)
class Audio:
    """Sound: sample rate in Hz, window and hop in seconds, and the front end the network was trained with.

    Attributes:
        sample_rate: samples per second the network expects.
        window: length of one row in seconds; longer clips become several rows, shorter ones are padded.
        hop: distance between the starts of two rows in seconds.
        mix: what several channels become one by: their "mean", or the "first" of them.
        front_end: the name of the transformation from waveform to network input, "waveform" for none.
        settings: what the front end needs to know, such as its mel bands.
    """

    modality: ClassVar[str] = "audio"
    sample_rate: int = 16000
    window: float = 1.0
    hop: float = 1.0
    mix: Literal["mean", "first"] = "mean"
    front_end: str = "waveform"
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Text:
    """Text: the tokenizer that lies beside the card and how many tokens the network takes.

    Attributes:
        tokenizer: file name inside the model directory.
        max_length: tokens kept, special ones included.
        pad_id: the token that fills short rows.
        pair: whether an example is two sentences.
        types: whether the network is told which sentence of a pair a token is of.
    """

    modality: ClassVar[str] = "text"
    tokenizer: str = "tokenizer.json"
    max_length: int = 128
    pad_id: int = 0
    pair: bool = False
    types: bool = False


@dataclasses.dataclass(frozen=True)
class Array:
    """Plain numbers: fixed-shape arrays, shifted by `mean` and divided by `std` (scalars or one per last axis)."""

    modality: ClassVar[str] = "array"
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


Input = Image | Audio | Text | Array
INPUTS: dict[str, type] = {kind.modality: kind for kind in (Image, Audio, Text, Array)}


@dataclasses.dataclass(frozen=True)
class Conformal:
    """Which classes a prediction set holds; see `flaxtl.metrics.fit_conformal`.

    Attributes:
        alpha: the share of sets that may miss the truth.
        quantile: the highest score of a class in the set.
        method: "lac" scores a class by one minus its probability, "aps" by that of it and all likelier ones.
        examples: the held-out examples that the quantile was taken from.
    """

    alpha: float = 0.1
    quantile: float = 1.0
    method: Literal["lac", "aps"] = "lac"
    examples: int = 0


@dataclasses.dataclass(frozen=True)
class Head:
    """An output layer: where it is in the tree, what it says, and its calibration.

    Attributes:
        path: the head's place in the parameter tree.
        task: "classification" (one of the labels), "multilabel" (any of them) or "regression".
        labels: names in the order of the outputs.
        temperature: what logits are divided by before they become probabilities.
        normalise: what is done to features before the head: "rms" divides each example's by their root mean square,
            "root" takes their square roots first, with their signs.
        conformal: how prediction sets are made, or None.
        class_shares: for which shares of the classes probabilities hold, in the order of the labels; empty if unknown.
        rows: what is averaged where an example has several rows, as a long clip has windows: the "probabilities" that a
            head says of each, or the "features", on whose average a solved head was solved.
    """

    path: str = "head"
    task: Task = "classification"
    labels: tuple[str, ...] = ()
    temperature: float = 1.0
    normalise: Literal["none", "rms", "root"] = "none"
    conformal: Conformal | None = None
    rows: Literal["probabilities", "features"] = "probabilities"
    class_shares: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of the table that a model was trained on; tables that have them are read by them.

    Attributes:
        inputs: names of the columns of inputs.
        labels: names of the columns of labels.
    """

    inputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """How to build the network: a registered family and its configuration; family "custom" is a user's own."""

    family: str = "custom"
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Card:
    """Everything that a parameter tree needs beside it to be used rightly.

    Attributes:
        input: what goes in: `Image`, `Audio`, `Text` or `Array`.
        network: how to build the network.
        heads: the output layers; flaxtl trains the first.
        roles: maps "backbone" and "head" to the network's own paths.
        provenance: where the parameters came from: source, licence, data, command, scores.
        columns: of the table that it was trained on, or None.

    Example:
        >>> card = Card(input=Image(size=(32, 32), channels=1), heads=(Head(labels=('no', 'yes')),))
        >>> Card.from_dict(card.to_dict()) == card
        True
    """

    input: Input
    network: NetworkSpec = NetworkSpec()
    heads: tuple[Head, ...] = (Head(),)
    roles: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"backbone": "backbone", "head": "head"})
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    columns: Columns | None = None

    @property
    def head(self) -> Head:
        """The head that flaxtl trains and predicts with."""
        return self.heads[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names in the order of the outputs."""
        return self.head.labels

    def with_head(self, **changes: Any) -> Card:
        """Returns a card whose first head has the given fields replaced.

        The conformal quantile belongs to the probabilities that it was taken from, and is dropped unless it is given.
        """
        changes.setdefault("conformal", None)
        return dataclasses.replace(self, heads=(dataclasses.replace(self.head, **changes), *self.heads[1:]))

    def with_provenance(self, **entries: Any) -> Card:
        """Returns a card with entries added to its provenance."""
        return dataclasses.replace(self, provenance={**self.provenance, **entries})

    def require_modality(self, modality: str, what: str = "The data") -> None:
        """Refuses data of another kind than the network was trained on.

        Raises:
            CardError: the modalities differ; the message names both and says what to load instead.
        """
        expected = self.input.modality
        if modality != expected:
            raise CardError(
                f"{what} {_IS[modality]}, but this network was pretrained on {NOUNS[expected]} and can only "
                f"transfer to {NOUNS[expected]}. Load a network pretrained on {NOUNS[modality]}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the card as plain data for JSON."""
        body = dataclasses.asdict(self)
        if self.columns is None:  # as before there were such, so that an older flaxtl reads the card
            del body["columns"]
        return {"format": FORMAT, **body, "input": {"kind": self.input.modality, **body["input"]}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Card:
        """Builds a card from plain data.

        Raises:
            CardError: an unknown format, kind or key, or a value of the wrong type.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, Mapping) else type(data).__name__
            raise CardError(f"The card has format {found!r}; this flaxtl reads format {FORMAT}.")
        body = {k: v for k, v in data.items() if k != "format"}
        kind = dict(body.get("input") or {})
        name = kind.pop("kind", None)
        if name not in INPUTS:
            raise CardError(f"The card's input kind is {name!r}; expected one of {listed(INPUTS)}.")
        body["input"] = _build(INPUTS[name], kind, "input")
        body["network"] = _build(NetworkSpec, body.get("network", {}), "network")
        body["heads"] = tuple(_build(Head, h, "heads") for h in body.get("heads", ({},)))
        return _build(cls, body, "card")

    def write(self, directory: Path) -> None:
        """Writes card.json into a directory."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        (directory / FILE_NAME).write_text(text, encoding="utf-8", errors="backslashreplace")

    @classmethod
    def read(cls, directory: Path) -> Card:
        """Reads card.json from a directory.

        Raises:
            CardError: there is none, or it cannot be understood.
        """
        file = directory / FILE_NAME
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise CardError(
                f"{directory} holds no {FILE_NAME}. Expected a model directory that flaxtl saved."
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CardError(
                f"{file} is not readable JSON ({error}). Restore it from where the model came from."
            ) from error
        return cls.from_dict(data)


_IS = {
    "image": "holds pictures",
    "audio": "holds sound",
    "text": "holds text",
    "array": "holds plain numbers",
}
NOUNS = {"image": "pictures", "audio": "sound", "text": "text", "array": "plain numbers"}


def _build(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """Builds a dataclass from plain data: lists become tuples, unknown keys and odd types are refused."""
    if not isinstance(values, Mapping):
        raise CardError(f"The card's {where} is {values!r}; expected an object.")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise CardError(f"The card's {where} has the unknown key {key!r}.{did_you_mean(key, known)}")
    return kind(**{k: _coerce(v, hints[k], f"{where}.{k}") for k, v in values.items()})


def _coerce(value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    for kind in (Conformal, Columns):
        if hint == kind | None:
            return None if value is None else _build(kind, value, where)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(value)
    if origin is Literal and value not in typing.get_args(hint):
        raise CardError(f"The card's {where} is {value!r}; expected one of {listed(map(repr, typing.get_args(hint)))}.")
    if hint is float and isinstance(value, int):
        return float(value)
    if isinstance(hint, type) and hint in (int, float, str, bool) and type(value) is not hint:
        raise CardError(f"The card's {where} is {value!r}; expected a value of type {hint.__name__}.")
    if origin is tuple:
        raise CardError(f"The card's {where} is {value!r}; expected a list.")
    return value
