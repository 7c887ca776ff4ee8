"""The logistic path against scikit-learn at tight tolerance."""

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from flaxtl.errors import ConfigError, DataError
from flaxtl.probe import fit_path
from flaxtl.probe.simple_heads import unit_length
from flaxtl.probe.solve import one_hot, principal_axes

STRENGTHS = (1e-3, 1.0, 0.1)


def blobs(n, d, classes, seed=0, distance=0.4, scale=1.0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    x = rng.normal(size=(classes, d))[y] * distance + rng.normal(size=(n, d))
    return (x * scale).astype(np.float32), y


def objective(x, y, w, kernel, bias, strength, total=None):
    """In double precision, of class numbers y; the losses are divided by the total weight of the largest fold."""
    logits = x.astype(np.float64) @ np.asarray(kernel, np.float64) + np.asarray(bias, np.float64)
    losses = -log_softmax(logits, 1)[np.arange(len(y)), y]
    return w @ losses / (total or w.sum()) + 0.5 * strength * np.square(np.asarray(kernel, np.float64)).sum()


def scikit_learn(x, y, w, strength, classes, total):
    """Its solution as (kernel, bias) of a softmax; classes without examples get a bias of -1e4."""
    some = w > 0
    present = np.unique(y[some])
    two = len(present) == 2  # then it has one column u, and ours are -u/2 and u/2: half the squared length
    model = LogisticRegression(
        C=1 / (strength * total * (0.5 if two else 1.0)), tol=1e-9, max_iter=500, solver="newton-cholesky"
    ).fit(x[some].astype(np.float64), y[some], sample_weight=w[some])
    columns, biases = (np.c_[-a.T / 2, a.T / 2] if two else a.T for a in (model.coef_, model.intercept_[:, None]))
    kernel, bias = np.zeros((x.shape[1], classes)), np.full(classes, -1e4)
    kernel[:, present], bias[present] = columns, biases.ravel()
    return kernel, bias


def assert_solved(path, x, y, weights, strengths, classes):
    assert path.converged.all()
    total = weights.sum(1).max()
    for s, strength in enumerate(strengths):
        for f, w in enumerate(weights):
            best = scikit_learn(x, y, w, strength, classes, total)
            lowest = objective(x, y, w, *best, strength, total)
            mine = path.kernel(s, f), path.bias(s, f)
            assert objective(x, y, w, *mine, strength, total) <= lowest * (1 + 1e-5)
            assert path.objective[s, f] == pytest.approx(lowest, rel=1e-5)
            some = w > 0
            assert np.array_equal((x @ mine[0] + mine[1])[some].argmax(1), (x @ best[0] + best[1])[some].argmax(1))


def three_folds(x):
    """All examples; weighted ones; two thirds."""
    rng = np.random.default_rng(1)
    return np.stack([np.ones(len(x)), rng.uniform(0, 3, len(x)), (np.arange(len(x)) % 3 > 0) * 1.0])


CASES = {
    "binary": blobs(90, 10, 2),
    "multiclass": blobs(90, 10, 4),
    "wide": blobs(40, 60, 4),
    "scales": blobs(90, 10, 4, scale=np.logspace(-3, 3, 10)),
    "offset": (blobs(90, 10, 4)[0] + np.float32(100), blobs(90, 10, 4)[1]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_strength_and_fold_is_scikit_learns_solution(case):
    x, y = CASES[case]
    weights = three_folds(x)
    classes = y.max() + 1
    assert_solved(fit_path(x, y, classes, STRENGTHS, weights), x, y, weights, STRENGTHS, classes)


def test_a_class_missing_in_one_fold_gets_no_probability_there():
    x, y = CASES["multiclass"]
    weights = np.stack([np.ones(len(x)), (y != 2) * 1.0, (y < 2) * 1.0])
    path = fit_path(x, y, 4, STRENGTHS, weights)
    assert_solved(path, x, y, weights, STRENGTHS, 4)
    logits = x @ path.kernel(0, 1) + path.bias(0, 1)
    assert log_softmax(logits, 1)[y != 2, 2].max() < np.log(1e-3)
    assert (path.losses[0, 1, y == 2] > np.log(1e3)).all()


def test_constant_features_get_no_weight():
    x, y = CASES["multiclass"]
    x = np.c_[x, np.full((len(x), 2), 7.0)].astype(np.float32)
    path = fit_path(x, y, 4, STRENGTHS)
    assert_solved(path, x, y, np.ones((1, len(x))), STRENGTHS, 4)
    assert np.abs(path.kernel(0)[-2:]).max() < 1e-5
    nothing = fit_path(np.ones((88, 5)), np.arange(88) % 4, 4, [0.1])
    assert nothing.converged.all()
    assert nothing.objective[0, 0] == pytest.approx(np.log(4), rel=1e-6)


def test_label_smoothing_is_a_share_of_every_class():
    x, y = CASES["multiclass"]
    path = fit_path(x, y, 4, STRENGTHS, smoothing=0.2)
    # Each example four times, as each class, weighted by what smoothing says of it.
    many, classes = np.repeat(x, 4, axis=0), np.tile(np.arange(4), len(x))
    shares = np.where(classes == np.repeat(y, 4), 0.85, 0.05)
    assert_solved(path, many, classes, shares[None], STRENGTHS, 4)
    # The reported losses are those of the labels themselves.
    logits = x @ path.kernel(0) + path.bias(0)
    np.testing.assert_allclose(path.losses[0, 0], -log_softmax(logits, 1)[np.arange(len(y)), y], atol=1e-5)
    soft = one_hot(y, 4) * 0.8 + 0.05
    np.testing.assert_allclose(fit_path(x, soft, 4, STRENGTHS).objective, path.objective, rtol=1e-6)


def test_multilabel_is_one_against_the_rest():
    x, y = CASES["multiclass"]
    targets = np.stack([y == 0, y >= 1, (y == 2) | (x[:, 0] > 0), np.zeros(len(y))], 1).astype(np.float32)
    weights = three_folds(x)
    path = fit_path(x, targets, 4, STRENGTHS, weights, task="multilabel")
    assert path.converged.all()
    for s, strength in enumerate(STRENGTHS):
        for f, w in enumerate(weights):
            logits = x @ path.kernel(s, f) + path.bias(s, f)
            total = 0.0
            for k in range(3):
                t = targets[:, k].astype(int)
                model = LogisticRegression(
                    C=1 / (strength * weights.sum(1).max()), tol=1e-9, max_iter=500, solver="newton-cholesky"
                ).fit(x[w > 0].astype(np.float64), t[w > 0], sample_weight=w[w > 0])
                z = model.decision_function(x.astype(np.float64))
                np.testing.assert_allclose(logits[:, k], z, atol=2e-3 * np.abs(z).max())
                losses = np.logaddexp(0, z) - t * z
                total += w @ losses / weights.sum(1).max() + 0.5 * strength * np.square(model.coef_).sum()
            assert path.objective[s, f] == pytest.approx(total, rel=1e-5, abs=1e-5)
            assert logits[:, 3].max() < np.log(1e-3)  # a label that nothing has
            right = ((logits > 0) == (targets > 0.5)).mean(1)
            np.testing.assert_allclose(path.correct[s, f], right, atol=1e-6)


def test_losses_and_hits_are_those_of_every_example_in_each_fold():
    x, y = CASES["wide"]
    weights = three_folds(x)
    path = fit_path(x, y, 4, STRENGTHS, weights)
    for s in range(3):
        for f in range(3):
            logits = x @ path.kernel(s, f) + path.bias(s, f)
            np.testing.assert_allclose(path.losses[s, f], -log_softmax(logits, 1)[np.arange(len(y)), y], atol=2e-5)
            assert np.array_equal(path.correct[s, f], logits.argmax(1) == y)


def test_strengths_come_back_in_the_order_asked_for():
    x, y = CASES["multiclass"]
    there, back = fit_path(x, y, 4, STRENGTHS), fit_path(x, y, 4, STRENGTHS[::-1])
    np.testing.assert_allclose(there.kernel(0), back.kernel(2), rtol=1e-6, atol=1e-7)
    assert np.linalg.norm(there.kernel(0)) > np.linalg.norm(there.kernel(2)) > np.linalg.norm(there.kernel(1))


def test_many_folds_solved_in_turns_are_solved_alike(monkeypatch):
    x, y = CASES["multiclass"]
    weights = np.random.default_rng(0).uniform(0, 1, (3, len(x)))
    together = fit_path(x, y, 4, STRENGTHS, weights)
    monkeypatch.setattr("flaxtl.probe.solve._ELEMENTS", 1)
    apart = fit_path(x, y, 4, STRENGTHS, weights)
    np.testing.assert_allclose(apart.objective, together.objective, rtol=1e-5)
    np.testing.assert_allclose(apart.losses, together.losses, atol=5e-3)
    assert apart.iterations.shape == together.iterations.shape == (3,)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_weak_strength_alone_is_led_to(scale):
    x, y = blobs(90, 10, 4, distance=4.0)
    x = x * np.float32(scale)
    strength = 1e-7 * x.var(0).sum()
    path = fit_path(x, y, 4, [strength])
    assert_solved(path, x, y, np.ones((1, len(x))), [strength], 4)


def test_what_did_not_converge_says_so_and_is_finite():
    x, y = blobs(90, 10, 4, distance=4.0)
    hurried = fit_path(x, y, 4, [1e-3], max_iterations=1)
    assert not hurried.converged.any()
    # Separable, and hardly any penalty: single precision ends long before the solution.
    strengths = x.var(0).sum() * np.logspace(-1, -14, 8)
    path = fit_path(x, y, 4, strengths)
    assert path.converged[0].all()
    assert not path.converged[-1].any()
    assert np.isfinite(path.theta).all()
    assert (np.diff(path.objective[:, 0]) <= 1e-6 * path.objective[0, 0]).all()
    assert path.correct.all()


def test_principal_axes_lose_nothing():
    for n, d in ((30, 8), (8, 30)):
        centred = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
        centred -= centred.mean(0)
        rotated, axes = principal_axes(centred)
        np.testing.assert_allclose(rotated @ axes.T, centred, atol=1e-5)
        np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-5)
    assert [a.shape for a in principal_axes(np.zeros((1, 5), np.float32))] == [(1, 1), (5, 1)]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"features": np.full((4, 2), np.nan)}, DataError, "NaN, infinite"),
        ({"features": np.full((4, 2), 1e30)}, DataError, "extreme"),
        ({"features": np.ones(4)}, DataError, r"expected features \[n, d\]"),
        ({"targets": np.array([0, 1, 2, 1])}, DataError, "from 0 to 2"),
        ({"targets": np.array([0, 1, -1, 1])}, DataError, "no label"),
        ({"targets": np.array([0, 1, 0.5, 1])}, DataError, "whole numbers"),
        ({"targets": np.full((4, 2), 0.7)}, DataError, "sum 1"),
        ({"targets": np.full((4, 2), np.nan), "task": "multilabel"}, DataError, "NaN"),
        ({"targets": np.full((4, 3), 0.5)}, DataError, "3 columns"),
        ({"fold_weights": np.zeros((1, 4))}, DataError, "weight above 0"),
        ({"fold_weights": np.full((1, 4), np.nan)}, DataError, "weight above 0"),
        ({"strengths": [0.0]}, ConfigError, "above 0"),
        ({"strengths": []}, ConfigError, "above 0"),
        ({"smoothing": 1.0}, ConfigError, "smoothing"),
        ({"task": "ranking"}, ConfigError, "ranking"),
    ],
)
def test_what_cannot_be_solved_is_refused(change, error, words):
    good = {"features": np.eye(4, 2), "targets": np.array([0, 1, 0, 1]), "classes": 2, "strengths": [0.1]}
    with pytest.raises(error, match=words):
        fit_path(**{**good, **change})


def test_a_weak_strength_alone_is_solved_as_at_the_end_of_a_path():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(77), 2)
    x = unit_length(rng.normal(size=(77, 96))[y] + 0.6 * rng.normal(size=(154, 96))).astype(np.float32)
    strengths = float(x.var(0).sum()) * np.logspace(0, -5, 11)
    path = fit_path(x, y, 77, strengths)
    for place, strength in enumerate(strengths):
        alone = fit_path(x, y, 77, [strength])
        assert alone.converged.all()
        np.testing.assert_allclose(alone.objective[0], path.objective[place], rtol=1e-3)
