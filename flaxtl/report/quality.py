"""The sections that show how good a model is: figures, classes, confusions, calibration, mistakes, sets."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as pillow

from flaxtl.card import Conformal
from flaxtl.data import Source
from flaxtl.data.image import decode
from flaxtl.errors import DataError
from flaxtl.metrics import Figure, Metrics, most_confident_mistakes, prediction_sets, reliability
from flaxtl.report import plots
from flaxtl.report.parts import Section, Shown, Table, data_uri, illustrated, number, percent

_EXPLAINED = {
    "accuracy": "share of right predictions",
    "balanced_accuracy": "mean of the classes' own accuracies",
    "macro_f1": "mean of the classes' F1",
    "auroc": "how well each class is ranked above the rest; 0.5 is guessing",
    "log_loss": "mean surprise at the true class; less is better",
    "brier": "mean squared distance of probabilities from the truth; less is better",
    "ece": "how far confidence is from the share that is right; less is better",
}
_CALLED = {
    "macro_f1": "macro-F1",
    "auroc": "AUROC",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "ece": "calibration error (ece)",
}
_THUMBNAIL = 112  # pixels a side
_MISTAKES = 12


def figures_section(metrics: Metrics, measured_on: str) -> Section:
    """Returns the figures with their intervals."""
    rows = [(_name(k), _with_interval(f), _EXPLAINED.get(k, "")) for k, f in metrics.figures.items()]
    low, high = metrics.ece_band
    value = metrics.ece.value
    place = "within" if low <= value <= high else "above" if value > high else "below"
    said = (
        f"Measured on {measured_on}: {metrics.examples} examples, with {metrics.level:.0%} intervals.",
        f"The calibration error (ece) of {value:.3f} is {place} the {low:.3f} to {high:.3f} that perfectly calibrated "
        "probabilities would show on so many examples by chance.",
    )
    return Section("How good it is", said, tables=(Table(("figure", "value", "meaning"), tuple(rows)),))


def _name(figure: str) -> str:
    return _CALLED.get(figure, figure.replace("_", " "))


def _with_interval(figure: Figure) -> str:
    if figure.value != figure.value:
        return "unknown"
    return f"{figure.value:.3f}" + ("" if figure.low != figure.low else f" [{figure.low:.3f}, {figure.high:.3f}]")


def classes_sections(metrics: Metrics) -> list[Section]:
    """Returns the table of classes, and the confusion matrix with the most frequent confusions."""
    rows = tuple(
        (r.label, str(r.support), percent(r.precision), _share(r.recall), number(r.f1), number(r.auroc))
        for r in metrics.classes
    )
    head = ("class", "examples", "precision", "found (recall)", "F1", "AUROC")
    table = Table(head, rows, f"All {len(rows)} classes", folded=len(rows) > 25)
    worst = sorted((r for r in metrics.classes if r.support), key=lambda r: r.recall.value)[:3]
    said = (
        (f"Least often found: {', '.join(f'{r.label} ({percent(r.recall.value)})' for r in worst)}.",)
        if len(rows) > 3
        else ()
    )
    shares = metrics.confusion
    pairs = [(shares[i, j], i, j) for i, j in zip(*np.nonzero(shares), strict=True) if i != j]
    most = sorted(pairs, key=lambda pair: -pair[0])[:10]
    names = metrics.labels
    total = shares.sum(1)
    cells = tuple((names[i], names[j], f"{count:g}", percent(count / total[i])) for count, i, j in most)
    confusions = Table(("true", "taken for", "examples", "of the class"), cells, "The most frequent confusions")
    text = (f"{shares.trace():g} of {shares.sum():g} examples are on the diagonal.",)
    alt = "Confusion matrix: rows are true classes, columns predictions."
    return [
        Section("Class by class", said, tables=(table,)),
        illustrated("Which classes are confused", text, alt, plots.confusion, (shares, names), confusions),
    ]


def _share(figure: Figure) -> str:
    if figure.value != figure.value:
        return "–"
    return f"{percent(figure.value)} [{100 * figure.low:.0f}, {100 * figure.high:.0f}]"


def reliability_section(probabilities: np.ndarray, targets: np.ndarray) -> Section:
    """Returns the reliability diagram."""
    bins = reliability(probabilities, targets)
    rows = tuple(
        (str(b.examples), percent(b.confidence), percent(b.accuracy), f"{percent(b.low)} to {percent(b.high)}")
        for b in bins
    )
    table = Table(("examples", "confidence", "right", "calibrated chance"), rows, "The diagram's numbers")
    said = (
        "Of predictions made with a confidence of 80%, 80% should be right. The bars show what chance alone would "
        "do to a model that is perfectly calibrated.",
    )
    alt = "Reliability diagram: share of right predictions against confidence, with the band of calibrated chance."
    return illustrated("Whether probabilities can be believed", said, alt, plots.reliability, (bins,), table)


def mistakes_section(
    probabilities: np.ndarray, targets: np.ndarray, source: Source | None, labels: Sequence[str]
) -> Section:
    """Returns the wrong predictions that the model is surest of, with the examples themselves."""
    keys = source.keys if source is not None else [f"example {i}" for i in range(len(targets))]
    found = most_confident_mistakes(probabilities, targets, keys, _MISTAKES)
    if not found:
        return Section("The surest mistakes", ("There is no mistake.",))
    shown = []
    for mistake in found:
        said = f"{labels[mistake.predicted]} ({percent(mistake.probability)}), but labelled {labels[mistake.target]}"
        picture, text = ("", "") if source is None else _shown(source, mistake.row)
        shown.append(Shown(mistake.key, said, picture, text))
    look = "Some may be wrong labels: look at them before anything else."
    return Section("The surest mistakes", (look,), examples=tuple(shown))


def _shown(source: Source, row: int) -> tuple[str, str]:
    """Returns an example as a small picture or as the beginning of its text, empty where it is neither."""
    raw: Any = source.raw[row]
    if source.modality == "text" and isinstance(raw, (str, tuple)):
        text = raw if isinstance(raw, str) else " / ".join(map(str, raw))
        return "", text if len(text) <= 240 else text[:239] + "…"
    if source.modality != "image":
        return "", ""
    try:
        values = decode(raw)
    except DataError:  # the file has gone since it was measured
        return "", ""
    picture = pillow.fromarray(values if values.shape[2] == 3 else values[..., 0])
    if max(picture.size) < _THUMBNAIL:
        factor = max(1, _THUMBNAIL // max(picture.size))
        picture = picture.resize((picture.width * factor, picture.height * factor), pillow.Resampling.NEAREST)
    picture.thumbnail((2 * _THUMBNAIL, 2 * _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=82)
    return data_uri("image/jpeg", file.getvalue()), ""


def sets_section(probabilities: np.ndarray, targets: np.ndarray, conformal: Conformal) -> Section:
    """Returns how large the prediction sets are, and how often they hold the truth here."""
    held = prediction_sets(probabilities, conformal)
    size = held.sum(1)
    covered = held[np.arange(len(targets)), np.asarray(targets, np.int64)]
    said = (
        f"The model's sets promise to hold the truth in at least {1 - conformal.alpha:.0%} of cases (split-conformal, "
        f"{conformal.examples} held-out examples). Here {percent(float(covered.mean()))} do, with {size.mean():.2f} "
        "classes in a set on average.",
    )
    rows = []
    for low, high in ((1, 1), (2, 2), (3, 5), (6, 10), (11, len(held[0]))):
        there = (size >= low) & (size <= high)
        if there.any():
            name = str(low) if low == high else f"{low} to {high}"
            rows.append((name, str(int(there.sum())), percent(float(covered[there].mean()))))
    return Section(
        "Prediction sets", said, tables=(Table(("classes in the set", "examples", "hold the truth"), tuple(rows)),)
    )
