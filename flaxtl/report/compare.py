"""Runs side by side, and whether their difference is more than chance."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from flaxtl.errors import DataError
from flaxtl.report.kept import Kept, read_predictions
from flaxtl.train.rundir import RESULT


@dataclasses.dataclass(frozen=True)
class Row:
    """One run; None where it has no such figure."""

    run: str
    strategy: str
    examples: int
    seconds: float
    test_examples: int | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    log_loss: float | None = None


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two runs on the same test examples.

    Attributes:
        first, second: the runs.
        examples: how many test examples both have.
        only_first: of them, those that only the first gets right.
        only_second: those that only the second gets right.
        p_value: how probable so uneven a division is if both are equally good; see `mcnemar`.
    """

    first: str
    second: str
    examples: int
    only_first: int
    only_second: int
    p_value: float

    def __str__(self) -> str:
        better = self.first if self.only_first > self.only_second else self.second
        difference = abs(self.only_first - self.only_second) / self.examples
        odds = f"only {self.first} right: {self.only_first}, only {self.second} right: {self.only_second}"
        if self.only_first == self.only_second:
            return f"{self.first} and {self.second} are equally accurate on {self.examples} examples ({odds})"
        verdict = "more than chance" if self.p_value < 0.05 else "this may be chance"
        return (
            f"{better} is {difference:.1%} more accurate on the same {self.examples} examples ({odds}; McNemar "
            f"p = {self.p_value:.2g}: {verdict})"
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        rows: one a run.
        pairs: what the test says of each two runs that were measured on the same examples.
        notes: why two runs could not be tested against each other.
    """

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """Returns a table for the terminal, and a sentence for each pair."""
        head = ("run", "strategy", "examples", "accuracy", "log-loss", "seconds")
        cells = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        if len(self.pairs) > 1:
            lines.append(f"p-values are for one test each; of {len(self.pairs)}, one in twenty is small by chance.")
        return "\n".join([*lines, *map(str, self.pairs), *(f"note: {note}" for note in self.notes)])


def _cells(row: Row) -> tuple[str, ...]:
    accuracy = "not measured"
    if row.accuracy is not None:
        interval = "" if row.accuracy_low is None else f" [{row.accuracy_low:.3f}, {row.accuracy_high:.3f}]"
        accuracy = f"{row.accuracy:.3f}{interval}"
    loss = "" if row.log_loss is None else f"{row.log_loss:.3f}"
    return row.run, row.strategy, str(row.examples), accuracy, loss, f"{row.seconds:.1f}"


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the two-sided exact p-value of McNemar's test (1947): is it a fair coin that divides them?

    Example:
        >>> round(mcnemar(1, 9), 4), mcnemar(5, 5)
        (0.0215, 1.0)
    """
    both = only_first + only_second
    return float(binomtest(only_first, both, 0.5).pvalue) if both else 1.0


def compare(runs: Sequence[str | Path]) -> Comparison:
    """Compares finished runs.

    Args:
        runs: run directories.

    Raises:
        DataError: a directory holds no finished run.
    """
    names = _names([Path(run) for run in runs])
    rows = tuple(_row(name, Path(run)) for name, run in zip(names, runs, strict=True))
    kept = {name: read_predictions(run) for name, run in zip(names, runs, strict=True)}
    found = [_pair(a, kept[a], b, kept[b]) for a, b in itertools.combinations(names, 2)]
    pairs = tuple(pair for pair in found if isinstance(pair, Pair))
    return Comparison(rows, pairs, tuple(note for note in found if isinstance(note, str)))


def _names(runs: Sequence[Path]) -> list[str]:
    """Names runs by their last folder, or by the whole path where two are the same."""
    short = [run.name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]


def _row(name: str, run: Path) -> Row:
    file = run / RESULT
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        row = Row(name, result["strategy"], result["examples"], float(result["seconds"]))
        test = result.get("test")
        if test is None:
            return row
        accuracy = test["accuracy"]
        return dataclasses.replace(
            row,
            test_examples=test["examples"],
            accuracy=accuracy["value"],
            accuracy_low=accuracy["low"],
            accuracy_high=accuracy["high"],
            log_loss=test["log_loss"]["value"],
        )
    except FileNotFoundError as error:
        raise DataError(f"{run} holds no {RESULT}. Expected the directory of a finished run.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not a result that a run has left ({error!r}). Run it again.") from error


def _pair(a: str, first: Kept | None, b: str, second: Kept | None) -> Pair | str:
    """Tests two runs against each other on the examples that both have, or says why not."""
    missing = [name for name, kept in ((a, first), (b, second)) if kept is None]
    if first is None or second is None:
        return (
            f"{a} and {b} cannot be tested against each other: no predictions on test data in {' and '.join(missing)}."
        )
    truth = [dict(zip(k.keys, (k.labels[t] for t in k.targets), strict=True)) for k in (first, second)]
    common = [key for key in truth[0] if key in truth[1]]
    if (
        not common
        or any(truth[0][key] != truth[1][key] for key in common)
        or len(truth[0]) < len(first.keys)
        or len(truth[1]) < len(second.keys)
    ):
        return f"{a} and {b} cannot be tested against each other: they were not measured on the same test examples."
    right = [dict(zip(k.keys, k.right, strict=True)) for k in (first, second)]
    one, other = (np.array([r[key] for key in common]) for r in right)
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    return Pair(a, b, len(common), only_first, only_second, mcnemar(only_first, only_second))
