"""WiSE-FT and soups: averages of what training starts from and comes to."""

import functools

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import flaxtl
from flaxtl import data
from flaxtl.errors import ConfigError
from flaxtl.strategies import averaging

STEPS = {"strategy": "full", "epochs": 4, "batch_size": 8, "learning_rate": 0.02, "save_every": 100}


@functools.cache
def trained(**settings):
    return flaxtl.finetune(tiny.model(), tiny.source(), **{**STEPS, **settings})


def close(a, b):
    import jax

    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


numbers = st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3)


@settings(deadline=None, max_examples=30)
@given(numbers, numbers, st.floats(0.0, 1.0))
def test_in_between_lies_between_and_what_is_equal_stays_so(a, b, share):
    a, b = np.array(a, np.float32), np.array(b, np.float32)
    found = averaging.between({"w": a, "n": np.int32(3)}, {"w": b, "n": np.int32(5)}, share)
    low, high = np.minimum(a, b), np.maximum(a, b)
    assert (found["w"] >= low - 1e-3).all()
    assert (found["w"] <= high + 1e-3).all()
    assert tiny.same(averaging.between({"w": a}, {"w": a.copy()}, share), {"w": a})
    assert tiny.same(averaging.between({"w": a}, {"w": b}, 1.0), {"w": b})
    assert tiny.same(averaging.between({"w": a}, {"w": b}, 0.0), {"w": a})


def test_the_mean_of_trees():
    trees = [{"w": np.array([float(i), 2.0], np.float32)} for i in range(3)]
    assert averaging.mean(trees)["w"].tolist() == [1.0, 2.0]


# WiSE-FT


def test_both_ends_are_the_start_and_the_end_to_the_bit():
    start = tiny.model().with_head(tiny.LABELS)
    assert tiny.same(trained(wise=1.0).model.variables, trained().model.variables)
    assert tiny.same(trained(wise=0.0).model.variables, start.variables)


def test_halfway_is_the_mean_of_both():
    start = tiny.model().with_head(tiny.LABELS)
    close(trained(wise=0.5).model.variables, averaging.mean([start.variables, trained().model.variables]))
    assert any("WiSE-FT: parameters are interpolated with alpha 0.5" in note for note in trained(wise=0.5).notes)


def test_of_lpft_the_start_is_the_solved_head():
    found = trained(strategy="lpft", wise=0.0).model
    solved = trained(strategy="head").model
    inputs = tiny.pictures(seed=3)[0]
    np.testing.assert_allclose(
        found.predict(inputs).probabilities, solved.predict(inputs).probabilities, rtol=1e-4, atol=1e-6
    )


def swapped():
    """Validation data whose classes are not those of training: the less is learnt, the better."""
    inputs, targets = tiny.pictures()
    return data.Splits(tiny.source(), validation=data.from_arrays(inputs, (targets + 1) % 3, labels=tiny.LABELS))


def test_auto_goes_as_far_as_validation_data_says():
    back = flaxtl.finetune(tiny.model(), swapped(), wise="auto", **STEPS)
    found = back.evidence[-1]
    assert (found["kind"], len(found["rows"])) == ("wise", 11)
    assert found["share"] == min(found["rows"], key=lambda row: row["loss"])["share"]
    good = data.Splits(tiny.source(), validation=tiny.source(8, seed=2))
    forth = flaxtl.finetune(tiny.model(), good, wise="auto", **STEPS).evidence[-1]
    assert found["share"] < forth["share"]


# Soups


def test_a_uniform_soup_is_the_mean_of_its_runs():
    soup = trained(soup=2)
    other = trained(seed=10_000)
    close(soup.model.variables, averaging.mean([trained().model.variables, other.model.variables]))
    assert not tiny.same(trained().model.variables, other.model.variables)
    assert [e["kind"] for e in soup.evidence] == ["train", "train", "soup"]
    assert any("the mean of 2 of 2 runs" in note for note in soup.notes)


def test_the_frozen_are_the_same_to_the_bit_in_a_soup():
    model = trained(soup=2, trainable=("backbone/blocks_0/**",)).model
    moved = tiny.changed(tiny.model().with_head(tiny.LABELS).variables, model.variables)
    assert moved
    assert not any("stem" in name or name.startswith("batch_stats") for name in moved)


def test_a_greedy_soup_is_never_worse_on_its_validation_data_than_its_best_run():
    good = data.Splits(tiny.source(), validation=tiny.source(8, seed=2))
    result = flaxtl.finetune(tiny.model(), good, soup=3, soup_kind="greedy", monitor="loss", **STEPS)
    found = result.evidence[-1]
    assert (found["runs"], len(found["losses"])) == (3, 3)
    assert found["chosen"][0] == 1 + int(np.argmin(found["losses"]))
    logits = result.model.logits(tiny.source(8, seed=2)) / result.model.card.head.temperature
    from flaxtl import metrics

    loss = metrics.loss_and_accuracy(logits, tiny.source(8, seed=2).targets, "classification")[0]
    assert loss <= min(found["losses"]) + 1e-6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"wise": "auto"}, "choose on validation data, and there is none"),
        ({"soup": 2, "soup_kind": "greedy"}, "choose on validation data"),
        ({"wise": 0.5, "strategy": "head"}, "the strategy head trains nothing"),
        ({"soup": 2, "strategy": "scratch"}, "here all begin anew"),
        ({"l2_sp": 0.1, "strategy": "scratch"}, "here all begin anew"),
        ({"soup": 2, "strategy": "gradual"}, "`soup` is for the strategies"),
        ({"wise": 1.5}, "`wise` is 1.5"),
        ({"soup": 0}, "`soup` is 0"),
        ({"layer_decay": 0.0}, "`layer_decay` is 0.0"),
        ({"head": "mean"}, "this strategy solves none"),
    ],
    ids=str,
)
def test_what_means_nothing_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        flaxtl.finetune(tiny.model(), tiny.source(), **{**STEPS, **settings})
