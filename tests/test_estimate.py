"""What a training needs is read from its compiled steps, for machines that need not be there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import tiny

from flaxtl import config as configs
from flaxtl.config import EstimateConfig, FinetuneConfig
from flaxtl.errors import ConfigError
from flaxtl.strategies.estimating import run_estimate
from flaxtl.train.hardware import Topology, by_kind
from flaxtl.train.programs import exchanges, memory_of

LOOP = """
%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %x = f32[8]{0} all-gather(%p), dimensions={0}
}

ENTRY %main (a: f32[2]) -> f32[8] {
  %r = (f32[4]{0}, bf16[2,3]{1,0}) all-reduce(%a, %b), to_apply=%sum
  %g = (f32[2]{0}, f32[16]{0}) all-gather-start(%a), dimensions={0}
  %w = (s32[], f32[8]) while(%t), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"5"}}
}
"""


def test_collectives_are_counted_with_their_bytes_and_as_often_as_loops_run():
    found = {e.kind: (e.times, e.nbytes) for e in exchanges(LOOP)}
    assert found == {"all-reduce": (1, 4 * 4 + 6 * 2), "all-gather": (6, 5 * 32 + 64)}


def test_the_memory_of_a_program_is_its_arrays_and_what_it_takes_besides():
    program = jax.jit(lambda x: jnp.tanh(x @ x) @ x).lower(jnp.zeros((64, 64))).compile()
    found = memory_of(program)
    assert found.arguments == found.outputs == 64 * 64 * 4
    assert found.temporary >= 64 * 64 * 4
    assert found.peak == found.arguments + found.outputs + found.temporary


def test_memory_that_is_given_away_is_not_counted_twice():
    program = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jnp.zeros(1024)).compile()
    assert memory_of(program).outputs == 0


@pytest.mark.parametrize(
    ("name", "platform", "count", "device"),
    [
        ("cpu:3", "cpu", 3, None),
        ("gpu:8", "gpu", 8, "h100"),
        ("h200:2", "gpu", 2, "h200"),
        ("v5e:4x8", "tpu", 32, "v5e"),
    ],
)
def test_topologies_are_understood(name, platform, count, device):
    found = Topology.of(name)
    assert (found.platform, found.count, found.device and found.device.name) == (platform, count, device)
    assert found.memory > 0


@pytest.mark.parametrize("name", ["v5e", "tpu:8", "cpu:0", "v5e:4y4", ""])
def test_other_topologies_are_refused(name):
    with pytest.raises(ConfigError, match="topology"):
        Topology.of(name)


def test_devices_are_known_by_what_jax_calls_them():
    assert by_kind("NVIDIA H200").memory == 141e9
    assert by_kind("TPU v5 lite").name == "v5e"
    assert by_kind("cpu") is None


@pytest.fixture
def wanted(tmp_path):
    """Settings of a run from a tiny model, and where they lie."""
    tiny.model().save(tmp_path / "base")

    def write(**settings):
        changed = configs.replace(FinetuneConfig(), pretrained=str(tmp_path / "base"), batch_size=8, **settings)
        configs.save(changed, tmp_path / "settings.yaml")
        return tmp_path / "settings.yaml"

    return write


def test_each_phase_is_compiled_and_measured(wanted):
    found = run_estimate(EstimateConfig(config=str(wanted(strategy="lpft")), classes=3))
    solve, train = found.phases
    params = sum(a.nbytes for a in jax.tree.leaves(tiny.model().with_head(("a", "b", "c")).variables))
    assert solve.params == train.params == params
    assert solve.optimizer == 0
    assert train.optimizer > 1.5 * params  # two moments of what is trained
    assert train.flops > 2 * solve.flops / 8  # features are computed for more rows at once
    assert train.memory.peak > train.params + train.optimizer
    assert train.kept >= train.params + train.optimizer
    assert found.peak == found.host + max(p.memory.peak + 2 * p.kept for p in (solve, train))
    assert found.fits
    assert "it fits" in found.summary()


def test_what_is_frozen_has_no_optimizer_and_smaller_parts_take_less(wanted):
    whole = run_estimate(EstimateConfig(config=str(wanted(strategy="full")))).phases[0]
    head = run_estimate(EstimateConfig(config=str(wanted(strategy="full", trainable=("head/**",))))).phases[0]
    parts = run_estimate(EstimateConfig(config=str(wanted(strategy="full", microbatch=2)))).phases[0]
    assert head.optimizer < 0.3 * whole.optimizer
    assert head.flops < 0.6 * whole.flops
    assert parts.memory.temporary < whole.memory.temporary


def test_a_tpu_that_cannot_be_compiled_for_is_said_with_what_is_needed(wanted):
    # Without libtpu there is no such topology, and with it there is no such slice.
    with pytest.raises(ConfigError, match=r"v5e:3x5 cannot be compiled here: .*pip install 'flaxtl\[tpu-estimate\]'"):
        run_estimate(EstimateConfig(config=str(wanted(strategy="head")), topology="v5e:3x5"))


@pytest.mark.slow
def test_the_command_answers_for_devices_that_are_not_here(wanted):
    file = wanted(strategy="full", parallel="fsdp")
    flags = "--xla_backend_optimization_level=0"
    words = [sys.executable, "-c", "import sys; from flaxtl.cli import main; sys.exit(main(sys.argv[1:]))"]
    done = subprocess.run(
        [*words, "estimate", str(file), "--topology", "gpu:8", "--classes", "8", "--json"],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "XLA_FLAGS": flags},
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    [phase] = found["phases"]
    kinds = {exchange["kind"] for exchange in phase["exchanged"]}
    assert found["devices"] == 8
    assert "all-gather" in kinds
    assert kinds & {"all-reduce", "reduce-scatter"}
    assert set(phase["seconds"]) == {"compute", "memory", "exchange"}
    one = run_estimate(EstimateConfig(config=str(file), classes=8)).phases[0]
    assert phase["params"] < one.params / 5
