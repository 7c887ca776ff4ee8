"""Small and odd data through whole strategies: few examples, uneven classes, features that say nothing."""

import numpy as np
import pytest
import tiny

import flaxtl
from flaxtl import data

STRATEGIES = ("head", "cut", "lpft")
STEPS = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01}


def trained(strategy, source):
    result = flaxtl.finetune(tiny.model(), source, strategy=strategy, **STEPS)
    found = result.model.predict(tiny.pictures(per_class=8, seed=3, classes=len(source.labels))[0]).probabilities
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-4)
    return result, found.argmax(1)


def truth(classes):
    return tiny.pictures(per_class=8, seed=3, classes=classes)[1]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("per_class", "classes"), [(1, 3), (2, 2), (40, 3)], ids=["d > n", "two classes", "n > d"])
def test_it_learns_from_any_number_of_examples(strategy, per_class, classes):
    result, said = trained(strategy, tiny.source(per_class=per_class, classes=classes))
    assert (said == truth(classes)).mean() > (0.5 if per_class == 1 else 0.75)
    assert result.evidence[0]["features"] == 8
    possible = result.evidence[0]["cross_validation"]["possible"]
    assert possible is (per_class > 1)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_class_of_3_beside_one_of_3000_is_not_forgotten(strategy):
    inputs, targets = tiny.pictures(per_class=3000, classes=2)
    kept = np.concatenate([np.arange(3000), np.arange(3000, 3003)])
    source = data.from_arrays(inputs[kept], targets[kept], labels=tiny.LABELS[:2])
    settings = {"epochs": 1, "batch_size": 256, "learning_rate": 0.001}
    result = flaxtl.finetune(tiny.model(), source, strategy=strategy, **settings)
    said = result.model.predict(tiny.pictures(per_class=100, seed=3, classes=2)[0]).probabilities
    assert np.isfinite(said).all()
    # The rare class is rarely foretold, but a picture of it makes it likelier.
    assert said[100:, 1].mean() > 2 * said[:100, 1].mean()
    assert result.evidence[0]["cross_validation"]["possible"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pictures_that_are_all_alike_give_every_class_its_share(strategy):
    inputs = np.full((12, 8, 8), 100, np.uint8)
    targets = np.repeat(np.arange(3), [6, 3, 3])
    source = data.from_arrays(inputs, targets, labels=tiny.LABELS)
    result = flaxtl.finetune(tiny.model(), source, strategy=strategy, **{**STEPS, "learning_rate": 1e-5})
    said = result.model.predict(inputs[:1]).probabilities[0]
    assert np.isfinite(said).all()
    assert said.argmax() == 0
    assert said[1] == pytest.approx(said[2], abs=0.05)
    assert said[0] < 0.8
