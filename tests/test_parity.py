"""Every family says what its reference implementation says: logits and intermediates, without torch.

With FLAXTL_PARITY_TABLE=docs/parity.md the errors found are written as a table:

    FLAXTL_PARITY_TABLE=docs/parity.md .venv-parity/bin/pytest tests/test_parity.py -m 'parity or not parity'
"""

import json
import os
from pathlib import Path

import numpy as np
import parity
import pytest
from parity import ours

from flaxtl import paths
from flaxtl.convert import mapping

CASES = {case.name: case for case in parity.cases()}
TINY = [name for name, case in CASES.items() if not case.full]
DOCS = Path(__file__).parent.parent / "docs" / "parity.md"


@pytest.fixture(scope="module")
def found():
    """What the tests of this module find, by case: {'family': …, 'recorded': error, 'live': error}."""
    table = {name: {} for name in CASES}
    yield table
    if place := os.environ.get("FLAXTL_PARITY_TABLE"):
        Path(place).write_text(as_page(table), encoding="utf-8")


def as_page(table):
    def shown(value):
        return "" if value is None else f"{value:.1e}"

    lines = [
        "# Parity with the reference implementations",
        "",
        "Written by `tests/test_parity.py` (its head says how). An error is the largest difference over the largest",
        "value, of logits, features and intermediate outputs, in float32; 1e-5 is allowed. *Recorded* cases are small",
        "random networks whose outputs were recorded once, so that they are compared without torch; *live* ones run",
        "beside timm or transformers, full-size networks among them.",
        "",
        "| family | source | case | recorded | live |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(table, key=lambda n: (table[n].get("family", ""), n)):
        row, source = table[name], source_of(CASES[name])
        lines.append(
            f"| {row.get('family', '')} | {source} | {name} | {shown(row.get('recorded'))} | {shown(row.get('live'))} |"
        )
    return "\n".join(lines) + "\n"


def source_of(case):
    known = ("timm", "transformers", "torchvision")
    return next((word for word in known if word in case.build), "torch")


def fixture(name):
    with np.load(parity.FIXTURES / f"{name}.npz") as file:
        about = json.loads(str(file["about"]))
        return about["tensors"], about["config"], {k: file[k] for k in file.files if k != "about"}


@pytest.mark.parametrize("name", TINY)
def test_a_converted_network_says_what_the_reference_says_and_goes_back_to_the_bit(name, found):
    tensors, config, wanted = fixture(name)
    conversion = ours.planned(tensors, config)
    model = conversion.read()
    errors = ours.compare(CASES[name], model, wanted)
    found[name] |= {"family": conversion.family.name, "recorded": max(errors.values())}
    assert max(errors.values()) <= CASES[name].tolerance, errors
    back = mapping.invert(conversion.steps, model.variables)
    mapped = [s for s in conversion.steps if s.target is not None]
    assert sorted(back) == sorted(n for s in mapped for n in s.sources)
    leaves = dict(paths.leaves(model.variables))
    for step in mapped:
        # What cannot come back to the bit must at least become the same leaf again, to the bit.
        assert np.array_equal(step.operation.forward([back[n] for n in step.sources]), leaves[step.target]), step
        if step.operation.exact:
            assert all(np.array_equal(back[n], conversion.weights[n].read()) for n in step.sources), step


def test_every_tiny_case_has_its_fixture_and_every_fixture_its_case():
    recorded = {f.stem for f in parity.FIXTURES.glob("*.npz")}
    assert recorded == set(TINY)


def test_the_page_of_parity_lists_every_case():
    page = DOCS.read_text(encoding="utf-8")
    assert [name for name in CASES if f"| {name} |" not in page] == []


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
def test_live_against_the_reference(name, found):
    from parity import reference

    theirs = reference.run(CASES[name])
    conversion = ours.planned(theirs["tensors"], theirs["config"])
    errors = ours.compare(CASES[name], conversion.read(), theirs["outputs"])
    found[name] |= {"family": conversion.family.name, "live": max(errors.values())}
    assert max(errors.values()) <= CASES[name].tolerance, errors
