"""What transformers' sound networks have in common: attention, heads, and a word for what is not built."""

from __future__ import annotations

from collections.abc import Sequence

from flaxtl.convert.mapping import CONCAT, CONCAT_LINEAR, Rule, linear
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError


def refuse_if(found: object, what: str) -> None:
    """Refuses a variant that flaxtl has no network for.

    Raises:
        CheckpointError: `found` is true.
    """
    if found:
        raise CheckpointError(f"This network has {what}, which flaxtl does not build. Take one without it.")


def attention(source: str, target: str, parts: Sequence[str], out: str, *, bias: bool = True) -> list[Rule]:
    """Rules of self-attention: query, key and value side by side as one kernel, and the output.

    Args:
        source: the attention's name.
        target: ours.
        parts: names of query, key and value below it.
        out: the name of the output below it.
        bias: whether query, key and value have a bias.
    """
    table = [Rule(tuple(f"{source}.{p}.weight" for p in parts), f"{target}/qkv/kernel", CONCAT_LINEAR)]
    if bias:
        table.append(Rule(tuple(f"{source}.{p}.bias" for p in parts), f"{target}/qkv/bias", CONCAT))
    return table + linear(f"{source}.{out}", f"{target}/out")


def head(source: str, weights: Weights) -> list[Rule]:
    """Rules of the output layer, if the source has one."""
    return linear(source, "head") if f"{source}.weight" in weights else []
