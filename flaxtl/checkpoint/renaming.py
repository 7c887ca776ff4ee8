"""Renaming on the way from a checkpoint to a model: prefixes, with wildcards and collections."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flaxtl import paths
from flaxtl.errors import CheckpointError
from flaxtl.paths import Leaf

Rename = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Rule:
    """A prefix of paths in the checkpoint and what it becomes in the model.

    Attributes:
        old: '[collection:]path'; '*' stands for any run of characters within a segment, '**' for any segments.
        new: the same; its wildcards take, in order, what those of `old` stood for. Without a collection the leaf keeps
            its own.
    """

    old: str
    new: str

    def __post_init__(self) -> None:
        if _wildcards(self._paths[0]) != _wildcards(self._paths[1]):
            raise CheckpointError(
                f"The rename {self.old!r} → {self.new!r} has other wildcards on the right than on the left. "
                "Each * and ** on the left needs one on the right, in the same order."
            )

    @property
    def _paths(self) -> tuple[str, str]:
        old, new = (paths.split_collection(side)[1] for side in (self.old, self.new))
        # A prefix takes along what lies below it in any case.
        bare = old.removesuffix("**").removesuffix("/")
        return (bare, new) if old.endswith("**") and not new.endswith("**") else (old, new)

    @property
    def moves(self) -> bool:
        """Whether it says which collection a leaf goes to."""
        return paths.split_collection(self.new)[0] is not None

    def apply(self, leaf: Leaf) -> Leaf | None:
        """Returns a leaf's place in the model, or None where the rule does not fit it."""
        collection = paths.split_collection(self.old)[0]
        before, after = self._paths
        start = paths.expression(before) if before else ""
        found = re.fullmatch(f"{start}(.*)", leaf.path + "/")
        if found is None or collection not in (None, leaf.collection):
            return None
        *values, rest = found.groups()
        text = (_filled(after, values) if after else "") + rest
        if not text:
            raise CheckpointError(f"The rename {self.old!r} → {self.new!r} leaves {leaf.name} without a name.")
        return Leaf(paths.split_collection(self.new)[0] or leaf.collection, paths.split(text.removesuffix("/")))


def _wildcards(path: str) -> list[str]:
    return [w for s in paths.segments(path) for w in (["**"] if s == "**" else re.findall(r"(?<!\\)\*", s))]


def _filled(path: str, values: Sequence[str]) -> str:
    """Returns the path of a new name + '/', with the values in place of its wildcards."""
    rest, made = list(values), ""
    for segment in paths.segments(path):
        if segment == "**":
            made += rest.pop(0)  # which ends with '/' unless it is empty
        else:
            pieces = re.findall(r"\\.|\*|[^\\*]+", segment)
            made += "".join(rest.pop(0) if p == "*" else p for p in pieces) + "/"
    return made


def rules_of(rename: Rename) -> list[Rule]:
    """Returns the rules of a mapping {old: new} or of a list of (old, new).

    Raises:
        CheckpointError: it is neither, or the wildcards of a rule do not agree.

    Example:
        >>> rules_of({'layer_*/bn': 'blocks_*/norm'})[0].apply(Leaf('params', ('layer_3', 'bn', 'scale')))
        Leaf(collection='params', keys=('blocks_3', 'norm', 'scale'))
    """
    pairs: list[Any] = (
        list(rename.items()) if isinstance(rename, Mapping) else [rename] if isinstance(rename, str) else list(rename)
    )
    for pair in pairs:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(side, str) for side in pair)):
            raise CheckpointError(
                f"rename holds {pair!r}; expected a mapping from the checkpoint's names to the model's, such as "
                "{'model/encoder': 'backbone'}, or a list of such pairs."
            )
    return [Rule(*pair) for pair in pairs]


def renamed(leaf: Leaf, rules: Iterable[Rule]) -> tuple[Leaf, int | None]:
    """Returns a leaf's place after the first rule that fits, and that rule's number."""
    for number, rule in enumerate(rules):
        new = rule.apply(leaf)
        if new is not None:
            return new, number
    return leaf, None
