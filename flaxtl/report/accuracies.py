"""The one figure in front of a report, and each other figure of the same run in a sentence beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from flaxtl.metrics import Metrics, OutputMetrics
from flaxtl.metrics.outputs import CALLED, CONSTANT, shown
from flaxtl.report.held_out import FIELDS, HeldOut, Kind
from flaxtl.report.sentences import SCORE, score

NOTHING = "Nothing was held out, so how good the model is has not been measured."
_REMEDY = "Give labelled examples as `test`, or set some aside with `validation=0.2`."


@dataclasses.dataclass(frozen=True)
class Front:
    """The figure in front.

    Attributes:
        value: as people read it; "" where nothing was held out.
        name: what it is, of which examples, with its interval.
        baseline: what a constant answer scores on the same examples.
        caveat: what was chosen with the same predictions, as a sentence.
    """

    value: str
    name: str
    baseline: str = ""
    caveat: str = ""

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        if not self.value:
            return self.name
        return f"{self.name.replace('{}', self.value, 1)}" + (f"; {self.baseline}" if self.baseline else "")


def shown_first(held_out: Mapping[Kind, HeldOut]) -> HeldOut | None:
    """Returns the predictions that a report is made of: on test data, else out-of-fold, else on validation data."""
    return next((held_out[kind] for kind in FIELDS if kind in held_out), None)


def front(result: Mapping[str, Any], held_out: HeldOut | None) -> Front:
    """Returns the figure in front.

    Args:
        result: as `Result.to_dict` returns it.
        held_out: the predictions that the report is made of.
    """
    if held_out is None:
        return Front("", f"{NOTHING} {_REMEDY}")
    return dataclasses.replace(_front(result, held_out), caveat=held_out.caveat)


def _front(result: Mapping[str, Any], held_out: HeldOut) -> Front:
    found = held_out.metrics
    where = _where(held_out)
    if isinstance(found, OutputMetrics):
        return _front_of_outputs(found, where)
    corrected = _corrected(result) if held_out.kind == "cross-validation" else None
    if corrected is not None:
        interval = _interval(corrected)
        name = (
            f"accuracy {{}} {interval} on {found.examples} examples, {where}, corrected for choosing the best candidate"
        )
        return Front(f"{corrected['accuracy']:.1%}", name, str(found.majority))
    value, _, interval = found.accuracy.percent().partition(" ")
    return Front(value, f"accuracy {{}} {interval} on {found.examples} examples, {where}", str(found.majority))


def _front_of_outputs(found: OutputMetrics, where: str) -> Front:
    name, figure = next(iter(found.figures.items()))
    interval = "" if figure.low != figure.low else f" [{shown(name, figure.low)}, {shown(name, figure.high)}]"
    second = "accuracy" if found.task == "multilabel" else "mae"
    constant = (
        f"{CALLED[name]} {shown(name, found.baselines.get(name, math.nan))}, {CALLED[second]} "
        f"{shown(second, found.baselines[second])} (here {shown(second, found.figures[second].value)})"
    )
    title = f"{CALLED[name]} {{}}{interval} on {found.examples} examples, {where}"
    return Front(shown(name, figure.value), title, f"{CONSTANT[found.task]}: {constant}")


def _corrected(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the accuracy of a search's winner without the optimism of the choice, or None."""
    searches = (r for r in result.get("evidence", ()) if r.get("kind") == "auto")
    return next((r["corrected"] for r in searches if r.get("corrected")), None)


def _interval(corrected: Mapping[str, Any]) -> str:
    return f"[{corrected['low']:.1%}, {corrected['high']:.1%}]"


def others(result: Mapping[str, Any], held_out: Mapping[Kind, HeldOut]) -> list[str]:
    """Returns a sentence for each further figure of the run: what it is, and why it differs from that in front.

    Args:
        result: as `Result.to_dict` returns it.
        held_out: predictions by kind.
    """
    first = shown_first(held_out)
    sentences = []
    corrected = _corrected(result)
    if corrected is not None and first is not None and isinstance(first.metrics, Metrics):
        if first.kind == "cross-validation":
            sentences.append(
                f"{first.metrics.accuracy.percent()}: the chosen candidate's out-of-fold predictions before that "
                "correction; the tables and examples of the report count these."
            )
        else:
            sentences.append(
                f"{corrected['accuracy']:.1%} {_interval(corrected)}: accuracy of the chosen candidate in "
                "cross-validation on the training data, corrected for choosing the best candidate."
            )
    sentences += [_beside(one) for one in held_out.values() if one is not first]
    return [*sentences, *_of_heads(result, first)]


def _beside(held_out: HeldOut) -> str:
    found = held_out.metrics
    value, name = "", "accuracy"
    if isinstance(found, Metrics):
        value = found.accuracy.percent()
    else:
        main, figure = next(iter(found.figures.items()))
        value, name = shown(main, figure.value), CALLED[main]
    return f"{value}: {name} {_where(held_out)} ({found.examples} examples)."


def _where(held_out: HeldOut) -> str:
    return f"{'from' if held_out.kind == 'cross-validation' else 'on'} {held_out.origin}"


def _of_heads(result: Mapping[str, Any], first: HeldOut | None) -> list[str]:
    """Returns what cross-validation said of a head where that is not the figure in front."""
    sentences, task = [], str(result.get("task", "classification"))
    records = list(result.get("evidence", ()))
    searched = any(r.get("kind") == "auto" and r.get("possible") for r in records)
    trained = any(r.get("kind") in ("train", "wise", "soup") for r in records)
    for record in records:
        validation = record.get("cross_validation") or {}
        if record.get("kind") != "solve" or not validation.get("possible"):
            continue
        row = validation["rows"][validation["chosen"]]
        value = f"{score(row['accuracy'], row['accuracy_se'], task)} (mean ± standard error): {SCORE[task]} of the head"
        if trained:
            sentences.append(f"{value} in cross-validation, before the layers below it were trained.")
        elif searched:
            sentences.append(
                f"{value} in its own cross-validation, by which its l2 penalty was chosen, on other folds."
            )
        elif first is not None and first.kind == "cross-validation":
            if isinstance(first.metrics, Metrics) and abs(first.metrics.accuracy.value - row["accuracy"]) > 5e-4:
                sentences.append(
                    f"{value} over all {validation['folds']} folds, which are drawn several times; in front, the first "
                    "drawing, in which each example is predicted once."
                )
        else:
            sentences.append(f"{value} in cross-validation on the training data.")
    return sentences
