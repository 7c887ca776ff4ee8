"""Writing a run's page: report.html, one file with everything in it, to be read without a network or JavaScript."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.card import FILE_NAME as CARD
from flaxtl.card import Card
from flaxtl.data import Source
from flaxtl.metrics import Metrics
from flaxtl.report import findings, plots, quality
from flaxtl.report.parts import Section, percent
from flaxtl.train.rundir import CONFIG, METRICS, MODEL

FILE_NAME = "report.html"
TEMPLATE = "page.html"
_EXAMPLE = {"image": "new.jpg", "audio": "new.wav", "text": "new.txt"}


def write(
    path: str | Path,
    result: Mapping[str, Any],
    *,
    metrics: Metrics | None = None,
    probabilities: np.ndarray | None = None,
    targets: np.ndarray | None = None,
    source: Source | None = None,
    metrics_log: str | Path | None = None,
    measured_on: str = "the test data",
) -> Path:
    """Writes report.html into a run directory.

    Settings, card and the log of training are taken from the directory; whatever is absent is left out.

    Args:
        path: the run directory.
        result: as `Result.to_dict` returns it.
        metrics: how good the model is.
        probabilities: float [n, c] of the examples it was measured on, calibrated.
        targets: int [n], theirs.
        source: the examples themselves, for their names and thumbnails.
        metrics_log: the lines of training; by default the directory's metrics.jsonl.
        measured_on: what the examples are called in the text.

    Returns:
        The file.
    """
    from jinja2 import Environment, StrictUndefined

    run = Path(path)
    card = Card.read(run / MODEL) if (run / MODEL / CARD).exists() else None
    log = Path(metrics_log) if metrics_log is not None else run / METRICS
    sections = [findings.what_was_done(result)]
    if metrics is not None:
        sections.append(quality.figures_section(metrics, measured_on))
    sections += findings.evidence_sections(result.get("evidence", ()))
    sections += findings.training_section(_lines(log))
    if metrics is not None:
        sections += quality.classes_sections(metrics)
        if probabilities is not None and targets is not None:
            sections += _of_predictions(np.asarray(probabilities), np.asarray(targets), source, metrics, card)
    sections += _of_directory(run, card)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = resources.files("flaxtl.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        title=f"{result['strategy']} on {result['examples']} examples",
        headline=_headline(metrics, result, measured_on),
        facts=_facts(result, card),
        notes=_notes(result),
        sections=[s for s in sections if s.said or s.plots or s.tables or s.examples or s.code],
    )
    file = run / FILE_NAME
    file.write_text(page, encoding="utf-8", errors="backslashreplace")
    return file


def _of_predictions(
    probabilities: np.ndarray, targets: np.ndarray, source: Source | None, metrics: Metrics, card: Card | None
) -> list[Section]:
    conformal = card.head.conformal if card is not None else None
    sections = [quality.reliability_section(probabilities, targets)]
    if conformal is not None:
        sections.append(quality.sets_section(probabilities, targets, conformal))
    return [*sections, quality.mistakes_section(probabilities, targets, source, metrics.labels)]


def _headline(metrics: Metrics | None, result: Mapping[str, Any], measured_on: str) -> tuple[str, str]:
    """Returns the page's largest number and what it is."""
    if metrics is not None:
        a = metrics.accuracy
        return percent(a.value), f"accuracy on {measured_on} [{percent(a.low)}, {percent(a.high)}]"
    for found in reversed(result.get("evidence", ())):
        corrected = found.get("corrected")
        if corrected:
            interval = f"[{percent(corrected['low'])}, {percent(corrected['high'])}]"
            return percent(corrected["accuracy"]), f"cross-validated accuracy, optimism removed {interval}"
        validated = found.get("cross_validation") or {}
        if validated.get("possible") and validated.get("rows"):
            row = validated["rows"][validated["chosen"]]
            return percent(
                row["accuracy"]
            ), f"cross-validated accuracy, standard error {100 * row['accuracy_se']:.1f} points"
    return "", "Nothing was held out, so how good the model is has not been measured."


def _facts(result: Mapping[str, Any], card: Card | None) -> list[tuple[str, str]]:
    facts = [
        ("strategy", str(result["strategy"])),
        ("labelled examples", str(result["examples"])),
        ("classes", str(len(result.get("classes", ())))),
        ("training time", f"{result['seconds']:.1f} s"),
    ]
    if card is not None:
        variant = card.network.config.get("variant")
        facts.append(("network", card.network.family + (f" ({variant})" if variant else "")))
    return facts


def _notes(result: Mapping[str, Any]) -> list[str]:
    absent = (
        []
        if plots.available()
        else [
            "Plots are left out because matplotlib is not installed; the tables have the same numbers. "
            "Install it with: pip install flaxtl[report]"
        ]
    )
    return [*map(str, result.get("notes", ())), *absent]


def _of_directory(run: Path, card: Card | None) -> list[Section]:
    """Returns how the model is used, its card, and the settings that reproduce the run."""
    sections = []
    if card is not None:
        model = shlex.quote(str(run / MODEL))
        example = _EXAMPLE.get(card.input.modality)
        command = f"flaxtl predict {model} {example}\n" if example else ""
        python = f"import flaxtl\n\nmodel = flaxtl.load({str(run / MODEL)!r})\nmodel.predict(...)"
        sections.append(Section("How to use it", code=f"{command}\n{python}".strip()))
        text = json.dumps(card.to_dict(), indent=2, ensure_ascii=False)
        sections.append(Section("The model's card", code=text, folded=True))
    settings = run / CONFIG
    if settings.exists():
        sections.append(Section("The settings", code=settings.read_text(encoding="utf-8"), folded=True))
    return sections


def _lines(log: Path) -> list[dict[str, Any]]:
    """Returns the whole lines of a log; the last may have been cut off by a kill."""
    found: list[dict[str, Any]] = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
