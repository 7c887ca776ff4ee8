"""Option 1's time beside scikit-learn and PyTorch: files → evaluated, saved head; and the path × folds solve alone.

    python scripts/benchmark_head.py --out docs/benchmarks/head.md     # needs the [parity] extra and torchvision
    python scripts/benchmark_head.py --parts solve --repeats 3

Runs are interleaved (A B A B) and what counts is the median of the ratios within pairs. Both sides start from pictures
on disk and a network in memory that has run once, so that ours is compiled and torch's is warm; first runs are given
apart. `--pictures` holds class folders (600 pictures by default); of each class, two thirds are trained on.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import sklearn
import torch
from scipy.special import logsumexp
from sklearn.model_selection import StratifiedKFold
from small_data.manifests import Manifest
from small_data.measuring import figures
from small_data.peers_sklearn import fitted
from small_data.torch_data import Pictures
from small_data.torch_networks import network
from small_data.torch_recipes import embedded, tutorial
from threadpoolctl import threadpool_limits

import flaxtl
from flaxtl.data import Source, few_shot, from_folder
from flaxtl.probe import fit_path

Run = Callable[[], Any]
# The tolerance at which scikit-learn's solutions are as near the optimum as ours; its default stops far from it.
EQUAL = 1e-8


def seconds(run: Run) -> float:
    """Returns the wall time of a call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def interleaved(ours: Run, theirs: Run, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the times of both, measured in turns."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])


def row(name: str, ours: np.ndarray, theirs: np.ndarray, asked: str) -> str:
    """Returns a line of the table; a ratio above 1 says how much faster ours is."""
    low, middle, high = np.quantile(theirs / ours, [0.25, 0.5, 0.75])
    text = (
        f"| {name} | {np.median(ours):.2f} | {np.median(theirs):.2f} | {middle:.2f} | {low:.2f}–{high:.2f} | {asked} |"
    )
    print(text, flush=True)
    return text


class Heads:
    """The same pictures and weights on both sides."""

    def __init__(self, pictures: Path, weights: Path, folder: Path):
        found = from_folder(pictures)
        self.whole = found if isinstance(found, Source) else found.train
        per_class = 2 * int(np.bincount(self.whole.targets).min()) // 3
        self.chosen, self.rest = few_shot(self.whole, per_class, seed=0)
        self.model, self.weights, self.folder = flaxtl.load(str(weights)), weights, folder
        self.net = network(weights, len(self.whole.labels))
        targets = [int(t) for t in self.whole.targets]
        items = [str(path.resolve()) for path in self.whole.raw]
        self.inputs = Pictures(Manifest("", "image", "/", items, targets, list(self.whole.labels), {}))

    def _part(self, indices: np.ndarray) -> Source:
        return self.whole.subset(indices)

    def ours(self, cache: str) -> flaxtl.Result:
        """Files → evaluated head, saved with its network."""
        out = str(self.folder / "ours")
        train, test = self._part(self.chosen), self._part(self.rest)
        return flaxtl.finetune(self.model, train, test=test, strategy="head", cache=cache, out=out, overwrite=True)

    def sklearn(self) -> dict[str, float]:
        """torch's features (unit length, 32 at a time), LogisticRegressionCV on one BLAS thread, the same end."""
        parts = [embedded(self.net.body, self.inputs, part, 32) for part in (self.chosen, self.rest)]
        train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in parts)
        with threadpool_limits(1, "blas"):
            head = fitted(train.astype(np.float64), self.whole.targets[self.chosen], seed=0)
        found = figures(head.predict_proba(test), self.whole.targets[self.rest])
        linear = self.net.head[1]
        linear.weight.data, linear.bias.data = (
            torch.from_numpy(a.astype(np.float32)) for a in (head.coef_, head.intercept_)
        )
        torch.save(self.net.state_dict(), self.folder / "theirs.pth")
        return found

    def tutorial(self, epochs: int) -> None:
        """The tutorial's fixed feature extractor, evaluated once at the end (the tutorial does each epoch), saved."""
        net = network(self.weights, len(self.whole.labels))
        settings = {"frozen": True, "epochs": epochs, "batch_size": 4, "learning_rate": 0.001}
        targets = self.whole.targets[self.chosen]
        tutorial(net, self.inputs, self.chosen, targets, settings, np.random.default_rng(0))
        embedded(net, self.inputs, self.rest, 32)
        torch.save(net.state_dict(), self.folder / "tutorial.pth")


def head_rows(options: argparse.Namespace, folder: Path) -> list[str]:
    """Measures head training end to end."""
    heads = Heads(options.pictures, options.weights, folder)
    first = seconds(lambda: heads.ours("off"))
    result = heads.ours("off")
    assert result.metrics is not None
    print(f"accuracy: ours {result.metrics.accuracy.value:.3f}, scikit-learn {heads.sklearn()['accuracy']:.3f}")
    plain, peer = interleaved(lambda: heads.ours("off"), heads.sklearn, options.repeats)
    what = f"{len(heads.whole)} pictures, no cache"
    rows = [row(f"{what}, against torch features + LogisticRegressionCV", plain, peer, "≥ 1")]
    epochs = options.epochs
    trained = np.array([seconds(lambda: heads.tutorial(epochs)) for _ in range(options.tutorial_repeats)])
    rows.append(row(f"{what}, against torch's head alone, {epochs} epochs", np.median(plain)[None], trained, "≥ 10"))
    cache = str(folder / "cache")
    heads.ours(cache)
    cached = np.array([seconds(lambda: heads.ours(cache)) for _ in range(options.repeats)])
    rows.append(row(f"features cached, against the same {epochs} epochs", np.median(cached)[None], trained, "≥ 100"))
    return [*rows, "", f"Ours the first time in a process, compilation included: {first:.2f} s."]


def solve_rows(options: argparse.Namespace) -> list[str]:
    """Measures the path × folds solve on drawn features of unit length."""
    n, d, classes, strengths, parts = options.solve
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, d)) + rng.normal(size=(classes, d))[y] * 0.3
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    grid = np.logspace(-2, 4, strengths)  # scikit-learn's C
    weights = np.ones((parts + 1, n), np.float32)
    for fold, (_, test) in enumerate(StratifiedKFold(parts, shuffle=True, random_state=0).split(x, y)):
        weights[fold, test] = 0.0  # the same folds as in `fitted`
    penalties = 1.0 / (np.sort(grid) * n * (parts - 1) / parts)
    single = x.astype(np.float32)

    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = fit_path(single, y, classes, penalties, weights)
        assert found["ours"].converged.all()

    def theirs(tolerance: float) -> None:
        found["theirs"] = fitted(x, y, seed=0, strengths=grid, tolerance=tolerance)

    first, name = seconds(ours), f"solve, n {n}, d {d}, {classes} classes, {strengths} strengths, {parts} folds"
    rows, gaps = [], {}
    for threads, tolerance, asked in ((1, 1e-4, "≥ 5"), (2, 1e-4, ""), (1, EQUAL, "≥ 5")):
        with threadpool_limits(threads, "blas"):
            pair = interleaved(ours, lambda t=tolerance: theirs(t), options.repeats if tolerance > EQUAL else 1)
        rows.append(row(f"{name}; scikit-learn on {threads} BLAS, tol {tolerance:g}", *pair, asked))
        gaps[tolerance] = furthest(x, y, found["ours"], found["theirs"], penalties, weights)
    notes = [f"The solve the first time in a process, compilation included: {first:.2f} s."]
    notes += [f"scikit-learn at tol {tol:g}: {gap}." for tol, gap in gaps.items()]
    notes.append(
        "At its default tolerance scikit-learn leaves the weak end of the path near where it began, so those rows "
        f"compare unequal work; at tol {EQUAL:g} both are as near the optimum as single precision tells."
    )
    return [*rows, "", " ".join(notes)]


def furthest(x: np.ndarray, y: np.ndarray, ours: Any, theirs: Any, strengths: np.ndarray, weights: np.ndarray) -> str:
    """Says how far the objectives of scikit-learn's solutions lie above ours, in parts of ours."""
    gaps = []
    for fold in range(len(weights) - 1):
        w = weights[fold] / weights[fold].sum()
        for place, strength in enumerate(strengths):
            kernel = theirs.coefs_paths_[fold, 0, place]
            logits = x @ kernel[:, :-1].T + kernel[:, -1]
            losses = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
            objective = w @ losses + 0.5 * strength * np.square(kernel[:, :-1]).sum()
            gaps.append(objective / ours.objective[place, fold] - 1.0)
    middle, most, least = np.median(gaps), max(gaps), min(gaps)
    spread = f"{least:.1e} to {most:.1e}"
    return f"over folds and strengths its objective lies {middle:.1e} of ours above ours (median; {spread})"


def main() -> None:
    """Measures the parts and prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=["head", "solve"], default=["head", "solve"])
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/flowers/images"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2_imagenet"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=25, help="of the tutorial")
    parser.add_argument("--tutorial-repeats", type=int, default=1)
    parser.add_argument(
        "--solve", type=int, nargs=5, default=[5000, 1280, 10, 20, 5], metavar=("N", "D", "C", "S", "F")
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of PyTorch")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = [
        "# The head's time beside scikit-learn and PyTorch",
        "",
        f"`python scripts/benchmark_head.py --repeats {options.repeats}`: JAX {jax.__version__}, torch "
        f"{torch.__version__}, scikit-learn {sklearn.__version__}, {os.cpu_count()} cores ({platform.machine()}). "
        f"Times are medians in seconds; the "
        "ratio is theirs / ours, the median of interleaved pairs with its quartiles: above 1 ours is faster.",
        "",
        "| what | ours | theirs | ratio | quartiles | asked |",
        "|---|---|---|---|---|---|",
    ]
    notes = []
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            found = head_rows(options, Path(folder)) if part == "head" else solve_rows(options)
            lines, notes = [*lines, *found[:-2]], [*notes, found[-1]]
    print("\n".join(notes))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join([*lines, "", *notes]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
