"""Promises that can be checked by drawing: conformal sets, calibration bands, winners without their optimism."""

import numpy as np
import pytest
from scipy.special import softmax

from flaxtl import metrics
from flaxtl.card import Card, Conformal, Head, Image
from flaxtl.errors import ConfigError, DataError
from flaxtl.metrics.calibration import Calibration
from flaxtl.predictions import Predictions


def drawn(n, classes=5, heat=1.0, seed=0):
    """Probabilities and targets; calibrated where the heat is 1."""
    rng = np.random.default_rng([seed, 3])
    logits = 1.5 * rng.normal(size=(n, classes))
    targets = (rng.uniform(size=(n, 1)) > softmax(logits, 1).cumsum(1)).sum(1)
    return softmax(heat * logits, 1), np.minimum(targets, classes - 1)


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (50, 0.1), (200, 0.2)])
def test_sets_hold_the_truth_as_often_as_promised_whatever_the_model(method, n, alpha):
    held, draws, new = 0, 400, 25
    for seed in range(draws):
        p, y = drawn(n + new, heat=4.0, seed=seed)  # far too sure of itself
        found, _ = metrics.fit_conformal(p[:n], y[:n], alpha=alpha, method=method)
        held += metrics.prediction_sets(p[n:], found)[np.arange(new), y[n:]].sum()
    # Draws of one calibration set share its luck, so the standard error is that of the draws.
    assert held / (draws * new) >= 1 - alpha - 3 * np.sqrt(alpha * (1 - alpha) * (1 / (draws * new) + 1 / (draws * n)))
    most = np.ceil((n + 1) * (1 - alpha)) / (n + 1) + 0.03 if method == "lac" else 1.0
    assert held / (draws * new) <= most


def test_too_few_examples_are_told_what_they_allow():
    p, y = drawn(18)
    found, sentence = metrics.fit_conformal(p, y, alpha=0.05)
    assert found is None
    assert "need 19 held-out examples; there are 18, which allow at most 95% (alpha 0.053)" in sentence
    assert metrics.fit_conformal(p, y, alpha=0.053)[0] is not None
    p[3] = np.nan  # never held out
    assert metrics.fit_conformal(p, y, alpha=0.053)[0] is None
    assert "there are none" in metrics.fit_conformal(p[:0], y[:0])[1]


def test_a_set_is_never_empty_and_has_the_likeliest_classes():
    p, y = drawn(300, heat=0.2)
    for method in ("lac", "aps"):
        found, sentence = metrics.fit_conformal(p, y, alpha=0.9, method=method)
        assert "at least 10% of cases (300 held-out examples)" in sentence
        sets = metrics.prediction_sets(p, found)
        assert sets[np.arange(300), p.argmax(1)].all()
        order = np.argsort(-p, 1)
        inside = np.take_along_axis(sets, order, 1)
        assert (np.diff(inside.astype(int), axis=1) <= 0).all()


@pytest.mark.parametrize("change", [{"alpha": 1.0}, {"method": "raps"}])
def test_impossible_settings_of_sets_are_refused(change):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        metrics.fit_conformal(*drawn(30), **change)
    with pytest.raises(DataError, match="expected"):
        metrics.fit_conformal(np.zeros(3), np.zeros(3))


def test_predictions_show_the_sets_that_the_card_promises():
    card = Card(
        Image((8, 8), 1), heads=(Head(labels=("cat", "dog", "fox"), conformal=Conformal(0.1, 0.75, "lac", 20)),)
    )
    assert Card.from_dict(card.to_dict()) == card
    logits = np.log([[0.6, 0.3, 0.1], [0.9, 0.06, 0.04]])
    found = Predictions.of(("a", "b"), logits, card.head)
    assert [found.prediction_set(i) for i in range(2)] == [["cat", "dog"], ["cat"]]
    assert found.to_csv().splitlines()[:2] == [
        "path,prediction,probability,cat,dog,fox",
        "a,cat,0.600000,0.600000,0.300000,0.100000",
    ]
    assert found.to_text() == "a  cat  60.0%  (one of cat, dog)\nb  cat  90.0%\n"
    assert '"set": [' in found.to_json()
    without = Predictions.of(("a", "b"), logits, Head(labels=card.labels))
    assert without.prediction_set(0) == []
    assert '"set"' not in without.to_json()
    assert without.to_csv().startswith("path,prediction,probability,cat")


def test_a_quantile_is_dropped_with_the_probabilities_it_was_taken_from():
    card = Card(Image((8, 8), 1), heads=(Head(labels=("a", "b"), conformal=Conformal()),))
    assert card.with_head(temperature=2.0).head.conformal is None
    assert card.with_head(temperature=1.0, conformal=card.head.conformal).head.conformal == Conformal()
    old = card.to_dict()
    del old["heads"][0]["conformal"]  # a card from before there were sets
    assert Card.from_dict(old).head.conformal is None


def test_calibrated_errors_lie_in_the_band_and_others_do_not():
    inside = []
    for seed in range(400):
        p, y = drawn(80, seed=seed)
        found = Calibration.of(p.max(1), (p.argmax(1) == y).astype(float), np.ones(80), 10, 1000, seed)
        low, high = metrics.calibration_band(p, seed=seed)
        assert (low, high) == found.band(0.95)
        inside.append(low <= found.error <= high)
    assert abs(np.mean(inside) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 400)
    p, y = drawn(400, heat=3.0)
    found = metrics.evaluate(p, y, list("abcde"), resamples=200)
    assert found.ece.low > found.ece_band[1]
    assert found.to_dict()["ece_band"] == list(found.ece_band)
    assert "perfect calibration" in found.summary()


def test_the_band_is_the_same_for_drawn_and_for_normal_noise():
    p, _ = drawn(20_000)
    many = metrics.calibration_band(p)  # more than 10,000: bins from the normal distribution
    half = metrics.calibration_band(p[:9_000])
    np.testing.assert_allclose(np.array(many), np.array(half) * np.sqrt(9 / 20), rtol=0.2)
    weighted = metrics.calibration_band(p[:500], np.r_[np.ones(250), np.zeros(250)])
    np.testing.assert_allclose(weighted, metrics.calibration_band(p[:250]), rtol=0.12)


def test_reliability_bins_add_up_to_the_calibration_error():
    p, y = drawn(500, heat=2.0)
    bins = metrics.reliability(p, y)
    error = sum(b.examples * abs(b.confidence - b.accuracy) for b in bins) / 500
    assert error == pytest.approx(metrics.evaluate(p, y, list("abcde"), resamples=5).ece.value)
    assert sum(b.examples for b in bins) == 500
    assert sum(b.examples * b.accuracy for b in bins) == pytest.approx((p.argmax(1) == y).sum())
    assert all(b.low <= b.confidence + 1e-9 and b.confidence <= b.high + 1e-9 for b in bins)


PAIRS = np.repeat(np.arange(25), 2)


def winners(make, simulations, *, larger_is_better, groups=None):
    """Naive and corrected scores of simulated candidates, and the corrected intervals."""
    naive, found = [], []
    for seed in range(simulations):
        results = make(np.random.default_rng([seed, 11]))
        means = results.mean(0)
        naive.append(means.max() if larger_is_better else means.min())
        found.append(
            metrics.corrected_winner(
                results, larger_is_better=larger_is_better, groups=groups, resamples=150, seed=seed
            )
        )
    return np.array(naive), found


@pytest.mark.parametrize(
    ("make", "truth", "larger", "groups"),
    [
        (lambda rng: rng.integers(2, size=(50, 40)).astype(float), 0.5, True, None),
        (lambda rng: rng.exponential(size=(50, 20)), 1.0, False, None),
        (lambda rng: np.repeat(rng.integers(2, size=(25, 40)), 2, axis=0).astype(float), 0.5, True, PAIRS),
    ],
    ids=["guesses", "losses", "groups"],
)
def test_the_winner_of_noise_looks_good_only_before_the_correction(make, truth, larger, groups):
    naive, found = winners(make, 200, larger_is_better=larger, groups=groups)
    sign = 1 if larger else -1
    assert sign * (naive.mean() - truth) > 0.1
    corrected = np.array([f.value for f in found])
    assert abs(corrected.mean() - truth) < 3 * corrected.std() / np.sqrt(len(corrected))
    assert np.mean([f.low <= truth <= f.high for f in found]) >= 0.93


def test_a_clear_winner_loses_nothing():
    def make(rng):
        return np.c_[rng.uniform(size=60) < 0.9, rng.uniform(size=(60, 8)) < 0.4].astype(float)

    naive, found = winners(make, 200, larger_is_better=True)
    corrected = np.array([f.value for f in found])
    assert abs((corrected - naive).mean()) < 0.003
    assert 0.9 <= np.mean([f.low <= 0.9 <= f.high for f in found]) <= 0.99


def test_corrected_winners_at_the_edges():
    perfect = metrics.corrected_winner(np.ones((30, 3)), larger_is_better=True)
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert 0.8 < perfect.low < 0.95
    assert np.isnan(metrics.corrected_winner(np.ones((1, 3)), larger_is_better=True).value)
    results = np.random.default_rng(0).uniform(size=(40, 3))
    a = metrics.corrected_winner(results, larger_is_better=False)
    with_gaps = np.r_[results, [[np.nan, 0.0, 0.0]]]
    assert metrics.corrected_winner(with_gaps, larger_is_better=False) == a
    weights = np.r_[np.ones(40), 0.0]
    extra = np.r_[results, [[9.0, 9.0, 9.0]]]
    assert metrics.corrected_winner(extra, larger_is_better=False, weights=weights) == a
    with pytest.raises(DataError, match="candidates"):
        metrics.corrected_winner(np.ones(3), larger_is_better=True)
    with pytest.raises(ConfigError, match="level 2"):
        metrics.corrected_winner(results, larger_is_better=True, level=2)
