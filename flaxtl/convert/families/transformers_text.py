"""What transformers' text networks have in common: names, input, labels."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from flaxtl.card import Text
from flaxtl.convert.families.sentence_transformers import SentenceEncoder
from flaxtl.convert.families.tokenizer_files import FILE, Tokenizer
from flaxtl.convert.families.vit_transformers import SIDE_BY_SIDE
from flaxtl.convert.mapping import CONCAT_LINEAR, KEEP, LINEAR, Rule
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError

# Some networks take thousands of tokens; few texts need them, and the cost of attention grows with their square.
LONGEST = 512


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


def text_input(
    weights: Weights,
    tokenizer: Tokenizer,
    encoder: SentenceEncoder | None,
    *,
    rows: int,
    longest: int,
    pad_id: int,
    types: bool,
) -> tuple[Text, tuple[str, ...]]:
    """Returns the card's input, as many tokens as the source takes but 512 at most if only its network says it.

    Args:
        weights: whose config.json may say the padding's token.
        tokenizer: theirs.
        encoder: what sentence-transformers' files say, if there are any.
        rows: of the network's token embeddings.
        longest: tokens that have a position.
        pad_id: the token that fills short rows, if no file says it.
        types: whether the network has token types.

    Returns:
        The input, and notes.

    Raises:
        CheckpointError: the tokenizer has tokens that the network has no row for.
    """
    token, number = tokenizer.last
    if number >= rows:
        raise CheckpointError(
            f"The tokenizer beside the weights numbers {token!r} with {number}, but the network has rows for the "
            f"numbers 0 to {rows - 1} alone. Take the tokenizer that was published with the weights; if tokens were "
            "added to it, the weights to take are those that were saved after resize_token_embeddings."
        )
    found = encoder or SentenceEncoder()
    allowed = min(longest, tokenizer.longest or longest)
    length = min(found.length, longest) if found.length else min(LONGEST, allowed)
    notes = [*found.notes, *tokenizer.notes]
    if length < allowed and not found.length:
        notes.append(
            f"Texts are cut after {length} of the {allowed:,} tokens that the network takes: few need more, and the "
            "cost grows with the square. The card's max_length says it."
        )
    said = tokenizer.pad_id if tokenizer.pad_id is not None else weights.config.get("pad_token_id")
    has_types = types and (tokenizer.types or not tokenizer.files)
    pad = int(pad_id if said is None else said)
    return Text(FILE, int(length), pad, types=has_types, prompt=found.prompt, cut=tokenizer.cut), tuple(notes)


def labels_tokens(weights: Weights) -> bool:
    """Says whether the output layer is for tokens or spans, by the class that config.json names."""
    names = weights.config.get("architectures") or ()
    return any(str(n).endswith(("ForTokenClassification", "ForQuestionAnswering")) for n in names)
