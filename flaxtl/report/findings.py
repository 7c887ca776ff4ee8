"""The sections that show what a run found out: its choices, curves and losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flaxtl.report import plots
from flaxtl.report.parts import Section, Table, illustrated, number, percent

Found = Mapping[str, Any]


def what_was_done(result: Mapping[str, Any]) -> Section:
    """Says in sentences what the run did, and why."""
    said = []
    for found in result.get("evidence", ()):
        sentence = _SENTENCES.get(found.get("kind", ""), lambda _: "")(found)
        if sentence:
            said.append(sentence)
    return Section("What was done, and why", tuple(said) or ("The run has left no evidence of its choices.",))


def _solved(found: Found) -> str:
    settled = "" if found.get("converged", True) else " The solver did not reach its tolerance."
    heat = found.get("temperature", 1.0)
    heated = f" Logits are divided by {heat:.2f}, so that probabilities mean what they say." if heat != 1.0 else ""
    named = f" As for what the classes are called: {found['class_names']}." if "class_names" in found else ""
    return f"A new head was solved on {found['features']} frozen features: {found['summary']}.{named}{settled}{heated}"


def _trained(found: Found) -> str:
    said = f"Parameters were trained for {found['steps']} steps"
    if "best" not in found:
        return said + "."
    figure = number(found["best"], form=".4f")
    return f"{said}; step {found['best_step']} was best ({found['monitor']} {figure} on validation data) and was kept."


def _chosen(found: Found) -> str:
    corrected = found.get("corrected")
    said = str(found.get("why", ""))
    if corrected:
        low, high = percent(corrected["low"]), percent(corrected["high"])
        said += (
            f" The winner of several looks better than it is: without that optimism its accuracy is "
            f"{percent(corrected['accuracy'])} [{low}, {high}] ({corrected['method']})."
        )
    if found.get("budget_seconds"):
        said += (
            f" The search took {found.get('seconds', 0.0):.0f} of the {found['budget_seconds']:.0f} seconds allowed."
        )
    return said.strip()


def _mixed(found: Found) -> str:
    return f"The fine-tuned parameters were averaged with the pretrained (WiSE-FT): {percent(found['share'])} of them."


def _soup(found: Found) -> str:
    return f"The parameters of {len(found['chosen'])} of {found['runs']} fine-tuning runs were averaged (model soup)."


_SENTENCES = {
    "solve": _solved,
    "train": _trained,
    "auto": _chosen,
    "probe": lambda found: str(found.get("why", "")),
    "wise": _mixed,
    "soup": _soup,
}


def evidence_sections(evidence: Sequence[Found]) -> list[Section]:
    """Returns a section for everything in the evidence that can be shown as a table or curve."""
    sections: list[Section] = []
    for found in evidence:
        if found.get("kind") == "auto":
            sections += _search(found)
        elif found.get("kind") == "probe" and found.get("depths"):
            sections.append(_depths(found))
        elif found.get("kind") == "solve":
            sections += _strengths(found.get("cross_validation") or {})
    return sections


def _search(found: Found) -> list[Section]:
    sections = []
    rows = list(found.get("candidates") or ())
    if rows:
        table = _candidates(rows, found.get("chosen_label"))
        title = "The candidates"
        alt = "Cross-validated accuracy of each candidate with its standard error; the table below has the numbers."
        said = ["Mean ± standard error over held-out examples."]
        if any(row.get("share", 1.0) < 1.0 for row in rows):
            said.append(
                "A percentage is the part of the way from the solved head to the trained model at which their "
                "parameters were averaged (WiSE-FT)."
            )
        if sum(row.get("accuracy") is not None for row in rows) > 1:
            section = illustrated(title, said, alt, plots.candidates, (rows, found.get("chosen_label")), table)
            sections.append(Section(title, tuple(said), section.plots, (table,)))
        else:
            sections.append(Section(title, tuple(said), tables=(table,)))
    curve = found.get("learning_curve")
    if curve and curve.get("examples"):
        sections.append(_learning_curve(curve))
    return sections


def _candidates(rows: Sequence[Found], chosen: Any) -> Table:
    head = ("candidate", "accuracy", "loss", "seconds", "memory", "")
    cells = []
    for row in rows:
        said = "chosen" if row["label"] == chosen else "" if row.get("tried", True) else "not tried"
        note = "; ".join(part for part in (said, row.get("note") or "") if part)
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


def _learning_curve(curve: Found) -> Section:
    rows = [
        (f"{n}", percent(a, e))
        for n, a, e in zip(curve["examples"], curve["accuracy"], curve["accuracy_se"], strict=True)
    ]
    said, foretold = [], curve.get("foretold")
    if foretold:
        low, high = percent(foretold["low"]), percent(foretold["high"])
        said.append(
            f"With {foretold['examples']} labelled examples an accuracy of {percent(foretold['accuracy'])} "
            f"[{low}, {high}] is to be expected."
        )
        rows.append((f"{foretold['examples']} (foretold)", f"{percent(foretold['accuracy'])} [{low}, {high}]"))
    table = Table(("labelled examples", "accuracy"), tuple(rows), "The learning curve's numbers")
    alt = "Accuracy by number of labelled examples, with standard errors and the foretold accuracy of more."
    return illustrated("What more labels would bring", said, alt, plots.learning_curve, (curve,), table)


def _depths(found: Found) -> Section:
    rows = tuple(
        (
            str(r["segment"]),
            str(r.get("features", "–")),
            percent(r["accuracy"], r["accuracy_se"]),
            number(r.get("loss")),
        )
        for r in found["depths"]
    )
    table = Table(("features after", "features", "accuracy", "loss"), rows, "The numbers by depth")
    said = (
        "A head solved on the features after each part of the network: where accuracy stops rising, the "
        "pretrained layers above no longer help with these classes.",
    )
    alt = "Accuracy of a head solved at each depth of the network."
    arguments = (found["depths"], found.get("proposed"))
    return illustrated("Accuracy by depth", said, alt, plots.depths, arguments, table)


def _strengths(found: Found) -> list[Section]:
    rows = found.get("rows") or ()
    if not found.get("possible", False) or len({row["strength"] for row in rows}) < 2:
        return []  # a head of class means has no penalty
    cells = tuple(
        (
            r["scaling"],
            f"{r['strength']:.2g}" + (" (chosen)" if i == found["chosen"] else ""),
            number(r["loss"], r["loss_se"]),
            percent(r["accuracy"], r["accuracy_se"]),
        )
        for i, r in enumerate(rows)
    )
    table = Table(("scaling", "strength", "loss", "accuracy"), cells, "The path's numbers")
    lowest = min(range(len(rows)), key=lambda i: rows[i]["loss"])
    taken = "Of those within one standard error of the lowest, the strongest is taken."
    if found["chosen"] == lowest:
        taken = "The strength with the lowest loss is taken."
    said = (f"Held-out loss for each strength of the head's penalty. {taken}",)
    alt = "Cross-validated loss against the strength of the penalty, and the chosen strength."
    return [illustrated("The head's penalty", said, alt, plots.strengths, (found,), table)]


def training_section(lines: Sequence[Found]) -> list[Section]:
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
    kept = rows[::-1][::every][::-1]
    cells = tuple(
        (
            str(r["phase"]),
            str(r["step"]),
            number(r.get("loss")),
            number(r.get("validation_loss")),
            percent(r.get("validation_accuracy")),
        )
        for r in kept
    )
    table = Table(
        ("phase", "step", "training loss", "validation loss", "validation accuracy"), cells, "Some of the numbers"
    )
    alt = "Training and validation loss by step."
    return [illustrated("Loss while training", (), alt, plots.training, (steps,), table)]
