"""A batch that does not fit is worked off in parts, which is found before training; what is learnt stays the same."""

import itertools
import json

import engine_cases as cases
import jax
import numpy as np
import pytest
import tiny
from tiny_text import sentences, text_model, write_tokenizer

import flaxtl
from flaxtl.data import Loader, Source
from flaxtl.errors import ConfigError, Preempted
from flaxtl.train import machine, preemption
from flaxtl.train.engine import Engine
from flaxtl.train.fitting import fitted
from flaxtl.train.meter import Meter
from flaxtl.train.programs import memory_of

COMPILED = "/jax/core/compile/backend_compile_duration"
ONE = Engine.of("jit", jax.devices()[:1])


def shapes(batch):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)


def needed(microbatch=None):
    """Gigabytes that a step of the case takes."""
    state, step = cases.STORED.job()
    engine = Engine.of("jit", jax.devices()[:1], microbatch)
    program = engine.compile(step).lower(engine.place_state(state), engine.shapes(shapes(cases.STORED.batch(0))))
    return memory_of(program.compile()).peak / 1e9


def found(gigabytes, **settings):
    state, step = cases.STORED.job()
    state = ONE.place_state(state)
    return state, fitted(ONE, step, state, shapes(cases.STORED.batch(0)), gigabytes=gigabytes, **settings)


def test_a_batch_that_fits_is_compiled_once_and_left_whole():
    seen = []

    def listen(event, duration, **about):
        seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        state, step = found(1.0)
        batch = step.engine.place_batch(cases.STORED.batch(0))
        before = seen.count(COMPILED)
        state, _ = step.step(state, batch)
        step.step(state, batch)
        assert before >= 1
        assert seen.count(COMPILED) == before, "the program that was looked at is the one that runs"
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert step.engine == ONE
    assert step.note is None


def test_a_batch_that_does_not_is_halved_until_it_fits_and_trains_alike():
    limit = (needed(8) + needed(4)) / 2
    state, step = found(limit)
    assert step.engine.microbatch == 4
    assert step.note.startswith("A batch of 16 needs ")
    assert "worked off in parts of 4" in step.note
    losses = []
    for number in range(4):
        state, metrics = step.step(state, step.engine.place_batch(cases.STORED.batch(number)))
        losses.append(float(metrics["loss"]))
    expected, whole = cases.run(cases.STORED, ONE)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    for leaf, like in zip(jax.tree.leaves(state.params), jax.tree.leaves(whole.params)):
        np.testing.assert_allclose(leaf, like, rtol=1e-5, atol=1e-6)


def test_batch_statistics_of_each_part_are_told_of():
    note = found((needed(8) + needed(4)) / 2, statistics=True)[1].note
    assert note.endswith("the gradient is that of the whole batch; each part has batch statistics of its own.")
    assert "what is learnt stays" not in note


def test_operations_are_those_of_the_whole_batch_however_it_is_divided():
    whole = found(1.0, counted=True)[1]
    parts = fitted(
        Engine.of("jit", jax.devices()[:1], 4),
        cases.STORED.job()[1],
        ONE.place_state(cases.STORED.job()[0]),
        shapes(cases.STORED.batch(0)),
        counted=True,
    )
    assert whole.flops == parts.flops
    # Three products of the head alone, of which there are more below it: forward, and back for kernel and input.
    assert whole.flops > 6 * 16 * 16 * cases.CLASSES
    assert found(1.0)[1].flops is None


@pytest.mark.parametrize(
    ("gigabytes", "words"), [(1e-6, "Even the network with its"), (-1.0, "`memory_gigabytes` is -1.0")]
)
def test_what_cannot_fit_is_refused_before_training(gigabytes, words):
    with pytest.raises(ConfigError, match=words):
        found(gigabytes)


def test_a_row_alone_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="Even training one example at a time needs"):
        found(needed(1) * 0.999)


FULL = {"strategy": "full", "epochs": 2, "batch_size": 8, "optimizer": "sgd"}
LITTLE = 1e-4  # gigabytes


@pytest.mark.slow
def test_a_whole_job_is_the_same_and_says_so(tmp_path):
    plain = flaxtl.finetune(tiny.model(), tiny.source(), out=tmp_path / "plain", **FULL)
    lines = [json.loads(line) for line in (tmp_path / "plain" / "metrics.jsonl").read_text().splitlines()]
    speed = [line for line in lines if "step_seconds" in line]
    assert all(line["flops_per_second"] > 0 for line in speed)
    assert not any("mfu" in line for line in speed), "the peak of a CPU is not known"
    small = flaxtl.finetune(tiny.model(), tiny.source(), memory_gigabytes=LITTLE, **FULL)
    assert any("A batch of 8 needs" in note for note in small.notes)
    assert not any("needs" in note for note in plain.notes)
    for leaf, like in zip(jax.tree.leaves(small.model.params), jax.tree.leaves(plain.model.params)):
        np.testing.assert_allclose(leaf, like, rtol=1e-4, atol=1e-5)


def test_a_run_that_goes_on_keeps_its_parts_whatever_memory_there_is_by_then(tmp_path, monkeypatch):
    whole = flaxtl.finetune(tiny.model(), tiny.source(), memory_gigabytes=LITTLE, **FULL)
    steps = itertools.count(1)
    monkeypatch.setattr(preemption, "asked", lambda: next(steps) == 2)
    with pytest.raises(Preempted):
        flaxtl.finetune(tiny.model(), tiny.source(), memory_gigabytes=LITTLE, out=tmp_path / "run", **FULL)
    monkeypatch.undo()
    again = flaxtl.finetune(tiny.model(), tiny.source(), out=tmp_path / "run", resume=True, **FULL)
    assert tiny.same(again.model.variables, whole.model.variables)
    assert not any("worked off in parts" in note for note in again.notes), "nothing had to be divided any more"


def test_the_share_of_the_peak_is_written_where_the_peak_is_known():
    meter = Meter(flops=2e6, peak=1e9)
    meter.count(rows=3)
    line = meter.line()
    assert line["mfu"] == pytest.approx(line["flops_per_second"] / 1e9, rel=1e-4)
    assert line["flops_per_second"] == pytest.approx(2e6 * line["examples_per_second"] / 3, rel=0.1)
    assert "mfu" not in Meter(flops=2e6).line()
    assert "flops_per_second" not in Meter().line()


def test_the_largest_batch_is_as_long_as_the_longest_text(tmp_path):
    model = text_model(write_tokenizer(tmp_path), ("no", "yes"))
    source = Source.of("text", *sentences(6))
    loader = Loader(source, model.pipeline.preprocess, len(source))
    batch, largest = loader.batch(0), loader.largest()
    assert jax.tree.map(lambda a: (a.shape, a.dtype), batch) == jax.tree.map(lambda a: (a.shape, a.dtype), largest)
    unknown = Loader(source, model.pipeline.preprocess, len(source), memory_limit=0).largest()
    assert unknown["inputs"]["ids"].shape[1] == model.pipeline.preprocess.lengths[-1]


def machine_files(root, **files):
    for name, text in files.items():
        place = root / name.replace("__", "/").replace("_dot_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return root


MEMORY = {"proc__meminfo": "MemTotal:  4000 kB\nMemAvailable:  3000 kB\n"}
STATUS = {"proc__self__status": "VmPeak:  9 kB\nVmHWM:\t   50 kB\nVmRSS:\t   40 kB\n"}


def test_the_memory_of_a_machine_is_read(tmp_path):
    root = machine_files(tmp_path, **MEMORY, **STATUS)
    assert (machine.total(root), machine.free(root)) == (4000 * 1024, 3000 * 1024)
    assert (machine.resident(root), machine.peak(root)) == (40 * 1024, 50 * 1024)


def test_a_control_group_of_this_process_or_above_it_limits_the_memory(tmp_path):
    root = machine_files(
        tmp_path,
        **MEMORY,
        proc__self__cgroup="0::/job/step\n",
        sys__fs__cgroup__job__memory_dot_max="1000000\n",
        sys__fs__cgroup__job__memory_dot_current="400000\n",
        sys__fs__cgroup__job__memory_dot_stat="anon 1\ninactive_file 100000\n",
        sys__fs__cgroup__job__step__memory_dot_max="max\n",
        sys__fs__cgroup__job__step__memory_dot_current="5\n",
    )
    assert (machine.total(root), machine.free(root)) == (1000000, 700000)


def test_control_groups_of_version_one_limit_it_too(tmp_path):
    root = machine_files(
        tmp_path,
        **MEMORY,
        proc__self__cgroup="5:cpu,cpuacct:/\n4:memory:/\n",
        sys__fs__cgroup__memory__memory_dot_limit_in_bytes="900000\n",
        sys__fs__cgroup__memory__memory_dot_usage_in_bytes="300000\n",
    )
    assert (machine.total(root), machine.free(root)) == (900000, 600000)


def test_nothing_is_known_where_the_system_does_not_say(tmp_path):
    assert machine.free(tmp_path) is None
    assert machine.resident(tmp_path) is None
    assert machine.total(tmp_path) > 0
