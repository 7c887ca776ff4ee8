"""Pictures enter timm's networks as timm's transforms prepare them."""

import numpy as np
import pytest
from parity import preprocessing_timm as timm
from parity.preprocessing_image import key, thinned

CASES = {case.name: case for case in timm.CASES}
SMALL = [name for name, case in CASES.items() if not case.full]


@pytest.mark.parametrize("name", SMALL)
def test_pixels_are_those_that_timm_recorded(name):
    pixels = timm.ours(CASES[name])
    with np.load(timm.FIXTURE) as recorded:
        for picture, found in pixels.items():
            wanted = recorded[key(CASES[name], picture)]
            assert thinned(found).shape == wanted.shape, picture
            assert np.abs(thinned(found) - wanted).max() < 1e-5, picture


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
def test_pixels_are_timms(name):
    wanted, found = timm.theirs(CASES[name]), timm.ours(CASES[name])
    assert max(np.abs(found[n] - wanted[n]).max() for n in wanted) < 1e-5
