"""Every family says what its reference implementation says: logits and intermediates, without torch."""

import json

import numpy as np
import parity
import pytest
from parity import ours

from flaxtl import paths
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
    variables = conversion.read().variables
    back = mapping.invert(conversion.steps, variables)
    mapped = [s for s in conversion.steps if s.target is not None]
    assert sorted(back) == sorted(n for s in mapped for n in s.sources)
    leaves = dict(paths.leaves(variables))
    for step in mapped:
        # What cannot come back to the bit must at least become the same leaf again, to the bit.
        assert np.array_equal(step.operation.forward([back[n] for n in step.sources]), leaves[step.target]), step
        if step.operation.exact:
            assert all(np.array_equal(back[n], conversion.weights[n].read()) for n in step.sources), step


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
