"""Every family says what its reference implementation says: logits and intermediates, without torch."""

import json

import numpy as np
import parity
import pytest
from parity import ours

from flaxtl.convert import mapping

CASES = {case.name: case for case in parity.cases()}
TINY = [name for name, case in CASES.items() if not case.full]


def fixture(name):
    with np.load(parity.FIXTURES / f"{name}.npz") as file:
        about = json.loads(str(file["about"]))
        return about["tensors"], about["config"], {k: file[k] for k in file.files if k != "about"}


@pytest.mark.parametrize("name", TINY)
def test_a_converted_network_says_what_the_reference_says(name):
    tensors, config, wanted = fixture(name)
    conversion = ours.planned(tensors, config)
    errors = ours.compare(CASES[name], conversion, wanted)
    assert max(errors.values()) <= CASES[name].tolerance, errors


@pytest.mark.parametrize("name", TINY)
def test_the_way_back_gives_the_source_tensors_to_the_bit(name):
    tensors, config, _ = fixture(name)
    conversion = ours.planned(tensors, config)
    back = mapping.invert(conversion.steps, conversion.read().variables)
    mapped = [n for s in conversion.steps if s.target is not None for n in s.sources]
    assert sorted(back) == sorted(mapped)
    for tensor in mapped:
        assert np.array_equal(back[tensor], conversion.weights[tensor].read()), tensor


def test_every_tiny_case_has_its_fixture_and_every_fixture_its_case():
    recorded = {f.stem for f in parity.FIXTURES.glob("*.npz")}
    assert recorded == set(TINY)


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
def test_live_against_the_reference(name):
    from parity import reference

    found = reference.run(CASES[name])
    errors = ours.compare(CASES[name], ours.planned(found["tensors"], found["config"]), found["outputs"])
    assert max(errors.values()) <= CASES[name].tolerance, errors
