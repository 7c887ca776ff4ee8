"""The plot of `flaxtl lr-find`: the loss over the learning rate."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from flaxtl.errors import ConfigError
from flaxtl.strategies.rate_finder import RateFinding


def plotted(found: RateFinding, out: str) -> Path:
    """Draws the losses and what is suggested into a PNG file.

    Args:
        found: what the test gave.
        out: the file; ".png" is added where it is missing.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--out draws a plot, which needs matplotlib: pip install matplotlib. Or leave --out out.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(found.rates, found.losses, color="0.8", linewidth=1.0, label="loss of the batch")
    axes.plot(found.rates, found.smoothed, linewidth=2.0, label="averaged")
    if found.suggestion is not None:
        axes.axvline(found.suggestion, color="0.2", linestyle="--", label=f"suggested: {found.suggestion:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    low, high = min(found.losses), max(found.smoothed)
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low) + 1e-9)
    axes.legend(frameon=False)
    path = Path(out).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
