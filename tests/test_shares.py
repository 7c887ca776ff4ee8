"""Probabilities for other class shares than those of the training data."""

import dataclasses

import numpy as np
import pytest
import tiny
from scipy.special import softmax

from flaxtl.errors import ConfigError
from flaxtl.shares import log_ratio, shares_of


def test_bayes_rule_brings_probabilities_to_other_shares():
    # Two normal classes: the posterior is known for every prior.
    x = np.linspace(-3, 3, 50)
    likelihood = np.exp(-np.square(x[:, None] - np.array([-1.0, 1.0, 0.3])) / 2)

    def posterior(prior):
        joint = likelihood * prior
        return joint / joint.sum(1, keepdims=True)

    held, wanted = (0.7, 0.2, 0.1), (0.1, 0.3, 0.6)
    moved = softmax(np.log(posterior(held)) + log_ratio(wanted, held), axis=1)
    np.testing.assert_allclose(moved, posterior(wanted), rtol=1e-9)


def test_there_and_back_changes_nothing():
    held, wanted = np.random.default_rng(0).dirichlet(np.ones(5), 2)
    np.testing.assert_allclose(log_ratio(wanted, held) + log_ratio(held, wanted), 0.0, atol=1e-12)


def test_a_class_that_is_not_expected_is_not_predicted_and_one_never_seen_stays_so():
    moved = softmax(np.zeros((1, 3)) + log_ratio((0.5, 0.5, 0.0), (1 / 3,) * 3), axis=1)
    assert moved[0, 2] < 1e-6
    assert log_ratio((0.5, 0.5), (1.0, 0.0))[1] == 0.0


def model_for(shares, temperature=1.0):
    model = tiny.model().with_head(("a", "b", "c"), init="lecun_normal")
    return dataclasses.replace(model, card=model.card.with_head(class_shares=shares, temperature=temperature))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_model_predicts_for_the_shares_it_is_brought_to(temperature):
    held, wanted = (0.6, 0.3, 0.1), {"a": 1, "b": 1, "c": 8}
    model = model_for(held, temperature)
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    before = np.asarray(model.predict(x).probabilities)
    other = model.with_prior(wanted)
    expected = before * np.array([0.1, 0.1, 0.8]) / held
    np.testing.assert_allclose(other.predict(x).probabilities, expected / expected.sum(1, keepdims=True), atol=1e-5)
    assert other.card.head.class_shares == (0.1, 0.1, 0.8)
    back = other.with_prior(dict(zip("abc", held, strict=True)))
    np.testing.assert_allclose(back.predict(x).probabilities, before, atol=1e-5)


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ("even", "'even'; expected 'equal'"),
        ({"a": 1, "b": 1}, "lacks c"),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, "names the class 'd'"),
        ({"a": 1, "b": -1, "c": 1}, "not negative"),
        ({"a": 0, "b": 0, "c": 0}, "not all 0"),
        ({"a": float("nan"), "b": 1, "c": 1}, "not negative"),
        (0.5, "expected 'equal'"),
    ],
)
def test_what_is_no_share_of_each_class_is_refused(prior, words):
    with pytest.raises(ConfigError, match=words):
        shares_of(prior, ("a", "b", "c"))


def test_a_model_that_does_not_know_its_shares_says_so():
    with pytest.raises(ConfigError, match="does not say for which class shares"):
        model_for(()).with_prior("equal")
