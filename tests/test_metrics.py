"""Measures against scikit-learn, intervals against their formulas and by simulation, calibration."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from sklearn import metrics as reference

from flaxtl import metrics
from flaxtl.errors import ConfigError, DataError
from flaxtl.metrics.student import freedom, quantile

LABELS = ["ant", "bee", "cat", "dog"]


def drawn(n=200, classes=4, seed=0, sharpness=1.5):
    """Logits, and targets drawn from the probabilities that they say: calibrated by construction."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * sharpness
    return logits, (rng.uniform(size=(n, 1)) > softmax(logits, 1).cumsum(1)).sum(1)


@pytest.mark.parametrize("weighted", [False, True])
def test_figures_equal_those_of_scikit_learn(weighted):
    logits, y = drawn()
    p, said = softmax(logits, 1), logits.argmax(1)
    w = np.random.default_rng(1).uniform(0.1, 3.0, len(y)) if weighted else None
    found = metrics.evaluate(logits, y, LABELS, w, resamples=20)
    one_hot = np.eye(4)[y]
    by_hand = {
        "accuracy": reference.accuracy_score(y, said, sample_weight=w),
        "balanced_accuracy": reference.balanced_accuracy_score(y, said, sample_weight=w),
        "macro_f1": reference.f1_score(y, said, average="macro", sample_weight=w),
        "auroc": np.mean([reference.roc_auc_score(y == k, p[:, k], sample_weight=w) for k in range(4)]),
        "log_loss": reference.log_loss(y, p, sample_weight=w),
        "brier": np.average(np.square(p - one_hot).sum(1), weights=w),
    }
    for name, value in by_hand.items():
        assert found.figures[name].value == pytest.approx(value, rel=1e-9), name
    np.testing.assert_allclose(found.confusion, reference.confusion_matrix(y, said, sample_weight=w))
    precision, recall, f1, _ = reference.precision_recall_fscore_support(y, said, sample_weight=w)
    np.testing.assert_allclose([r.precision for r in found.classes], precision)
    np.testing.assert_allclose([r.recall.value for r in found.classes], recall)
    np.testing.assert_allclose([r.f1 for r in found.classes], f1)
    assert [r.support for r in found.classes] == np.bincount(y).tolist()


def test_ties_count_half_in_auroc():
    p = np.array([0.5, 0.5, 0.5, 0.9, 0.1, 0.9])
    y = np.array([1, 0, 1, 1, 0, 0])
    found = metrics.evaluate(np.stack([1 - p, p], 1), y, ["no", "yes"], resamples=10)
    assert found.auroc.value == pytest.approx(reference.roc_auc_score(y, p))


def test_probabilities_and_logits_give_the_same():
    logits, y = drawn()
    a = metrics.evaluate(logits, y, LABELS, resamples=100)
    b = metrics.evaluate(softmax(logits, 1), y, LABELS, resamples=100)
    for name, figure in a.figures.items():
        np.testing.assert_allclose(list(vars(b.figures[name]).values()), list(vars(figure).values()), rtol=1e-9)
    c = metrics.evaluate(softmax(logits, 1), y, LABELS, resamples=100, kind="logits")
    assert c.log_loss.value != pytest.approx(a.log_loss.value, rel=0.01)


def test_wilson_is_the_textbook_formula():
    # Wilson (1927): the ends are the roots p of (share - p)² = z² p (1 - p) / n.
    for level, z in ((0.95, 1.959963984540054), (0.9, 1.6448536269514722)):
        for k, n in ((0, 7), (1, 9), (5, 10), (33, 40), (12, 12)):
            share = k / n
            ends = np.sort(np.roots([1 + z * z / n, -(2 * share + z * z / n), share**2]).real)
            found = metrics.wilson(k, n, level)
            assert found.value == share
            np.testing.assert_allclose([found.low, found.high], ends, atol=1e-7)
    assert math.isnan(metrics.wilson(0, 0).value)


def test_wilson_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for n in (10, 40, 200):
        ends = np.array([[f.low, f.high] for f in (metrics.wilson(k, n) for k in range(n + 1))])
        truth = rng.uniform(0.05, 0.95, 20_000)
        low, high = ends[rng.binomial(n, truth)].T
        assert 0.94 <= ((low <= truth) & (truth <= high)).mean() <= 0.965


@pytest.mark.parametrize(
    ("size", "truth"),
    [([6, 20, 12], [0.95, 0.7, 0.9]), ([4] * 10, [0.8] * 10), ([40, 5], [0.95, 0.5]), ([1000, 3], [0.5, 0.3])],
)
def test_the_mean_of_shares_covers_the_truth(size, truth):
    hits = np.random.default_rng(0).binomial(size, truth, (2000, len(size)))
    figures = [metrics.mean_of_shares(row, size) for row in hits]
    covered = np.mean([f.low <= np.mean(truth) <= f.high for f in figures])
    assert 0.93 <= covered <= 0.985


def test_the_mean_of_perfect_shares_has_a_width():
    everything = metrics.mean_of_shares([6, 20, 12], [6, 20, 12])
    assert everything.value == 1.0 == everything.high
    assert everything.low < 0.9
    assert math.isnan(metrics.mean_of_shares([0], [0]).value)
    assert metrics.mean_of_shares([3, 0], [4, 0]).value == 0.75


def covered(population, n, draws, resamples=150):
    """The share of draws whose intervals hold the truth of a population of logits and targets, by figure."""
    logits, y = population
    labels = [str(k) for k in range(logits.shape[1])]
    truth = {k: f.value for k, f in metrics.evaluate(logits, y, labels, resamples=1).figures.items()}
    rng = np.random.default_rng(7)
    held = dict.fromkeys(truth, 0)
    for _ in range(draws):
        rows = rng.integers(len(y), size=n)
        found = metrics.evaluate(logits[rows], y[rows], labels, resamples=resamples, kind="logits").figures
        for name in held:
            held[name] += found[name].low <= truth[name] <= found[name].high
    return {name: count / draws for name, count in held.items()}


def test_every_interval_covers_the_truth():
    found = covered(drawn(40_000, 3, seed=99), n=80, draws=250)
    for name, share in found.items():
        assert share >= 0.95 - 3 * 0.0138, name  # three standard errors of 250 draws
    assert max(found["log_loss"], found["accuracy"]) < 0.99  # nor are they wider than they need be


def test_few_examples_without_a_mistake_do_not_promise_that_there_is_none():
    """Almost perfect and far too sure: most draws of 40 hold no mistake, and their losses tell nothing of one."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=40_000)
    seen = rng.normal(size=(40_000, 2))
    seen[np.arange(40_000), y] += 3.0
    found = covered((12.0 * seen, y), n=40, draws=150)
    assert min(found["log_loss"], found["ece"], found["auroc"]) > 0.9


@pytest.mark.slow
def test_a_rare_class_does_not_make_intervals_too_narrow():
    """Four of 40 examples are of the rarest class: with the normal quantile the truth was held in 93 and 88%."""
    rng = np.random.default_rng(0)
    y = rng.choice(3, size=40_000, p=(0.7, 0.2, 0.1))
    seen = rng.normal(size=(40_000, 3))
    seen[np.arange(40_000), y] += 1.5
    found = covered((1.5 * seen + np.log((0.7, 0.2, 0.1)), y), n=40, draws=500)
    assert found["auroc"] >= 0.945
    assert found["macro_f1"] >= 0.89


def test_degrees_of_freedom_are_those_of_the_class_that_decides():
    y, alike = np.repeat([0, 1], [36, 4]), np.ones(40)
    target = np.eye(3)[y]  # of the third class there are no examples
    assert freedom(alike, target, alike) > 30.0
    decisive = np.where(y == 1, 1.0, 1e-6)
    assert freedom(decisive, target, alike) == pytest.approx(3.0, rel=1e-6)
    # An example of weight 0 is not there, and the scale of the weights does not matter.
    weights = np.r_[np.full(39, 2.0), 0.0]
    assert freedom(weights * decisive, target, weights) == pytest.approx(2.0, rel=1e-6)
    # One misplaced example among many: its square is known from itself alone.
    moved = np.r_[1.0, np.full(39, 1e-3)]
    assert freedom(moved, np.ones((40, 1)), alike) == pytest.approx(39.0)
    assert freedom(moved, np.ones((40, 1)), alike, heavy_tails=True) < 3.0
    assert quantile(0.975, 3.0) == pytest.approx(3.182, abs=1e-3)


@pytest.mark.slow
def test_the_published_coverage_is_what_the_script_measures():
    file = Path(__file__).parent.parent / "scripts" / "simulate_intervals.py"
    spec = importlib.util.spec_from_file_location("simulate_intervals", file)
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    found = script.coverage(script.POPULATIONS[2], n=200, draws=2000, resamples=400)
    for name in ("accuracy", "macro_f1", "log_loss", "brier"):
        assert 0.94 <= found[name][1] <= 0.96, name
    assert 0.949 <= script.exact_coverage_of_accuracy(500, np.arange(0.5, 0.99, 0.001)).mean() <= 0.953


def test_calibration_error_of_calibrated_predictions_is_small():
    logits, y = drawn(20_000)
    found = metrics.evaluate(logits, y, LABELS, resamples=20)
    assert found.ece.value < 0.015
    overconfident = metrics.evaluate(3 * logits, y, LABELS, resamples=20)
    assert overconfident.ece.value > 0.1
    assert overconfident.ece.low <= overconfident.ece.value <= overconfident.ece.high
    # 100 examples show an error of some 0.11 by chance alone; the interval must not take it for real.
    few = [metrics.evaluate(*drawn(100, seed=s), LABELS, resamples=100).ece for s in range(40)]
    assert np.mean([f.value for f in few]) > 0.08
    assert np.mean([f.low == 0.0 for f in few]) > 0.85
    truth = overconfident.ece.value
    few = [metrics.evaluate(3 * z, y, LABELS, resamples=100).ece for z, y in (drawn(100, seed=s) for s in range(20))]
    assert np.mean([f.low <= truth <= f.high for f in few]) > 0.9


def test_calibration_error_by_hand_and_whatever_the_order():
    p = np.repeat([[0.9, 0.1], [0.6, 0.4]], 10, axis=0)
    y = np.r_[np.zeros(7), np.ones(3), np.zeros(6), np.ones(4)].astype(int)
    sure = metrics.evaluate(p, y, ["a", "b"], bins=2, resamples=5).ece.value
    assert sure == pytest.approx(0.5 * (0.9 - 0.7) + 0.5 * 0.0)
    constant = np.tile([[0.7, 0.3]], (100, 1))
    y = (np.arange(100) >= 70).astype(int)  # sorted: what is right comes first
    assert metrics.evaluate(constant, y, ["a", "b"], resamples=5).ece.value == pytest.approx(0.0, abs=1e-12)
    logits, y = drawn()
    order = np.random.default_rng(5).permutation(len(y))
    a, b = (metrics.evaluate(z, t, LABELS, resamples=5) for z, t in ((logits, y), (logits[order], y[order])))
    assert a.ece.value == pytest.approx(b.ece.value, rel=1e-9)


def test_classes_without_examples_are_left_out_of_means():
    logits, y = drawn(150, 3)
    logits = np.c_[logits, np.full(150, -50.0)]
    found = metrics.evaluate(logits, y, LABELS, resamples=50)
    without = metrics.evaluate(logits[:, :3], y, LABELS[:3], resamples=50)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss"):
        assert found.figures[name].value == pytest.approx(without.figures[name].value, rel=1e-9)
    row = found.classes[3]
    assert row.support == 0
    assert all(math.isnan(v) for v in (row.precision, row.recall.value, row.recall.low, row.f1, row.auroc))
    assert "unknown" in found.summary()


def test_one_example_tells_little_and_says_so():
    found = metrics.evaluate(np.array([[2.0, 0.0]]), np.array([0]), ["a", "b"])
    assert (found.accuracy.value, found.accuracy.high) == (1.0, 1.0)
    assert found.accuracy.low < 0.3
    assert found.balanced_accuracy.low < 0.3
    assert math.isnan(found.auroc.value)
    assert found.macro_f1 == found.balanced_accuracy
    assert math.isnan(found.log_loss.low)
    assert "[no interval]" in found.summary()
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["auroc"] == {"value": None, "low": None, "high": None}


def test_weights_act_as_repetition_and_widen_intervals():
    logits, y = drawn(60)
    twice = np.r_[logits, logits[:20]], np.r_[y, y[:20]]
    w = np.r_[np.full(20, 2.0), np.ones(40)]
    a, b = metrics.evaluate(logits, y, LABELS, w, resamples=5), metrics.evaluate(*twice, LABELS, resamples=5)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "brier", "ece"):
        assert a.figures[name].value == pytest.approx(b.figures[name].value, rel=1e-9), name
    scaled = metrics.evaluate(logits, y, LABELS, 100 * w, resamples=5)
    assert scaled.accuracy.low == pytest.approx(a.accuracy.low)
    assert a.accuracy.high - a.accuracy.low > b.accuracy.high - b.accuracy.low


def test_stratified_resampling_keeps_the_class_sizes():
    # The loss depends on the class alone, so it can only vary if class sizes do.
    y = np.repeat([0, 1], [30, 10])
    logits = np.tile([[1.0, 0.0]], (40, 1))
    free = metrics.evaluate(logits, y, ["a", "b"], resamples=50).log_loss
    fixed = metrics.evaluate(logits, y, ["a", "b"], resamples=50, stratified=True).log_loss
    assert free.low < free.value < free.high
    assert math.isnan(fixed.low)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"outputs": np.full((3, 2), np.nan)}, DataError, "NaN or infinite"),
        ({"outputs": np.full((3, 2), np.inf)}, DataError, "NaN or infinite"),
        ({"outputs": np.zeros((0, 2)), "targets": np.zeros(0, int)}, DataError, "at least one example"),
        ({"outputs": np.zeros((3, 5))}, DataError, "5 outputs for the 2 classes a, b"),
        ({"targets": np.array([0, 1, -1])}, DataError, "from -1 to 1"),
        ({"targets": np.array([0, 1, 0.5])}, DataError, "class numbers"),
        ({"weights": np.array([1.0, -1.0, 1.0])}, DataError, "negative"),
        ({"weights": np.array([1.0, np.nan, 1.0])}, DataError, "negative"),
        ({"kind": "probabilities"}, DataError, "sum to 1"),
        ({"kind": "odds"}, ConfigError, "'odds'"),
        ({"level": 95}, ConfigError, "level 95"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, error, words):
    good = {"outputs": np.zeros((3, 2)), "targets": np.array([0, 1, 1]), "labels": ["a", "b"]}
    with pytest.raises(error, match=words):
        metrics.evaluate(**{**good, **change})


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_known_temperature_is_found(temperature):
    logits, y = drawn(20_000)
    assert metrics.fit_temperature(logits * temperature, y) == pytest.approx(temperature, rel=0.04)
    shifted = logits * temperature + np.random.default_rng(0).normal(size=(len(y), 1)) * 100
    assert metrics.fit_temperature(shifted, y) == pytest.approx(temperature, rel=0.04)
    binary = np.random.default_rng(1).uniform(size=logits.shape) < expit(logits)
    assert metrics.fit_temperature(logits * temperature, binary.astype(float)) == pytest.approx(temperature, rel=0.04)


def test_the_temperature_minimises_the_loss_with_its_even_guess():
    logits, y = drawn(40, seed=3)
    w = np.random.default_rng(2).uniform(0, 2, 40)
    wanted = (np.eye(4)[y] * w.sum() + 0.25) / (w.sum() + 1)

    def loss(t):
        return -(w[:, None] * wanted * log_softmax(logits / t, 1)).sum()

    found = metrics.fit_temperature(logits, y, w)
    assert loss(found) <= min(map(loss, np.geomspace(0.1, 10, 500))) + 1e-9


def test_few_right_answers_do_not_make_it_certain():
    z = np.array([[3.0, 0.0], [0.0, 3.0]])
    assert softmax(z / metrics.fit_temperature(z, np.array([0, 1])), 1).max() < 0.9
    assert 0.02 <= metrics.fit_temperature(z, np.array([1, 0])) <= 50.001
    assert metrics.fit_temperature(np.zeros((4, 3)), np.arange(4) % 3) == 1.0
    assert metrics.fit_temperature(np.arange(4.0)[:, None] * np.ones(3), np.arange(4) % 3) == 1.0


def test_watched_figures():
    logits, y = drawn()
    loss, accuracy = metrics.loss_and_accuracy(logits, y)
    assert loss == pytest.approx(reference.log_loss(y, softmax(logits, 1)))
    assert accuracy == pytest.approx((logits.argmax(1) == y).mean())
    many = np.eye(4)[y]
    loss, accuracy = metrics.loss_and_accuracy(logits, many, "multilabel")
    by_class = [reference.log_loss(many[:, k], expit(logits[:, k])) for k in range(4)]
    assert loss == pytest.approx(sum(by_class))
    assert accuracy == pytest.approx(((logits > 0) == many).mean())
    loss, score = metrics.loss_and_accuracy(logits[:, :1], 2 * logits[:, :1] + 1, "regression")
    assert loss == pytest.approx(np.square(logits[:, 0] + 1).mean())
    assert score == pytest.approx(reference.r2_score(2 * logits[:, 0] + 1, logits[:, 0]))
    assert math.isnan(metrics.loss_and_accuracy(logits[:, :1], np.ones((200, 1)), "regression")[1])


def test_the_most_confident_mistakes_come_first():
    p = np.array([[0.6, 0.4], [0.05, 0.95], [0.8, 0.2], [0.3, 0.7], [0.9, 0.1]])
    found = metrics.most_confident_mistakes(p, np.array([1, 0, 1, 1, 0]), list("abcde"), k=2)
    assert [(m.key, m.target, m.predicted, m.probability) for m in found] == [("b", 0, 1, 0.95), ("c", 1, 0, 0.8)]
    assert metrics.most_confident_mistakes(p[3:], np.array([1, 0]), list("de")) == []
