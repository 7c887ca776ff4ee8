"""Writing a run's page: report.html, one file with everything in it, to be read without a network or JavaScript."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from flaxtl.card import FILE_NAME as CARD
from flaxtl.card import Card
from flaxtl.metrics import OutputMetrics
from flaxtl.report import accuracies, plots, run_sections
from flaxtl.report.class_sections import class_sections
from flaxtl.report.elements import Section
from flaxtl.report.held_out import NAMES, HeldOut
from flaxtl.report.output_sections import output_sections
from flaxtl.train.rundir import CONFIG, METRICS, MODEL

FILE_NAME = "report.html"
TEMPLATE = "page.html"
_OPTION = re.compile(r"(?<!\S)--[a-z][a-z0-9-]*")
_OUTPUTS = {"multilabel": "labels", "regression": "outputs"}
_EXAMPLE = {"image": "new.jpg", "audio": "new.wav", "text": "new.txt"}


def write(
    path: str | Path,
    result: Mapping[str, Any],
    held_out: Iterable[HeldOut] = (),
    *,
    metrics_log: str | Path | None = None,
) -> Path:
    """Writes report.html into a run directory.

    The page is made of predictions on test data where there are any, else of out-of-fold predictions, else of those on
    validation data; it says of which. Settings, card and the log of training are taken from the directory; whatever is
    absent is left out.

    Args:
        path: the run directory.
        result: as `Result.to_dict` returns it.
        held_out: predictions on examples that the predicting model did not see, at most one of each kind.
        metrics_log: the lines of training; by default the directory's metrics.jsonl.

    Returns:
        The file.
    """
    from jinja2 import Environment, StrictUndefined

    run = Path(path)
    card = Card.read(run / MODEL) if (run / MODEL / CARD).exists() else None
    log = Path(metrics_log) if metrics_log is not None else run / METRICS
    by_kind = {one.kind: one for one in held_out}
    first = accuracies.shown_first(by_kind)
    front = accuracies.front(result, first)
    sections = [Section("Other figures of this run", tuple(accuracies.others(result, by_kind)))]
    if first is not None:
        sections += _of_predictions(first, card)
    sections.append(run_sections.training_summary(result))
    sections += run_sections.choice_sections(result)
    sections += run_sections.training_section(_lines(log), str(result.get("task", "classification")))
    sections += _of_directory(run, card)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"unbroken": _unbroken, "breakable": _breakable}
    template = resources.files("flaxtl.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        title=f"{result['strategy']} on {result['examples']} examples",
        front=(front.value, front.name.replace("{} ", "", 1).removesuffix("."), front.baseline, front.caveat),
        facts=_facts(result, card),
        notes=_notes(result),
        sections=[section for section in sections if not section.empty],
    )
    file = run / FILE_NAME
    file.write_text(page, encoding="utf-8", errors="backslashreplace")
    return file


def _unbroken(sentence: str) -> Any:
    """Returns a sentence as HTML with settings in backticks, and options such as --class-weight, as unbroken code."""
    from markupsafe import Markup, escape

    marked = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(sentence)))
    return Markup(_OPTION.sub(r"<code>\g<0></code>", marked))


def _breakable(name: str) -> Any:
    """Returns a name as HTML that is broken behind underscores and slashes before it is broken elsewhere."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"[_/]", r"\g<0><wbr>", str(escape(name))))


def _of_predictions(held_out: HeldOut, card: Card | None) -> list[Section]:
    """Returns the sections about predictions, each marked with where these come from."""
    found = held_out.metrics
    if isinstance(found, OutputMetrics):
        sections = output_sections(held_out, found)
    else:
        sections = class_sections(held_out, found, None if card is None else card.head.conformal)
    return [dataclasses.replace(section, mark=NAMES[held_out.kind]) for section in sections]


def _facts(result: Mapping[str, Any], card: Card | None) -> list[tuple[str, str]]:
    facts = [
        ("strategy", str(result["strategy"])),
        ("labelled examples", str(result["examples"])),
        (_OUTPUTS.get(str(result.get("task")), "classes"), str(len(result.get("classes", ())))),
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
    lines: list[dict[str, Any]] = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines
