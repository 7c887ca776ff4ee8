"""The page of figures: ours minus scikit-learn's, paired over draws, by regime and by set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unequal.draws import Regime
from unequal.heads import BALANCED, DEFAULT, OURS, SEARCHED, WEIGHTED

Line = Mapping[str, Any]
# Figure, its name in tables, and what it is multiplied by; of the log-loss less is better.
FIGURES = (("accuracy", "accuracy", 100.0), ("balanced_accuracy", "balanced", 100.0), ("log_loss", "log-loss", 1.0))
_COMMAND = "python scripts/benchmark_unequal.py"


def page(lines: Sequence[Line]) -> str:
    """Returns the page in Markdown."""
    draws: dict[tuple[Any, ...], dict[str, Line]] = defaultdict(dict)
    for line in lines:
        draws[line["set"], line["kind"], tuple(line["counts"]), line["draw"]][line["method"]] = line
    after = f"{OURS} (after)"
    cells = [found for found in draws.values() if after in found and SEARCHED in found]
    regimes, sets = _grouped(draws, lambda key: (key[1], key[2])), _grouped(draws, lambda key: key[:3])
    parts = [
        _HEAD.format(command=_COMMAND, draws=len(cells), searched=SEARCHED, default=DEFAULT),
        "## By regime\n\n" + _differences(regimes, after, (SEARCHED, DEFAULT), _regime),
        "## Before\n\n" + _BEFORE + _differences(regimes, f"{OURS} (before)", (SEARCHED,), _regime),
        "## Classes that are never predicted\n\n" + _unpredicted(draws),
        "## Each class the same\n\n"
        + _EQUAL.format(balanced=BALANCED, weighted=WEIGHTED)
        + _differences(_unequal(regimes), f"{BALANCED} (after)", (WEIGHTED,), _regime, balanced=True),
        "## By set\n\n" + _differences(sets, after, (SEARCHED,), lambda key: f"{key[0]}, {_regime(key[1:])}"),
    ]
    return "\n\n".join(parts) + "\n"


_HEAD = """# Few and unequal examples: our head beside scikit-learn's

```
{command}
PYTHONPATH=CHECKOUT_OF_6f4d09b {command} --label before --ours-only
```

{draws} draws of frozen features of the sets in `small_data.md` (MobileNetV2, MiniLM, YAMNet, a keyword transformer),
each measured on examples that no method saw. Differences are ours minus scikit-learn's, paired over draws, mean ±
standard error over draws: points of accuracy where each class counts by its share of the training examples, points of
balanced accuracy, and log-loss with those shares (less is better). `{searched}`: features of unit length, 13 values
of C, five stratified folds (fewer where a class is smaller), chosen by log-loss; C = 1 where a class has one example.
`{default}`: all defaults, features as they are. **below** marks a difference on the wrong side by more
than its standard error; under equality one of six figures would be.

The rules were chosen while draws of these sets were looked at (about 320, by other seeds)."""
_BEFORE = f"""The one-standard-error rule, and no weights of classes; `{SEARCHED}` as above.

"""
_EQUAL = """`{balanced}` minus `{weighted}` (defaults else), where classes are unequal: balanced accuracy, and log-loss
with equal shares.

"""


def _grouped(
    draws: Mapping[tuple[Any, ...], dict[str, Line]], key_of: Callable[[tuple[Any, ...]], tuple[Any, ...]]
) -> dict[tuple[Any, ...], list[dict[str, Line]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Line]]] = defaultdict(list)
    for key, found in draws.items():
        groups[key_of(key)].append(found)
    kinds = ("even", "few", "tail", "natural")
    return dict(sorted(groups.items(), key=lambda entry: (*entry[0][:-2], kinds.index(entry[0][-2]), entry[0][-1])))


def _unequal(regimes: Mapping[tuple[Any, ...], list[dict[str, Line]]]) -> dict[tuple[Any, ...], list[dict[str, Line]]]:
    return {key: found for key, found in regimes.items() if key[0] != "even"}


def _regime(key: tuple[Any, ...]) -> str:
    return Regime(key[0], tuple(key[1])).name


def _differences(
    groups: Mapping[tuple[Any, ...], list[dict[str, Line]]],
    ours: str,
    peers: Iterable[str],
    name_of: Callable[[tuple[Any, ...]], str],
    balanced: bool = False,
) -> str:
    figures = FIGURES
    if balanced:
        figures = (FIGURES[1], ("balanced_log_loss", "log-loss", 1.0))
    peers = list(peers)
    head = ["regime", "draws", *(f"{shown} - {peer}" for peer in peers for _, shown, _ in figures)]
    rows = []
    for key, draws in groups.items():
        paired = [found for found in draws if ours in found and all(peer in found for peer in peers)]
        if not paired:
            continue
        cells = [_difference(paired, ours, peer, *figure) for peer in peers for figure in figures]
        rows.append([name_of(key), str(len(paired)), *cells])
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _difference(draws: Sequence[dict[str, Line]], ours: str, peer: str, figure: str, shown: str, unit: float) -> str:
    gaps = unit * np.array([found[ours][figure] - found[peer][figure] for found in draws])
    digits = 1 if unit > 1 else 3
    if len(gaps) < 2:
        return f"{gaps[0]:+.{digits}f}"
    mean, error = gaps.mean(), gaps.std(ddof=1) / np.sqrt(len(gaps))
    wrong = mean > error if shown == "log-loss" else mean < -error
    return f"{mean:+.{digits}f} ± {error:.{digits}f}" + (" **below**" if wrong else "")


def _unpredicted(draws: Mapping[tuple[Any, ...], dict[str, Line]]) -> str:
    """Returns how many draws of unequal classes end in a head that predicts one class only, or not all."""
    methods = sorted({method for found in draws.values() for method in found})
    rows = [["method", "draws", "one class only", "not all classes"], ["---"] * 4]
    for method in methods:
        said = [f[method] for key, f in draws.items() if key[1] != "even" and method in f]
        one = sum(line["predicted"] == 1 for line in said)
        some = sum(line["predicted"] < line["classes"] for line in said)
        rows.append([method, str(len(said)), str(one), str(some)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
