"""How tensors of one naming become leaves of another: an ordered table of rules, checked both ways.

A rule names one or more source tensors, the leaf that they become, and the operation between them. Names may hold
placeholders such as ``{i}``, each of which stands for a number. A rule without a target says that a tensor is not
needed, and why. Every tensor must be covered by one rule and every leaf of the network by one; the same table, read
backwards, gives the source's own names back.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flaxtl import paths
from flaxtl.errors import CheckpointError, listed

_SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Operation:
    """What happens to the arrays between source and target.

    Attributes:
        name: what `--explain` calls it.
        forward: source arrays → the leaf.
        backward: (leaf, number of source arrays) → source arrays, the exact inverse of `forward`.
        exact: False where `backward` cannot give the source's own arrays back (two became one, or positions were
            interpolated): it then gives arrays that say the same, and that `forward` makes the same leaf of, to the
            bit.
    """

    name: str
    forward: Callable[[Sequence[np.ndarray]], np.ndarray]
    backward: Callable[[np.ndarray, int], list[np.ndarray]]
    exact: bool = True


def _one(name: str, forward: Callable[[Any], Any], backward: Callable[[Any], Any]) -> Operation:
    return Operation(name, lambda arrays: forward(arrays[0]), lambda leaf, _: [backward(leaf)])


def _axes(name: str, *order: int) -> Operation:
    back = tuple(int(i) for i in np.argsort(order))
    return _one(name, lambda a: a.transpose(order), lambda a: a.transpose(back))


KEEP = _one("keep", lambda a: a, lambda a: a)
LINEAR = _axes("transpose", 1, 0)  # PyTorch's [out, in] → Flax's [in, out]
CONV1D = _axes("OIW → WIO", 2, 1, 0)
CONV2D = _axes("OIHW → HWIO", 2, 3, 1, 0)  # depthwise too: [c, 1, h, w] → [h, w, 1, c]
CONCAT_LINEAR = Operation(  # query, key and value as one product: n × [out, in] → [in, n · out]
    "transpose, concatenate",
    lambda arrays: np.concatenate([a.T for a in arrays], axis=1),
    lambda leaf, n: [a.T for a in np.split(leaf, n, axis=1)],
)
CONCAT = Operation(
    "concatenate",
    lambda arrays: np.concatenate(list(arrays)),
    lambda leaf, n: np.split(leaf, n),
)


def reshape(inner: tuple[int, ...], outer: tuple[int, ...], then: Operation = KEEP) -> Operation:
    """Returns the operation that reshapes `outer` (the source's shape) to `inner` and then applies another."""
    return Operation(
        f"reshape to {inner}" + ("" if then is KEEP else f", {then.name}"),
        lambda arrays: then.forward([arrays[0].reshape(inner)]),
        lambda leaf, n: [then.backward(leaf, n)[0].reshape(outer)],
    )


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
        source: the source tensor's name, or several that become one leaf.
        target: the leaf's name, such as "backbone/blocks_{i}/conv1/kernel" or "batch_stats:…"; None ignores the tensor.
        operation: what happens between them.
        why: for an ignored tensor, the reason.
        optional: whether the source may lack the tensor (of an ignored one that is always so).
    """

    source: str | tuple[str, ...]
    target: str | None
    operation: Operation = KEEP
    why: str = ""
    optional: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """The source tensors' names."""
        return (self.source,) if isinstance(self.source, str) else self.source


def ignored(source: str, why: str) -> Rule:
    """Returns the rule that a tensor is not needed; `source` may hold ``*`` for any text."""
    return Rule(source, None, KEEP, why)


def linear(source: str, target: str, *, bias: bool = True) -> list[Rule]:
    """Rules of a dense layer: weight [out, in] → kernel [in, out], and bias.

    Example:
        >>> [(r.source, r.target, r.operation.name) for r in linear('fc', 'head')]
        [('fc.weight', 'head/kernel', 'transpose'), ('fc.bias', 'head/bias', 'keep')]
    """
    rules = [Rule(f"{source}.weight", f"{target}/kernel", LINEAR)]
    return rules + ([Rule(f"{source}.bias", f"{target}/bias")] if bias else [])


def conv(source: str, target: str, *, bias: bool = False, operation: Operation = CONV2D) -> list[Rule]:
    """Rules of a convolution: weight OIHW → kernel HWIO, and bias."""
    rules = [Rule(f"{source}.weight", f"{target}/kernel", operation)]
    return rules + ([Rule(f"{source}.bias", f"{target}/bias")] if bias else [])


def layer_norm(source: str, target: str, *, bias: bool = True) -> list[Rule]:
    """Rules of a LayerNorm: weight → scale, and bias."""
    rules = [Rule(f"{source}.weight", f"{target}/scale")]
    return rules + ([Rule(f"{source}.bias", f"{target}/bias")] if bias else [])


def batch_norm(source: str, target: str) -> list[Rule]:
    """Rules of a BatchNorm: weight → scale, bias, and the running statistics; its batch counter is ignored."""
    return [
        *layer_norm(source, target),
        Rule(f"{source}.running_mean", f"batch_stats:{target}/mean"),
        Rule(f"{source}.running_var", f"batch_stats:{target}/var"),
        ignored(f"{source}.num_batches_tracked", "counts batches, which nothing at inference reads"),
    ]


@functools.lru_cache(maxsize=8192)
def _expression(pattern: str) -> re.Pattern[str]:
    """Turns a name with placeholders (and, for ignored tensors, stars) into a regular expression."""
    text, seen = "", set()
    for piece in re.split(r"(\{\w+\}|\*)", pattern):
        if piece == "*":
            text += ".*"
        elif piece.startswith("{") and piece.endswith("}"):
            name = piece[1:-1]
            text += f"(?P={name})" if name in seen else f"(?P<{name}>\\d+)"
            seen.add(name)
        else:
            text += re.escape(piece)
    return re.compile(text)


def _filled(pattern: str, numbers: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: numbers[m.group(1)], pattern)


@dataclasses.dataclass(frozen=True)
class Step:
    """A rule with its placeholders filled in: which tensors become which leaf; target None is ignored."""

    sources: tuple[str, ...]
    target: paths.Leaf | None
    operation: Operation
    why: str = ""


def _leaf(name: str) -> paths.Leaf:
    collection, _, path = name.rpartition(":")
    return paths.Leaf(collection or paths.PARAMS, paths.split(path))


def resolve(rules: Iterable[Rule], names: Iterable[str]) -> list[Step]:
    """Fills a table in for the tensors that there are.

    Args:
        rules: the table; of several rules that fit a tensor the first is taken.
        names: the source's tensors.

    Returns:
        One step a leaf or ignored tensor, in the table's order.

    Raises:
        CheckpointError: tensors that no rule covers, or that a rule needs and the source lacks; both lists are given.

    Example:
        >>> steps = resolve([Rule('b.{i}.w', 'blocks_{i}/kernel', LINEAR)], ['b.0.w', 'b.1.w'])
        >>> [(s.sources, s.target.path) for s in steps]
        [(('b.0.w',), 'blocks_0/kernel'), (('b.1.w',), 'blocks_1/kernel')]
    """
    left = dict.fromkeys(names)
    present, missing, steps = set(left), [], []
    for rule in rules:
        expression = _expression(rule.sources[0])
        found = [(n, m) for n in list(left) if (m := expression.fullmatch(n))]
        if not found and rule.target is not None and not rule.optional:
            missing.append(rule.sources[0])
        for name, match in found:
            if rule.target is None:
                steps.append(Step((name,), None, rule.operation, rule.why))
                del left[name]
                continue
            sources = (name, *(_filled(s, match.groupdict()) for s in rule.sources[1:]))
            missing += [s for s in sources if s not in present]
            for s in sources:
                left.pop(s, None)
            steps.append(Step(sources, _leaf(_filled(rule.target, match.groupdict())), rule.operation))
    if missing or left:
        raise CheckpointError(
            "The tensors do not fit the network.\n"
            f"Missing ({len(missing)}): {listed(missing, _SHOWN) or 'none'}.\n"
            f"Left over ({len(left)}): {listed(left, _SHOWN) or 'none'}."
        )
    return steps


def check_targets(steps: Sequence[Step], like: Any) -> None:
    """Checks that the steps make every leaf of a network, each once, and none besides.

    Raises:
        CheckpointError: leaves without a step, steps without a leaf, or two steps for one leaf.
    """
    wanted = {leaf for leaf, _ in paths.leaves(like)}
    made = [s.target for s in steps if s.target is not None]
    twice = sorted({t.name for t in made if made.count(t) > 1}) if len(set(made)) < len(made) else []
    bare = [leaf.name for leaf in wanted - set(made)]
    over = [leaf.name for leaf in set(made) - wanted]
    if twice or bare or over:
        raise CheckpointError(
            "The mapping does not fit the network.\n"
            f"Leaves that nothing becomes ({len(bare)}): {listed(sorted(bare), _SHOWN) or 'none'}.\n"
            f"Targets that the network does not have ({len(over)}): {listed(sorted(over), _SHOWN) or 'none'}.\n"
            f"Leaves made twice ({len(twice)}): {listed(twice, _SHOWN) or 'none'}."
        )


def apply(step: Step, read: Callable[[str], np.ndarray], struct: Any) -> np.ndarray:
    """Reads a step's tensors and makes the leaf, float32 where the leaf is.

    Args:
        step: with a target.
        read: name → array.
        struct: the leaf's shape and dtype in the network.

    Raises:
        CheckpointError: the shape is not the network's, or the numbers are of another kind.
    """
    assert step.target is not None
    arrays = [read(name) for name in step.sources]
    made = step.operation.forward(arrays)
    if made.shape != struct.shape:
        shapes = listed(f"{n} {list(a.shape)}" for n, a in zip(step.sources, arrays, strict=True))
        raise CheckpointError(
            f"{shapes} becomes {list(made.shape)} by {step.operation.name!r}; "
            f"the network's {step.target.name} is {list(struct.shape)}."
        )
    if made.dtype != struct.dtype and made.dtype.name not in _WIDENED:
        raise CheckpointError(
            f"{step.sources[0]} is {made.dtype.name}, which is not supported here; expected float32, float16 or "
            "bfloat16. Dequantise it first."
        )
    return contiguous(made, struct.dtype)


def contiguous(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns an array in C order and of a dtype, itself if it is so already.

    A large one is copied sixteen columns at a time: a transposed array's columns lie side by side in memory, and a
    plain copy fetches each of their cache lines sixteen times.

    Example:
        >>> contiguous(np.arange(6).reshape(2, 3).T, 'float32').tolist()
        [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    if array.nbytes < 1 << 18 or array.flags.c_contiguous:
        return np.asarray(array, dtype, order="C")
    made = np.empty(array.shape, dtype)
    for start in range(0, array.shape[-1], 16):
        made[..., start : start + 16] = array[..., start : start + 16]
    return made


_WIDENED = ("float16", "bfloat16", "float32", "float64")


def invert(steps: Sequence[Step], variables: Any) -> dict[str, np.ndarray]:
    """Returns a network's leaves under the source's own names; ignored tensors stay out.

    Args:
        steps: as `resolve` made them.
        variables: the network's variables.
    """
    leaves = dict(paths.leaves(variables))
    found: dict[str, np.ndarray] = {}
    for step in steps:
        if step.target is None:
            continue
        parts = step.operation.backward(np.asarray(leaves[step.target]), len(step.sources))
        found.update({n: np.asarray(p, order="C") for n, p in zip(step.sources, parts, strict=True)})
    return found


def explain(steps: Sequence[Step], shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[str, ...]]:
    """Returns the rows of the table that `--explain` prints: source, shape, operation, target."""
    rows: list[tuple[str, ...]] = [("source", "shape", "operation", "target")]
    for step in steps:
        first, *others = step.sources
        target = step.target.name if step.target is not None else f"(not needed: {step.why})"
        rows.append((first, str(list(shapes[first])), step.operation.name, target))
        rows += [(f"  and {name}", str(list(shapes[name])), "", "") for name in others]
    return rows
