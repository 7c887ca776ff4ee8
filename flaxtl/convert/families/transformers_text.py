"""What transformers' and sentence-transformers' text networks have in common: names, pooling, input, labels."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from flaxtl.card import Task, Text
from flaxtl.convert.families.vit_transformers import SIDE_BY_SIDE
from flaxtl.convert.mapping import CONCAT_LINEAR, KEEP, LINEAR, Rule
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError, listed

TOKENIZER = "tokenizer.json"
# Some networks take thousands of tokens; few texts need them, and the cost of attention grows with their square.
LONGEST = 512
_MODES: dict[str, Literal["mean", "cls", "max"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


def prefix_of(weights: Weights, known: Iterable[str], embeddings: str) -> str | None:
    """Returns what comes before the token embeddings' name, or None where nothing known does.

    Args:
        weights: in PyTorch's or Flax's names.
        known: the prefixes that the source's classes have.
        embeddings: the token embeddings' module.

    Example:
        >>> prefix_of(Weights({'bert/embeddings/word_embeddings/embedding': None}), ('', 'bert.'), 'word_embeddings')
        'bert.'
    """
    for prefix in known:
        name = f"{prefix}embeddings.{embeddings}"
        if f"{name}.weight" in weights or f"{name}.embedding".replace(".", "/") in weights:
            return prefix
    return None


def shape_of(weights: Weights, module: str) -> tuple[int, ...] | None:
    """Returns the shape of a layer's matrix as PyTorch has it: [outputs, inputs], or [rows, features]."""
    slashed = module.replace(".", "/")
    kernel = weights.shape(f"{slashed}/kernel")
    return weights.shape(f"{module}.weight") or (kernel and kernel[::-1]) or weights.shape(f"{slashed}/embedding")


def named_as(weights: Weights, rules: Sequence[Rule]) -> list[Rule]:
    """Returns rules for the weights' own way of naming: PyTorch's, its first one (LayerNorm.gamma), or Flax's."""
    if any("/" in name for name in weights):
        return [_as_flax(rule) for rule in rules]
    if any(name.endswith("LayerNorm.gamma") for name in weights):
        return [_as_first(rule) for rule in rules]
    return list(rules)


_FLAX = {LINEAR.name: KEEP, CONCAT_LINEAR.name: SIDE_BY_SIDE}


def _as_flax(rule: Rule) -> Rule:
    leaf = (rule.target or "").rpartition("/")[2]
    last = leaf if leaf in ("kernel", "scale") else "embedding"
    operation = _FLAX.get(rule.operation.name, rule.operation)
    return _renamed(dataclasses.replace(rule, operation=operation), r"\bweight$", last, slashed=True)


def _as_first(rule: Rule) -> Rule:
    rule = _renamed(rule, r"\bLayerNorm\.weight$", "LayerNorm.gamma")
    return _renamed(rule, r"\bLayerNorm\.bias$", "LayerNorm.beta")


def _renamed(rule: Rule, pattern: str, last: str, *, slashed: bool = False) -> Rule:
    names = tuple(re.sub(pattern, last, n) for n in rule.sources)
    names = tuple(n.replace(".", "/") for n in names) if slashed else names
    return dataclasses.replace(rule, source=names[0] if isinstance(rule.source, str) else names)


@dataclasses.dataclass(frozen=True)
class Pooling:
    """How a sentence encoder's features are made: of which tokens, and whether they are divided by their length."""

    how: Literal["mean", "cls", "max"] = "mean"
    normalise: bool = False


def pooling_of(weights: Weights) -> Pooling | None:
    """Returns what sentence-transformers' modules.json says, or None without one.

    Raises:
        CheckpointError: it asks for something that flaxtl's networks do not do.
    """
    if "modules.json" not in weights.files:
        return None
    file = weights.files["modules.json"]
    modules = [(str(m["type"]).rpartition(".")[2], str(m.get("path", ""))) for m in _json(file, "list")]
    unknown = [kind for kind, _ in modules if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise CheckpointError(
            f"{file} puts {listed(unknown)} behind the network, which flaxtl does not build. "
            "Take a sentence encoder whose modules are Transformer, Pooling and Normalize."
        )
    found = Pooling()
    for kind, path in modules:
        if kind == "Pooling":
            name = f"{path}/config.json"
            found = dataclasses.replace(found, how=_how(weights.files.get(name, file.parent / name)))
        found = dataclasses.replace(found, normalise=found.normalise or kind == "Normalize")
    return found


def _how(file: Path) -> Literal["mean", "cls", "max"]:
    settings = _json(file, "dict")
    modes = [k for k, v in settings.items() if k.startswith("pooling_mode_") and v is True]
    if isinstance(settings.get("pooling_mode"), str):
        modes = [k for k, v in _MODES.items() if v == settings["pooling_mode"]] or [settings["pooling_mode"]]
    if len(modes) != 1 or modes[0] not in _MODES:
        raise CheckpointError(
            f"{file} asks for {listed(modes) or 'no pooling'}; flaxtl pools by {listed(_MODES)}, one."
        )
    return _MODES[modes[0]]


def _json(file: Path, kind: Literal["dict", "list"]) -> Any:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error
    if not isinstance(found, {"dict": dict, "list": list}[kind]):
        raise CheckpointError(f"{file} holds {type(found).__name__}; expected {kind}.")
    return found


def text_input(weights: Weights, longest: int, pad_id: int, types: bool) -> Text:
    """Returns the card's input: as many tokens as the source was trained on, 512 at most if nothing says so.

    Args:
        weights: with sentence_bert_config.json and tokenizer_config.json, where there are any.
        longest: tokens that have a position.
        pad_id: if config.json does not say it.
        types: whether the network has token types.
    """
    said = _settings(weights, "sentence_bert_config.json").get("max_seq_length")
    limit = _settings(weights, "tokenizer_config.json").get("model_max_length")
    length = min(said, longest) if said else min(LONGEST, longest, int(limit or LONGEST))
    padding = weights.config.get("pad_token_id")
    return Text(TOKENIZER, int(length), int(pad_id if padding is None else padding), types=types)


def _settings(weights: Weights, name: str) -> Mapping[str, Any]:
    return _json(weights.files[name], "dict") if name in weights.files else {}


def tokenizer_files(weights: Weights) -> dict[str, Path]:
    """Returns the files that travel with the model."""
    return {TOKENIZER: weights.files[TOKENIZER]} if TOKENIZER in weights.files else {}


def task_of(weights: Weights, outputs: int) -> Task:
    """Returns what the outputs mean, as transformers decides it: a single one is a number."""
    kind = weights.config.get("problem_type")
    if kind == "multi_label_classification":
        return "multilabel"
    return "regression" if kind == "regression" or (outputs == 1 and kind is None) else "classification"


def labels_tokens(weights: Weights) -> bool:
    """Says whether the output layer is for tokens or spans, by the class that config.json names."""
    names = weights.config.get("architectures") or ()
    return any(str(n).endswith(("ForTokenClassification", "ForQuestionAnswering")) for n in names)
