"""Every engine gives the losses and the parameters of one device; run by test_engine.py with eight devices."""

import dataclasses
import functools

import engine_cases as cases
import jax
import numpy as np
import pytest
import tiny

from flaxtl import checkpoint
from flaxtl.nets import layers
from flaxtl.train import sharding
from flaxtl.train.engine import Engine
from flaxtl.train.fitting import fitted
from flaxtl.train.programs import memory_of

CASES = {
    "stored": cases.STORED,
    "batch": cases.BATCH,
    "head": cases.HEAD,
    "vit": cases.TRANSFORMER,
    "bert": cases.LANGUAGE,
    "mixed": cases.MIXED,
    "nnx": cases.OWN,
}
PARALLEL = ("jit", "pmap", "fsdp")


@functools.cache
def alone(case):
    """What one device gives."""
    return cases.run(case)


def assert_close(found, expected):
    losses, state = found
    assert np.allclose(losses, expected[0], rtol=1e-6, atol=0.0), losses / expected[0] - 1.0
    for part in ("trainable", "frozen", "stats", "ema"):
        a, b = getattr(state, part), getattr(expected[1], part)
        worst = jax.tree.map(lambda x, y: float(np.abs(x - y).max() / max(1.0, np.abs(y).max())), a, b)
        assert jax.tree.all(jax.tree.map(lambda error: error < 1e-5, worst)), (part, worst)
    assert int(state.step) == int(expected[1].step)


def some(*names, slow):
    """Parameters, of which those named in `slow` are left to the slow run."""
    return [*names, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]


@pytest.fixture(params=PARALLEL)
def parallel(request):
    return request.param


@pytest.mark.parametrize("name", some("batch", "vit", "mixed", "nnx", slow=["stored", "head", "bert"]))
def test_eight_devices_equal_one(name, parallel):
    assert_close(cases.run(CASES[name], Engine.of(parallel)), alone(CASES[name]))


@pytest.mark.parametrize("name", some("vit", "mixed", slow=["stored", "bert"]))
def test_accumulation_over_four_parts_equals_one_batch(name, parallel):
    engine = Engine.of(parallel, jax.devices()[:4], microbatch=4)
    assert engine.parts(16) == 4
    assert_close(cases.run(CASES[name], engine), alone(CASES[name]))


@pytest.mark.parametrize("devices", [2, 8])
def test_a_depthwise_convolution_fetches_no_rows_of_other_devices(devices):
    engine = Engine.of("jit", jax.devices()[:devices])
    batch = engine.place_batch({"x": np.ones((16, 6, 6, 4), np.float32), "weight": np.ones(16, np.float32)})

    def step(kernel, batch):
        value, slope = jax.value_and_grad(lambda k: (layers.depthwise(batch["x"], k) ** 2).sum())(kernel)
        return kernel - slope, {"loss": value}

    kernel = engine.place_state(np.ones((3, 3, 1, 4), np.float32))
    program = engine.compile(step).lower(kernel, batch).compile().as_text()
    assert "all-reduce" in program
    assert "all-gather" not in program


@pytest.mark.slow
def test_uneven_batches_are_filled_up(parallel):
    for rows, devices, microbatch in ((11, 8, None), (5, 3, None), (3, 8, None), (7, 2, 4)):
        case = dataclasses.replace(cases.BATCH if microbatch is None else cases.STORED, rows=rows)
        engine = Engine.of(parallel, jax.devices()[:devices], microbatch)
        assert_close(cases.run(case, engine, steps=2), cases.run(case, steps=2))


@pytest.mark.slow
def test_parts_have_the_same_statistics_on_every_engine(parallel):
    expected = cases.run(cases.BATCH, Engine.of("jit", jax.devices()[:1], microbatch=8))
    assert not np.allclose(expected[0], alone(cases.BATCH)[0], rtol=1e-4), "each part has statistics of its own"
    assert_close(cases.run(cases.BATCH, Engine.of(parallel, jax.devices()[:4], microbatch=8)), expected)


@pytest.mark.parametrize("rows", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_the_smallest_batches_are_filled_up(rows):
    case = dataclasses.replace(cases.BATCH, rows=rows)
    assert_close(cases.run(case, Engine.of("pmap", jax.devices()[:5]), steps=2), cases.run(case, steps=2))


def test_a_part_of_padding_alone_leaves_the_statistics_as_they_were():
    case = dataclasses.replace(cases.BATCH, rows=9)
    batch = case.batch(0)
    batch["weight"][1:] = 0.0  # one real row in three parts
    engine = Engine.of("jit", jax.devices()[:1], microbatch=3)
    state, step = case.job()
    new, metrics = engine.compile(step)(engine.place_state(state), engine.place_batch(batch))
    one = jax.tree.map(lambda a: a[:1], batch)
    expected, expected_metrics = jax.jit(step)(case.job()[0], one)
    assert np.isclose(float(metrics["loss"]), float(expected_metrics["loss"]), rtol=1e-6)
    same = jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-5, atol=1e-7), new.stats, expected.stats)
    assert jax.tree.all(same)
    finite = jax.tree.map(lambda a: bool(np.isfinite(a).all()), new.params)
    assert jax.tree.all(finite)


def test_a_batch_that_does_not_fit_is_worked_off_in_parts(parallel):
    case, engine = cases.STORED, Engine.of(parallel, jax.devices()[:2])
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), case.batch(0))
    state, step = case.job()
    state = engine.place_state(state)
    program = engine.compile(step).lower(state, engine.shapes(shapes)).compile()
    enough = 2 * memory_of(program).peak / 1e9  # for both devices, which share the process's memory
    assert fitted(engine, step, state, shapes, gigabytes=1.01 * enough).engine == engine
    found = fitted(engine, step, state, shapes, gigabytes=0.8 * enough)
    assert found.engine.parts(case.rows) > 1
    losses = []
    for number in range(4):
        state, metrics = found.step(state, found.engine.place_batch(case.batch(number)))
        losses.append(float(metrics["loss"]))
    assert_close((np.array(losses), engine.gather(state)), alone(case))


@pytest.mark.slow
def test_frozen_leaves_stay_to_the_bit(parallel):
    before = cases.HEAD.job()[0]
    _, after = cases.run(cases.HEAD, Engine.of(parallel))
    assert tiny.same(before.frozen, after.frozen)
    assert tiny.same(before.stats, after.stats)


def held(state):
    kept = (state.trainable, state.frozen, state.opt_state)
    return max(sharding.bytes_a_device(kept).values())


@pytest.mark.parametrize("name", some("vit", slow=["bert", "head"]))
def test_fsdp_holds_a_sixth_of_the_bytes_on_each_device(name):
    whole, spread = Engine.of("jit"), Engine.of("fsdp")
    case = CASES[name]
    replicated = held(whole.place_state(case.job()[0]))
    state, step = case.job()
    state = spread.place_state(state)
    assert held(state) <= replicated / 6
    state, _ = spread.compile(step)(state, spread.place_batch(case.batch(0)))
    assert held(state) <= replicated / 6, "the new state is spread like the old one"


@pytest.mark.slow
def test_a_checkpoint_moves_from_eight_devices_to_four_to_one_and_back(tmp_path):
    expected = cases.run(cases.TRANSFORMER, steps=8)
    store = checkpoint.RunCheckpoints(tmp_path)
    state, losses = cases.TRANSFORMER.job()[0], []
    for number, (parallel, devices) in enumerate((("fsdp", 8), ("fsdp", 4), ("jit", 1), ("pmap", 8))):
        engine = Engine.of(parallel, jax.devices()[:devices])
        found, state = cases.run(cases.TRANSFORMER, engine, steps=2, first=2 * number, state=state)
        losses.extend(found)
        store.save(2 * number + 2, state, {})
        _, restored, _, _ = store.restore_latest(state)
        assert tiny.same(restored, state)
        state = jax.tree.map(lambda a: jax.numpy.array(a, copy=True), restored)
    store.close()
    assert_close((np.array(losses), state), expected)
