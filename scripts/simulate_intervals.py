"""How often the 95 % intervals of `flaxtl.metrics.evaluate` hold the truth, by simulation.

Test sets are drawn again and again from populations whose true figures are known; the share of draws whose interval
holds the true figure should be 95 %. Prints a Markdown table:

    python scripts/simulate_intervals.py --draws 2000
"""

from __future__ import annotations

import argparse
import multiprocessing
from typing import NamedTuple

import numpy as np
from scipy.stats import binom

from flaxtl import metrics

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "auroc", "ece")
POPULATION = 100_000


class Population(NamedTuple):
    """Examples of classes that are normally distributed, and a classifier of them.

    Attributes:
        name: what it is.
        shares: of the classes.
        distance: between classes, in standard deviations; what decides the accuracy.
        heat: what the logits of a perfectly calibrated classifier are multiplied by; more than 1 is overconfident.
    """

    name: str
    shares: tuple[float, ...]
    distance: float
    heat: float = 1.0

    def draw(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Returns logits [n, c] and targets [n] of the whole population."""
        rng, c = np.random.default_rng(seed), len(self.shares)
        targets = rng.choice(c, size=POPULATION, p=self.shares)
        seen = rng.normal(size=(POPULATION, c))
        seen[np.arange(POPULATION), targets] += self.distance
        return (seen * self.distance + np.log(self.shares)) * self.heat, targets


POPULATIONS = (
    Population("3 classes, hard", (1 / 3,) * 3, 1.2),
    Population("3 classes, easy", (1 / 3,) * 3, 2.5),
    Population("10 classes", (0.1,) * 10, 2.5),
    Population("3 classes, overconfident", (1 / 3,) * 3, 1.5, 2.5),
    Population("3 classes of 70, 20, 10 %", (0.7, 0.2, 0.1), 1.5, 1.3),
    Population("2 classes, nearly perfect, overconfident", (0.5, 0.5), 3.0, 4.0),
)


def coverage(population: Population, n: int, draws: int, resamples: int, seed: int = 1) -> dict[str, tuple[float, ...]]:
    """Returns for each figure its truth, the share of intervals that hold it, and the share that do not exist."""
    logits, targets = population.draw()
    labels = [str(k) for k in range(logits.shape[1])]
    truth = {k: f.value for k, f in metrics.evaluate(logits, targets, labels, resamples=1).figures.items()}
    rng = np.random.default_rng(seed)
    held, absent = dict.fromkeys(FIGURES, 0), dict.fromkeys(FIGURES, 0)
    for _ in range(draws):
        rows = rng.integers(POPULATION, size=n)
        found = metrics.evaluate(logits[rows], targets[rows], labels, resamples=resamples, kind="logits").figures
        for name in FIGURES:
            held[name] += found[name].low <= truth[name] <= found[name].high
            absent[name] += bool(np.isnan(found[name].low))
    return {name: (truth[name], held[name] / draws, absent[name] / draws) for name in FIGURES}


def exact_coverage_of_accuracy(n: int, truths: np.ndarray) -> np.ndarray:
    """Returns how often Wilson's interval holds each true accuracy, without simulation."""
    ends = np.array([[f.low, f.high] for f in (metrics.wilson(k, n) for k in range(n + 1))])
    inside = (ends[:, :1] <= truths) & (truths <= ends[:, 1:])
    return np.asarray((inside * binom.pmf(np.arange(n + 1)[:, None], n, truths)).sum(0))


def _row(case: tuple[Population, int, int, int]) -> str:
    population, n, draws, resamples = case
    found = coverage(population, n, draws, resamples)
    cells = []
    for truth, held, absent in found.values():
        missing = f" ({absent:.1%} none)" if absent else ""
        cells.append(f"{held:.1%}{missing} of {truth:.3f}")
    return f"| {population.name} | {n} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="simulated test sets a row")
    parser.add_argument("--resamples", type=int, default=400, help="of the bootstrap")
    parser.add_argument("--sizes", type=int, nargs="+", default=[40, 200, 1000], help="examples a test set")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()

    print("Accuracy, exactly, for true accuracies from 50 to 99 % in steps of 0.1 %:\n")
    print("| examples | mean | lowest | highest |\n|---|---|---|---|")
    for n in arguments.sizes:
        exact = exact_coverage_of_accuracy(n, np.arange(0.5, 0.9901, 0.001))
        print(f"| {n} | {exact.mean():.1%} | {exact.min():.1%} | {exact.max():.1%} |")
    print(f"\nAll figures, {arguments.draws} draws a row, {arguments.resamples} resamples:\n")
    names = [name.replace("_", " ") for name in FIGURES]
    print("| population | examples | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 2))
    cases = [(p, n, arguments.draws, arguments.resamples) for n in arguments.sizes for p in POPULATIONS]
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for row in pool.imap(_row, cases):
            print(row, flush=True)


if __name__ == "__main__":
    main()
