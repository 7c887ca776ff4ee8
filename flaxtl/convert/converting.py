"""From published weights to a model: prefixes taken off, the family recognised, every tensor accounted for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxtl import checkpoint, nets, paths
from flaxtl.card import Card, Head, Text
from flaxtl.convert import mapping
from flaxtl.convert.families import Family, Recognised, families
from flaxtl.convert.families.timm_names import current_name, expanded
from flaxtl.convert.weights import MissingTensor, Tensor, Weights
from flaxtl.convert.writing import NAMES, Piece, write_safetensors
from flaxtl.errors import CheckpointError, did_you_mean, listed
from flaxtl.model import CHECKPOINT, Model

# What training frameworks wrap a network's names in.
PREFIXES = (
    *("module.", "model.", "_orig_mod.", "backbone.", "encoder.", "net.", "state_dict.", "model_ema.", "timm_model."),
    *("params/", "target/", "model/"),
)
# Tensors that no leaf is made of travel with the model up to this many bytes in all, so that an export has them again.
KEPT_BYTES = 4 << 20
EXTRAS = "source_extras.safetensors"
_QUANTISED = ("int8", "uint8", "int4", "uint4", "int2", "uint2")
_LONG_SETTINGS = ("id2label", "label2id", "label_names", "label_descriptions")


@dataclasses.dataclass(frozen=True)
class Conversion:
    """Weights, what they are, and the resolved table; nothing has been read yet.

    Attributes:
        weights: with their prefixes taken off.
        family: whose table it is.
        recognised: what the weights are.
        steps: tensor(s) → leaf, covering both sides.
        model: the model with shapes in place of arrays.
    """

    weights: Weights
    family: Family
    recognised: Recognised
    steps: tuple[mapping.Step, ...]
    model: Model

    def arrays(self) -> Iterator[tuple[paths.Leaf, np.ndarray]]:
        """Yields each leaf, made as it is asked for, so that one at a time is in memory."""
        structs = dict(paths.leaves(self.model.variables))
        for step in self.steps:
            if step.target is not None:
                yield step.target, mapping.apply(step, lambda n: self.weights[n].read(), structs[step.target])

    def read(self) -> Model:
        """Returns the model with its arrays, all in memory."""
        made = dict(self.arrays())
        variables = paths.map_with_leaf(lambda leaf, _: made[leaf], self.model.variables)
        return self.model.with_variables(variables)

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the model directory leaf by leaf; memory holds about twice the largest leaf and no more.

        Args:
            directory: where; `Model.load` reads it.
            overwrite: whether an earlier directory may be replaced.

        Raises:
            CheckpointError: a place that is taken, a full disk, a tokenizer that is not there, parameters that are no
                finite numbers, or tensors that are damaged.
        """
        self._require_tokenizer()
        structs = dict(paths.leaves(self.model.variables))
        steps = {s.target: s for s in self.steps if s.target is not None}

        def made(leaf: paths.Leaf) -> np.ndarray:
            array = mapping.apply(steps[leaf], lambda n: self.weights[n].read(), structs[leaf])
            if not is_finite(array):
                raise CheckpointError(
                    f"{listed(steps[leaf].sources)} holds NaN or infinity; such weights are not converted. "
                    "Fetch them again, or take another checkpoint."
                )
            return array

        with checkpoint.new_directory(Path(directory), overwrite=overwrite) as folder:
            checkpoint.save_lazily(folder / CHECKPOINT, structs, made)
            self.model.card.write(folder)
            for name, file in self.model.files.items():
                (folder / name).write_bytes(Path(file).read_bytes())
            self._save_extras(folder)
        return Path(directory)

    def _require_tokenizer(self) -> None:
        wanted = self.recognised.input
        if isinstance(wanted, Text) and wanted.tokenizer not in self.model.files:
            raise CheckpointError(
                f"These are the weights of a text network ({self.family.name}), and its tokenizer is missing: there is "
                f"no {wanted.tokenizer} beside them. Fetch it from where the weights were published."
            )

    def _save_extras(self, folder: Path) -> None:
        """Keeps the small tensors that no leaf is made of."""
        names = [n for s in self.steps if s.target is None for n in s.sources]
        kept = [Piece(n, t.shape, t.dtype, t.read) for n in names if (t := self.weights[n]).dtype.name in NAMES]
        if kept and sum(self.weights[p.name].nbytes for p in kept) <= KEPT_BYTES:
            write_safetensors(folder / EXTRAS, kept)

    def explain(self) -> str:
        """Returns the table source → target as text."""
        from flaxtl.checkpoint.store import table

        shapes = {name: tensor.shape for name, tensor in self.weights.items()}
        return "\n".join([*self.weights.notes, *table(mapping.explain(self.steps, shapes))])


def plan_conversion(weights: Weights) -> Conversion:
    """Finds out what weights are and how each tensor becomes a leaf.

    Args:
        weights: as a reader gives them.

    Raises:
        CheckpointError: no family recognises them (the nearest names are given), or they do not fit the family that
            does (both lists are given, with the family's name).
    """
    found, family, bare = recognise(weights)
    found = _one_output(found)
    bare = dataclasses.replace(bare, notes=(*bare.notes, *found.notes, *_ignored(bare)))
    network = nets.build(found.network, found.outputs)
    labels = found.labels or tuple(map(str, range(found.outputs)))
    card = Card(found.input, found.network, (Head(labels=labels, task=found.task),))
    model = Model(network, {}, card, dict(found.files))
    variables = network.abstract(model.sample())
    config = nets.family_config(found.network.family, found.network.config)
    try:
        steps = tuple(mapping.resolve(family.rules(config, bare), bare))
        mapping.check_targets(steps, variables)
    except MissingTensor as error:
        raise CheckpointError(_lacking(family, error)) from error
    except CheckpointError as error:
        raise CheckpointError(
            f"The weights look like the family {family.name!r}, but: {error}{_quantised(bare)}"
        ) from error
    _refuse_quantised(bare, steps)
    card = card.with_provenance(converted=_provenance(bare, family, steps))
    model = dataclasses.replace(model, card=card, variables=variables, notes=bare.notes)
    return Conversion(bare, family, found, steps, model)


def _one_output(found: Recognised) -> Recognised:
    """A class alone would have the probability 1 of whatever is asked, so a single output is taken as a number."""
    if found.outputs != 1 or found.task != "classification":
        return found
    note = (
        "The network has a single output, which is given as the number that it is (task regression). If it is the "
        "logit of a yes or no, its sigmoid is the probability of yes."
    )
    return dataclasses.replace(found, task="regression", notes=(*found.notes, note))


def _ignored(weights: Weights) -> tuple[str, ...]:
    if not weights.ignore_settings:
        return ()
    names = listed(weights.ignore_settings, 30)
    return (f"Of the source's settings these were ignored as asked, so its outputs may be others: {names}.",)


def recognise(weights: Weights) -> tuple[Recognised, Family, Weights]:
    """Returns what weights are, whose they are, and the weights under the names that the family knows.

    Raises:
        CheckpointError: no family recognises them.
    """
    complaint = ""
    for bare in _unwrapped(weights):
        for family in families():
            try:
                found = family.recognise(bare)
            except MissingTensor as error:
                complaint = complaint or _lacking(family, error)
                continue
            except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
                raise CheckpointError(
                    f"The weights look like the family {family.name!r}, but its config.json or the shapes of the "
                    f"tensors are not what they are there ({type(error).__name__}: {error}). Fetch both from one place."
                ) from error
            if found is not None:
                return found, family, bare
    if complaint:
        raise CheckpointError(complaint + _quantised(weights))
    named = weights.config.get("architecture") or weights.config.get("model_type")
    if named:
        raise CheckpointError(f"{_unknown(str(named), weights)}{_quantised(weights)}")
    raise CheckpointError(
        f"These weights are of no family that flaxtl knows ({listed(sorted({f.name for f in families()}))}). "
        f"Their {len(weights)} tensors begin with {listed(weights, 5)}. A config.json beside them would say more."
        f"{_quantised(weights)}"
    )


def _unknown(named: str, weights: Weights) -> str:
    """Returns what is wrong with weights whose config.json names something, but which no family takes."""
    patterns = [a for f in families() for a in f.architectures]
    known = expanded(patterns)
    if current_name(named) in known:
        return (
            f"config.json names {named!r}, which flaxtl knows, but the tensors have other names than its: they begin "
            f"with {listed(weights, 5)}. They may be a part of the network, or have a prefix that flaxtl "
            "does not take off."
        )
    near = did_you_mean(named, known) or f" Known: {', '.join(patterns)}."
    return f"flaxtl does not know the architecture {named!r}.{near}"


def _lacking(family: Family, error: MissingTensor) -> str:
    return (
        f"The weights look like the family {family.name!r}, but the tensor {error.args[0]!r} is missing. "
        "The file may be a part of a network, or of a variant that flaxtl does not know."
    )


def _is_quantised(tensor: Tensor) -> bool:
    name = tensor.dtype.name
    return len(tensor.shape) > 1 and (name in _QUANTISED or name.startswith(("float8", "float4", "float6")))


def _quantised(weights: Mapping[str, Tensor]) -> str:
    """Returns a sentence about quantised tensors, or nothing."""
    names = [n for n, t in weights.items() if _is_quantised(t)]
    kinds = sorted({weights[n].dtype.name for n in names})
    if not names:
        return ""
    return (
        f" {len(names)} of the tensors are {listed(kinds)} ({listed(names, 3)}): quantised weights are not supported "
        "unless they are dequantised first. Take the float32, float16 or bfloat16 version."
    )


def _refuse_quantised(weights: Weights, steps: Sequence[mapping.Step]) -> None:
    used = {n: weights[n] for s in steps if s.target is not None for n in s.sources}
    if told := _quantised(used):
        raise CheckpointError(f"The weights cannot be converted:{told}")


def _unwrapped(weights: Weights) -> Iterator[Weights]:
    """Yields the weights as they are, and then with known prefixes taken off, one after the other."""
    yield weights
    current = weights
    for _ in PREFIXES:
        prefix = next((p for p in PREFIXES if any(n.startswith(p) for n in current)), None)
        if prefix is None:
            return
        all_have_it = all(n.startswith(prefix) for n in current)
        current = current.without_prefix(prefix) if all_have_it else current.within(prefix)
        yield current


def _provenance(weights: Weights, family: Family, steps: Sequence[mapping.Step]) -> dict[str, Any]:
    """Returns what the card says of the conversion, and what an export needs to go back."""
    inexact = sorted({n for s in steps if s.target is not None and not s.operation.exact for n in s.sources})
    return {
        **weights.origin,
        "converter": f"flaxtl {version('flaxtl')}",
        "family": family.name,
        "notes": list(weights.notes),
        "prefix": weights.prefix,
        "settings": {k: v for k, v in weights.config.items() if k not in _LONG_SETTINGS},
        "tensors": {n: f"{t.dtype.name} {'x'.join(map(str, t.shape))}".strip() for n, t in weights.items()},
        **({"not_exact": inexact} if inexact else {}),
    }


def is_finite(array: np.ndarray) -> bool:
    """Says whether all numbers are finite, without an array of answers in memory.

    Example:
        >>> is_finite(np.array([1.0, np.inf])), is_finite(np.array([1, 2]))
        (False, True)
    """
    if array.size == 0 or array.dtype.kind in "iub":
        return True
    return math.isfinite(float(array.min())) and math.isfinite(float(array.max()))


@dataclasses.dataclass(frozen=True)
class Converted:
    """What a conversion wrote. Print it.

    Attributes:
        directory: of the model.
        conversion: what was converted, and how.
    """

    directory: Path
    conversion: Conversion

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        steps = self.conversion.steps
        return {
            "out": str(self.directory),
            "family": self.conversion.family.name,
            "tensors": len(self.conversion.weights),
            "leaves": sum(s.target is not None for s in steps),
            "not_needed": [n for s in steps if s.target is None for n in s.sources],
            "bytes": leaf_bytes(self.conversion.model.variables),
            "labels": len(self.conversion.recognised.labels),
            "origin": dict(self.conversion.weights.origin),
            "notes": list(self.conversion.weights.notes),
        }

    def summary(self) -> str:
        """Returns the outcome as text."""
        told = self.to_dict()
        unused = f", {len(told['not_needed'])} not needed" if told["not_needed"] else ""
        return "\n".join(
            [
                f"{told['family']}: {told['tensors']} tensors became {told['leaves']} leaves{unused}, "
                f"{told['bytes']:,} bytes: {self.directory}",
                *told["notes"],
            ]
        )


def convert(
    source: str | Path, out: str | Path, *, overwrite: bool = False, ignore_settings: Sequence[str] = ()
) -> Converted:
    """Converts published weights to a model directory, tensor by tensor.

    Args:
        source: a file, a folder, "hf:owner/name@revision" or a URL of fsspec; see `flaxtl.load`.
        out: the model directory.
        overwrite: whether an earlier one may be replaced.
        ignore_settings: settings of the source that are left out; see `flaxtl.load`.

    Raises:
        CheckpointError: the weights cannot be read, are of no known family, do not fit, or the place is taken.
    """
    from flaxtl.convert.hub import open_weights

    conversion = plan_conversion(open_weights(source, ignore_settings))
    return Converted(conversion.save(out, overwrite=overwrite), conversion)


def leaf_bytes(tree: Any) -> int:
    """Returns the bytes of all leaves of a tree of arrays or shapes."""
    return sum(int(np.prod(a.shape, dtype=np.int64)) * np.dtype(a.dtype).itemsize for a in jax.tree.leaves(tree))
