"""The sections that show how a run was trained: its choices, and the curves behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flaxtl.report import plots
from flaxtl.report.elements import Section, Table, illustrated, number, percent
from flaxtl.report.sentences import LOSS, NORMALISED, SCORE, best_step, cross_validated, score

Record = Mapping[str, Any]


def training_summary(result: Mapping[str, Any]) -> Section:
    """Says in sentences what the run did, and why."""
    task = str(result.get("task", "classification"))
    sentences = []
    for record in result.get("evidence", ()):
        sentence = _SENTENCES.get(record.get("kind", ""), lambda _, __: "")(record, task)
        if sentence:
            sentences.append(sentence)
    return Section("How it was trained", tuple(sentences) or ("The run has no record of its choices.",))


def _solved(record: Record, task: str) -> str:
    unsettled = "" if record.get("converged", True) else " The solver did not reach its tolerance."
    heat = record.get("temperature", 1.0)
    heated = "" if heat == 1.0 else f" Logits are divided by a temperature of {heat:.2f} to calibrate probabilities."
    named = f" Class names as examples: {record['class_names']}." if "class_names" in record else ""
    return (
        f"A linear head was fitted on {record['features']} frozen features: {cross_validated(record, task)}."
        f"{named}{unsettled}{heated}"
    )


def _trained(record: Record, task: str) -> str:
    if "best" not in record:
        return f"Parameters were trained for {record['steps']} steps; the last step was kept."
    return f"Parameters were trained for {record['steps']} steps: {best_step(record, task)} and was kept."


def _searched(record: Record, task: str) -> str:
    sentence = f"auto chose {record.get('chosen_label', record.get('chosen'))}: {record.get('why') or NO_REASON}"
    corrected = record.get("corrected")
    if corrected:
        low, high = percent(corrected["low"]), percent(corrected["high"])
        sentence += (
            f" The best of several candidates looks better than it is; without that optimism its accuracy is "
            f"{percent(corrected['accuracy'])} [{low}, {high}] ({corrected['method']})."
        )
    if record.get("budget_seconds"):
        sentence += (
            f" The search took {record.get('seconds', 0.0):.0f} of the {record['budget_seconds']:.0f} seconds allowed."
        )
    return sentence.strip()


NO_REASON = "the run has no record of the reason."


def _interpolated(record: Record, task: str) -> str:
    return (
        f"WiSE-FT: the parameters are interpolated between those before training and those after it, with alpha "
        f"{record['share']:g} (1 is fully fine-tuned)."
    )


def _soup(record: Record, task: str) -> str:
    return f"Model soup: the parameters of {len(record['chosen'])} of {record['runs']} fine-tuning runs were averaged."


_SENTENCES = {
    "solve": _solved,
    "train": _trained,
    "auto": _searched,
    "probe": lambda record, _: str(record.get("why", "")),
    "wise": _interpolated,
    "soup": _soup,
}


def choice_sections(result: Mapping[str, Any]) -> list[Section]:
    """Returns a section for each recorded choice that can be shown as a table or a curve."""
    task = str(result.get("task", "classification"))
    sections: list[Section] = []
    for record in result.get("evidence", ()):
        if record.get("kind") == "auto":
            sections += _search(record)
        elif record.get("kind") == "probe" and record.get("depths"):
            sections.append(_depths(record))
        elif record.get("kind") == "solve":
            sections += _penalties(record.get("cross_validation") or {}, task)
    return sections


def _search(record: Record) -> list[Section]:
    sections = []
    rows = list(record.get("candidates") or ())
    if rows:
        table = _candidates(rows, record.get("chosen_label"))
        title = "Candidates of the search"
        alt = "Cross-validated accuracy of each candidate with its standard error; the table below has the numbers."
        notes = ["Mean ± standard error over held-out examples."]
        if any(row.get("share", 1.0) < 1.0 for row in rows):
            notes.append(
                "alpha is WiSE-FT's interpolation coefficient: 0 is the model before training (with its solved head), "
                "1 fully fine-tuned."
            )
        if sum(row.get("accuracy") is not None for row in rows) > 1:
            arguments = (rows, record.get("chosen_label"))
            sections.append(illustrated(title, notes, alt, plots.candidates, arguments, table, folded=False))
        else:
            sections.append(Section(title, tuple(notes), tables=(table,)))
    curve = record.get("learning_curve")
    if curve and curve.get("examples"):
        sections.append(_learning_curve(curve))
    return sections


def _candidates(rows: Sequence[Record], chosen: Any) -> Table:
    head = ("candidate", "accuracy", "log-loss", "seconds", "memory", "note")
    cells = []
    for row in rows:
        state = "chosen" if row["label"] == chosen else "" if row.get("tried", True) else "not tried"
        note = "; ".join(part for part in (state, row.get("note") or "") if part)
        memory = row.get("memory_mb")
        cells.append(
            (
                str(row["label"]),
                percent(row.get("accuracy"), row.get("accuracy_se")),
                number(row.get("loss"), row.get("loss_se")),
                number(row.get("seconds"), form=".1f"),
                "–" if memory is None else f"{memory:.0f} MB",
                note,
            )
        )
    return Table(head, tuple(cells))


def _learning_curve(curve: Record) -> Section:
    rows = [
        (f"{n}", percent(a, e))
        for n, a, e in zip(curve["examples"], curve["accuracy"], curve["accuracy_se"], strict=True)
    ]
    sentences, further = [], curve.get("foretold")
    if further:
        low, high = percent(further["low"]), percent(further["high"])
        sentences.append(
            f"The head alone, fitted on subsets of the training examples: extrapolated to {further['examples']} "
            f"labelled examples its accuracy is {percent(further['accuracy'])} [{low}, {high}]."
        )
        rows.append((f"{further['examples']} (extrapolated)", f"{percent(further['accuracy'])} [{low}, {high}]"))
    table = Table(("labelled examples", "accuracy"), tuple(rows), "The learning curve's numbers")
    alt = "Accuracy by number of labelled examples, with standard errors and the extrapolated accuracy of more."
    return illustrated("Learning curve", sentences, alt, plots.learning_curve, (curve,), table)


def _depths(record: Record) -> Section:
    rows = tuple(
        (
            str(r["segment"]),
            str(r.get("features", "–")),
            percent(r["accuracy"], r["accuracy_se"]),
            number(r.get("loss")),
        )
        for r in record["depths"]
    )
    table = Table(("features after", "features", "accuracy", "log-loss"), rows, "The numbers by depth")
    sentences = (
        "A linear head fitted on the features of each block: where accuracy stops rising, the pretrained layers "
        "above no longer help with these classes.",
    )
    alt = "Accuracy of a head fitted at each depth of the network."
    arguments = (record["depths"], record.get("proposed"))
    return illustrated("Accuracy by depth", sentences, alt, plots.depths, arguments, table)


def _penalties(validation: Record, task: str) -> list[Section]:
    rows = validation.get("rows") or ()
    if not validation.get("possible", False) or len({row["strength"] for row in rows}) < 2:
        return []  # a head of class means has no penalty
    cells = tuple(
        (
            NORMALISED.get(r["scaling"], r["scaling"]),
            f"{r['strength']:.2g}" + (" (chosen)" if i == validation["chosen"] else ""),
            number(r["loss"], r["loss_se"]),
            score(r["accuracy"], r["accuracy_se"], task),
        )
        for i, r in enumerate(rows)
    )
    table = Table(("features", "l2 penalty", LOSS[task], SCORE[task]), cells, "The numbers by l2 penalty")
    lowest = min(range(len(rows)), key=lambda i: rows[i]["loss"])
    rule = "The most probable one is chosen, by held-out losses together with a prior around usual penalties."
    if validation["chosen"] == lowest:
        rule = "The penalty with the lowest loss is chosen."
    alt = "Cross-validated loss against the l2 penalty, and the chosen one."
    title = "The head's l2 penalty"
    sentences = (f"Held-out {LOSS[task]} for each l2 penalty. {rule}",)
    return [illustrated(title, sentences, alt, plots.penalties, (validation, LOSS[task]), table)]


def training_section(lines: Sequence[Record], task: str = "classification") -> list[Section]:
    """Returns the section of losses while training, from the lines of metrics.jsonl."""
    steps = [line for line in lines if line.get("kind") == "train" and "step" in line and "phase" in line]
    if len([line for line in steps if math.isfinite(line.get("loss", math.nan))]) < 2:
        return []
    merged: dict[tuple[int, int], dict[str, Any]] = {}
    for line in steps:
        merged.setdefault((line["phase"], line["step"]), {}).update(line)
    validated = any("validation_loss" in row for row in merged.values())
    rows = [row for row in merged.values() if not validated or "validation_loss" in row]
    every = max(1, math.ceil(len(rows) / 12))
    some = rows[::-1][::every][::-1]
    cells = tuple(
        (
            str(r["phase"]),
            str(r["step"]),
            number(r.get("loss")),
            number(r.get("validation_loss")),
            score(r.get("validation_accuracy", r.get("validation_r2")), None, task),
        )
        for r in some
    )
    table = Table(
        ("phase", "step", "training loss", "validation loss", f"validation {SCORE[task]}"), cells, "Some of the numbers"
    )
    alt = "Training and validation loss by step."
    return [illustrated("Loss while training", (), alt, plots.training, (steps,), table)]
