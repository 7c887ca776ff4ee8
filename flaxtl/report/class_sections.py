"""The sections that show how good a classifier is: figures, classes, confusions, errors, calibration, sets."""

from __future__ import annotations

import math

import numpy as np

from flaxtl.card import Conformal
from flaxtl.metrics import Figure, Metrics, most_confident_mistakes, prediction_sets, reliability
from flaxtl.report import plots
from flaxtl.report.elements import Section, Table, illustrated, number, percent
from flaxtl.report.examples import MOST, shown_example
from flaxtl.report.held_out import HeldOut

_EXPLAINED = {
    "accuracy": "share of right predictions",
    "balanced_accuracy": "mean of the classes' recalls; a constant answer gets 1 / the number of classes",
    "macro_f1": "mean of the classes' F1",
    "auroc": "how well each class is ranked above the rest; 0.5 is guessing",
    "log_loss": "mean negative log probability of the true class; lower is better",
    "brier": "mean squared distance of probabilities from the truth; lower is better",
    "ece": "mean gap between confidence and accuracy; lower is better",
}
_CALLED = {
    "macro_f1": "macro-F1",
    "auroc": "AUROC",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
}


def class_sections(held_out: HeldOut, metrics: Metrics, conformal: Conformal | None) -> list[Section]:
    """Returns every section about a classifier's predictions.

    Args:
        held_out: the predictions.
        metrics: their figures.
        conformal: how the model's prediction sets are made; shown only on examples that did not make them.
    """
    sections = [_figures(metrics), _classes(metrics), _confusions(metrics), _errors(held_out), _calibration(held_out)]
    if conformal is not None and held_out.kind != "cross-validation":
        sections.append(_sets(held_out, conformal))
    return sections


def _figures(metrics: Metrics) -> Section:
    """Returns the figures with their intervals."""
    rows = [(_name(k), _with_interval(f), _EXPLAINED.get(k, "")) for k, f in metrics.figures.items()]
    rows.insert(1, ("majority class", f"{metrics.majority.share:.3f}", f"accuracy of {_answering(metrics)}"))
    low, high = metrics.ece_band
    value = metrics.ece.value
    place = "within" if low <= value <= high else "above" if value > high else "below"
    sentences = (
        f"{metrics.examples} examples, {metrics.level:.0%} intervals.",
        f"The calibration error of {value:.3f} is {place} the range from {low:.3f} to {high:.3f} that perfectly "
        "calibrated probabilities show on as many examples by chance.",
    )
    table = Table(("figure", "value", "meaning"), tuple(rows), stacked=True)
    return Section("How good it is", sentences, tables=(table,))


def _answering(metrics: Metrics) -> str:
    return str(metrics.majority).rpartition(":")[0]


def _name(figure: str) -> str:
    return _CALLED.get(figure, figure.replace("_", " "))


def _with_interval(figure: Figure) -> str:
    if math.isnan(figure.value):
        return "unknown"
    return f"{figure.value:.3f}" + ("" if math.isnan(figure.low) else f" [{figure.low:.3f}, {figure.high:.3f}]")


def _classes(metrics: Metrics) -> Section:
    predicted = metrics.confusion.sum(0)
    rows = tuple(
        (
            r.label,
            str(r.support),
            f"{predicted[k]:g}",
            _share(r.recall),
            percent(r.precision),
            number(r.f1),
            number(r.auroc),
        )
        for k, r in enumerate(metrics.classes)
    )
    head = ("class", "examples", "predicted", "recall", "precision", "F1", "AUROC")
    many = len(rows) > 25
    table = Table(head, rows, f"All {len(rows)} classes" if many else "", folded=many)
    worst = sorted((r for r in metrics.classes if r.support), key=lambda r: r.recall.value)[:3]
    sentences = []
    if len(rows) > 3:
        named = ", ".join(f"{r.label} ({percent(r.recall.value)} of {r.support})" for r in worst)
        sentences.append(f"Lowest recall: {named}.")
    return Section("Class by class", tuple(sentences), tables=(table,))


def _share(figure: Figure) -> str:
    if math.isnan(figure.value):
        return "–"
    return f"{percent(figure.value)} [{100 * figure.low:.0f}, {100 * figure.high:.0f}]"


def _confusions(metrics: Metrics) -> Section:
    """Returns the confusion matrix with the most frequent confusions."""
    counts, names = metrics.confusion, metrics.labels
    pairs = [(counts[i, j], i, j) for i, j in zip(*np.nonzero(counts), strict=True) if i != j]
    most = sorted(pairs, key=lambda pair: -pair[0])[:10]
    total = counts.sum(1)
    cells = tuple((names[i], names[j], f"{count:g}", percent(count / total[i])) for count, i, j in most)
    table = Table(("true", "predicted as", "examples", "of the class"), cells, "The most frequent confusions", names=2)
    text = (f"{counts.trace():g} of {counts.sum():g} examples are on the diagonal.",)
    alt = "Confusion matrix: rows are true classes, columns predictions."
    title = "Which classes are confused"
    return illustrated(title, text, alt, plots.confusion, (counts, names), table, folded=False)


def _errors(held_out: HeldOut) -> Section:
    """Returns the most confident errors, with the examples themselves."""
    source, labels = held_out.source, held_out.source.labels
    found = most_confident_mistakes(held_out.outputs, source.targets, source.keys, MOST)
    title = "Most confident errors"
    if not found:
        return Section(title, ("No prediction is wrong.",))
    shown = tuple(
        shown_example(
            source,
            error.row,
            f"predicted {labels[error.predicted]} ({percent(error.probability)}), labelled {labels[error.target]}",
        )
        for error in found
    )
    return Section(title, ("Look at these first: some labels may be wrong.",), examples=shown)


def _calibration(held_out: HeldOut) -> Section:
    """Returns the reliability diagram."""
    # Ten examples in a bin at least, so that its accuracy says something; but no fewer than three bins.
    bins = reliability(held_out.outputs, held_out.source.targets, bins=min(10, max(3, len(held_out.source) // 10)))
    rows = tuple(
        (str(b.examples), percent(b.confidence), percent(b.accuracy), f"{percent(b.low)} to {percent(b.high)}")
        for b in bins
    )
    table = Table(("examples", "confidence", "accuracy", "band if calibrated"), rows, "The diagram's numbers")
    sentences = (
        "Of predictions made with 80% confidence, 80% should be right. The bars show where a perfectly calibrated "
        "model would lie by chance.",
    )
    alt = "Reliability diagram: accuracy against confidence, with the band of a perfectly calibrated model."
    return illustrated("Calibration", sentences, alt, plots.reliability, (bins,), table)


def _sets(held_out: HeldOut, conformal: Conformal) -> Section:
    """Returns how large the prediction sets are, and how often they hold the true class here."""
    targets = np.asarray(held_out.source.targets, np.int64)
    held = prediction_sets(held_out.outputs, conformal)
    size = held.sum(1)
    covered = held[np.arange(len(targets)), targets]
    sentences = (
        f"Prediction sets are calibrated to hold the true class in at least {1 - conformal.alpha:.0%} of cases "
        f"(split-conformal, {conformal.examples} held-out examples). Here {percent(float(covered.mean()))} do, with "
        f"{size.mean():.2f} classes in a set on average.",
    )
    rows = []
    for low, high in ((1, 1), (2, 2), (3, 5), (6, 10), (11, len(held[0]))):
        there = (size >= low) & (size <= high)
        if there.any():
            high = min(high, len(held[0]))
            name = str(low) if low == high else f"{low} to {high}"
            rows.append((name, str(int(there.sum())), percent(float(covered[there].mean()))))
    table = Table(("classes in the set", "examples", "hold the true class"), tuple(rows))
    return Section("Prediction sets", sentences, tables=(table,))
