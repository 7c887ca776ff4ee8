"""Results as a page: every set and number of examples with all methods, and what auto gains and gives away."""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flaxtl.strategies.clock import seconds_of
from small_data.plans import METHODS, OURS
from small_data.sets import SETS

Line = Mapping[str, Any]
# draw → line, of one set, one number of shots and one method
Draws = dict[int, Line]

NAMES = {
    "head": "flaxtl head",
    "cut": "flaxtl cut",
    "lpft": "flaxtl lpft",
    "full": "flaxtl full",
    "auto": "**flaxtl auto**",
    "scratch": "flaxtl scratch (no pretraining)",
    "contrastive": "flaxtl contrastive",
    "sklearn": "scikit-learn LogisticRegressionCV on torch features",
    "tutorial_head": "torch, tutorial: fixed feature extractor",
    "tutorial_full": "torch, tutorial: fine-tuning",
    "fastai": "torch, fastai-style fine_tune",
    "transformers": "torch, transformers-style fine-tuning",
    "setfit": "torch, SetFit-style",
}


def page(lines: Iterable[Line], commands: Sequence[str]) -> str:
    """Returns the page of Markdown.

    Args:
        lines: finished jobs.
        commands: how they were run.
    """
    table = _arranged(lines)
    parts = [_HEADING, "```", *commands, "```", "", _READING, ""]
    if not table:
        return "\n".join([*parts, "No job has finished yet.", ""])
    parts += ["## auto", "", _OF_AUTO, ""]
    parts += [*_auto_table(table), ""]
    parts += ["## Calibration", "", *_calibration_table(table), ""]
    for name in (n for n in SETS if any(key[0] == n for key in table)):
        parts += [f"## {name}", ""]
        for key in sorted(k for k in table if k[0] == name):
            parts += [*_set_table(key, table[key]), ""]
    return "\n".join([*parts, *_provenance(lines_of(table))])


def lines_of(table: Mapping[Any, Mapping[str, Draws]]) -> list[Line]:
    """Returns all lines of a table."""
    return [line for methods in table.values() for draws in methods.values() for line in draws.values()]


_HEADING = "# Small data: flaxtl beside its peers, on the same draws\n"
_READING = """\
Accuracy in %, mean ± standard deviation over draws; log-loss and ECE are means. Seconds are the median wall time of
training; *cached* says that the frozen part's activations were at hand from another draw, as scikit-learn's features
always are (a + gives what they cost of the training examples alone). Memory is the median peak of the worker's process.
Methods that are not listed, or have fewer draws, are the dear ones: see `PLAN` in `scripts/small_data/plans.py`.
The settings of every job are in `small_data.jsonl`. Of esc10 and fsdd our cross-validation, but no peer's, keeps a
recording or a speaker together; of texts our heads, but no peer's, may learn from the classes' names.

Wall times hold what else the machine did: auto had it nearly to itself, but for texts, beside which a simulation of
low priority ran; the dear methods ran beside other work at times. The commit of each line is in `small_data.jsonl`.
Beyond the plan, `full` on sign_digits and `lpft` on fashion_mnist have more draws, since one or two said too little.
The head on all sets, and auto on flowers (50 a class: the first draws alone) and fsdd, were measured again when
strengths of the head came to be judged at their best calibration, at high priority beside other work; auto on the other
sets is of the rules before.
"""


def _arranged(lines: Iterable[Line]) -> dict[tuple[str, int], dict[str, Draws]]:
    table: dict[tuple[str, int], dict[str, Draws]] = collections.defaultdict(lambda: collections.defaultdict(dict))
    for line in lines:
        table[line["set"], line["shots"]][line["method"]][line["draw"]] = line
    return {key: dict(methods) for key, methods in table.items()}


def _set_table(key: tuple[str, int], methods: Mapping[str, Draws]) -> list[str]:
    rows = [
        f"**{key[1]} a class**",
        "",
        "| method | accuracy | log-loss | ECE | draws | seconds | memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in (m for m in METHODS if m in methods):
        draws = list(methods[method].values())
        values = [100 * line["accuracy"] for line in draws]
        loss, ece = (statistics.fmean(line[name] for line in draws) for name in ("log_loss", "ece"))
        rows.append(
            f"| {NAMES[method]} | {spread(values)} | {loss:.3f} | {ece:.3f} | {len(draws)} | {_seconds(draws)} | "
            f"{_memory(draws)} |"
        )
    return rows


def spread(values: Sequence[float]) -> str:
    """Returns mean ± standard deviation.

    Example:
        >>> spread([70.0, 72.0]), spread([70.0])
        ('71.0 ± 1.4', '70.0')
    """
    mean = f"{statistics.fmean(values):.1f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.1f}"


def _seconds(draws: Sequence[Line]) -> str:
    text = f"{statistics.median(line['seconds'] for line in draws):.1f}"
    features = [line["feature_seconds"] for line in draws if "feature_seconds" in line]
    if features:
        return f"{text} cached + {statistics.median(features):.1f}"
    return f"{text} cached" if draws[0]["method"] in ("head", "cut", "auto") else text


def _memory(draws: Sequence[Line]) -> str:
    peaks = [line["peak_mb"] for line in draws if line.get("peak_mb") is not None]
    return f"{statistics.median(peaks):,.0f}" if peaks else "unknown"


def paired(one: Draws, other: Draws) -> tuple[float, float, int]:
    """Returns the mean difference in points over the draws that both have, its standard error, and their number."""
    differences = [100 * (one[d]["accuracy"] - other[d]["accuracy"]) for d in sorted(set(one) & set(other))]
    if not differences:
        return math.nan, math.nan, 0
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    return statistics.fmean(differences), error, len(differences)


def regret(methods: Mapping[str, Draws]) -> tuple[str, float, float, int] | None:
    """Returns (the best fixed method, how far auto lies below it, standard error, draws) or None without both.

    The best is the one with the highest mean gain over auto, each on the draws that it shares with auto, on the test
    parts: hindsight that no user has.
    """
    fixed = [name for name in methods if name != "auto" and "auto" in methods]
    found = [(paired(methods[name], methods["auto"]), name) for name in fixed]
    found = [entry for entry in found if entry[0][2]]
    if not found:
        return None
    (difference, error, draws), name = max(found)
    return name, difference, error, draws


# How many of a set's first draws were looked at while auto's settings were chosen.
_LOOKED_AT = {
    "flowers": 10,
    "sign_digits": 4,
    "fashion_mnist": 1,
    "banking77_10": 4,
    "banking77": 4,
    "esc10_folds123": 10,
    "fsdd": 10,
}


def _fresh(name: str, draws: Draws) -> Draws:
    return {number: line for number, line in draws.items() if number >= _LOOKED_AT.get(name, 0)}


# Over which numbers of examples a class the regret is averaged.
_FEW = (5, 10, 20)
_OF_AUTO = (
    "Paired over the draws that both methods have, in points of accuracy, mean ± standard error. Regret: how much the "
    "best fixed method, ours or a peer's, known only from the test parts, would have given more. auto's and the head's "
    "settings were chosen while the first four draws of sign_digits and banking77, the first of fashion_mnist and all "
    "of flowers, esc10 and fsdd were looked at (with one example a class all draws of all sets); the others are fresh. "
    "Longest: the wall time of auto's slowest job, and what it is of the budget."
)


def _auto_table(table: Mapping[tuple[str, int], Mapping[str, Draws]]) -> list[str]:
    rows = [
        "| set | a class | flaxtl auto | - scikit-learn | on fresh draws | best fixed | regret | chosen | longest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    regrets: dict[bool, list[float]] = {True: [], False: []}
    first = len(rows)
    for (name, shots), methods in sorted(table.items(), key=lambda entry: (list(SETS).index(entry[0][0]), entry[0][1])):
        best = regret(methods)
        if best is None:
            continue
        auto, peer = methods["auto"], methods.get("sklearn", {})
        gain, fresh = paired(auto, peer), paired(_fresh(name, auto), peer)
        if shots in _FEW:
            regrets[SETS[name].modality == "image"].append(best[1])
        values = [100 * line["accuracy"] for line in auto.values()]
        rows.append(
            f"| {name} | {shots} | {spread(values)} | {_signed(*gain)} | {_signed(*fresh)} | "
            f"{NAMES[best[0]].strip('*')} | {_signed(*best[1:])} | {_chosen(auto)} | {_longest(auto)} |"
        )
    if len(rows) == first:
        return ["No job of auto has finished yet."]
    for pictures, values in regrets.items():
        if values:
            what = f"{'pictures' if pictures else 'texts and sounds'}, over {len(values)} cases"
            rows += ["", f"Mean regret with few labels of {what}: {statistics.fmean(values):+.2f} points."]
    return rows


def _calibration_table(table: Mapping[tuple[str, int], Mapping[str, Draws]]) -> list[str]:
    rows = [
        "Log-loss with the temperature that held-out predictions asked for and without any, on the test parts, paired "
        "over draws, and in how many draws the ECE lies within the band that 95 % of perfectly calibrated models with "
        "the same probabilities would show.",
        "",
        "| set | a class | method | log-loss | uncalibrated | difference | ECE in its band |",
        "|---|---|---|---|---|---|---|",
    ]
    first = len(rows)
    for (name, shots), methods in sorted(table.items(), key=lambda entry: (list(SETS).index(entry[0][0]), entry[0][1])):
        for method in ("head", "auto"):
            draws = [line for line in methods.get(method, {}).values() if "calibration" in line]
            if not draws:
                continue
            plain = [line["calibration"]["uncalibrated_log_loss"] for line in draws]
            gained = [line["log_loss"] - other for line, other in zip(draws, plain, strict=True)]
            error = statistics.stdev(gained) / math.sqrt(len(gained)) if len(gained) > 1 else math.nan
            bands = [line["calibration"]["ece_band"] for line in draws]
            loss = statistics.fmean(line["log_loss"] for line in draws)
            within = sum(low <= line["ece"] <= high for line, (low, high) in zip(draws, bands, strict=True))
            rows.append(
                f"| {name} | {shots} | {NAMES[method].strip('*')} | {loss:.3f} | "
                f"{statistics.fmean(plain):.3f} | {statistics.fmean(gained):+.3f} ± {error:.3f} | "
                f"{within} of {len(draws)} |"
            )
    return rows if len(rows) > first else ["No job that measures it has finished yet."]


def _signed(value: float, error: float, draws: int) -> str:
    if not draws:
        return "–"
    return f"{value:+.1f}" + ("" if math.isnan(error) else f" ± {error:.1f}") + f" ({draws})"


def _chosen(draws: Draws) -> str:
    names = [e.get("chosen", "?") for line in draws.values() for e in line.get("evidence", ()) if e["kind"] == "auto"]
    return ", ".join(f"{name} {count}" for name, count in collections.Counter(names).most_common()) or "–"


def _longest(draws: Draws) -> str:
    slowest = max(draws.values(), key=lambda line: line["seconds"])
    text = f"{slowest['seconds']:.0f} s"
    budget = slowest["settings"].get("budget")
    return text if budget is None else f"{text} ({slowest['seconds'] / seconds_of(budget):.0%} of {budget})"


def _provenance(lines: Sequence[Line]) -> list[str]:
    versions = sorted({f"{name} {version}" for line in lines for name, version in line["versions"].items()})
    commits = sorted({line["commit"] for line in lines})
    hours = sum(line["cpu_seconds"] for line in lines) / 3600
    ours = sum(line["method"] in OURS for line in lines)
    return [
        f"{len(lines)} jobs ({ours} of ours), {hours:.2f} CPU-hours; {', '.join(versions)}; "
        f"commits {', '.join(commits)}.",
        "",
    ]
