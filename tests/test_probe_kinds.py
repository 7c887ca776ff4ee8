"""Other ways to a head: nearest class means, ridge regression, brightness noise in feature space, class weights."""

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import flaxtl
from flaxtl import data
from flaxtl.errors import ConfigError
from flaxtl.probe import solve_head
from flaxtl.probe.noise import brightened
from flaxtl.probe.simple_heads import nearest_class_mean, solve_ridge, unit_length

KINDS = ("mean", "ridge")


def examples(per_class=6, d=10, classes=4, seed=0, spread=2.0):
    centres = np.random.default_rng(7).normal(size=(classes, d))
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(classes), per_class)
    return (spread * centres[targets] + rng.normal(size=(len(targets), d))).astype(np.float32), targets


@pytest.mark.parametrize("kind", KINDS)
def test_it_generalises_and_its_probabilities_are_calibrated(kind):
    x, y = examples()
    head = solve_head(x, y, 4, kind=kind)
    assert head.cv.possible
    new, wanted = examples(per_class=200, seed=1)
    logits = head.logits(new) / head.temperature
    assert (logits.argmax(-1) == wanted).mean() > 0.8
    shifted = logits - logits.max(-1, keepdims=True)
    loss = (np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(wanted)), wanted]).mean()
    assert head.cv.best.loss == pytest.approx(loss, abs=0.25)
    assert loss < 0.6 < np.log(4)
    assert 0.02 < head.temperature < 50


def test_the_mean_head_decides_as_the_nearest_class_mean():
    x, y = examples()
    head = solve_head(x, y, 4, kind="mean")
    assert head.scaling == "unit"
    kernel, bias = nearest_class_mean(x, y, 4)
    new, _ = examples(per_class=50, seed=2)
    assert (head.logits(new).argmax(-1) == (unit_length(new) @ kernel + bias).argmax(-1)).all()


def test_the_ridge_head_is_the_regression_on_one_hot_targets_up_to_its_scale():
    x, y = examples()
    head = solve_head(x, y, 4, kind="ridge", scalings=("unit",))
    path = solve_ridge(unit_length(x), np.eye(4)[y], [head.strength])
    scale = np.linalg.norm(head.kernel) / np.linalg.norm(path.kernel[0])
    np.testing.assert_allclose(head.kernel, scale * path.kernel[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.bias, scale * path.bias[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_means_held_out(kind):
    """What cross-validation says of labels that mean nothing is chance."""
    x, y = examples(per_class=15, spread=0.0)
    assert solve_head(x, y, 4, kind=kind).cv.best.accuracy < 0.45


@pytest.mark.parametrize("kind", ["logistic", *KINDS])
@pytest.mark.parametrize(
    "case", ["one a class", "two classes", "constant", "n > d", "d > n", "a class without examples", "3 and 300"]
)
def test_small_and_odd_data(kind, case):
    x, y, classes = *examples(), 4
    if case == "one a class":
        x, y = examples(per_class=1)
    elif case == "two classes":
        x, y, classes = *examples(classes=2), 2
    elif case == "constant":
        x = np.concatenate([x, np.full((len(x), 3), 5.0, np.float32)], 1)
    elif case == "n > d":
        x, y = examples(per_class=20, d=3)
    elif case == "d > n":
        x, y = examples(per_class=3, d=60)
    elif case == "a class without examples":
        classes = 5
    else:
        x, y = examples(per_class=300, classes=2)
        x, y, classes = x[:303], y[:303], 2
    head = solve_head(x, y, classes, kind=kind)
    logits = head.logits(x)
    assert logits.shape == (len(x), classes)
    assert np.isfinite(logits).all()
    assert np.isfinite(head.temperature)
    assert (logits.argmax(-1) == y).mean() > 0.6
    assert head.cv.possible is (case != "one a class")


def test_what_there_is_no_head_for_is_refused():
    x, y = examples()
    with pytest.raises(ConfigError, match="The head is 'magic'"):
        solve_head(x, y, 4, kind="magic")
    with pytest.raises(ConfigError, match="only for classification"):
        solve_head(x, np.eye(4)[y], 4, kind="ridge", task="multilabel")


# Noise


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 100), st.floats(0.0, 2.0))
def test_noise_stays_within_each_channels_range(seed, strength):
    x = np.random.default_rng(seed).normal(size=(7, 5)).astype(np.float32)
    x[:, 2] = 3.0
    for copy in brightened(x, strength, copies=3, seed=seed):
        assert copy.shape == x.shape
        assert (copy >= x.min(0) - 1e-5).all()
        assert (copy <= x.max(0) + 1e-5).all()
        np.testing.assert_allclose(copy[:, 2], 3.0)
        assert (np.abs(copy - x) <= strength * np.ptp(x, axis=0) + 1e-5).all()


def test_copies_differ_and_come_from_the_seed():
    x, _ = examples()
    one, two = brightened(x, 0.5, copies=2)
    assert not np.array_equal(one, two)
    assert np.array_equal(one, brightened(x, 0.5, copies=2)[0])
    assert not np.array_equal(one, brightened(x, 0.5, copies=2, seed=1)[0])


# In a run


@pytest.mark.parametrize("more", [{"head": "mean"}, {"head": "ridge"}, {"feature_noise": 0.3}], ids=str)
def test_a_run_with_another_head_learns_and_predicts_what_it_measured(more, tmp_path):
    result = flaxtl.finetune(tiny.model(), tiny.source(), strategy="head", out=tmp_path / "r", **more)
    plain = flaxtl.finetune(tiny.model(), tiny.source(), strategy="head")
    assert not tiny.same(result.model.params["head"], plain.model.params["head"])
    assert flaxtl.evaluate(result.model, tiny.source(8, seed=1)).accuracy.value > 0.6
    found = flaxtl.load(tmp_path / "r").predict(tiny.pictures()[0])
    assert tiny.same(found.probabilities, result.model.predict(tiny.pictures()[0]).probabilities)


def uneven():
    """Two examples of one class and ten of each other."""
    inputs, targets = tiny.pictures(per_class=10)
    kept = np.flatnonzero((targets != 1) | (np.arange(30) < 12))
    return data.from_arrays(inputs[kept], targets[kept], labels=tiny.LABELS)


@pytest.mark.parametrize("strategy", ["head", "full", "cut"])
def test_a_rare_class_counts_as_much_as_others_if_asked(strategy):
    settings = {"strategy": strategy, "epochs": 4, "batch_size": 8, "learning_rate": 0.01}

    def said(**more):
        model = flaxtl.finetune(tiny.model(), uneven(), **settings, **more).model
        return model.predict(tiny.pictures(per_class=20, seed=4)[0]).probabilities[:, 1].mean()

    assert said(class_weight="auto") > said()


@pytest.mark.parametrize("by_name", [False, True])
def test_weights_of_classes_are_weights_of_examples(by_name):
    source = uneven()
    weights = {0: 22 / 30, 1: 22 / 6, 2: 22 / 30}
    asked = {tiny.LABELS[number]: weight for number, weight in weights.items()} if by_name else "auto"
    own = data.from_arrays(
        np.stack(source.raw),
        np.asarray(source.targets),
        labels=tiny.LABELS,
        weights=np.array([weights[int(t)] for t in source.targets], np.float32),
    )
    settings = {"strategy": "full", "epochs": 2, "batch_size": 8}
    one = flaxtl.finetune(tiny.model(), source, class_weight=asked, **settings).model
    two = flaxtl.finetune(tiny.model(), own, **settings).model
    for a, b in zip(np.ravel(one.params["head"]["kernel"]), np.ravel(two.params["head"]["kernel"]), strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
