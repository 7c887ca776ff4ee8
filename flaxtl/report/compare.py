"""Runs side by side, and whether their difference is significant."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from flaxtl.errors import DataError
from flaxtl.report.held_out import FIELDS, NAMES, Kind
from flaxtl.report.prediction_files import SavedPredictions, read_predictions
from flaxtl.train.rundir import RESULT

# The main figure of each task, by its name in a result.
_MAIN = {"classification": "accuracy", "multilabel": "exact", "regression": "r2"}
_CALLED = {"accuracy": "", "exact": " exact match", "r2": " R²"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One run; None where it has no such figure.

    Attributes:
        run: its name.
        strategy: how it was trained.
        examples: of the training data.
        seconds: of training.
        held_out: which examples the figures are of: "test", "cross-validation" (out of fold) or "validation".
        held_out_examples: how many there were.
        figure: which figure `value` is: "accuracy", "exact" (match of all labels) or "r2".
        value, low, high: the figure and its interval.
        baseline: what a constant answer scores, such as always the most frequent class.
        log_loss: of classes or labels.
    """

    run: str
    strategy: str
    examples: int
    seconds: float
    held_out: Kind | None = None
    held_out_examples: int | None = None
    figure: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    log_loss: float | None = None

    @property
    def accuracy(self) -> float | None:
        """The figure, where it is an accuracy."""
        return self.value if self.figure == "accuracy" else None


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two runs on the same held-out examples.

    Attributes:
        first, second: the runs.
        held_out: which examples these are; both runs were evaluated on the same kind.
        examples: how many held-out examples both have.
        only_first: of them, those that only the first predicts correctly.
        only_second: those that only the second predicts correctly.
        p_value: how probable so uneven a division is if both are equally good; see `mcnemar`.
    """

    first: str
    second: str
    held_out: Kind
    examples: int
    only_first: int
    only_second: int
    p_value: float

    def __str__(self) -> str:
        better = self.first if self.only_first > self.only_second else self.second
        points = 100 * abs(self.only_first - self.only_second) / self.examples
        where = f"on the same {self.examples} examples of {NAMES[self.held_out]}"
        counts = f"only {self.first} right: {self.only_first}, only {self.second} right: {self.only_second}"
        if self.only_first == self.only_second:
            return f"{self.first} and {self.second} are equally accurate {where} ({counts})"
        verdict = "significant at the 5% level" if self.p_value < 0.05 else "not significant at the 5% level"
        test = f"McNemar p = {self.p_value:.2g}, {verdict}"
        return f"{better} is {points:.1f} points more accurate {where} ({counts}; {test})"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        rows: one a run.
        pairs: what the test says of each two runs that were evaluated on the same examples.
        notes: why two runs could not be tested against each other, and what to beware of.
    """

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON; a classifier's figure is there by its name too."""
        rows = [{**dataclasses.asdict(row), **_by_name(row)} for row in self.rows]
        return {**dataclasses.asdict(self), "rows": rows}

    def summary(self) -> str:
        """Returns a table for the terminal, and a sentence for each pair."""
        head = ("run", "strategy", "examples", "accuracy", "always-majority", "evaluated on", "log-loss", "seconds")
        cells = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        if len(self.pairs) > 1:
            lines.append(f"p-values are for one test each; of {len(self.pairs)}, one in twenty is small by chance.")
        return "\n".join([*lines, *map(str, self.pairs), *(f"note: {note}" for note in self.notes)])


def _by_name(row: Row) -> dict[str, float | None]:
    if row.figure != "accuracy":
        return {}
    return {"accuracy": row.value, "accuracy_low": row.low, "accuracy_high": row.high}


def _cells(row: Row) -> tuple[str, ...]:
    value, baseline, loss = "not measured", "", "" if row.log_loss is None else f"{row.log_loss:.3f}"
    if row.value is not None and row.figure is not None:
        form = ".3f" if row.figure == "r2" else ".1%"
        interval = "" if row.low is None else f" [{row.low:{form}}, {row.high:{form}}]"
        value = f"{row.value:{form}}{interval}{_CALLED[row.figure]}"
        baseline = "" if row.baseline is None else f"{row.baseline:{form}}"
    where = "" if row.held_out is None else f"{row.held_out} ({row.held_out_examples})"
    return row.run, row.strategy, str(row.examples), value, baseline, where, loss, f"{row.seconds:.1f}"


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

    Each run's figure is of its test data, else out of fold, else of its validation data, and the table says which. Two
    runs are tested against each other on the same kind of held-out examples, the first of these kinds that both have.

    Args:
        runs: run directories.

    Raises:
        DataError: a directory holds no finished run.
    """
    names = _names([Path(run) for run in runs])
    rows = tuple(_row(name, Path(run)) for name, run in zip(names, runs, strict=True))
    saved: dict[str, dict[Kind, SavedPredictions]] = {}
    for name, run in zip(names, runs, strict=True):
        read = {kind: read_predictions(run, kind) for kind in FIELDS}
        saved[name] = {kind: predictions for kind, predictions in read.items() if predictions is not None}
    found = [_pair(a, saved[a], b, saved[b]) for a, b in itertools.combinations(names, 2)]
    pairs = tuple(pair for pair in found if isinstance(pair, Pair))
    notes = [note for note in found if isinstance(note, str)]
    return Comparison(rows, pairs, (*notes, *_cautions(rows, pairs)))


def _cautions(rows: Sequence[Row], pairs: Sequence[Pair]) -> list[str]:
    cautions = []
    kinds = sorted({row.held_out for row in rows if row.held_out is not None})
    if len(kinds) > 1:
        cautions.append(
            f"The accuracies of the table are of different kinds ({', '.join(kinds)}); compare the pairs instead."
        )
    if any(pair.held_out == "cross-validation" for pair in pairs):
        cautions.append(
            "Out-of-fold predictions share most of their training examples, so p-values are approximate; a test set "
            "decides."
        )
    return cautions


def _names(runs: Sequence[Path]) -> list[str]:
    """Names runs by their last folder, or by the whole path where two are the same."""
    short = [run.name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]


def _row(name: str, run: Path) -> Row:
    file = run / RESULT
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        row = Row(name, result["strategy"], result["examples"], float(result["seconds"]))
        for kind, field in FIELDS.items():
            if result.get(field) is not None:
                return dataclasses.replace(row, held_out=kind, **_figures(result[field]))
        return row
    except FileNotFoundError as error:
        raise DataError(f"{run} holds no {RESULT}. Expected the directory of a finished run.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not the result of a run ({error!r}). Run it again.") from error


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    figure = _MAIN[found.get("task", "classification")]
    baseline = found["majority"]["accuracy"] if "majority" in found else found.get("baseline", {}).get(figure)
    return {
        "held_out_examples": found["examples"],
        "figure": figure,
        **found[figure],
        "baseline": baseline,
        "log_loss": found.get("log_loss", {}).get("value"),
    }


def _pair(
    a: str, first: Mapping[Kind, SavedPredictions], b: str, second: Mapping[Kind, SavedPredictions]
) -> Pair | str:
    """Tests two runs against each other on the examples that both have, or says why not."""
    cannot = f"{a} and {b} cannot be tested against each other"
    missing = [name for name, saved in ((a, first), (b, second)) if not saved]
    if missing:
        return f"{cannot}: no class predictions on held-out examples in {' and '.join(missing)}."
    shared = [kind for kind in FIELDS if kind in first and kind in second]
    if not shared:
        mine, theirs = (NAMES[next(kind for kind in FIELDS if kind in saved)] for saved in (first, second))
        return (
            f"{cannot}: the predictions of {a} are on {mine}, those of {b} on {theirs}. Evaluate both on one test set."
        )
    found = [pair for kind in shared if (pair := _tested(a, first[kind], b, second[kind], kind)) is not None]
    return found[0] if found else f"{cannot}: they were not evaluated on the same examples."


def _tested(a: str, first: SavedPredictions, b: str, second: SavedPredictions, kind: Kind) -> Pair | None:
    """Returns McNemar's test on the examples that both runs have; None where these are not the same examples."""
    truth = [dict(zip(k.keys, (k.labels[t] for t in k.targets), strict=True)) for k in (first, second)]
    common = [key for key in truth[0] if key in truth[1]]
    repeated = len(truth[0]) < len(first.keys) or len(truth[1]) < len(second.keys)
    if not common or repeated or any(truth[0][key] != truth[1][key] for key in common):
        return None
    right = [dict(zip(k.keys, k.right, strict=True)) for k in (first, second)]
    one, other = (np.array([r[key] for key in common]) for r in right)
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    return Pair(a, b, kind, len(common), only_first, only_second, mcnemar(only_first, only_second))
