"""Figures of several labels and of numbers, against their definitions and scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from flaxtl.errors import DataError
from flaxtl.metrics import evaluate_multilabel, evaluate_regression


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_figures_of_several_labels_are_scikit_learns(rng):
    y = rng.integers(0, 2, (60, 4))
    z = rng.normal(size=(60, 4)) + y
    found, said = evaluate_multilabel(z, y, list("abcd")), z > 0
    assert found.micro_f1.value == pytest.approx(sk.f1_score(y, said, average="micro"))
    assert found.macro_f1.value == pytest.approx(sk.f1_score(y, said, average="macro"))
    assert found.accuracy.value == pytest.approx(1.0 - sk.hamming_loss(y, said))
    assert found.exact.value == pytest.approx(sk.accuracy_score(y, said))
    p = 1.0 / (1.0 + np.exp(-z))
    losses = [sk.log_loss(y[:, k], p[:, k]) for k in range(4)]
    assert found.log_loss.value == pytest.approx(np.mean(losses))
    assert [row.support for row in found.outputs] == y.sum(0).tolist()
    for figure in found.figures.values():
        assert figure.low < figure.value < figure.high


def test_figures_of_numbers_are_scikit_learns(rng):
    y = rng.normal(size=(50, 2)) * [1.0, 100.0] + 1e4
    z = y + rng.normal(size=(50, 2))
    found = evaluate_regression(z, y, ["a", "b"])
    assert found.r2.value == pytest.approx(sk.r2_score(y, z))
    assert found.mae.value == pytest.approx(sk.mean_absolute_error(y, z))
    assert found.mse.value == pytest.approx(sk.mean_squared_error(y, z))
    assert found.outputs[0].figures["r2"] == pytest.approx(sk.r2_score(y[:, 0], z[:, 0]))
    for figure in found.figures.values():
        assert figure.low < figure.value < figure.high


def test_the_intervals_of_means_cover_what_they_should():
    """Of 150 samples whose mean is known, nine tenths and more have it in their 95 % interval."""
    inside = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=(40, 1))
        error = rng.normal(size=(40, 1))
        figure = evaluate_regression(y + error, y, ["a"], resamples=200, seed=seed).mse
        inside += figure.low <= 1.0 <= figure.high
    assert inside >= 0.85 * 150


def test_where_the_data_cannot_tell_there_is_no_interval():
    one = evaluate_regression(np.array([[1.0]]), np.array([[2.0]]), ["a"])
    assert np.isnan(one.r2.value)
    assert one.mae.value == 1.0
    assert np.isnan(one.mae.low)
    right = evaluate_multilabel(np.array([[1.0], [-1.0]]), np.array([[1], [0]]), ["a"])
    assert (right.accuracy.value, right.accuracy.low) == (1.0, right.exact.low)
    assert right.exact.low < 1.0
    assert np.isnan(right.micro_f1.low)
    never = evaluate_multilabel(-np.ones((3, 2)), np.zeros((3, 2)), ["a", "b"])
    assert np.isnan(never.micro_f1.value)
    assert never.to_dict()["micro_f1"]["value"] is None
    assert "unknown" in never.summary()


@pytest.mark.parametrize(
    ("outputs", "targets", "labels", "words"),
    [
        (np.zeros((2, 1)), np.zeros((3, 1)), ["a"], "expected outputs and targets"),
        (np.zeros((2, 1)), np.zeros((2, 1)), ["a", "b"], "2 names"),
        (np.zeros((0, 1)), np.zeros((0, 1)), ["a"], "at least one example"),
        (np.full((2, 1), np.nan), np.zeros((2, 1)), ["a"], "NaN or infinite"),
    ],
)
def test_what_cannot_be_measured(outputs, targets, labels, words):
    with pytest.raises(DataError, match=words):
        evaluate_regression(outputs, targets, labels)


def test_an_unknown_figure_is_no_attribute():
    with pytest.raises(AttributeError, match="there are r2, mae, mse"):
        evaluate_regression(np.zeros((2, 1)), np.ones((2, 1)), ["a"]).accuracy  # noqa: B018
