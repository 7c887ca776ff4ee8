"""One line from a name to a model."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from flaxtl.convert import hub
from flaxtl.convert.converting import Conversion, plan_conversion
from flaxtl.convert.readers.slices import sha256
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError, ConfigError, FlaxtlError, did_you_mean, listed, shown
from flaxtl.model import CHECKPOINT, Model
from flaxtl.nets.network import Network
from flaxtl.places import cache_root, expanded

EMBEDDED = {"characters": Path(__file__).parent.parent / "demo" / "characters"}
PREFIX = "flaxtl:"
# What decides beside the tensors how a network is built, and is small enough to be looked at each time.
_SETTINGS = (".json", ".txt", ".csv")
_LARGEST_SETTINGS = 64 << 20


def load(source: str | Path, *, network: Network | None = None, ignore_settings: Sequence[str] = ()) -> Model:
    """Loads a model.

    Published weights are converted when they are loaded first; the result is kept in the cache
    (``~/.cache/flaxtl``, or below ``XDG_CACHE_HOME``), and verified each time it is read from there.

    Args:
        source: one of

            - a directory that `Model.save` or a run wrote;
            - "hf:owner/name" or "hf:owner/name@revision", published weights on the Hugging Face hub;
            - a file of published weights (.safetensors, .pth, .ckpt, .bin, .npz, .h5, .msgpack) or a folder with one;
            - a URL of fsspec, such as gs://bucket/model, of any of these;
            - "flaxtl:characters", the small network that is part of the package.
        network: the network, if it is a user's own module.
        ignore_settings: names of settings of published weights that are left out, as if their configuration did not
            say them. Settings that flaxtl does not honour are refused by name; this is the way past a refusal.

    Raises:
        CheckpointError: there is no such model, it is damaged, or flaxtl does not know what it is.

    Example:
        >>> load('flaxtl:characters').card.input.modality
        'image'
    """
    if not isinstance(source, (str, os.PathLike)) or not str(source).strip():
        what = "its attribute model holds it" if hasattr(source, "model") else "expected a path or a name as text"
        raise ConfigError(f"{shown(source)} cannot be loaded as a model; {what}. For example: 'flaxtl:characters'.")
    name = str(source)
    if name.startswith(PREFIX):
        return Model.load(embedded(name))
    if name.startswith(hub.HUB):
        return _converted(hub.open_weights(name, ignore_settings))
    if hub.is_url(name):
        place = hub.copied(name)
        if is_model(place):
            return Model.load(model_folder(place), network=network)
        return _converted(hub.open_weights(name, ignore_settings))
    place = expanded(source)
    if place.is_dir():
        folder = model_folder(place)
        if network is None and not is_model(folder) and not (folder / CHECKPOINT).is_dir():
            return _converted(hub.open_weights(folder, ignore_settings))
        return Model.load(folder, network=network)
    if place.is_file():
        return _converted(hub.open_weights(place, ignore_settings))
    return Model.load(place, network=network)


def embedded(name: str) -> Path:
    """Returns the directory of a model that is part of the package.

    Raises:
        CheckpointError: there is none of that name.
    """
    short = name.removeprefix(PREFIX)
    if short not in EMBEDDED:
        near = did_you_mean(short, EMBEDDED) or f" Embedded models: {listed(EMBEDDED)}."
        raise CheckpointError(f"flaxtl holds no embedded model {short!r}.{near}")
    return EMBEDDED[short]


def is_model(folder: Path) -> bool:
    """Says whether a folder is a model of flaxtl's own."""
    return (folder / "card.json").exists() or (folder / "model" / "card.json").exists()


def model_folder(folder: Path) -> Path:
    """Returns the model's own folder of a run directory, or the folder itself."""
    return folder / "model" if not (folder / "card.json").exists() and is_model(folder) else folder


def _converted(weights: Weights) -> Model:
    """Returns the model of published weights, from the cache if it was converted before."""
    cache = cache_root()
    if cache is None:
        note = "The converted model was not kept in the cache: there is no cache directory that can be written."
        return _unkept(plan_conversion(weights), note)
    folder = cache / "converted" / _key(weights)
    notes: tuple[str, ...] = ()
    if folder.is_dir():
        try:
            return _noted(Model.load(folder))
        except FlaxtlError as error:
            notes = (f"The converted copy in the cache was made anew, as it was damaged: {error}",)
    conversion = plan_conversion(weights)
    return _kept(conversion, folder, notes)


def _kept(conversion: Conversion, folder: Path, notes: tuple[str, ...]) -> Model:
    try:
        conversion.save(folder, overwrite=True)
    except CheckpointError as error:
        if "could not be written" not in str(error):
            raise
        return _unkept(conversion, *notes, f"The converted model was not kept in the cache: {error}")
    model = _noted(Model.load(folder))
    return model.with_variables(model.variables, *notes)


def _noted(model: Model) -> Model:
    """Returns a converted model with the notes of its conversion, which hold whenever it is loaded."""
    notes = model.card.provenance.get("converted", {}).get("notes", ())
    return model.with_variables(model.variables, *notes)


def _unkept(conversion: Conversion, *notes: str) -> Model:
    model = conversion.read()
    return model.with_variables(model.variables, *notes)


def _key(weights: Weights) -> str:
    """Returns the name of what comes out: the same only for the same tensors, settings and converter."""
    settings = {
        name: sha256(file.resolve())
        for name, file in weights.files.items()
        if file.suffix in _SETTINGS and file.stat().st_size <= _LARGEST_SETTINGS
    }
    told = [_converter(), weights.origin, settings, sorted(weights.ignore_settings)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


@functools.cache
def _converter() -> list[str]:
    """Returns what names the converter: the version, and its code, which changes without one in a checkout."""
    here = Path(__file__).parent
    code = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(here.rglob("*.py"))))
    return [version("flaxtl"), code.hexdigest()]
