"""Figures at their edges: any small input gives a value within its bounds and scikit-learn's, and never a warning."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sk

from flaxtl import metrics
from flaxtl.errors import DataError

SMALL = settings(max_examples=60, deadline=None)
BOUNDS = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece"), (0.0, 1.0))
BOUNDS |= {"log_loss": (0.0, math.inf), "brier": (0.0, 2.0)}


def table(cell, columns, most):
    """Lists of 1 to `most` rows of so many cells."""
    return st.lists(st.lists(cell, min_size=columns, max_size=columns), min_size=1, max_size=most)


@st.composite
def classified(draw):
    """Probabilities [n, c], targets [n] and weights [n]: ties, zeros, ones, classes and whole rows missing."""
    c, n = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    kind = draw(st.sampled_from(["certain", "tied", "any"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    targets = np.array(draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n)))
    predicted = np.array(draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n)))
    if draw(st.booleans()):  # all right
        predicted = targets
    p = np.eye(c)[predicted]
    if kind == "tied":
        p = np.full((n, c), 1.0 / c)
    elif kind == "any":
        p = softmax(3.0 * p + rng.normal(size=(n, c)), axis=1)
    weights = np.array(draw(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=n, max_size=n)))
    return p, targets, weights if weights.sum() > 0 else None


def assert_consistent(figure, low, high):
    if math.isnan(figure.value):
        assert math.isnan(figure.low)
        assert math.isnan(figure.high)
        return
    assert low - 1e-12 <= figure.value <= high + 1e-12
    assert math.isnan(figure.low) == math.isnan(figure.high)
    if not math.isnan(figure.low):
        assert figure.low <= figure.value <= figure.high
        assert low - 1e-12 <= figure.low
        assert figure.high <= high + 1e-12


@SMALL
@given(classified())
def test_figures_of_any_classifier_are_within_bounds_and_scikit_learns(case):
    p, y, w = case
    labels = [f"class {k}" for k in range(p.shape[1])]
    found = metrics.evaluate(p, y, labels, w, kind="probabilities", resamples=40)
    for name, (low, high) in BOUNDS.items():
        assert_consistent(getattr(found, name), low, high)
    predicted, there = p.argmax(1), np.ones(len(y), bool) if w is None else w > 0
    # Without weight an example is no evidence, not even of which classes there are.
    seen = {"y_true": y[there], "y_pred": predicted[there], "sample_weight": None if w is None else w[there]}
    assert found.accuracy.value == pytest.approx(sk.accuracy_score(**seen))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's own, of the classes that are missing
        # Of the classes that have examples or are predicted.
        assert found.macro_f1.value == pytest.approx(sk.f1_score(**seen, average="macro", zero_division=0))
        recalls = sk.recall_score(**seen, average=None, labels=np.unique(y[there]), zero_division=0)
        loss = sk.log_loss(y, p, sample_weight=w, labels=range(p.shape[1])) if p.shape[1] > 1 else 0.0
    assert found.balanced_accuracy.value == pytest.approx(recalls.mean())
    assert found.log_loss.value == pytest.approx(loss, abs=1e-9)
    areas = [
        sk.roc_auc_score(y[there] == k, p[there, k], sample_weight=seen["sample_weight"])
        for k in np.unique(y[there])
        if not (y[there] == k).all()
    ]
    if areas:
        assert found.auroc.value == pytest.approx(np.mean(areas), abs=1e-9)
    else:
        assert math.isnan(found.auroc.value)
    assert found.summary()
    assert 0.0 < found.majority.share <= 1.0


@SMALL
@given(classified(), st.floats(0.01, 0.99), st.sampled_from(["lac", "aps"]))
def test_sets_bins_and_errors_of_any_classifier(case, alpha, method):
    p, y, _ = case
    conformal, sentence = metrics.fit_conformal(p, y, alpha=alpha, method=method)
    assert sentence
    if conformal is not None:
        held = metrics.prediction_sets(p, conformal)
        assert held.any(1).all()
        assert held[np.arange(len(y)), y].mean() >= 1.0 - alpha - 1e-9
    bins = metrics.reliability(p, y)
    assert sum(b.examples for b in bins) == len(y)
    assert all(-1e-9 <= v <= 1.0 + 1e-9 for b in bins for v in b[1:])
    errors = metrics.most_confident_mistakes(p, y, [str(i) for i in range(len(y))])
    assert len(errors) == (p.argmax(1) != y).sum()


@SMALL
@given(table(st.tuples(st.booleans(), st.sampled_from([-30.0, -1.0, 0.0, 2.0])), 3, 7))
def test_figures_of_any_labels_are_within_bounds_and_scikit_learns(case):
    """Labels that are always or never there, always or never predicted, are among these."""
    y, z = np.moveaxis(np.array(case, float), 2, 0)
    found = metrics.evaluate_multilabel(z, y, list("abc"), resamples=40)
    for name in ("exact", "accuracy", "micro_f1", "macro_f1"):
        assert_consistent(found.figures[name], 0.0, 1.0)
    assert_consistent(found.log_loss, 0.0, math.inf)
    predicted = z > 0
    assert found.exact.value == pytest.approx((predicted == y).all(1).mean())
    assert found.accuracy.value == pytest.approx(1.0 - sk.hamming_loss(y, predicted))
    assert found.baselines["accuracy"] == pytest.approx(1.0 - sk.hamming_loss(y, np.zeros_like(y)))
    for average in ("micro", "macro"):
        theirs = sk.f1_score(y, predicted, average=average, zero_division=np.nan)
        assert found.figures[f"{average}_f1"].value == pytest.approx(theirs, nan_ok=True)
    assert found.summary()


@SMALL
@given(
    st.lists(st.tuples(st.sampled_from([-2.0, 0.0, 1e-9, 3.0, 1e5]), st.floats(-1e6, 1e6)), min_size=1, max_size=8),
    st.sampled_from([1e-12, 1.0, 1e12]),
)
def test_figures_of_any_numbers_are_scikit_learns_in_any_unit(pairs, unit):
    y, z = (unit * np.array([[row[k]] for row in pairs]) for k in (0, 1))
    found = metrics.evaluate_regression(z, y, ["price"], resamples=40)
    assert_consistent(found.mae, 0.0, math.inf)
    assert_consistent(found.mse, 0.0, math.inf)
    assert_consistent(found.r2, -math.inf, 1.0)
    assert found.mae.value == pytest.approx(sk.mean_absolute_error(y, z))
    assert found.mse.value == pytest.approx(sk.mean_squared_error(y, z))
    if np.ptp(y) == 0:
        assert math.isnan(found.r2.value)
        assert "r2" not in found.baselines
    else:
        assert found.r2.value == pytest.approx(sk.r2_score(y, z), rel=1e-6, abs=1e-9)
        assert found.baselines["r2"] == 0.0
    assert found.baselines["mse"] == pytest.approx(np.var(y), rel=1e-6)
    assert found.summary()


@SMALL
@given(table(st.booleans(), 2, 6))
def test_a_corrected_winner_is_within_bounds(rows):
    found = metrics.corrected_winner(np.array(rows, float), larger_is_better=True, resamples=40)
    assert_consistent(found, 0.0, 1.0)


@pytest.mark.parametrize(
    ("targets", "predicted"),
    [
        ([0] * 4 + [2] * 4, [0] * 4 + [1] * 4),  # one class right, another taken for a third
        ([0] * 3 + [1] * 3 + [2] * 3, [1] * 3 + [0] * 3 + [2] * 3),  # two classes swapped
        ([0, 0, 1, 1], [1, 1, 0, 0]),  # everything wrong
        ([0, 0, 0], [2, 2, 2]),  # a class that has no examples
        ([1], [0]),
    ],
)
def test_macro_f1_of_classes_that_are_wholly_right_or_wrong_has_an_interval(targets, predicted):
    logits = np.eye(3)[predicted] * 2.0
    found = metrics.evaluate(logits, np.array(targets), ["a", "b", "c"], kind="logits").macro_f1
    assert found.value == pytest.approx(sk.f1_score(targets, predicted, average="macro"))
    assert 0.0 <= found.low <= found.value <= found.high < 1.0


def test_scores_that_rank_everything_wrong_have_an_interval():
    p = np.array([[0.1, 0.9]] * 5 + [[0.9, 0.1]] * 5)
    found = metrics.evaluate(p, np.repeat([0, 1], 5), ["a", "b"], resamples=20).auroc
    assert (found.value, found.low) == (0.0, 0.0)
    assert 0.2 < found.high < 0.7


def test_many_certain_predictions_do_not_warn():
    """With more than 10,000 examples the calibration error's drawings are normal; a variance must not fall below 0."""
    logits = np.tile([[40.0, 0.1, 0.2]], (10_500, 1))
    found = metrics.evaluate(logits, np.zeros(10_500, int), list("abc"), kind="logits", resamples=10)
    assert found.ece.value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("probabilities", "targets", "words"),
    [
        ([[np.nan, 0.5]], [0], "NaN or numbers outside"),
        ([[1.2, -0.2]], [0], "NaN or numbers outside"),
        ([[0.5, 0.5]], [2], "other numbers than those of the classes, 0 to 1"),
        ([[0.5, 0.5]], [0, 1], "expected \\[n, classes\\] and \\[n\\]"),
    ],
)
def test_probabilities_that_are_none_are_refused(probabilities, targets, words):
    p, y = np.array(probabilities), np.array(targets)
    for take in (metrics.reliability, lambda p, y: metrics.most_confident_mistakes(p, y, ["a"])):
        with pytest.raises(DataError, match=words):
            take(p, y)
    if not np.isnan(p).any():  # of examples that were never held out
        with pytest.raises(DataError, match=words):
            metrics.fit_conformal(p, y)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e80])
def test_outputs_without_finite_figures_are_refused(value):
    with pytest.raises(DataError):
        metrics.evaluate(np.array([[value, 0.0]]), np.array([0]), ["a", "b"])
    with pytest.raises(DataError):
        metrics.evaluate_regression(np.array([[value]]), np.array([[0.0]]), ["a"])


def test_the_constant_answer_stands_beside_each_main_figure():
    logits = np.eye(2)[[0] * 9 + [1]]
    found = metrics.evaluate(logits, np.array([0] * 5 + [1] * 5), ["rose", "daisy"], resamples=20)
    assert "accuracy 60.0% [" in found.headline()
    assert found.headline().endswith("always answering 'rose': 50.0%")
    assert found.to_dict()["majority"] == {"label": "rose", "accuracy": 0.5}
    labels = metrics.evaluate_multilabel(-np.ones((4, 5)), np.eye(5)[:4], list("abcde"), resamples=20)
    assert "never answering any label: exact match 0.0%, right labels 80.0%" in labels.headline()
    numbers = metrics.evaluate_regression(np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]]), ["price"], resamples=20)
    assert "predicting the mean: R² 0.000, mean absolute error 1" in numbers.headline()
    assert "accuracy" not in numbers.summary()


@pytest.mark.parametrize(
    ("predicted", "words"),
    [
        ([0] * 12, "Predicts only 1 of 3 classes: daisy."),
        ([0] * 8 + [1] * 4, "Predicts only 2 of 3 classes; never predicted: rose. All their examples (33.3% of all)"),
    ],
)
def test_classes_that_are_never_predicted_are_noted(predicted, words):
    y = np.repeat([0, 1, 2], 4)
    found = metrics.evaluate(3.0 * np.eye(3)[predicted], y, ["daisy", "tulip", "rose"], kind="logits", resamples=20)
    assert found.notes()[0].startswith(words)
    assert "`class_weight='auto'`" in found.notes()[0]
    assert f"note: {words}" in found.summary()
    assert "note" not in found.summary(notes=False)
    assert found.to_dict()["never_predicted"] == list(found.never_predicted)
    assert "rose" in found.never_predicted


def test_a_single_example_that_is_misclassified_is_no_note():
    few = metrics.evaluate(3.0 * np.eye(3)[[0, 1, 1]], np.array([0, 1, 2]), list("abc"), kind="logits", resamples=20)
    assert few.never_predicted == ("c",)
    assert not few.notes()
    right = metrics.evaluate(3.0 * np.eye(3)[[0, 0]], np.array([0, 0]), list("abc"), kind="logits", resamples=20)
    assert not right.notes()  # the others have no examples


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([10, 3, 2], "these have less than a third of that: tulip (3), rose (2)."),
        ([30, 3, 0], "daisy has 30 examples, but these have less than a third of that: tulip (3)."),
        ([9, 3, 3], ""),
        ([5, 0, 0], ""),
    ],
)
def test_unequal_classes_are_noted(counts, words):
    note = metrics.unequal_note(np.array(counts), ["daisy", "tulip", "rose"])
    assert words in note
    assert bool(note) == bool(words)
    assert "class_weight" not in metrics.unequal_note(np.array(counts), ["daisy", "tulip", "rose"], weighted=True)
