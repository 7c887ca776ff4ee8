"""A load as a plan: what happens to every leaf, decided and printable before a byte of any array is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np

from flaxtl import paths
from flaxtl.checkpoint.digest import is_random_key, nbytes, struct_of
from flaxtl.checkpoint.layout import random_states
from flaxtl.checkpoint.renaming import Rename, Rule, renamed, rules_of
from flaxtl.checkpoint.store import Description, describe, nodes, require_matches, table
from flaxtl.errors import CheckpointError, did_you_mean, listed, nearest
from flaxtl.paths import Leaf

Action = Literal["loaded", "renamed", "resized", "reinitialised", "ignored"]
Resize = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
_SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Entry:
    """What happens to one leaf.

    Attributes:
        action: loaded, renamed, resized (perhaps renamed too), reinitialised, or ignored (in the checkpoint,
            not in the model).
        target: its place in the model, or None.
        source: its place in the checkpoint, or None.
        stored: shape and dtype in the checkpoint, or None.
        wanted: shape and dtype in the model, or None.
        resize: the function that resizes it, or None.
    """

    action: Action
    target: Leaf | None
    source: Leaf | None
    stored: jax.ShapeDtypeStruct | None
    wanted: jax.ShapeDtypeStruct | None
    resize: Resize | None = None

    @property
    def reads(self) -> bool:
        """Whether the leaf's bytes are read."""
        return self.action in ("loaded", "renamed", "resized")

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype: the checkpoint's, or the model's where nothing is read."""
        struct = self.wanted if self.stored is None else self.stored
        assert struct is not None
        return struct

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `struct`."""
        return self.struct.shape

    @property
    def dtype(self) -> Any:
        """The dtype of `struct`."""
        return self.struct.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the array of `struct`."""
        return nbytes(self.struct)

    def row(self) -> tuple[str, ...]:
        """Returns the leaf's line in a printed plan."""
        shape, dtype = str(self.shape), self.dtype.name
        if self.reads and self.wanted is not None:
            shape += f" → {self.wanted.shape}" if self.wanted.shape != self.shape else ""
            dtype += f" → {self.wanted.dtype.name}" if self.wanted.dtype != self.dtype else ""
        places = [leaf.name if leaf else "" for leaf in (self.target, self.source)]
        return (self.action, *places, shape, dtype, f"{self.nbytes:,}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a restore will do; nothing has been read yet. Print it.

    Attributes:
        found: the checkpoint.
        entries: one a leaf, the model's first, in its tree's order, and then what is ignored.
        like: the model's tree.
        cast: whether arrays get the model's dtype.
    """

    found: Description
    entries: tuple[Entry, ...]
    like: Any = dataclasses.field(repr=False)
    cast: bool

    @property
    def item(self) -> Path:
        """The Orbax folder."""
        return self.found.item

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found about the checkpoint's layout."""
        return self.found.notes

    @property
    def bytes_to_read(self) -> int:
        """Bytes of the arrays that will be read."""
        return sum(e.nbytes for e in self.entries if e.reads)

    def count(self, action: Action) -> int:
        """Returns how many leaves have an action."""
        return sum(e.action == action for e in self.entries)

    def __str__(self) -> str:
        heading = ("action", "model", "checkpoint", "shape", "dtype", "bytes")
        counts = ", ".join(f"{n} {a}" for a in get_args(Action) if (n := self.count(a)))
        total = f"{counts}; {self.bytes_to_read:,} bytes to read from {self.item}"
        return "\n".join([*self.notes, *table([heading, *(e.row() for e in self.entries)]), total])


def plan(
    directory: str | Path,
    like: Any,
    *,
    reinit: str | Iterable[str] = (),
    ignore: str | Iterable[str] = (),
    rename: Rename = (),
    resize: Mapping[str, Resize] | Sequence[tuple[str, Resize]] = (),
    cast: bool = False,
) -> Plan:
    """Plans how a checkpoint's leaves become a model's.

    A leaf that the model has under the same path in another collection goes there: the state of an NNX module holds the
    statistics of BatchNorm among the parameters. Random states that a model does not have are ignored.

    Args:
        directory: a flaxtl model directory or any Orbax checkpoint (a CheckpointManager's: its latest step).
        like: the model's variables or parameters; arrays or `jax.ShapeDtypeStruct`s.
        reinit: patterns of the model's leaves that are not loaded, such as "head/**"; what the checkpoint
            has in these places is not read.
        ignore: patterns of the checkpoint's leaves, under their names there, that the model does not want.
        rename: the checkpoint's names and the model's, first match wins: {"model/encoder": "backbone"}, or a list of
            pairs. A name is a prefix of paths and may have wildcards, {"encoder/layer_*": "blocks_*"}, and collections,
            {"params:bn/mean": "batch_stats:bn/mean"}.
        resize: rules (pattern of the model's leaves, function(array, shape) → array) for leaves whose shape
            differs; a mapping or a list of pairs.
        cast: gives arrays the model's dtype; without it a dtype that differs is an error.

    Returns:
        The plan, to print and to `restore`.

    Raises:
        CheckpointError: leaves are missing or left over, shapes or dtypes differ (all are listed), or a
            pattern or prefix for the checkpoint matches nothing in it.
        PathError: a `reinit` or `resize` pattern matches no leaf of the model.

    Example:
        >>> import tempfile
        >>> from flaxtl.checkpoint import save
        >>> place = Path(tempfile.mkdtemp()) / 'theirs'
        >>> save(place, {'backbone': {'w': np.ones(3)}, 'head': {'w': np.ones((3, 1000))}})
        >>> ours = {'backbone': {'w': np.ones(3)}, 'head': {'w': np.ones((3, 5))}}
        >>> made = plan(place, ours, reinit='head/**')
        >>> [(e.action, e.shape) for e in made.entries], made.bytes_to_read
        ([('loaded', (3,)), ('reinitialised', (3, 5)), ('ignored', (3, 1000))], 24)
    """
    found = describe(directory)
    fresh, ignored = _patterns(reinit), _patterns(ignore)
    resizes = list(resize.items()) if isinstance(resize, Mapping) else list(resize)
    for pattern in [*fresh, *(p for p, _ in resizes)]:
        paths.select(pattern, like)
    require_matches(ignored, found.leaves, f"of the checkpoint {found.item}")
    planner = _Planner(found, like, fresh, ignored, rules_of(rename), resizes, cast)
    return Plan(found, tuple(planner.entries()), like, cast)


def _patterns(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


class _Planner:
    """Sorts every leaf of model and checkpoint into an entry or a complaint."""

    def __init__(
        self,
        found: Description,
        like: Any,
        reinit: list[str],
        ignore: list[str],
        rename: list[Rule],
        resize: list[tuple[str, Resize]],
        cast: bool,
    ) -> None:
        self.found, self.reinit, self.ignore, self.resize, self.cast = found, reinit, ignore, resize, cast
        self.wanted = {leaf: struct_of(value) for leaf, value in paths.leaves(like)}
        self.complaints: list[str] = []
        self.sources = self._sources(rename)

    def _sources(self, rename: list[Rule]) -> dict[Leaf, Leaf]:
        """Returns the checkpoint's place of each leaf by its name in the model, ignored ones left out."""
        sources: dict[Leaf, Leaf] = {}
        applied: set[int] = set()
        for old in self.found.leaves:
            new, rule = renamed(old, rename)
            applied |= {rule} if rule is not None else set()
            if rule is None or not rename[rule].moves:
                new = self._in_its_collection(new)
            if self._ignored(old):
                continue
            if new in sources:
                self.complaints.append(f"{sources[new].name} and {old.name} would both become {new.name}")
            sources[new] = old
        for number, rule_ in enumerate(rename):
            if number not in applied:
                near = _like_prefix(rule_.old, self.found.leaves)
                raise CheckpointError(
                    f"The prefix {rule_.old!r} to rename fits no leaf of the checkpoint {self.found.item} "
                    f"that an earlier prefix has not taken.{near}"
                )
        return sources

    def _in_its_collection(self, leaf: Leaf) -> Leaf:
        """Returns a leaf's place in the one collection of the model that lacks it, where its own has no such path."""
        if leaf in self.wanted:
            return leaf
        others = [w for w in self.wanted if w.keys == leaf.keys and w not in self.found.leaves]
        return others[0] if len(others) == 1 else leaf

    def _ignored(self, leaf: Leaf) -> bool:
        return any(paths.matches(p, leaf) for p in self.ignore)

    def _fresh(self, leaf: Leaf) -> bool:
        return any(paths.matches(p, leaf) for p in self.reinit)

    def entries(self) -> list[Entry]:
        """Returns the entries, or raises with every complaint."""
        made = {leaf: self._entry(leaf, struct) for leaf, struct in self.wanted.items()}
        used = {e.source for e in made.values() if e is not None and e.reads}
        names = {old: new for new, old in self.sources.items()}
        random = random_states(self.found.leaves)
        over, unread = [], []
        for old, struct in self.found.leaves.items():
            if old in used:
                continue
            if self._ignored(old) or self._fresh(names.get(old, old)) or old in random:
                unread.append(Entry("ignored", None, old, struct, None))
            else:
                over.append(old)
        self._refuse([leaf for leaf, entry in made.items() if entry is None], over)
        return [*(e for e in made.values() if e is not None), *unread]

    def _entry(self, leaf: Leaf, struct: jax.ShapeDtypeStruct) -> Entry | None:
        """Returns what happens to a leaf of the model, or None where the checkpoint has nothing for it."""
        if self._fresh(leaf):
            return Entry("reinitialised", leaf, None, None, struct)
        source = self.sources.get(leaf)
        if source is None:
            return None
        stored = self.found.leaves[source]
        self._check_dtype(leaf, stored.dtype, struct.dtype)
        if stored.shape == struct.shape:
            return Entry("loaded" if source == leaf else "renamed", leaf, source, stored, struct)
        function = next((f for pattern, f in self.resize if paths.matches(pattern, leaf)), None)
        if function is None or is_random_key(stored):
            self.complaints.append(
                f"{leaf.name} has the shape {stored.shape} in the checkpoint and {struct.shape} in the model"
            )
        return Entry("resized", leaf, source, stored, struct, function)

    def _check_dtype(self, leaf: Leaf, stored: Any, wanted: Any) -> None:
        if stored == wanted:
            return
        told = f"{leaf.name} is {stored.name} in the checkpoint and {wanted.name} in the model"
        if not convertible(stored, wanted):
            self.complaints.append(f"{told}, which are numbers of different kinds")
        elif not self.cast:
            self.complaints.append(f"{told} (cast=True converts it)")

    def _refuse(self, missing: list[Leaf], over: list[Leaf]) -> None:
        if not (missing or over or self.complaints):
            return
        lines = [
            f"The checkpoint {self.found.item} does not fit the model.",
            f"Missing in the checkpoint ({len(missing)}): {_names(missing)}.",
            f"Left over in the checkpoint ({len(over)}): {_names(over)}.",
        ]
        if self.complaints:
            lines.append(f"Different ({len(self.complaints)}): {listed(self.complaints, _SHOWN)}.")
        lines.append(self._example(missing, over))
        lines.append(
            "Rename, ignore, resize or re-initialise these leaves (rename=, ignore=, resize=, reinit=), "
            "or load the model that was saved."
        )
        raise CheckpointError("\n".join(line for line in lines if line))

    def _example(self, missing: list[Leaf], over: list[Leaf]) -> str:
        """Returns a rename that would fit: of the missing leaf that is most like one left over of the same shape."""
        for leaf in missing:
            fit = {o.name: o for o in over if self.found.leaves[o].shape == self.wanted[leaf].shape}
            if near := nearest(leaf.name, fit, 1):
                old, new = _without_common_end(fit[near[0]], leaf)
                return f"Perhaps rename={{{old!r}: {new!r}}}."
        return ""


def _without_common_end(old: Leaf, new: Leaf) -> tuple[str, str]:
    """Returns the shortest prefixes by which one leaf becomes the other."""
    first, second = list(old.keys), list(new.keys)
    while len(first) > 1 and len(second) > 1 and first[-1] == second[-1]:
        first.pop()
        second.pop()
    if old.collection == new.collection:
        return paths.join(first), paths.join(second)
    return Leaf(old.collection, tuple(first)).name, Leaf(new.collection, tuple(second)).name


def _like_prefix(prefix: str, leaves: Iterable[Leaf]) -> str:
    """Returns ' Did you mean …?' with prefixes that leaves do have."""
    places = list(leaves)
    collection, path = paths.split_collection(prefix)
    known = nodes(places)
    if collection is not None and path in known:
        others = sorted({p.collection for p in places if paths.matches(f"{path}/**", p) or p.path == path})
        return f" Did you mean {' or '.join(repr(f'{paths.escape(c)}:{path}') for c in others)}?"
    return did_you_mean(path.strip("/"), known - {prefix})


def _names(leaves: Iterable[Leaf]) -> str:
    return listed((leaf.name for leaf in leaves), _SHOWN) or "none"


def convertible(stored: Any, wanted: Any) -> bool:
    """Says whether numbers of one dtype may become another's: within floats, complex numbers or integers.

    Example:
        >>> single, byte = np.dtype('float32'), np.dtype('int8')
        >>> convertible(single, np.dtype('bfloat16')), convertible(single, byte)
        (True, False)
    """
    kinds = (np.floating, np.complexfloating, np.integer)
    return any(jax.dtypes.issubdtype(stored, k) and jax.dtypes.issubdtype(wanted, k) for k in kinds)
