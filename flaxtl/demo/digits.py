"""The main job on real digits: fifty labelled pictures, option 1, option 2, and what both are measured against."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl import data
from flaxtl.config import DemoConfig
from flaxtl.convert import load
from flaxtl.data import Source
from flaxtl.model import Model
from flaxtl.predictions import Predictions
from flaxtl.strategies.jobs import finetune

METHODS = {
    "head": "option 1: a new head on the pretrained network",
    "full": "option 2: everything, from the pretrained weights",
    "scratch": "the same network from scratch",
    "pixels": "logistic regression on raw pixels",
}
BACKBONE = "flaxtl:characters"


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """What the demonstration measured.

    Attributes:
        accuracies: by method, one share of right answers a draw.
        examples: labelled pictures a draw.
        held_out: pictures that each draw was measured on.
        seconds: wall time.
        directory: where the best model was saved.
        pictures: ten held-out pictures, uint8 [10, 8, 8].
        truth: their classes.
        shown: what the saved model says of them.
    """

    accuracies: dict[str, list[float]]
    examples: int
    held_out: int
    seconds: float
    directory: Path
    pictures: np.ndarray
    truth: list[str]
    shown: Predictions

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as plain data for JSON."""
        return {
            "results": [
                {
                    "method": method,
                    "mean": round(float(np.mean(values)), 5),
                    "std": round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 5),
                    "n_draws": len(values),
                    "draws": [round(float(v), 5) for v in values],
                }
                for method, values in self.accuracies.items()
            ],
            "examples": self.examples,
            "held_out": self.held_out,
            "seconds": round(self.seconds, 1),
            "model": str(self.directory / "model"),
        }

    def summary(self) -> str:
        """Returns the table, the saved model's place, and ten pictures with what it says of them."""
        figures = self.to_dict()
        draws = figures["results"][0]["n_draws"]
        lines = [f"{self.examples} labelled digits, accuracy on the other {self.held_out}, mean ± sd of {draws} draws:"]
        lines += [
            f"  {100 * r['mean']:5.1f} ± {100 * r['std']:3.1f} %  {METHODS[r['method']]}" for r in figures["results"]
        ]
        lines += [f"({self.seconds:.0f} s)  The best model is saved in {figures['model']}. It sees:", ""]
        lines += _drawn(self.pictures)
        lines.append("".join(f"{said:^9}" for said in self.shown.classes) + "  predicted")
        lines.append("".join(f"{p:^9.0%}" for p in self.shown.probabilities.max(1)) + "  probability")
        lines.append("".join(f"{name:^9}" for name in self.truth) + "  truth")
        return "\n".join(lines)


def _drawn(pictures: np.ndarray) -> list[str]:
    """Draws pictures side by side, two rows of pixels a line, in shades of blocks."""
    shades = " ░▒▓█"
    levels = np.minimum(pictures.astype(int) * len(shades) // 256, len(shades) - 1)
    rows = levels[:, ::2] // 2 + (levels[:, 1::2] + 1) // 2
    return [
        "".join("".join(shades[v] for v in picture[line]) + " " for picture in rows) for line in range(rows.shape[1])
    ]


def run_demo(config: DemoConfig) -> DemoResult:
    """Draws labelled digits, trains and measures each method on each draw, and saves the best model."""
    began = time.perf_counter()
    base = load(BACKBONE)
    digits = data.digits()
    accuracies: dict[str, list[float]] = {method: [] for method in METHODS}
    best: tuple[float, Model, Source] | None = None
    for draw in range(config.draws):
        seed = config.seed + draw
        chosen, rest = data.few_shot(digits, config.examples_per_class, seed)
        train, test = digits.subset(chosen), digits.subset(rest)
        for method in METHODS:
            print(f"draw {draw + 1} of {config.draws}: {METHODS[method]}", file=sys.stderr)
            if method == "pixels":
                accuracies[method].append(_pixels(train, test))
                continue
            result = finetune(base, train, test=test, strategy=method, seed=seed)
            assert result.metrics is not None
            accuracy = result.metrics.accuracy.value
            accuracies[method].append(accuracy)
            if method != "scratch" and (best is None or accuracy > best[0]):
                best = (accuracy, result.model, test)
    assert best is not None
    _, model, test = best
    directory = Path(config.out)
    model.save(directory / "model", overwrite=True)
    ten = test.subset(np.random.default_rng(config.seed).choice(len(test), min(10, len(test)), replace=False))
    return DemoResult(
        accuracies,
        len(train),
        len(test),
        time.perf_counter() - began,
        directory,
        np.stack([np.asarray(ten[i].raw).reshape(8, 8) for i in range(len(ten))]),
        [ten.labels[t] for t in ten.targets],
        model.predict(ten),
    )


def _pixels(train: Source, test: Source) -> float:
    """Returns the accuracy of scikit-learn's logistic regression on pixels, its strength by cross-validation."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold

    def flat(source: Source) -> np.ndarray:
        return np.stack([np.asarray(source[i].raw, np.float64).ravel() / 255.0 for i in range(len(source))])

    smallest = int(np.bincount(train.targets).min())
    if smallest < 2:
        from sklearn.linear_model import LogisticRegression

        chosen: Any = LogisticRegression(max_iter=2000)
    else:
        folds = StratifiedKFold(min(5, smallest), shuffle=True, random_state=0)
        chosen = LogisticRegressionCV(
            Cs=np.logspace(-2, 3, 11),
            cv=folds,
            max_iter=2000,
            scoring="neg_log_loss",
            l1_ratios=(0.0,),
            use_legacy_attributes=False,
        )
    chosen.fit(flat(train), train.targets)
    return float(np.mean(chosen.predict(flat(test)) == test.targets))
