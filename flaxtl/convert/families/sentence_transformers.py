"""Folders of sentence-transformers: what their modules do after the network, and with a text before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from flaxtl.convert.families.transformers_files import json_settings, read_json
from flaxtl.convert.settings import READ, Setting, irrelevant, only, read_settings, where
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError, listed

MODULES = "modules.json"
# Names that the settings of the module Transformer have had.
CONFIGS = tuple(
    f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta")
)
How = Literal["mean", "cls", "max"]
_MODES: dict[str, How] = {"mean": "mean", "cls": "cls", "max": "max"}
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_POOLING: dict[str, Setting] = {
    **dict.fromkeys(("pooling_mode", "include_prompt", *_FLAGS), READ),
    **irrelevant("the tensors' shapes say it", "word_embedding_dimension", "embedding_dimension"),
}
_NORMALIZE: dict[str, Setting] = dict.fromkeys(("module_input_name", "module_output_name"), only("sentence_embedding"))
_TRANSFORMER: dict[str, Setting] = {
    **dict.fromkeys(("max_seq_length", "do_lower_case"), READ),
    "transformer_task": only("feature-extraction"),
    "module_output_name": only("token_embeddings"),
    "modality_config": where(lambda v: not v or set(v) == {"text"}, "text alone"),
    **dict.fromkeys(("model_args", "config_args"), where(lambda v: not v, "no further arguments")),
    **dict.fromkeys(("tokenizer_args", "processing_kwargs"), where(lambda v: not v, "no further arguments")),
    **irrelevant("how the same is computed", "unpad_inputs"),
    **irrelevant("of late interaction, which no dense encoder has", "query_length", "document_length"),
    "query_expansion": where(lambda v: not v, "texts as they are"),
}
_MODEL: dict[str, Setting] = {
    **dict.fromkeys(("prompts", "default_prompt_name"), READ),
    "model_type": only("SentenceTransformer"),
    **irrelevant("what wrote the file", "__version__"),
    **irrelevant("how two embeddings are compared, which comes after them", "similarity_fn_name"),
    "truncate_dim": where(lambda v: v is None, "embeddings in full"),
}


@dataclasses.dataclass(frozen=True)
class SentenceEncoder:
    """What a folder of sentence-transformers does beside its network.

    Attributes:
        how: of which tokens the features are made.
        normalise: whether they are divided by their length.
        prompt: what is put before each text.
        lowercase: whether capitals are turned small, whatever the tokenizer does.
        length: tokens kept; None leaves it to the tokenizer's files.
        notes: what the reader should know, one sentence each.
    """

    how: How = "mean"
    normalise: bool = False
    prompt: str = ""
    lowercase: bool = False
    length: int | None = None
    notes: tuple[str, ...] = ()


def sentence_encoder(weights: Weights) -> SentenceEncoder | None:
    """Returns what the files of sentence-transformers say, or None where there is none of them.

    Raises:
        CheckpointError: they ask for something that flaxtl does not do; it is named.
    """
    place = next((name for name in CONFIGS if name in weights.files), "")
    if MODULES not in weights.files and not place:
        return None
    given = read_settings(
        json_settings(weights, place), _TRANSFORMER, source=place or CONFIGS[0], ignore=weights.ignore_settings
    )
    length = given.get("max_seq_length")
    if length is not None and (type(length) is not int or length < 1):
        raise CheckpointError(f"{place} says max_seq_length={length!r}; expected a number of tokens.")
    found = SentenceEncoder(lowercase=bool(given.get("do_lower_case")), length=length)
    return _with_modules(weights, found) if MODULES in weights.files else found


def _with_modules(weights: Weights, found: SentenceEncoder) -> SentenceEncoder:
    """What modules.json adds: how features are pooled and normalised, and what is put before a text."""
    file = weights.files[MODULES]
    modules = read_json(file, "list")
    kinds = [_kind(module, file) for module in modules]
    body = kinds[2:] if kinds[:2] == ["Transformer", "Pooling"] else kinds
    if kinds[:2] != ["Transformer", "Pooling"] or set(body) - {"Normalize"}:
        raise CheckpointError(
            f"{file} lists the modules {listed(kinds, 20) or 'none'}, which flaxtl does not build. "
            "Take a sentence encoder whose modules are Transformer, Pooling and Normalize."
        )
    prompt, notes = _prompt(weights)
    how = _pooling(weights, str(modules[1].get("path", "")), prompt)
    for module in modules[2:]:
        _settings_of(weights, str(module.get("path", "")), _NORMALIZE)
    return dataclasses.replace(found, how=how, normalise=bool(body), prompt=prompt, notes=notes)


def _kind(module: Any, file: Path) -> str:
    """The class of a module; one from elsewhere is somebody's own code, whatever its name."""
    kind = str(module.get("type", "")) if isinstance(module, Mapping) else ""
    if isinstance(module, Mapping) and module.get("kwargs"):
        raise CheckpointError(
            f"{file} says kwargs={module['kwargs']!r} for {kind or 'a module'}, which flaxtl does not pass on. "
            "Take a sentence encoder whose modules need none."
        )
    return kind.rpartition(".")[2] if kind.startswith("sentence_transformers.") else kind or repr(module)


def _settings_of(weights: Weights, path: str, understood: Mapping[str, Setting]) -> dict[str, Any]:
    name = f"{path}/config.json" if path else "config.json"
    file = _file_of(weights, name)
    return read_settings(read_json(file) if file else {}, understood, source=name, ignore=weights.ignore_settings)


def _file_of(weights: Weights, name: str) -> Path | None:
    beside = weights.files[MODULES].parent / name
    return weights.files.get(name) or (beside if "/" in name and beside.is_file() else None)


def _pooling(weights: Weights, path: str, prompt: str) -> How:
    settings = _settings_of(weights, path, _POOLING)
    if _file_of(weights, f"{path}/config.json") is None:
        raise CheckpointError(
            f"{weights.files[MODULES]} lists the module Pooling, but there is no {path}/config.json to say "
            "of which tokens the features are made. Fetch it from where the weights were published."
        )
    said = settings.get("pooling_mode")
    modes: Sequence[Any] = (
        [said] if isinstance(said, str) else said or [m for k, m in _FLAGS.items() if settings.get(k)]
    )
    modes = modes or ["mean"]  # where no flag is set, the class means this one
    if len(modes) != 1 or modes[0] not in _MODES:
        raise CheckpointError(
            f"{path}/config.json asks for pooling by {listed(modes)}; flaxtl pools by one of {listed(_MODES)}. "
            "Take a sentence encoder that pools so."
        )
    if prompt and settings.get("include_prompt") is False:
        raise CheckpointError(
            f"{path}/config.json says include_prompt=False, and the default prompt is {prompt!r}: flaxtl pools over "
            "all tokens, those of a prompt too. Load it with ignore_settings=('default_prompt_name',) to leave the "
            "prompt out."
        )
    return _MODES[modes[0]]


def _prompt(weights: Weights) -> tuple[str, tuple[str, ...]]:
    """What is put before each text unless its caller says otherwise, and a note on the prompts there are."""
    place = "config_sentence_transformers.json"
    found = json_settings(weights, place)
    given = read_settings(found, _MODEL, source=place, ignore=weights.ignore_settings)
    prompts = {"query": "", "document": "", **{k: v or "" for k, v in (given.get("prompts") or {}).items()}}
    name = given.get("default_prompt_name")
    if name is not None and name not in prompts:
        raise CheckpointError(
            f"{place} says default_prompt_name={name!r}, which is none of its prompts ({listed(map(repr, prompts))})."
        )
    others = [k for k, v in prompts.items() if v and k != name]
    if name is not None and prompts[name]:
        return prompts[name], (f"{prompts[name]!r} is put before each text: the folder's default prompt, {name!r}.",)
    if others:
        told = listed(f"{k}: {prompts[k]!r}" for k in others)
        return "", (f"The folder has prompts, none of which is its default, so none is put before a text ({told}).",)
    return "", ()
