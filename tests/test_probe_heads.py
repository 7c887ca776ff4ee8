"""Heads without iterations, scalings, and a solved head in its model's place."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from flaxtl import paths
from flaxtl.card import Array, Card, Head
from flaxtl.data import from_arrays
from flaxtl.errors import ConfigError, DataError
from flaxtl.model import Model
from flaxtl.nets.adapt import LinenModule
from flaxtl.probe import simple_heads as heads
from flaxtl.probe import solve_head
from flaxtl.probe.attach import attach, solve_and_attach

RNG = np.random.default_rng(0)
STRENGTHS = (1e-3, 0.1, 10.0)


def regression(n, d, outputs=2):
    x = RNG.normal(size=(n, d)) + 5.0
    return x, x @ RNG.normal(size=(d, outputs)) + RNG.normal(size=(n, outputs)) - 3.0


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 50), (5, 1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_is_scikit_learns(n, d, weighted):
    x, y = regression(n, d)
    w = RNG.uniform(0.1, 4, n) if weighted else np.ones(n)
    path = heads.solve_ridge(x, y, STRENGTHS, sample_weight=w if weighted else None)
    for s, strength in enumerate(STRENGTHS):
        best = Ridge(alpha=strength * w.sum(), solver="svd" if not weighted else "cholesky").fit(x, y, sample_weight=w)
        np.testing.assert_allclose(path.kernel[s], best.coef_.T.reshape(d, 2), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(path.bias[s], best.intercept_, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "d"), [(30, 6), (12, 50)])
def test_held_out_predictions_are_those_of_solving_without_the_set(n, d):
    x, y = regression(n, d)
    w = RNG.uniform(0.1, 4, n)
    w[5] = 0.0
    sets = [np.array([0, 3, 5]), np.arange(6, n - 2), np.array([1])]
    path = heads.solve_ridge(x, y, STRENGTHS, sample_weight=w, held_out=sets)
    each = heads.solve_ridge(x, y, STRENGTHS, sample_weight=w).held_out
    assert len(each) == n
    for s, strength in enumerate(STRENGTHS):
        for b, found in [*zip(sets, path.held_out, strict=True), (np.array([2]), each[2]), (np.array([5]), each[5])]:
            rest = np.setdiff1d(np.arange(n), b)
            without = Ridge(alpha=strength * w.sum()).fit(x[rest], y[rest], sample_weight=w[rest])
            np.testing.assert_allclose(found[s], without.predict(x[b]), rtol=1e-4, atol=1e-4)


def test_ridge_of_constant_features_says_the_mean():
    path = heads.solve_ridge(np.full((6, 3), 2.0), np.arange(6.0), [0.1])
    assert path.bias[0, 0] + 2.0 * path.kernel[0].sum() == pytest.approx(2.5)
    assert path.held_out[0][0, 0, 0] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strengths": [0.0]}, "above 0"),
        ({"sample_weight": np.zeros(4)}, "sum 0"),
        ({"sample_weight": np.array([2.0, -1, 1, 1])}, "above 0"),
        ({"targets": np.ones(3)}, "3 targets"),
        ({"features": np.full((4, 2), np.nan)}, "NaN"),
        ({"held_out": [np.arange(4)]}, "nothing is left"),
    ],
)
def test_impossible_ridge_is_refused(change, words):
    good = {"features": np.eye(4, 2), "targets": np.arange(4.0), "strengths": [0.1]}
    with pytest.raises(DataError, match=words):
        heads.solve_ridge(**{**good, **change})


def test_scalings():
    x = RNG.normal(size=(50, 4)).astype(np.float32) * [1, 100, 1e-4, 0] + np.array([0, 1000, 0, 5], np.float32)
    x = x.astype(np.float32)
    scaled, shift, factor = heads.scale(x, "standard")
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(0), [1, 1, 1, 0], atol=1e-4)
    np.testing.assert_allclose((x - shift) * factor, scaled, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(heads.scale(x, "unit")[0], axis=1), 1.0, rtol=1e-6)
    assert np.array_equal(heads.scale(x, "none")[0], x)
    root = heads.scale(x, "root")[0]
    np.testing.assert_allclose(np.sign(root) * root**2, x / np.abs(x).sum(1, keepdims=True), rtol=1e-5)
    almost = np.float32(0.1) * np.ones((50, 1), np.float32)
    almost[0] = np.nextafter(almost[0], 1)  # rounding is no signal
    assert not heads.scale(almost, "standard")[0].any()


def test_the_nearest_class_mean_is_scikit_learns():
    y = np.arange(60) % 3
    x = RNG.normal(size=(60, 8)) + RNG.normal(size=(3, 8))[y]
    kernel, bias = heads.nearest_class_mean(x, y, 4)
    queries = heads.unit_length(RNG.normal(size=(200, 8)))
    said = (queries @ kernel + bias).argmax(1)
    assert np.array_equal(said, NearestCentroid().fit(heads.unit_length(x), y).predict(queries))
    assert 3 not in said  # a class without examples
    weighted = heads.nearest_class_mean(x, y, 4, sample_weight=(np.arange(60) < 30) * 2.0)
    np.testing.assert_allclose(weighted[0], heads.nearest_class_mean(x[:30], y[:30], 4)[0], atol=1e-6)


def test_nearest_neighbours_vote_by_similarity():
    y = np.arange(60) % 3
    x, queries = RNG.normal(size=(60, 8)), RNG.normal(size=(40, 8))
    one = heads.nearest_neighbours(x, y, 4, queries)
    assert np.array_equal(one.argmax(1), KNeighborsClassifier(1, metric="cosine").fit(x, y).predict(queries))
    model = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.exp(-distance / 0.2)).fit(x, y)
    several = heads.nearest_neighbours(x, y, 4, queries, k=7, temperature=0.2)
    np.testing.assert_allclose(several[:, :3], model.predict_proba(queries), atol=1e-5)
    np.testing.assert_allclose(heads.nearest_neighbours(x, y, 3, queries, k=1000).sum(1), 1.0, atol=1e-5)
    with pytest.raises(ConfigError, match="k is 0"):
        heads.nearest_neighbours(x, y, 3, queries, k=0)


class Small(nn.Module):
    outputs: int = 4
    bias: bool = True

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs, use_bias=self.bias, name="top")(jnp.tanh(nn.Dense(10, name="body")(x)))


def model(**settings):
    network = LinenModule(Small(**settings), head="top")
    card = Card(input=Array(shape=(6,)), heads=(Head(path="top", labels=tuple("abcd")),))
    return Model(network, network.init(0, np.zeros((1, 6), np.float32)), card)


def source(n=90, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = 0.7 * np.random.default_rng(9).normal(size=(4, 6))[y] + rng.normal(size=(n, 6))
    return from_arrays(x.astype(np.float32), y, labels="abcd", modality="array")


@pytest.mark.parametrize(("scaling", "normalise"), [("unit", "rms"), ("root", "root"), ("standard", "none")])
def test_the_attached_head_says_what_the_solved_one_says(scaling, normalise):
    before, data = model(), source()
    features = before.features(data)
    head = solve_head(features, data.targets, 4, scalings=(scaling,), strengths=STRENGTHS, folds=2, repeats=1)
    after = attach(before, head)
    np.testing.assert_allclose(after.logits(data), head.logits(features), atol=2e-5)
    assert after.card.head.normalise == normalise
    probabilities = np.exp(head.logits(features) / head.temperature)
    np.testing.assert_allclose(
        after.predict(data).values, probabilities / probabilities.sum(1, keepdims=True), atol=2e-5
    )
    assert np.array_equal(after.params["body"]["kernel"], before.params["body"]["kernel"])
    again = attach(after, head)  # its features are the backbone's, whatever its head does to them
    assert np.array_equal(after.features(data), features)
    assert np.array_equal(again.params["top"]["kernel"], after.params["top"]["kernel"])


def test_solving_on_a_model_finds_the_classes_and_reports_it():
    data, unseen = source(), source(seed=1)
    solved, found, _ = solve_and_attach(model(), data)
    accuracy = (solved.logits(unseen).argmax(1) == unseen.targets).mean()
    assert accuracy > 0.6
    chosen = found["cross_validation"]["rows"][found["cross_validation"]["chosen"]]
    assert chosen["accuracy"] == pytest.approx(accuracy, abs=0.15)
    assert found["features"] == 10
    assert found["converged"]
    assert (found["scaling"], found["strength"]) == (chosen["scaling"], chosen["strength"])
    assert solved.card.head.temperature == found["temperature"]
    assert "solved on 10 frozen features" in solved.notes[-1]


def test_groups_of_the_source_are_not_divided_by_cross_validation():
    # Examples of a group are alike and have its label, which says nothing of another group's.
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(30), 3)
    x = rng.normal(size=(30, 6))[group] * 2 + 0.01 * rng.normal(size=(90, 6))
    data = from_arrays(x.astype(np.float32), rng.permutation(np.arange(30) % 4)[group], labels="abcd", modality="array")

    def cross_validated(source):
        return solve_and_attach(model(), source)[1]["cross_validation"]

    def best(found):
        return max(row["accuracy"] for row in found["rows"])

    divided = best(cross_validated(data))
    whole = best(cross_validated(dataclasses.replace(data, groups=tuple(f"speaker {g}" for g in group))))
    assert divided > 0.7 > 0.5 > whole


def test_models_and_data_that_no_head_can_be_solved_for_are_refused():
    one = source().subset(range(0, 90, 4))
    with pytest.raises(DataError, match="holds 1 class"):
        solve_and_attach(model(), one)
    bad = model()
    bad = bad.with_variables(with_nan(bad.variables))
    with pytest.raises(DataError, match="not finite"):
        solve_and_attach(bad, source())
    with pytest.raises(ConfigError, match="dense layer's kernel and bias"):
        solve_and_attach(model(bias=False), source())


def with_nan(variables):
    body = {**variables["params"]["body"], "bias": np.full(10, np.nan, np.float32)}
    return {**variables, paths.PARAMS: {**variables["params"], "body": body}}
