"""Engines: what one device can show here, and the comparison of engines in a process with eight of them."""

import os
import subprocess
import sys
from pathlib import Path

import engine_cases as cases
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaxtl.errors import ConfigError
from flaxtl.train import sharding
from flaxtl.train.engine import Engine


def on_eight_devices(marked):
    # What is compiled without optimisation is compiled in a fraction of the time, and equals what it should.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    file = Path(__file__).with_name("engine_on_eight_devices.py")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-m", marked, str(file)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=file.parent.parent,
    )


@pytest.mark.slow
@pytest.mark.parametrize("marked", ["not slow", "slow"])
def test_eight_devices_equal_one(marked):
    done = on_eight_devices(marked)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_device_is_the_step_alone_to_the_bit():
    engine = Engine.of("jit", jax.devices()[:1])
    (losses, state), (expected, expected_state) = cases.run(cases.BATCH, engine), cases.run(cases.BATCH)
    assert losses.tolist() == expected.tolist()
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), state, expected_state)
    assert jax.tree.all(same)


@given(rows=st.integers(1, 300), microbatch=st.none() | st.integers(1, 300))
def test_a_batch_is_filled_up_to_whole_parts_and_no_further(rows, microbatch):
    engine = Engine.of("jit", jax.devices()[:1], microbatch)
    padded, parts = engine.padded(rows), engine.parts(rows)
    assert padded % parts == 0
    assert rows <= padded < rows + parts
    assert engine.parts(padded) == parts
    assert padded // parts <= (microbatch or padded)


@given(shape=st.lists(st.integers(0, 24), max_size=4), parts=st.integers(1, 8))
def test_the_largest_axis_that_fits_is_cut(shape, parts):
    axis = sharding.largest_axis(tuple(shape), parts)
    fitting = [size for size in shape if size and size % parts == 0]
    assert (axis is None) == (not fitting)
    if axis is not None:
        assert shape[axis] == max(fitting)


def test_what_cannot_be_is_said():
    with pytest.raises(ConfigError, match="no engine 'fast'; expected one of jit, pmap, fsdp"):
        Engine.of("fast")
    with pytest.raises(ConfigError, match="microbatch of 0 rows"):
        Engine.of("jit", microbatch=0)
