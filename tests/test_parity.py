"""Every family says what its reference implementation says: logits and intermediates, without torch.

With FLAXTL_PARITY_TABLE=docs/parity.md the errors found are written as a table:

    FLAXTL_PARITY_TABLE=docs/parity.md .venv-parity/bin/pytest -n 0 tests/test_parity.py -m 'parity or not parity'

Rows that are not run keep the figures that the page has of them.
"""

import functools
import json
import os
import re
from pathlib import Path

import numpy as np
import parity
import pytest
from parity import ours, page, preprocessing_audio, preprocessing_image, preprocessing_text, preprocessing_timm

from flaxtl import paths
from flaxtl.convert import mapping

CASES = {case.name: case for case in parity.cases()}
TINY = [name for name, case in CASES.items() if not case.full]
DOCS = Path(__file__).parent.parent / "docs" / "parity.md"


INPUTS = {
    "pixels": {case.name: case for case in (*preprocessing_image.CASES, *preprocessing_timm.CASES)},
    "tokens": {case.name: case for case in preprocessing_text.cases()},
    "waveforms": {case.name: case for case in preprocessing_audio.CASES},
}
TIMM = {case.name for case in preprocessing_timm.CASES}
EACH = [(kind, name) for kind, cases in INPUTS.items() for name in cases]
SMALL = [(kind, name) for kind, name in EACH if not getattr(INPUTS[kind][name], "full", False)]
ALLOWED = {"pixels": 1e-5, "tokens": 0, "waveforms": 3e-4}


@pytest.fixture(scope="module")
def tables():
    """What the tests of this module find: of networks by case, of preprocessing by kind and case."""
    networks = {name: {"type": network_type(name)} for name in CASES}
    inputs = {(kind, name): {"type": type_of(kind, name)} for kind, name in EACH}
    yield networks, inputs
    if place := os.environ.get("FLAXTL_PARITY_TABLE"):
        file = Path(place)
        before = file.read_text(encoding="utf-8") if file.is_file() else ""
        text = page.as_page(networks, inputs, lambda name: source_of(CASES[name]), before)
        file.write_text(text, encoding="utf-8")


@pytest.fixture
def found(tables):
    return tables[0]


@pytest.fixture
def prepared(tables):
    return tables[1]


def type_of(kind, name):
    case = INPUTS[kind][name]
    if name in TIMM:
        return "timm"
    return fixture(case.network)[1]["model_type"] if kind == "waveforms" else case.type


def module_of(kind, name=""):
    modules = {"pixels": preprocessing_image, "tokens": preprocessing_text, "waveforms": preprocessing_audio}
    return preprocessing_timm if name in TIMM else modules[kind]


@functools.cache
def network_type(name):
    """Returns what a network of a case is called on the page: transformers' model type, or whose it is.

    A full-size case has no fixture; its type is that of the tiny one of the same class.
    """
    if CASES[name].full:
        return next((network_type(n) for n in TINY if class_of(n) == class_of(name)), source_of(CASES[name]))
    kind = str(fixture(name)[1].get("model_type", "")).removesuffix("_vision_model")
    return kind or source_of(CASES[name])


def class_of(name):
    found = re.search(r"transformers\.(\w+?)(Vision)?(Model|For)", CASES[name].build)
    return found[1] if found else source_of(CASES[name])


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
    conversion = ours.planned(tensors, config, CASES[name].preprocessor)
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
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in CASES if f"| {name} |" not in text] == []
    assert [name for _, name in EACH if f"| {name} |" not in text] == []


def off(kind, got, wanted):
    """Returns the error of one picture, text or clip: the largest difference over the largest value, or 1 if other."""
    if kind == "tokens":
        return float(any(got[k] != wanted[k] for k in wanted))
    assert got.shape == wanted.shape
    return ours.relative(got, wanted)


def recorded(kind, name):
    """Returns what a fixture holds of a preprocessing case, by picture, clip or text."""
    case = INPUTS[kind][name]
    if kind == "tokens":
        return dict(enumerate(preprocessing_text.fixture("tokens.json")[name]))
    fixtures = {**dict.fromkeys(TIMM, "timm.npz")}.get(name, f"{kind}.npz")
    key = preprocessing_audio.key if kind == "waveforms" else preprocessing_image.key
    with np.load(preprocessing_text.FIXTURES / fixtures) as file:
        return {k: file[key(case, k)] for k in (case.pictures if kind == "pixels" else case.lengths)}


def made_of(kind, name, folder):
    """Returns ours of a preprocessing case, by picture, clip or text."""
    case, module = INPUTS[kind][name], module_of(kind, name)
    made = module.ours(case) if name in TIMM else module.ours(case, folder)
    return dict(enumerate(made)) if kind == "tokens" else made


@pytest.mark.parametrize(("kind", "name"), SMALL)
def test_inputs_are_prepared_as_the_reference_recorded_them(kind, name, tmp_path, prepared):
    made, wanted = made_of(kind, name, tmp_path), recorded(kind, name)
    if kind != "tokens":
        made = {k: (preprocessing_image if name in TIMM else module_of(kind)).thinned(v) for k, v in made.items()}
    errors = {k: off(kind, made[k], w) for k, w in wanted.items()}
    total = sum(errors.values()) if kind == "tokens" else max(errors.values())
    prepared[kind, name]["recorded"] = total
    assert total <= ALLOWED[kind], errors


@pytest.mark.parity
@pytest.mark.parametrize(("kind", "name"), EACH)
def test_inputs_are_prepared_as_the_reference_prepares_them(kind, name, tmp_path, prepared):
    module, case, made = module_of(kind, name), INPUTS[kind][name], made_of(kind, name, tmp_path)
    wanted = module.theirs(case) if name in TIMM else module.theirs(case, tmp_path)
    wanted = dict(enumerate(wanted)) if kind == "tokens" else wanted
    errors = {k: off(kind, made[k], w) for k, w in wanted.items()}
    total = sum(errors.values()) if kind == "tokens" else max(errors.values())
    prepared[kind, name]["live"] = total
    assert total <= ALLOWED[kind], errors


@pytest.mark.parity
@pytest.mark.parametrize("name", [n for n in INPUTS["pixels"] if n not in TIMM and not n.endswith(("larger", "alone"))])
def test_processors_that_compute_with_torchvision_are_near(name, tmp_path, prepared):
    pytest.importorskip("torchvision")
    case = INPUTS["pixels"][name]
    if case.settings.get("resample") in (4, 5):
        pytest.skip("torchvision has no such filter")
    made, wanted = preprocessing_image.ours(case, tmp_path), preprocessing_image.theirs(case, tmp_path, "torchvision")
    mean = max(float(np.abs(made[k] - w).mean() / np.abs(w).mean()) for k, w in wanted.items())
    prepared["pixels", name]["torchvision"] = mean
    assert mean <= 0.005


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
def test_live_against_the_reference(name, found):
    from parity import reference

    theirs = reference.run(CASES[name])
    conversion = ours.planned(theirs["tensors"], theirs["config"], CASES[name].preprocessor)
    errors = ours.compare(CASES[name], conversion.read(), theirs["outputs"])
    found[name] |= {"family": conversion.family.name, "live": max(errors.values())}
    assert max(errors.values()) <= CASES[name].tolerance, errors
