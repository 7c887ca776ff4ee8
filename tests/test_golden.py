"""The net: jobs give the bits that they gave when they were recorded, and what was saved then loads and goes on."""

import json
import os
import shutil
from pathlib import Path

import pytest
import tiny
from golden import facts, jobs

import flaxtl

HERE = Path(__file__).resolve().parent / "golden"
EXPECTED = json.loads((HERE / "facts.json").read_text(encoding="utf-8"))
SAVED = sorted((HERE / "saved").glob("*.zip"))
# Each kind of job once by default; the others run with the slow tests.
QUICK = (
    "finetune/head",
    "finetune/full_validated",
    "finetune/lpft",
    "finetune/cut",
    "finetune/lora",
    "probe",
    "convert",
)


def check(found, expected):
    """Compares with what this machine gave to the bit, or with what another gave up to rounding."""
    here = facts.machine()
    wanted = expected.get(here) or next(iter(expected.values()))
    assert facts.compare(json.loads(json.dumps(found)), wanted, exact=here in expected) == []


@pytest.mark.parametrize(
    "name",
    [
        name if name.removeprefix("finetune/") in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in jobs.JOBS
    ],
)
def test_a_job_gives_what_it_gave_when_it_was_recorded(name):
    check(jobs.JOBS[name](), {machine: found[name] for machine, found in EXPECTED.items()})


@pytest.fixture(scope="module", params=SAVED, ids=lambda file: file.stem)
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    shutil.unpack_archive(request.param, folder)
    return folder


def facts_of(saved, name):
    recorded = json.loads((saved / "facts.json").read_text(encoding="utf-8"))
    return {machine: found[name] for machine, found in recorded.items()}


def test_a_saved_model_loads_and_says_what_it_said(saved):
    model = flaxtl.load(os.fspath(saved / "model"))
    check(facts.facts_of_model(model, tiny.source(4, seed=9)), facts_of(saved, "model"))


@pytest.mark.parametrize("name", jobs.RESUMED)
def test_an_interrupted_run_goes_on_to_the_bits_that_it_had_come_to(saved, name, tmp_path):
    run = shutil.copytree(saved / name, tmp_path / "run")
    model = jobs.run(name, run, resume=True).model
    check(facts.facts_of_model(model, tiny.source(4, seed=9)), facts_of(saved, name))


def test_a_changed_bit_is_found_and_rounding_on_another_machine_is_not():
    one, other = {"leaves": {"x": facts.fact([1.0, 2.0])}}, {"leaves": {"x": facts.fact([1.0, 2.0 + 1e-9])}}
    assert facts.compare(one, other, exact=True) != []
    assert facts.compare(one, other, exact=False) == []
    assert facts.compare({"leaves": {"x": facts.fact([1.0, 2.5])}}, one, exact=False) != []
    assert facts.compare({"leaves": {}}, one, exact=False) != []
