r"""The one path language for parameter trees.

A leaf is named by its *collection* and its *path*: ``params:backbone/blocks_11/conv1/kernel``. Where the
collection is left out the name stands for the leaf in every collection. A ``/``, ``:``, ``*`` or ``\``
that is part of a key is escaped with a backslash.

A *pattern* is a path in which ``*`` stands for any run of characters within one segment and ``**``, as a
whole segment, for zero or more segments; ``batch_stats:backbone/**`` narrows a pattern to one collection.

*Rules* are an ordered list of ``(pattern, value)``; the first match wins. Every leaf must be covered, and
a pattern that matches no leaf is an error that names the nearest real paths. The same language says what
is frozen, which learning rate a leaf gets, what is re-initialised, restored or sharded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax

from flaxtl.errors import PathError, listed, nearest

V = TypeVar("V")
Rules = Sequence[tuple[str, V]]

PARAMS = "params"
_SPECIAL = re.compile(r"([\\/:*])")


class Leaf(NamedTuple):
    """A leaf's place in a tree: the collection it is in and the keys that lead to it."""

    collection: str
    keys: tuple[str, ...]

    @property
    def path(self) -> str:
        """The keys joined by '/', escaped, without the collection."""
        return join(self.keys)

    @property
    def name(self) -> str:
        """The full name, such as 'batch_stats:backbone/bn/mean'."""
        return f"{escape(self.collection)}:{self.path}"


def escape(key: str) -> str:
    r"""Returns a key with '/', ':', '*' and '\' escaped, so that it can stand in a path.

    Example:
        >>> escape('a/b')
        'a\\/b'
    """
    return _SPECIAL.sub(r"\\\1", key)


def join(keys: Iterable[str]) -> str:
    """Returns the path of a sequence of keys.

    Example:
        >>> join(('backbone', 'stem', 'kernel'))
        'backbone/stem/kernel'
    """
    return "/".join(escape(k) for k in keys)


def _split_escaped(text: str, separator: str) -> list[str]:
    """Splits at unescaped separators and leaves the escapes in place."""
    parts, escaped = [""], False
    for character in text:
        if character == separator and not escaped:
            parts.append("")
            continue
        parts[-1] += character
        escaped = character == "\\" and not escaped
    return parts


def split(path: str) -> tuple[str, ...]:
    """Returns the keys of a path; the inverse of `join`.

    Example:
        >>> split('backbone/stem/kernel')
        ('backbone', 'stem', 'kernel')
    """
    return tuple(re.sub(r"\\(.)", r"\1", s) for s in _split_escaped(path, "/"))


def items(tree: Any) -> list[tuple[tuple[str, ...], Any]]:
    """Lists a tree's leaves with all their keys from the root, collections not told apart.

    Example:
        >>> items({'a': [1, 2]})
        [(('a', '0'), 1), (('a', '1'), 2)]
    """
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(tuple(_key(e) for e in entries), value) for entries, value in found]


def _key(entry: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def is_variables(tree: Any) -> bool:
    """Says whether a tree is a Flax variables dict (collections on top) and not a bare parameter tree."""
    return isinstance(tree, Mapping) and isinstance(tree.get(PARAMS), Mapping)


def leaves(tree: Any, *, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[Leaf, Any]]:
    """Lists a tree's leaves with their places, in the tree's own order.

    Args:
        tree: any pytree. If it is a variables dict with a 'params' entry, its top keys are collections;
            otherwise all of it is taken to be parameters.
        is_leaf: as in `jax.tree.flatten`.

    Returns:
        A list of (place, value).

    Example:
        >>> [leaf.name for leaf, _ in leaves({'head': {'bias': 0., 'kernel': 1.}})]
        ['params:head/bias', 'params:head/kernel']
    """
    found, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    variables = is_variables(tree)
    return [(_leaf(entries, variables), value) for entries, value in found]


def _leaf(entries: Iterable[Any], variables: bool) -> Leaf:
    keys = tuple(_key(e) for e in entries)
    return Leaf(keys[0], keys[1:]) if variables else Leaf(PARAMS, keys)


def names(tree: Any) -> list[str]:
    """Returns the full names of all leaves of a tree."""
    return [leaf.name for leaf, _ in leaves(tree)]


def map_with_leaf(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Maps `function(leaf, value, *values of rest)` over a tree; like `jax.tree.map`, with places."""
    variables = is_variables(tree)
    return jax.tree_util.tree_map_with_path(lambda e, *v: function(_leaf(e, variables), *v), tree, *rest)


def flatten(tree: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Returns a nested dict as a flat one, keyed by tuples of strings.

    Example:
        >>> flatten({'a': {'b': 1}})
        {('a', 'b'): 1}
    """
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update({(str(key), *k): v for k, v in flatten(value).items()})
        else:
            flat[(str(key),)] = value
    return flat


def unflatten(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Returns the nested dict of a flat one; the inverse of `flatten`.

    Raises:
        PathError: a path is both a leaf and the beginning of another path.

    Example:
        >>> unflatten({('a', 'b'): 1})
        {'a': {'b': 1}}
    """
    tree: dict[str, Any] = {}
    for keys, value in flat.items():
        node = tree
        for depth, key in enumerate(keys[:-1]):
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise PathError(f"The path {join(keys)!r} runs through {join(keys[: depth + 1])!r}, which is a leaf.")
        if keys[-1] in node:
            raise PathError(f"The path {join(keys)!r} stands for two things in one tree.")
        node[keys[-1]] = value
    return tree


def subtree(tree: Mapping[str, Any], path: str) -> Any:
    """Returns the part of a nested dict that a path leads to.

    Raises:
        PathError: nothing is there; the message lists what is.

    Example:
        >>> subtree({'backbone': {'stem': 1}}, 'backbone')
        {'stem': 1}
    """
    node: Any = tree
    for key in split(path):
        if not isinstance(node, Mapping) or key not in node:
            there = list(node) if isinstance(node, Mapping) else []
            raise PathError(f"There is nothing at {path!r}: {key!r} is not among {listed(there) or 'any keys'}.")
        node = node[key]
    return node


def split_collection(pattern: str) -> tuple[str | None, str]:
    """Returns (collection or None, path) of a name or pattern.

    Raises:
        PathError: it has more than one ':' that is not escaped.

    Example:
        >>> split_collection('batch_stats:bn/mean'), split_collection('head/**')
        (('batch_stats', 'bn/mean'), (None, 'head/**'))
    """
    parts = _split_escaped(pattern, ":")
    if len(parts) > 2:
        raise PathError(f"{pattern!r} is no pattern: expected 'path' or 'collection:path'.")
    return (split(parts[0])[0], parts[1]) if len(parts) == 2 else (None, pattern)


def segments(path: str) -> list[str]:
    """Returns the segments of a path or pattern, escaped as they are.

    Example:
        >>> segments('blocks_*/conv/**')
        ['blocks_*', 'conv', '**']
    """
    return _split_escaped(path, "/")


def expression(path: str) -> str:
    """Returns a pattern's path as a regular expression over an escaped path + '/', with a group for each wildcard."""
    made = ""
    for segment in segments(path):
        if segment == "**":
            made += r"((?:(?:[^\\/]|\\.)+/)*?)"
        else:
            pieces = re.findall(r"\\.|\*|[^\\*]+", segment)
            made += "".join(r"((?:[^\\/]|\\.)*)" if p == "*" else re.escape(p) for p in pieces) + "/"
    return made


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> tuple[str | None, re.Pattern[str]]:
    """Turns a pattern into (collection or None, regular expression over the escaped path + '/')."""
    if not pattern:
        raise PathError("'' is no pattern: expected 'path' or 'collection:path'.")
    collection, path = split_collection(pattern)
    return collection, re.compile(expression(path))


def matches(pattern: str, leaf: Leaf | str) -> bool:
    """Says whether a pattern matches a leaf.

    Args:
        pattern: a pattern of the path language.
        leaf: a place as `leaves` gives it, or a path with or without a collection.

    Example:
        >>> matches('backbone/**', 'backbone/blocks_1/kernel'), matches('*/kernel', 'a/b/kernel')
        (True, False)
    """
    if isinstance(leaf, str):
        parts = _split_escaped(leaf, ":")
        leaf = Leaf(split(parts[0])[0] if len(parts) == 2 else PARAMS, split(parts[-1]))
    collection, expression = _compiled(pattern)
    if collection is not None and collection != leaf.collection:
        return False
    return expression.fullmatch(leaf.path + "/") is not None


def matching(pattern: str, tree: Any) -> list[Leaf]:
    """Returns the places of all leaves that a pattern matches."""
    return [leaf for leaf, _ in leaves(tree) if matches(pattern, leaf)]


def suggestion(pattern: str, places: Iterable[Leaf]) -> str:
    """Returns ' Did you mean …?' with patterns that do match a leaf, or an empty string when nothing is near.

    Args:
        pattern: one that matches nothing.
        places: the leaves that there are.

    Example:
        >>> suggestion('head', [Leaf('params', ('head', 'kernel'))])
        " Did you mean 'head/**'?"
    """
    places = list(places)
    collection, path = split_collection(pattern)
    wanted = re.sub(r"(/(\*\*)?)+$", "", path)
    tail = wanted.removeprefix("**/")
    own = [f"{escape(collection)}:"] if collection is not None else [""]
    others = [f"{escape(name)}:" for name in sorted({p.collection for p in places})] if collection is not None else []
    same = [path, wanted, f"{wanted}/**", f"**/{tail}", f"**/{tail}/**"]

    def good(tried: Iterable[str]) -> list[str]:
        fit = (c for c in dict.fromkeys(tried) if c and c != pattern and any(matches(c, p) for p in places))
        return list(fit)[:3]

    # What is spelled right but lies elsewhere comes before what is spelled alike.
    found = good(before + c for before in (*own, *others) for c in same)[:1]
    found = found or good(before + c for before in own for c in _near(wanted, places)) or good(_near(wanted, places))
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""


def _near(wanted: str, places: Sequence[Leaf]) -> list[str]:
    """Returns patterns of the leaves and folders that are spelled most like a path, which may begin with '**/'."""
    starts = [0] if not wanted.startswith("**/") else range(max(len(p.keys) for p in places))
    tails = [p.keys[start:] for p in places for start in starts if len(p.keys) > start]
    leaves_there = {join(keys) for keys in tails}
    folders = {join(keys[:depth]) for keys in tails for depth in range(1, len(keys))}
    names = nearest(wanted.removeprefix("**/"), leaves_there | folders)
    before = "**/" if wanted.startswith("**/") else ""
    return [before + (name if name in leaves_there else f"{name}/**") for name in names]


def _no_match(pattern: str, places: Sequence[Leaf]) -> PathError:
    near = suggestion(pattern, places)
    return PathError(f"The pattern {pattern!r} matches none of the {len(places)} leaves.{near}")


def assign(rules: Rules[V], tree: Any, *, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """Gives each leaf of a tree the value of the first rule that matches it.

    Args:
        rules: ordered (pattern, value) pairs.
        tree: any pytree.
        is_leaf: as in `jax.tree.flatten`.

    Returns:
        A tree of the same structure holding the values.

    Raises:
        PathError: a leaf that no rule covers; a pattern that matches nothing; a pattern all of whose
            leaves earlier patterns have taken.

    Example:
        >>> assign([('head/**', 'train'), ('**', 'freeze')], {'head': {'w': 1}, 'stem': {'w': 2}})
        {'head': {'w': 'train'}, 'stem': {'w': 'freeze'}}
    """
    places = [leaf for leaf, _ in leaves(tree, is_leaf=is_leaf)]
    chosen: dict[Leaf, V] = {}
    for pattern, value in rules:
        found = [p for p in places if matches(pattern, p)]
        if not found:
            raise _no_match(pattern, places)
        fresh = [p for p in found if p not in chosen]
        if not fresh:
            earlier = listed(repr(q) for q, _ in rules[: [q for q, _ in rules].index(pattern)])
            raise PathError(
                f"The pattern {pattern!r} is never reached: {earlier} before it take all its leaves. Move it up."
            )
        chosen.update(dict.fromkeys(fresh, value))
    bare = [p.name for p in places if p not in chosen]
    if bare:
        raise PathError(f"No rule covers {listed(bare)}. Add a rule for them, or ('**', …) at the end for the rest.")
    return jax.tree.unflatten(jax.tree.structure(tree, is_leaf=is_leaf), [chosen[p] for p in places])


def select(patterns: str | Iterable[str], tree: Any) -> Any:
    """Returns a tree of booleans: which leaves any of the patterns matches.

    Raises:
        PathError: a pattern matches no leaf.

    Example:
        >>> select('head/**', {'head': {'w': 1}, 'stem': {'w': 2}})
        {'head': {'w': True}, 'stem': {'w': False}}
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    places = [leaf for leaf, _ in leaves(tree)]
    for pattern in patterns:
        if not any(matches(pattern, p) for p in places):
            raise _no_match(pattern, places)
    return map_with_leaf(lambda leaf, _: any(matches(p, leaf) for p in patterns), tree)
