"""The sections that show how good a network of several outputs is: any of several labels, or numbers."""

from __future__ import annotations

import math

import numpy as np

from flaxtl.metrics import OutputMetrics, OutputRow
from flaxtl.metrics.outputs import CALLED, CONSTANT, shown
from flaxtl.report import plots
from flaxtl.report.elements import Section, Table, illustrated, number, percent
from flaxtl.report.examples import MOST, shown_example
from flaxtl.report.held_out import HeldOut

_EXPLAINED = {
    "exact": "share of examples with every label right",
    "micro_f1": "F1 over all labels of all examples",
    "macro_f1": "mean of the labels' F1",
    "accuracy": "share of right yes/no answers; high wherever labels are rare",
    "log_loss": "mean binary log-loss of a label; lower is better",
    "r2": "share of the variance that is explained; 0 is predicting the mean, below 0 is worse than that",
    "mae": "mean distance of predictions from the truth; lower is better",
    "mse": "mean squared distance from the truth; lower is better",
}
_MOST_PLOTS = 4


def output_sections(held_out: HeldOut, metrics: OutputMetrics) -> list[Section]:
    """Returns every section about the predictions of labels or numbers."""
    sections = [_figures(metrics), _outputs(metrics)]
    if metrics.task == "regression":
        return [*sections, *_scatter(held_out), _largest_errors(held_out)]
    return [*sections, _confident_errors(held_out)]


def _figures(metrics: OutputMetrics) -> Section:
    rows = []
    for name, figure in metrics.figures.items():
        value = shown(name, figure.value)
        if not math.isnan(figure.low):
            value += f" [{shown(name, figure.low)}, {shown(name, figure.high)}]"
        constant = metrics.baselines.get(name, math.nan)
        beside = "–" if math.isnan(constant) else shown(name, constant)
        rows.append((CALLED[name], value, beside, _EXPLAINED[name]))
    head = ("figure", "value", CONSTANT[metrics.task], "meaning")
    answer = f"a constant answer ({CONSTANT[metrics.task]})"
    sentences = (f"{metrics.examples} examples, {metrics.level:.0%} intervals, beside what {answer} scores.",)
    return Section("How good it is", sentences, tables=(Table(head, tuple(rows), stacked=True),))


def _outputs(metrics: OutputMetrics) -> Section:
    regression = metrics.task == "regression"
    head: tuple[str, ...] = ("output", "R²", "mean absolute error", "of predicting the mean")
    if not regression:
        head = ("label", "examples", "predicted", "F1", "right", "always no")
    rows = tuple((r.label, *(_of_number if regression else _of_label)(r)) for r in metrics.outputs)
    many = len(rows) > 25
    table = Table(head, rows, f"All {len(rows)}" if many else "", folded=many)
    return Section("Output by output" if regression else "Label by label", tables=(table,))


def _of_number(row: OutputRow) -> tuple[str, ...]:
    return number(row.figures["r2"]), f"{row.figures['mae']:.4g}", f"{row.figures['mae_of_mean']:.4g}"


def _of_label(row: OutputRow) -> tuple[str, ...]:
    figures = row.figures
    shares = (percent(figures["accuracy"]), percent(figures["always_no"]))
    return str(row.support), f"{figures['predicted']:g}", number(figures["f1"]), *shares


def _scatter(held_out: HeldOut) -> list[Section]:
    """Returns predictions against the truth, for the first outputs."""
    targets, sections = np.asarray(held_out.source.targets, np.float64), []
    for k, name in enumerate(held_out.source.labels[:_MOST_PLOTS]):
        predicted = held_out.outputs[:, k]
        order = np.linspace(0, len(targets) - 1, min(len(targets), 20)).astype(int)
        order = np.argsort(targets[:, k], kind="stable")[order]
        rows = tuple((held_out.source.keys[i], f"{targets[i, k]:.4g}", f"{predicted[i]:.4g}") for i in order)
        table = Table(("example", "true", "predicted"), rows, "Some of the numbers")
        alt = f"Predicted {name} against the true {name}; right predictions lie on the diagonal."
        title = f"Predicted against true: {name}"
        sections.append(illustrated(title, (), alt, plots.predicted_numbers, (predicted, targets[:, k], name), table))
    return sections


def _largest_errors(held_out: HeldOut) -> Section:
    """Returns the examples that are predicted worst; outputs count by their own spread."""
    source, targets = held_out.source, np.asarray(held_out.source.targets, np.float64)
    spread = targets.std(0)
    off = (np.abs(held_out.outputs - targets) / np.where(spread > 0, spread, 1.0)).max(1)
    worst = np.argsort(-off, kind="stable")[:MOST]
    examples = []
    for i in worst:
        pairs = zip(source.labels, held_out.outputs[i], targets[i], strict=True)
        caption = "; ".join(f"{name}: predicted {p:.4g}, true {y:.4g}" for name, p, y in pairs)
        examples.append(shown_example(source, int(i), caption))
    return Section("Largest errors", ("Look at these first: some targets may be wrong.",), examples=tuple(examples))


def _confident_errors(held_out: HeldOut) -> Section:
    """Returns the labels that are most confidently predicted or denied, and wrongly so."""
    source, p = held_out.source, held_out.outputs
    true = np.asarray(source.targets) > 0.5
    confidence = np.where((p > 0.5) == true, 0.0, np.maximum(p, 1.0 - p))
    order = np.argsort(-confidence, axis=None, kind="stable")[:MOST]
    examples = []
    for i, k in zip(*np.unravel_index(order, confidence.shape), strict=True):
        if confidence[i, k] == 0.0:
            break
        name = source.labels[k]
        if true[i, k]:
            caption = f"{name} not predicted (probability {percent(float(p[i, k]))}), but labelled"
        else:
            caption = f"{name} predicted (probability {percent(float(p[i, k]))}), but not labelled"
        examples.append(shown_example(source, int(i), caption))
    title = "Most confident errors"
    if not examples:
        return Section(title, ("No label is wrong.",))
    return Section(title, ("Look at these first: some labels may be wrong.",), examples=tuple(examples))
