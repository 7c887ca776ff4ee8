"""The strategy contrastive: its loss, its batches, what it trains, and that it resumes and is spread as all others."""

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tiny_text import sentences, text_model, write_tokenizer

import flaxtl
from flaxtl import data
from flaxtl.config import FinetuneConfig
from flaxtl.data import Source
from flaxtl.data.ordering import balanced
from flaxtl.errors import ConfigError
from flaxtl.strategies import auto, phases_of, training
from flaxtl.strategies.chains import cadence
from flaxtl.strategies.work import Work
from flaxtl.train.contrast import contrast_loss, supervised_contrast
from flaxtl.train.division import Division, divided
from flaxtl.train.engine import Engine
from flaxtl.train.loop import run_steps

FEW = {"strategy": "contrastive", "contrast_batch": 8, "contrast_passes": 10.0, "cache": "off"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return text_model(write_tokenizer(tmp_path_factory.mktemp("tokenizer")), ("no", "yes"))


def texts(number=16, seed=0):
    return Source.of("text", *sentences(number, seed))


# Batches


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.integers(1, 16),
    st.integers(1, 4),
    st.integers(0, 100),
)
def test_batches_are_full_and_classes_come_equally_often(targets, size, together, seed):
    targets = np.array(targets)
    order = balanced(targets, size, np.random.default_rng(seed), together)
    assert len(order) == size * -(-len(targets) // size)
    np.testing.assert_array_equal(order, balanced(targets, size, np.random.default_rng(seed), together))
    counts = np.bincount(targets)
    turns = {k: np.count_nonzero(targets[order] == k) / min(together, n) for k, n in enumerate(counts) if n}
    assert max(turns.values()) - min(turns.values()) <= 1 + 1e-9


def test_examples_come_with_others_of_their_class_and_all_are_used():
    targets = np.repeat(np.arange(7), 5)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(4):
        order = balanced(targets, 10, rng, 2)
        pairs = targets[order].reshape(-1, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all()
        assert (order[::2] != order[1::2]).all()
        seen |= set(order.tolist())
    assert seen == set(range(35))


# The loss


def by_hand(x, y, temperature):
    """Equation 2 of Khosla et al., word for word."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    losses = []
    for i in range(len(x)):
        others = [a for a in range(len(x)) if a != i]
        same = [p for p in others if y[p] == y[i]]
        below = np.log(sum(np.exp(x[i] @ x[a] / temperature) for a in others))
        losses.append(-sum(x[i] @ x[p] / temperature - below for p in same) / len(same) if same else 0.0)
    return np.array(losses)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_is_that_of_the_paper(temperature):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 5)), np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
    found = supervised_contrast(jnp.asarray(x), y, jnp.asarray(x), y, ~np.eye(9, dtype=bool), temperature)
    np.testing.assert_allclose(found, by_hand(x, y, temperature), rtol=1e-5, atol=1e-6)
    assert found[-1] == 0.0


def test_what_does_not_count_changes_nothing_and_gives_no_gradient():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(6, 3)).astype(np.float32), np.array([0, 0, 1, 1, 1, 0])
    counts = ~np.eye(6, dtype=bool)
    counts[:, 5] = False

    def total(x):
        return supervised_contrast(x, y, x, y, counts, 0.5)[:5].sum()

    np.testing.assert_allclose(total(x), by_hand(x[:5], y[:5], 0.5).sum(), rtol=1e-5)
    gradient = jax.grad(total)(x)
    assert not gradient[5].any()
    assert np.isfinite(gradient).all()
    assert np.isfinite(jax.grad(lambda x: supervised_contrast(x, y, x, y, counts & False, 0.5).sum())(x)).all()


# The strategy


def test_it_is_a_contrast_and_a_solved_head():
    body, solve = phases_of(FinetuneConfig(strategy="contrastive"))
    assert (body.kind, solve.kind) == ("train", "solve")
    assert body.contrast is not None
    assert body.together == 2
    assert solve.together == 0
    assert [cadence(body, n).steps for n in (2, 50, 385, 1024, 5000)] == [4, 4, 24, 64, 64]
    longer = phases_of(FinetuneConfig(strategy="contrastive", training=flaxtl.config.Training(epochs=3)))[0]
    assert cadence(longer, 640).steps == 30


@pytest.fixture(scope="module")
def results(model):
    test = texts(24, seed=1)
    return {
        name: flaxtl.finetune(model, texts(), test=test, learning_rate=1e-2, **{**FEW, "strategy": name})
        for name in ("contrastive", "head")
    }


def test_it_trains_what_lies_above_the_border_and_then_the_head(model, results):
    found = results["contrastive"]
    moved = tiny.changed(model.with_head(("no", "yes")).variables, found.model.variables)
    below = [name for name in moved if "stem" in name or "blocks_0" in name]
    assert not below
    assert any("blocks_1" in name for name in moved)
    assert {"params:head/kernel", "params:head/bias"} <= moved
    assert [e["kind"] for e in found.evidence] == ["train", "solve"]
    assert found.evidence[0]["steps"] == 20
    assert found.metrics.accuracy.value >= results["head"].metrics.accuracy.value


def test_features_come_together_by_class(model, results):
    def spread(of):
        x, y = of.features(texts(24, seed=1)), np.array(texts(24, seed=1).targets)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        cosine, same = x @ x.T, y[:, None] == y
        return cosine[same].mean() - cosine[~same].mean()

    assert spread(results["contrastive"].model) > spread(model) + 0.05


def test_no_figure_is_called_held_out_that_is_not(results):
    tuned, plain = (results[name].evidence[-1] for name in ("contrastive", "head"))
    assert "cross_validation" in plain
    assert "cross_validation" not in tuned
    assert "none was held out" in results["contrastive"].summary()
    assert results["contrastive"].model.card.head.conformal is None


def test_the_same_seed_gives_the_same_bits_and_another_another(model, results):
    again = flaxtl.finetune(model, texts(), learning_rate=1e-2, **FEW)
    assert tiny.same(again.model.variables, results["contrastive"].model.variables)
    other = flaxtl.finetune(model, texts(), learning_rate=1e-2, seed=1, **FEW)
    assert not tiny.same(other.model.variables, results["contrastive"].model.variables)


@pytest.mark.parametrize("number", [1, 2])
def test_one_example_a_class_and_one_class_a_batch_are_handled(model, number):
    few = dataclasses.replace(texts(), targets=np.array([0, 1] * 8, np.int32))
    found = flaxtl.finetune(model, few, examples_per_class=number, **FEW)
    assert [e["kind"] for e in found.evidence] == (["solve"] if number == 1 else ["train", "solve"])
    assert any("the head alone is solved" in note for note in found.notes) == (number == 1)
    assert np.isfinite(found.model.predict(texts()).probabilities).all()


def test_a_class_of_one_example_is_only_kept_apart(model):
    source = Source.of("text", *sentences(9)).subset([0, 1, 2, 4, 6])
    assert np.bincount(source.targets).tolist() == [4, 1]
    found = flaxtl.finetune(model, source, **FEW)
    assert np.isfinite(found.model.predict(texts()).probabilities).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"microbatch": 2}, "compares all examples of a batch"),
        ({"wise": 0.5}, "need a head to train"),
        ({"soup": 2}, "need a head to train"),
        ({"contrast_temperature": 0.0}, "`contrast_temperature` is 0.0"),
        ({"contrast_batch": 3}, "`contrast_batch` is 3"),
        ({"contrast_examples": 0}, "`contrast_examples` is 0"),
        ({"contrast_passes": 0.0}, "`contrast_passes` is 0.0"),
        ({"contrast_from": "nowhere"}, "no part 'nowhere'"),
        ({"contrast_from": "1.0"}, "no features to train"),
    ],
)
def test_what_cannot_be_heeded_is_refused(model, settings, said):
    with pytest.raises(ConfigError, match=said):
        flaxtl.finetune(model, texts(), **{**FEW, **settings})


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks_are_refused(model, task):
    source = texts().with_outputs(np.arange(32).reshape(16, 2) % 3 % 2, ["a", "b"], task)
    with pytest.raises(ConfigError, match="several labels or numbers"):
        flaxtl.finetune(model, source, **FEW)


def test_a_batch_in_parts_is_refused_where_it_is_traced(model):
    loss = contrast_loss(model.pipeline, temperature=0.1)
    with divided(Division(parts=2)), pytest.raises(ConfigError, match="compares all examples"):
        loss({}, {}, {"example_index": 0, "weight": 0, "target": 0}, None)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_bit(model, tmp_path, monkeypatch):
    settings = {**FEW, "save_every": 4, "learning_rate": 1e-2}
    whole = flaxtl.finetune(model, texts(), out=tmp_path / "whole", **settings)
    monkeypatch.setattr(training, "run_steps", _killed_after(9))
    with pytest.raises(KeyboardInterrupt):
        flaxtl.finetune(model, texts(), out=tmp_path / "part", **settings)
    monkeypatch.undo()
    again = flaxtl.finetune(model, texts(), out=tmp_path / "part", resume=True, **settings)
    assert tiny.same(again.model.variables, whole.model.variables)
    assert again.model.card.head == whole.model.card.head


def _killed_after(steps):
    def run(state, step_function, batches, *rest, **more):
        def some():
            yield from itertools.islice(batches, steps)
            raise KeyboardInterrupt

        return run_steps(state, step_function, some(), *rest, **more)

    return run


@pytest.mark.slow
def test_eight_devices_train_as_one_on_every_engine():
    """In a process of its own, since the number of devices is fixed once JAX has begun."""
    script = Path(__file__).parent / "contrast_on_eight_devices.py"
    flags = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run([sys.executable, str(script)], env=flags, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["jit", "fsdp", "pmap"]


# auto


@pytest.mark.slow
def test_auto_judges_it_on_texts_by_examples_that_it_did_not_see(model, monkeypatch, tmp_path):
    monkeypatch.setattr(auto, "CEILING", 2.0)  # the tiny texts are so easy that the head alone would be enough
    monkeypatch.setattr(auto, "_folds", lambda source, seed: data.folds(source.targets, 2, 1, seed))
    seen = []

    def contrastive(trials, source):
        seen.extend(trials)
        return [trial.name for trial in trials].index("contrastive")

    monkeypatch.setattr(auto, "chosen", contrastive)
    settings = {**FEW, "strategy": "auto", "epochs": 1.0, "budget": None, "out": tmp_path / "run"}
    found = flaxtl.finetune(model, texts(), **settings)
    assert list(dict.fromkeys(trial.name for trial in seen)) == ["head", "cut", "contrastive", "lpft"]
    [trial] = [trial for trial in seen if trial.name == "contrastive"]
    assert trial.known.all()
    assert [e["kind"] for e in found.evidence] == ["auto", "train", "solve"]
    assert found.evidence[0]["chosen"] == "contrastive"
    head = found.model.card.head
    assert head.temperature == pytest.approx(trial.temperature * found.evidence[2]["temperature"])
    again = flaxtl.finetune(model, texts(), **settings, resume=True)
    assert tiny.same(again.model.variables, found.model.variables)
    assert again.model.card.head == head


def test_auto_leaves_it_out_where_batches_are_worked_off_in_parts():
    assert auto.tried(Work(texts())) == ("cut", "contrastive", "lpft")
    assert auto.tried(Work(texts(), engine=Engine.of(microbatch=4))) == ("cut", "lpft")
    assert auto.tried(Work(tiny.source())) == ("cut", "deep_cut", "lpft")
    assert auto.tried(Work(dataclasses.replace(tiny.source(), modality="audio"))) == ("cut", "lpft")
