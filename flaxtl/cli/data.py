"""What data holds, told before anything is trained on it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl import data, metrics
from flaxtl.config import DataConfig
from flaxtl.data import Source, Splits
from flaxtl.data.contents import skipped_notes
from flaxtl.data.duplicates import same_content
from flaxtl.data.traits import traits_of
from flaxtl.errors import ConfigError, did_you_mean, listed


@dataclasses.dataclass(frozen=True)
class Part:
    """What one part of a data set holds.

    Attributes:
        examples: how many can be read.
        modality: what they are.
        task: what their labels are.
        labels: of classes and labels how many examples each has, of numbers {minimum, mean, maximum}.
        groups: how many groups there are, or None.
        traits: sizes, durations, rates, lengths.
        unreadable: (path, reason) of the files that are left out, because they cannot be read or are no data.
        notes: on how it was read.
        majority: the most frequent class and the accuracy of always answering it; None where the task is another.
    """

    examples: int
    modality: str
    task: str
    labels: dict[str, Any]
    groups: int | None
    traits: dict[str, Any]
    unreadable: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    majority: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Described:
    """What a data set holds. Print it.

    Attributes:
        parts: by name; "all" where the set has no parts.
        duplicates: examples of equal content, each group as (part, path or number, label).
        warnings: what may be wrong, one sentence each.
        sheet: where a sheet of examples was drawn, or None.
    """

    parts: dict[str, Part]
    duplicates: tuple[tuple[tuple[str, str, str], ...], ...]
    warnings: tuple[str, ...]
    sheet: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {
            "parts": {name: dataclasses.asdict(part) for name, part in self.parts.items()},
            "duplicates": [[{"part": p, "key": k, "label": n} for p, k, n in group] for group in self.duplicates],
            "warnings": list(self.warnings),
            "sheet": self.sheet,
        }

    def summary(self) -> str:
        """Returns what was found as text."""
        lines = [line for name, part in self.parts.items() for line in _told(name, part)]
        extra = sum(len(group) - 1 for group in self.duplicates)
        lines.append(f"duplicates: {extra or 'none'}")
        lines += [f"  {' = '.join(f'{key} ({label})' for _, key, label in group)}" for group in self.duplicates[:10]]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([*lines, *([f"sheet drawn in {self.sheet}"] if self.sheet else [])])


def _told(name: str, part: Part) -> list[str]:
    groups = "" if part.groups is None else f" of {part.groups} groups"
    lines = [f"{name}: {part.examples} examples{groups} ({part.modality}, {part.task})"]
    lines += [f"  {trait}: {_as_text(value)}" for trait, value in part.traits.items()]
    width = max(len(label) for label in part.labels)
    lines += [f"  {label:<{width}}  {_as_text(value)}" for label, value in part.labels.items()]
    if part.majority is not None:
        lines.append(f"  {metrics.Majority(**part.majority)}")
    if part.unreadable:
        lines.append(f"  left out: {len(part.unreadable)}")
        lines += [f"    {path}: {reason}" for path, reason in part.unreadable[:10]]
    return lines


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_as_text(entry)}" for name, entry in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def inspected(config: DataConfig) -> Described:
    """Carries `flaxtl data inspect` out.

    Raises:
        ConfigError: another word than inspect, or a sheet of what cannot be drawn.
        DataError: the data cannot be opened.
    """
    if config.word != "inspect":
        near = did_you_mean(config.word, ["inspect"])
        raise ConfigError(f"flaxtl data takes the word inspect; found {config.word!r}.{near}")
    found = data.open_source(config.data, **dataclasses.asdict(config.data_options), seed=config.seed)
    sources = found.parts if isinstance(found, Splits) else {"all": found}
    described = describe(sources)
    if config.out is None:
        return described
    from flaxtl.cli.sheet import draw_sheet

    whole = sources.get("train", next(iter(sources.values())))
    draw_sheet(whole, Path(config.out), seed=config.seed)
    return dataclasses.replace(described, sheet=config.out)


def describe(sources: Mapping[str, Source]) -> Described:
    """Describes the parts of a data set.

    Example:
        >>> described = describe({'all': Source.of('text', ['x', 'yy', 'x'], ['a', 'b', 'b'])})
        >>> described.parts['all'].labels, len(described.duplicates)
        ({'a': 1, 'b': 2}, 1)
    """
    parts = {name: _part(source) for name, source in sources.items()}
    names, several = list(sources), list(sources.values())
    duplicates = tuple(
        tuple((names[s], several[s].keys[i], _label(several[s], i)) for s, i in places)
        for places in same_content(several)
    )
    return Described(parts, duplicates, tuple(_warnings(parts, duplicates)))


def _part(source: Source) -> Part:
    labels = _labels(source)
    counted = source.task == "classification" and sum(labels.values()) > 0
    majority = metrics.majority_of(np.array([*labels.values()]), source.labels) if counted else None
    return Part(
        examples=len(source),
        modality=source.modality,
        task=source.task,
        labels=labels,
        groups=None if source.groups is None else len(set(source.groups)),
        traits=_traits(source),
        unreadable=source.skipped,
        notes=source.notes,
        majority=None if majority is None else majority._asdict(),
    )


def _labels(source: Source) -> dict[str, Any]:
    if source.task == "regression":
        numbers = {name: source.targets[:, k] for k, name in enumerate(source.labels)}
        return {name: _spread(values, mean=True) for name, values in numbers.items()}
    if source.task == "multilabel":
        return {name: int(count) for name, count in zip(source.labels, source.targets.sum(0), strict=True)}
    counts = np.bincount(source.targets[source.targets >= 0], minlength=len(source.labels))
    return {name: int(count) for name, count in zip(source.labels, counts, strict=True)}


def _label(source: Source, i: int) -> str:
    target = source.targets[i]
    if source.task == "regression":
        return ";".join(f"{v:g}" for v in target)
    if source.task == "multilabel":
        return ";".join(name for name, v in zip(source.labels, target, strict=True) if v)
    return source.labels[target] if target >= 0 else ""


def _traits(source: Source) -> dict[str, Any]:
    found: Sequence[Any] = traits_of(source)
    if source.modality == "image":
        return {
            "height": _spread([t.height for t in found]),
            "width": _spread([t.width for t in found]),
            "channels": _counts(t.channels for t in found),
        }
    if source.modality == "audio":
        seconds = [t.samples / t.sample_rate for t in found if t.sample_rate]
        return {
            **({"seconds": {**_spread(seconds), "all": float(sum(seconds))}} if seconds else {}),
            "sample rate": _counts(t.sample_rate or "the network's" for t in found),
            "channels": _counts(t.channels for t in found),
        }
    if source.modality == "text":
        return {"characters": _spread([t.characters for t in found]), "empty": sum(not t.characters for t in found)}
    return {"shape": _counts("×".join(map(str, t.shape)) for t in found)}


def _spread(values: Any, *, mean: bool = False) -> dict[str, float]:
    middle = ("mean", np.mean) if mean else ("median", np.median)
    return {name: float(of(values)) for name, of in (("minimum", np.min), middle, ("maximum", np.max))}


def _counts(values: Any) -> dict[str, int]:
    return {str(value): count for value, count in sorted(collections.Counter(values).items(), key=str)}


def _warnings(parts: Mapping[str, Part], duplicates: Sequence[Sequence[tuple[str, str, str]]]) -> list[str]:
    found = []
    for name, part in parts.items():
        if part.task == "classification":
            found += _of_balance(name, part.labels)
        if part.traits.get("empty"):
            found.append(f"{part.traits['empty']} texts of {name} are empty.")
        found += skipped_notes(part.unreadable, "" if name == "all" else f" of {name}")
        found += part.notes
    both = [group for group in duplicates if len({part for part, _, _ in group}) > 1]
    differ = [group for group in duplicates if len({label for _, _, label in group}) > 1]
    if both:
        found.append(f"{len(both)} examples are in more than one part, such as {both[0][0][1]} and {both[0][-1][1]}.")
    if differ:
        found.append(f"{len(differ)} examples are there with several labels, such as {differ[0][0][1]}.")
    return found


def _of_balance(name: str, labels: Mapping[str, int]) -> list[str]:
    absent = [label for label, count in labels.items() if count == 0]
    unequal = metrics.unequal_note(np.array([*labels.values()]), [*labels])
    return [
        *([f"No example of {name} is of the classes {listed(absent)}."] if absent else []),
        *([f"{name}: {unequal}"] if unequal else []),
    ]
