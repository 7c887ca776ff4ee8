"""The plots of a report, one function each, usable alone: `save(confusion(table, names), 'confusion.png')`.

Matplotlib is imported where a plot is drawn, and only its object interface is used, so that no global state is
touched and no window can open.
"""

from __future__ import annotations

import importlib.util
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.errors import ConfigError
from flaxtl.metrics import ReliabilityBin

INK, MUTED, GRID = "#1f2933", "#66717e", "#d5dae0"
# What these become on a dark page.
ON_DARK = {INK: "#e6e9ee", MUTED: "#a3acb8", GRID: "#3a424d"}
COLOURS = ("#2f6fde", "#d9730d", "#2a9d63", "#8a5cd1")
_LONGEST_NAME = 22
_SIZE = 10  # of text, in points; plots are narrow, so that it is still legible on a phone
_NORMALISATION = {"unit": "unit length", "root": "square roots", "standard": "standardised", "none": "as they are"}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def available() -> bool:
    """Says whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def save(figure: Any, path: str | Path) -> None:
    """Writes a plot as a PNG file on white."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.patch.set(facecolor="white", alpha=1.0)
    figure.savefig(path, format="png", dpi=150)
    figure.patch.set_alpha(0.0)


def svg(figure: Any) -> str:
    """Returns a plot as SVG with a transparent ground; the same plot gives the same text."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    text = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "flaxtl", "font.family": "sans-serif"}),
        warnings.catch_warnings(),
    ):
        # The letters are the reader's browser's; that Matplotlib's own font lacks some does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def on_dark(drawn: str) -> str:
    """Returns an SVG of `svg` in the colours of a dark page."""
    for light, dark in ON_DARK.items():
        drawn = drawn.replace(light, dark)
    return drawn


def penalties(cross_validation: Mapping[str, Any], loss_name: str = "log-loss") -> Any:
    """Draws the cross-validated loss against the l2 penalty, a line for each feature normalisation, and the choice."""
    figure, axes = _axes()
    rows = cross_validation["rows"]
    for colour, scaling in zip(COLOURS, dict.fromkeys(row["scaling"] for row in rows), strict=False):
        part = sorted((row for row in rows if row["scaling"] == scaling), key=lambda row: row["strength"])
        x, loss, error = (np.array([row[k] for row in part], float) for k in ("strength", "loss", "loss_se"))
        name = _NORMALISATION.get(scaling, scaling)
        axes.plot(x, loss, color=colour, marker="o", markersize=3, linewidth=1.5, label=name)
        axes.fill_between(x, loss - error, loss + error, color=colour, alpha=0.15, linewidth=0)
    chosen = rows[cross_validation["chosen"]]
    axes.plot(chosen["strength"], chosen["loss"], "o", mfc="none", mec=INK, mew=1.5, markersize=11, label="chosen")
    axes.set_xscale("log")
    _powers(axes.xaxis)
    losses = np.array([row["loss"] for row in rows])
    if losses.min() > 0 and losses.max() > 10 * losses.min():
        axes.set_yscale("log")
        _powers(axes.yaxis)
    _finish(axes, "l2 penalty", f"held-out {loss_name} (± s.e.)")
    return figure


def learning_curve(curve: Mapping[str, Any]) -> Any:
    """Draws the accuracy against the number of examples, and its extrapolation."""
    figure, axes = _axes()
    n, accuracy = np.array(curve["examples"], float), 100 * np.array(curve["accuracy"], float)
    error = 100 * np.array(curve["accuracy_se"], float)
    axes.errorbar(n, accuracy, error, color=COLOURS[0], marker="o", capsize=3, label="measured (± s.e.)")
    places, further = list(n), curve.get("foretold")
    if further:
        end, value = further["examples"], 100 * further["accuracy"]
        reach = [[value - 100 * further["low"]], [100 * further["high"] - value]]
        axes.plot([n[-1], end], [accuracy[-1], value], color=COLOURS[1], linestyle=":")
        axes.errorbar([end], [value], reach, color=COLOURS[1], marker="D", capsize=3, label="extrapolated")
        places.append(end)
    axes.set_xscale("log")
    _ticks(axes, places)
    _finish(axes, "labelled examples", "accuracy, %")
    return figure


def _powers(axis: Any) -> None:
    """Labels a logarithmic axis at powers of ten in plain text, which needs no typesetting of formulas."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda at, _: f"10{str(round(math.log10(at))).translate(_RAISED)}"))


def _ticks(axes: Any, places: Sequence[float]) -> None:
    """Labels a logarithmic axis at the values themselves, but for those too near to one before."""
    from matplotlib.ticker import FixedLocator, NullLocator

    kept: list[float] = []
    reach = math.log(max(places) / min(places)) if len(places) > 1 else 1.0
    for place in sorted(set(places), reverse=True):
        if not kept or math.log(kept[-1] / place) > 0.09 * reach:
            kept.append(place)
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(kept, [f"{place:,.0f}" for place in kept])


def depths(rows: Sequence[Mapping[str, Any]], proposed: str | None = None) -> Any:
    """Draws the accuracy of a head fitted at each depth of the network, and the proposed cut point."""
    figure, axes = _axes(height=3.4)
    names = [_short(str(row["segment"])) for row in rows]
    accuracy = 100 * np.array([row["accuracy"] for row in rows], float)
    error = 100 * np.array([row["accuracy_se"] for row in rows], float)
    x = np.arange(len(rows))
    axes.errorbar(x, accuracy, error, color=COLOURS[0], marker="o", capsize=3)
    for place, row in enumerate(rows):
        if row["segment"] == proposed:
            axes.axvline(place, color=COLOURS[1], linestyle="--", label="proposed cut point")
    crowded = len(rows) > 4
    axes.set_xticks(x, names, rotation=45 if crowded else 0, ha="right" if crowded else "center")
    _finish(axes, "features after", "accuracy, %")
    return figure


def candidates(rows: Sequence[Mapping[str, Any]], chosen: str | None = None) -> Any:
    """Draws each tried candidate's accuracy with its standard error; the chosen one stands out."""
    rows = [row for row in rows if row.get("accuracy") is not None][::-1]
    figure, axes = _axes(height=1.0 + 0.32 * max(2, len(rows)))
    for place, row in enumerate(rows):
        colour = COLOURS[1] if row["label"] == chosen else COLOURS[0]
        error = 100 * (row.get("accuracy_se") or 0.0)
        axes.errorbar(100 * row["accuracy"], place, xerr=error, color=colour, marker="o", capsize=3)
    names = [_short(row["label"]) + (" (chosen)" if row["label"] == chosen else "") for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    _finish(axes, "cross-validated accuracy, % (± s.e.)", "")
    return figure


def training(lines: Sequence[Mapping[str, Any]]) -> Any:
    """Draws training and validation loss by step, phase after phase, from the lines of metrics.jsonl."""
    figure, axes = _axes()
    start, labelled = 0.0, set()
    for phase in dict.fromkeys(line["phase"] for line in lines if "step" in line):
        part = [line for line in lines if line["phase"] == phase and "step" in line]
        for colour, key, name in zip(COLOURS, ("loss", "validation_loss"), ("training", "validation"), strict=False):
            points = [(start + line["step"], line[key]) for line in part if key in line]
            if points:
                many = len(points) > 40
                label = None if name in labelled else name
                axes.plot(*zip(*points, strict=True), color=colour, marker=None if many else ".", label=label)
                labelled.add(name)
        if start:
            axes.axvline(start, color=GRID, linewidth=1)
        start += max(line["step"] for line in part)
    _finish(axes, "step", "loss")
    return figure


def confusion(table: np.ndarray, labels: Sequence[str]) -> Any:
    """Draws how often each class (row) was predicted as each (column), as shares of the row.

    Args:
        table: float [c, c], by (target, prediction).
        labels: c class names; beyond 40 classes only some are written.
    """
    from matplotlib.colors import to_rgb

    table, c = np.asarray(table, float), len(labels)
    total = table.sum(1, keepdims=True)
    share = np.divide(table, total, out=np.zeros_like(table), where=total > 0)
    figure, axes = _axes(*_confusion_size(labels))
    shade = np.zeros((c, c, 4))
    shade[..., :3] = to_rgb(COLOURS[1])
    shade[np.arange(c), np.arange(c), :3] = to_rgb(COLOURS[0])
    shade[..., 3] = np.where(share > 0, 0.08 + 0.92 * share, 0.0)
    axes.imshow(shade, interpolation="nearest", aspect="equal")
    every = max(1, math.ceil(c / 40))
    size = 9 if c <= 12 else 7 if c <= 25 else 8
    names = [_short(name) for name in labels][::every]
    axes.set_xticks(range(0, c, every), names, rotation=90 if _upright(labels) else 0, fontsize=size)
    axes.set_yticks(range(0, c, every), names, fontsize=size)
    if c <= 20:
        for i, j in zip(*np.nonzero(table), strict=True):
            colour = "#ffffff" if share[i, j] > 0.55 else INK
            axes.text(j, i, f"{table[i, j]:g}"[:5], ha="center", va="center", color=colour, fontsize=size)
    _finish(axes, "predicted", "true", grid=False)
    return figure


def _confusion_size(labels: Sequence[str]) -> tuple[float, float]:
    """Cells that hold a number where there are few classes; room for the longest name on both sides."""
    c, names = len(labels), 0.075 * max(len(_short(name)) for name in labels)
    side = 0.6 * c if c <= 5 else min(6.4, 0.38 * c) if c <= 25 else 7.6
    side = max(1.6, side)
    return side + names + 0.7, side + (names if _upright(labels) else 0.3) + 0.7


def _upright(labels: Sequence[str]) -> bool:
    """Whether names below the columns would run into each other."""
    longest = max(map(len, labels))
    return longest > 8 or len(labels) > 25 or (len(labels) > 3 and longest > 3)


def reliability(bins: Sequence[ReliabilityBin]) -> Any:
    """Draws the accuracy against the confidence, with the band that calibrated predictions would lie in by chance."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.4, 4.6), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    for one in (axes, below):
        _style(one)
    sure, right = np.array([b.confidence for b in bins]), np.array([b.accuracy for b in bins])
    low, high = np.array([b.low for b in bins]), np.array([b.high for b in bins])
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", label="perfectly calibrated")
    axes.vlines(sure, low, high, color=COLOURS[0], alpha=0.3, linewidth=7, label="95% band if calibrated")
    inside = (low - 1e-9 <= right) & (right <= high + 1e-9)
    axes.plot(sure[inside], right[inside], "o", color=COLOURS[0], label="model, inside the band")
    if not inside.all():
        axes.plot(sure[~inside], right[~inside], "o", color=COLOURS[1], label="model, outside the band")
    start = max(0.0, math.floor(10 * min(1.0, sure.min(), right.min(), low.min()) - 0.01) / 10)
    axes.set(xlim=(start, 1.02), ylim=(start, 1.02))
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=_SIZE - 1, labelcolor=INK)
    below.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    below.bar(sure, [b.examples for b in bins], width=0.012 * (1.02 - start) / 0.5, color=COLOURS[0])
    _finish(axes, "", "accuracy", legend=False)
    _finish(below, "confidence (probability of the prediction)", "examples")
    return figure


def predicted_numbers(predicted: np.ndarray, targets: np.ndarray, name: str) -> Any:
    """Draws predicted numbers against the true ones.

    Args:
        predicted: float [n].
        targets: float [n].
        name: what the number is called.
    """
    figure, axes = _axes(4.4, 4.0)
    low, high = (float(of([of(predicted), of(targets)])) for of in (np.min, np.max))
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle="--", label="right")
    size = 5 if len(targets) <= 300 else 2
    axes.plot(targets, predicted, "o", color=COLOURS[0], alpha=0.6, markersize=size, mew=0, label="an example")
    _finish(axes, f"true {_short(name)}", f"predicted {_short(name)}")
    return figure


def _axes(width: float = 4.8, height: float = 3.2) -> tuple[Any, Any]:
    if not available():
        raise ConfigError("Plots need matplotlib, which is not installed. Install it with: pip install flaxtl[report]")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _style(axes)
    return figure, axes


def _style(axes: Any) -> None:
    axes.patch.set_alpha(0.0)
    axes.figure.patch.set_alpha(0.0)
    axes.tick_params(colors=INK, labelsize=_SIZE)
    for spine in axes.spines.values():
        spine.set_color(MUTED)
    axes.spines[["top", "right"]].set_visible(False)


def _finish(axes: Any, x: str, y: str, *, grid: bool = True, legend: bool = True) -> None:
    axes.set_xlabel(x, color=INK, fontsize=_SIZE)
    axes.set_ylabel(y, color=INK, fontsize=_SIZE)
    if grid:
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=_SIZE - 0.5, labelcolor=INK)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
