"""What cross-validation chooses, on data of every awkward shape."""

import json
import math

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from flaxtl.errors import ConfigError, DataError
from flaxtl.metrics import loss_and_accuracy
from flaxtl.probe import solve_head
from flaxtl.probe.search import ONE_DRAW, STRENGTH_SPREAD, TWO_DRAWS, USUAL_STRENGTH
from flaxtl.probe.weighting import Balance

# Few strengths and folds, so that most tests share one compiled program.
QUICK = {"strengths": (1.0, 0.1, 1e-2, 1e-3), "folds": 2, "repeats": 1, "scalings": ("standard",)}


def blobs(n=90, d=10, classes=4, distance=0.8, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    means = np.random.default_rng(99).normal(size=(classes, d))
    return (means[y] * distance + rng.normal(size=(n, d))).astype(np.float32), y


X, Y = blobs()
EQUAL_X, EQUAL_Y = blobs(88)  # as many examples of each class, so that no class is counted more


def losses(logits, y):
    return -log_softmax(np.asarray(logits, np.float64), 1)[np.arange(len(y)), y]


def test_the_head_generalises_and_the_cross_validation_foretells_it():
    head = solve_head(X, Y, 4)
    unseen, targets = blobs(4000, seed=1)
    loss, accuracy = loss_and_accuracy(head.logits(unseen), targets)
    row = head.cv.best
    assert abs(row.accuracy - accuracy) < 4 * row.accuracy_se
    assert abs(row.loss - loss) < 4 * row.loss_se
    assert head.converged
    assert len(head.cv.rows) == 44
    assert head.cv.parts == 20
    assert f"accuracy {row.accuracy:.1%} ± {row.accuracy_se:.1%}" in head.cv.summary
    json.dumps(head.cv.to_dict(), allow_nan=False)


def test_the_same_seed_gives_the_same_head_and_another_other_folds():
    a, b, c = (solve_head(X, Y, 4, seed=seed, **QUICK) for seed in (0, 0, 1))
    assert np.array_equal(a.kernel, b.kernel)
    assert np.array_equal(a.cv.logits, b.cv.logits)
    assert not np.array_equal(a.cv.logits, c.cv.logits)


@pytest.mark.parametrize("scaling", ["unit", "standard", "none"])
def test_the_head_is_scikit_learns_on_scaled_features(scaling):
    head = solve_head(EQUAL_X, EQUAL_Y, 4, **{**QUICK, "scalings": (scaling,), "strengths": [0.05]})
    x = EQUAL_X.astype(np.float64)
    scaled = {
        "unit": x / np.linalg.norm(x, axis=1, keepdims=True),
        "standard": (x - x.mean(0)) / x.std(0),
        "none": x,
    }[scaling]
    best = LogisticRegression(C=1 / (0.05 * len(x)), tol=1e-9, solver="newton-cholesky").fit(scaled, EQUAL_Y)
    centred = head.logits(EQUAL_X) - head.logits(EQUAL_X).mean(1, keepdims=True)
    np.testing.assert_allclose(centred, best.decision_function(scaled), atol=3e-3)
    assert head.normalise == ("unit" if scaling == "unit" else "none")


def test_rows_are_mean_and_standard_error_over_held_out_examples():
    head = solve_head(EQUAL_X, EQUAL_Y, 4, **QUICK)
    held_out = losses(head.cv.logits / head.temperature, EQUAL_Y)
    row = head.cv.best
    assert row.loss == pytest.approx(held_out.mean(), rel=1e-4)
    assert row.loss_se == pytest.approx(held_out.std(ddof=1) / math.sqrt(88), rel=1e-4)
    right = head.cv.logits.argmax(1) == EQUAL_Y
    assert row.accuracy == pytest.approx(right.mean())
    assert row.accuracy_se == pytest.approx(right.std(ddof=1) / math.sqrt(88), rel=1e-4)


def test_held_out_means_held_out():
    # Features without a message: what the head has seen it says by heart, what it has not it guesses.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 60)), np.arange(40) % 4
    head = solve_head(x, y, 4, **{**QUICK, "strengths": (1e-2, 3e-3, 1e-3)})
    assert (head.logits(x).argmax(1) == y).mean() == 1.0
    assert all(row.accuracy < 0.5 and row.loss > 1.3 for row in head.cv.rows)


def against(row, examples, variance):
    """What speaks against a row: its held-out losses, and how unusual its strength is."""
    return examples * row.loss + ((math.log10(row.strength / variance) - USUAL_STRENGTH) / STRENGTH_SPREAD) ** 2 / 2


@pytest.mark.parametrize("distance", [0.2, 0.8, 3.0])
def test_the_most_probable_strength_is_taken(distance):
    x, y = blobs(40, distance=distance)
    head = solve_head(x, y, 4, scalings=("none",))
    variance = x.astype(np.float64).var(0).sum()
    best = min(head.cv.rows, key=lambda row: against(row, 40, variance))
    assert head.cv.best == best
    assert head.strength == best.strength


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0, 2.0])
def test_a_later_scaling_is_taken_where_it_is_better_by_more_than_the_error_of_the_difference(spread):
    # The longer a class's features are, the less is left of the message when all have the same length.
    y = np.arange(80) % 4
    x = blobs(80, 6, distance=0.5)[0][np.argsort(blobs(80, 6, distance=0.5)[1], kind="stable").reshape(4, 20).T.ravel()]
    x = x * (1.0 + spread * (y % 2))[:, None]
    both, *alone = (
        solve_head(x, y, 4, scalings=scalings, repeats=1) for scalings in (("unit", "none"), ("unit",), ("none",))
    )
    first, second = (losses(head.cv.logits, y) for head in alone)
    gain = first - second
    better = gain.mean() > gain.std(ddof=1) / math.sqrt(80)
    assert both.scaling == ("none" if better else "unit")


@pytest.mark.parametrize("counts", [(10, 3, 2), (20, 3, 3), (30, 3), (12, 12, 1), (50, 5, 5)])
def test_classes_that_can_be_separated_are_all_predicted_however_unequal(counts):
    unseen, targets = blobs(300, 10, len(counts), distance=1.5, seed=7)
    y = np.repeat(np.arange(len(counts)), counts)
    means = np.random.default_rng(99).normal(size=(len(counts), 10))
    predicted = []
    for seed in range(4):
        x = means[y] * 1.5 + np.random.default_rng(seed).normal(size=(len(y), 10))
        head = solve_head(x, y, len(counts))
        said = head.logits(unseen).argmax(1)
        predicted.append(len(np.unique(said)))
        assert np.mean([(said == targets)[targets == k].mean() for k in range(len(counts))]) > 0.6
        assert head.cv.best.loss < -(np.bincount(y) / len(y)) @ np.log(np.bincount(y) / len(y))
    assert predicted == [len(counts)] * 4


def test_unequal_classes_without_a_message_get_their_shares():
    y = np.repeat(np.arange(3), (40, 10, 10))
    head = solve_head(np.random.default_rng(1).normal(size=(60, 5)), y, 3)
    shares = np.exp(log_softmax(head.logits(np.random.default_rng(2).normal(size=(500, 5))) / head.temperature, 1))
    np.testing.assert_allclose(shares.mean(0), [2 / 3, 1 / 6, 1 / 6], atol=0.12)


def test_roots_are_taken_of_sparse_features_and_found_better_where_they_are():
    rng = np.random.default_rng(3)
    y = np.arange(60) % 4
    strong = rng.random(size=(4, 40)) < 0.3
    x = np.where(strong[y] & (rng.random((60, 40)) < 0.6), np.exp(2.5 * rng.normal(size=(60, 40))), 0.0)
    head = solve_head(x, y, 4)
    assert head.scaling == "root"
    assert {row.scaling for row in head.cv.rows} == {"root", "unit", "standard"}
    least = {s: min(row.loss for row in head.cv.rows if row.scaling == s) for s in ("root", "unit")}
    assert least["root"] < least["unit"]
    assert solve_head(x[:4], y[:4], 4).scaling == "root"  # without cross-validation too
    assert {row.scaling for row in solve_head(x - 1e-3, y, 4).cv.rows} == {"unit", "standard"}


def test_one_example_a_class_allows_no_cross_validation_and_says_so():
    x, y = np.eye(4, 10) + 0.1, np.arange(4)
    head = solve_head(x, y, 4)
    assert not head.cv.possible
    assert "only 0 of 4 classes have two examples" in head.cv.summary
    assert (head.cv.rows, head.cv.best, head.cv.logits, head.temperature) == ((), None, None, 1.0)
    assert (head.logits(x).argmax(1) == y).all()
    assert head.scaling == "unit"
    json.dumps(head.cv.to_dict(), allow_nan=False)
    asked = solve_head(x, y, 4, strengths=[1e-5, 1e-2, 1e3])
    assert asked.strength == 1e-2


def test_two_examples_a_class():
    x, y = blobs(8, 10, 4, distance=3.0)
    head = solve_head(x, y, 4, **QUICK)
    assert head.cv.possible
    assert (head.logits(x).argmax(1) == y).all()
    assert 0.02 <= head.temperature <= 50


def test_a_class_of_3_beside_one_of_3000():
    rng = np.random.default_rng(0)
    y = (np.arange(3003) < 3).astype(int)
    x = (rng.normal(size=(3003, 10)) + 4.0 * y[:, None] * (np.arange(10) < 4)).astype(np.float32)
    quick = {**QUICK, "folds": 3}
    head = solve_head(x, y, 2, **quick)
    assert head.cv.possible
    assert np.isfinite(head.cv.logits).all()
    assert head.cv.best.loss < 0.02
    balanced = solve_head(x, y, 2, class_weight="auto", **quick)
    assert (balanced.logits(x).argmax(1) == y)[:3].all()
    # What counts is the class, so that losses are means over classes.
    held_out = losses(balanced.cv.logits / balanced.temperature, y)
    assert balanced.cv.best.loss == pytest.approx((held_out[:3].mean() + held_out[3:].mean()) / 2, abs=0.01)


def test_more_features_than_examples():
    x, y = blobs(40, 60, 4, distance=0.8)
    head = solve_head(x, y, 4, **QUICK)
    assert head.kernel.shape == (60, 4)
    unseen, targets = blobs(400, 60, 4, distance=0.8, seed=1)
    assert (head.logits(unseen).argmax(1) == targets).mean() > 0.9


def test_constant_features_change_nothing():
    x = np.c_[EQUAL_X, np.full((88, 2), 1e4), np.zeros(88)].astype(np.float32)
    a, b = solve_head(EQUAL_X, EQUAL_Y, 4, **QUICK), solve_head(x, EQUAL_Y, 4, **QUICK)
    assert not b.kernel[10:].any()
    np.testing.assert_allclose(b.logits(x), a.logits(EQUAL_X), atol=1e-3)
    nothing = solve_head(np.ones((88, 10)), EQUAL_Y, 4, **QUICK)
    shares = np.exp(log_softmax(nothing.logits(np.ones((1, 10))), 1))[0]
    np.testing.assert_allclose(shares, np.full(4, 0.25), atol=1e-4)


def test_features_of_any_size_are_the_same_once_standardised():
    scales = np.logspace(-6, 6, 10)
    a, b = solve_head(X, Y, 4, **QUICK), solve_head(X * scales, Y, 4, **QUICK)
    np.testing.assert_allclose(b.logits(X * scales), a.logits(X), atol=2e-3)


def test_groups_are_never_divided():
    # A feature for each group: within one the label is known, from outside it cannot be.
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(8), 9)
    y = np.array([0, 1, 2, 3, 0, 1, 2, 3])[group]
    x = (np.eye(8)[group] + 0.01 * rng.normal(size=(72, 8))).astype(np.float32)
    divided = solve_head(x, y, 4, **QUICK).cv
    head = solve_head(x, y, 4, groups=[f"g{g}" for g in group], **QUICK)
    whole = head.cv
    assert max(r.accuracy for r in divided.rows) == 1.0
    assert max(r.accuracy for r in whole.rows) < 0.5
    # A group counts as one observation: nine alike make the error no smaller.
    rest = losses(whole.logits / head.temperature, y)
    by_group = np.bincount(group, rest - rest.mean())
    assert whole.best.loss_se == pytest.approx(np.sqrt(np.square(by_group).sum() * 8 / 7) / 72, rel=1e-3)
    alone = solve_head(np.eye(8, 10), np.arange(8) % 4, 4, groups=list("abcd" * 2)).cv
    assert "only 0 of 4 classes have two groups" in alone.summary


def test_class_weights_say_for_which_shares_probabilities_hold():
    y = np.repeat(np.arange(3), (60, 20, 10))
    means = np.random.default_rng(5).normal(size=(3, 6))
    x = 0.7 * means[y] + np.random.default_rng(6).normal(size=(90, 6))
    other = np.random.default_rng(8).integers(0, 3, 6000)
    unseen = 0.7 * means[other] + np.random.default_rng(7).normal(size=(6000, 6))

    def shares(class_weight):
        head = solve_head(x, y, 3, class_weight=class_weight)
        return np.exp(log_softmax(head.logits(unseen) / head.temperature, 1)), head

    for asked, wanted in ((None, (6, 2, 1)), ("auto", (1, 1, 1)), ({0: 0.5, 2: 4.0}, (3, 2, 4))):
        said, head = shares(asked)
        weight = (np.asarray(wanted) / np.bincount(other))[other]
        mean = np.average(said, axis=0, weights=weight)
        np.testing.assert_allclose(mean, np.asarray(wanted) / sum(wanted), atol=0.1)
        held_out = losses(head.cv.logits / head.temperature, y)
        assert abs(np.average(held_out, weights=(np.asarray(wanted) / np.bincount(y))[y]) - head.cv.best.loss) < 0.1
    equal, plain = (
        np.mean([(shares(asked)[0].argmax(1) == other)[other == k].mean() for k in range(3)])
        for asked in ("auto", None)
    )
    assert equal > plain


def test_nearly_equal_classes_are_left_as_they_are_by_auto():
    few = np.flatnonzero((Y > 0) | (np.arange(90) > 20))
    a, b = (solve_head(X[few], Y[few], 4, class_weight=asked, **QUICK) for asked in (None, "auto"))
    assert np.array_equal(a.kernel, b.kernel)


def test_a_class_of_weight_0_is_not_learned():
    head = solve_head(X, Y, 4, class_weight={2: 0.0}, **QUICK)
    assert not (head.logits(X).argmax(1) == 2).any()


def test_balance_keeps_the_total_and_leads_from_the_fitted_shares_to_the_wanted():
    own = np.random.default_rng(0).uniform(0.5, 2, 90)
    for asked in (None, "auto", {1: 3.0}):
        y = np.where(np.arange(90) < 60, 0, Y)
        balance, mass = Balance.of(y, 4, asked, own), np.bincount(y, own)
        assert balance.fitted @ mass == pytest.approx(mass.sum())
        seen = balance.fitted * mass
        led = seen * np.exp(balance.offset)
        np.testing.assert_allclose(led / led.sum(), balance.shares)
        np.testing.assert_allclose(balance.shares, mass * balance.judged / (mass @ balance.judged))


def test_weights_only_matter_against_each_other():
    own = np.random.default_rng(0).uniform(0.5, 2, 90)
    a, b = (solve_head(X, Y, 4, sample_weight=own * size, **QUICK) for size in (1.0, 1e-3))
    np.testing.assert_allclose(b.kernel, a.kernel, atol=1e-5)
    assert b.temperature == pytest.approx(a.temperature, rel=1e-4)


def test_examples_without_weight_are_no_evidence():
    w = (np.arange(90) % 5 > 0).astype(float)
    wrong = np.where(w > 0, Y, (Y + 1) % 4)
    a, b = (solve_head(X, y, 4, sample_weight=w, **QUICK) for y in (Y, wrong))
    assert np.array_equal(a.kernel, b.kernel)
    assert a.temperature == b.temperature
    assert np.isnan(a.cv.logits[w == 0]).all()
    only = solve_head(np.eye(8, 10), np.arange(8) % 4, 4, sample_weight=np.eye(8)[0])
    assert "only one of the examples" in only.cv.summary


def test_the_temperature_calibrates_out_of_fold_logits():
    x, y = blobs(distance=0.5)
    overconfident = solve_head(x, y, 4, **{**QUICK, "strengths": [1e-4]})
    careful = solve_head(x, y, 4, **{**QUICK, "strengths": [1.0]})
    for head in (overconfident, careful):
        before, after = losses(head.cv.logits, y).mean(), losses(head.cv.logits / head.temperature, y).mean()
        assert after <= before + 1e-3
    assert overconfident.temperature > 1.5
    assert careful.temperature < 1.0
    chosen, (unseen, targets) = solve_head(x, y, 4), blobs(4000, distance=0.5, seed=1)
    logits = chosen.logits(unseen)
    # A penalty that held-out losses chose leaves little to calibrate.
    assert losses(logits / chosen.temperature, targets).mean() < losses(logits, targets).mean() + 0.005


def test_label_smoothing_makes_the_head_less_sure_and_is_not_scored():
    plain, smooth = (solve_head(X, Y, 4, label_smoothing=s, **{**QUICK, "strengths": [1e-3]}) for s in (0.0, 0.3))
    assert np.abs(smooth.logits(X)).max() < 0.7 * np.abs(plain.logits(X)).max()
    assert smooth.cv.best.loss == pytest.approx(losses(smooth.cv.logits, Y).mean(), rel=1e-4)


def test_a_class_without_examples():
    three = np.where(Y == 3, 0, Y)
    head = solve_head(X, three, 4, **QUICK)
    assert head.cv.possible
    assert np.exp(log_softmax(head.logits(X), 1))[:, 3].max() < 1e-3


def test_a_single_example_of_a_class_is_never_held_out():
    y = np.where(Y == 3, 0, Y)
    y[7] = 3
    head = solve_head(X, y, 4, **QUICK)
    assert np.isnan(head.cv.logits[7]).all()
    assert np.isfinite(np.delete(head.cv.logits, 7, axis=0)).all()


def test_multilabel():
    targets = np.stack([Y == 0, Y <= 1, X[:, 0] > 0, X[:, 1] + X[:, 2] > 1], 1).astype(np.float32)
    head = solve_head(X, targets, 4, task="multilabel", **QUICK)
    by_label = [log_loss(targets[:, k], 1 / (1 + np.exp(-head.cv.logits[:, k].astype(np.float64)))) for k in range(4)]
    assert head.cv.best.loss == pytest.approx(sum(by_label), rel=1e-3)
    assert head.cv.best.accuracy == pytest.approx(((head.cv.logits > 0) == (targets > 0.5)).mean(), rel=1e-5)
    assert head.cv.best.accuracy > 0.8


def test_regression():
    rng = np.random.default_rng(0)
    targets = X @ rng.normal(size=(10, 2)) + 0.1 * rng.normal(size=(90, 2)) + 7.0
    head = solve_head(X, targets, 2, task="regression", scalings=("standard", "none"))
    assert np.square(head.logits(X) - targets).mean() < 0.05
    assert head.cv.best.loss == pytest.approx(np.square(head.cv.logits - targets).mean(), rel=0.05)
    assert head.cv.best.accuracy > 0.95
    assert head.temperature == 1.0
    one = solve_head(X, targets[:, 0], 1, task="regression")
    assert one.kernel.shape == (10, 1)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"features": np.where(X > 3, np.nan, X)}, DataError, "NaN or infinite"),
        ({"features": X * np.inf}, DataError, "NaN or infinite"),
        ({"features": X[:5]}, DataError, r"\(5, 10\) and 90 targets"),
        ({"targets": np.full(90, 4)}, DataError, "from 4 to 4"),
        ({"targets": np.where(Y == 1, -1, Y)}, DataError, "no label"),
        ({"targets": np.eye(4)[Y]}, DataError, "one class number"),
        ({"targets": Y, "task": "multilabel"}, DataError, "4 numbers an example"),
        ({"targets": np.full((90, 4), np.nan), "task": "regression"}, DataError, "NaN"),
        ({"targets": np.full((90, 4), 3.0), "task": "multilabel"}, DataError, "0 to 1"),
        ({"sample_weight": np.zeros(90)}, DataError, "weight 0"),
        ({"sample_weight": -np.ones(90)}, DataError, "not negative"),
        ({"sample_weight": np.ones(3)}, DataError, "one each"),
        ({"groups": ["a"] * 3}, DataError, "3 groups for 90"),
        ({"class_weight": {7: 1.0}}, ConfigError, "from 0 to 3"),
        ({"class_weight": {1: -1.0}}, ConfigError, "not negative"),
        ({"class_weight": "balanced"}, ConfigError, "'balanced'"),
        ({"class_weight": "auto", "task": "regression"}, ConfigError, "only for classification"),
        ({"scalings": ("units",)}, ConfigError, "Did you mean 'unit'"),
        ({"scalings": "unit"}, ConfigError, "each once"),
        ({"strengths": [0.0]}, ConfigError, "above 0"),
        ({"strengths": []}, ConfigError, "above 0"),
        ({"task": "ranking"}, ConfigError, "ranking"),
        ({"label_smoothing": 1.0}, ConfigError, "below 1"),
        ({"repeats": 0}, ConfigError, "repeats 0"),
        ({"folds": 1}, ConfigError, "at least 2 folds"),
    ],
)
def test_what_no_head_can_be_solved_for_is_refused(change, error, words):
    good = {"features": X, "targets": Y, "classes": 4, **QUICK}
    with pytest.raises(error, match=words):
        solve_head(**{**good, **change})


@pytest.mark.parametrize(("examples", "parts"), [(TWO_DRAWS - 1, 8), (TWO_DRAWS, 4), (ONE_DRAW - 1, 4), (ONE_DRAW, 2)])
def test_many_examples_are_dealt_less_often(examples, parts):
    y = np.arange(examples) % 3
    x = np.random.default_rng(0).normal(size=(examples, 4)) + np.eye(3, 4)[y]
    assert solve_head(x, y, 3, strengths=(1.0, 0.1), folds=2, scalings=("unit",)).cv.parts == parts
