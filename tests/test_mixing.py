"""mixup and cutmix: pairs of rows that count, targets that sum to one, the same for the same key."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import flaxtl
from flaxtl.errors import ConfigError
from flaxtl.train.losses import per_example_loss
from flaxtl.train.mixing import mix, partners, rows_of

KEY = jax.random.key(3)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=6, max_size=6), st.integers(0, 2**31 - 1))
def test_only_rows_that_count_meet_and_none_meets_itself(weights, seed):
    weight = np.array(weights, np.float32)
    found = np.asarray(partners(jax.random.key(seed), jnp.asarray(weight), jnp.arange(6)))
    assert sorted(found) == list(range(6))
    real = weight > 0
    assert set(found[real]) == set(np.flatnonzero(real))
    assert (found[~real] == np.flatnonzero(~real)).all()
    if real.sum() > 1:
        assert (found[real] != np.flatnonzero(real)).all()


def test_whom_an_example_meets_does_not_depend_on_its_row():
    index, weight = np.arange(10, 16), np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1.0], np.float32)
    order = np.random.default_rng(0).permutation(6)
    one = index[np.asarray(partners(KEY, jnp.asarray(weight), jnp.asarray(index)))]
    two = index[order][np.asarray(partners(KEY, jnp.asarray(weight[order]), jnp.asarray(index[order])))]
    assert dict(zip(index, one)) == dict(zip(index[order], two))


def batch(n=6, classes=3, side=8):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (n, side, side, 1)).astype(np.uint8)
    return pictures, rows_of(jnp.asarray(np.arange(n) % classes), classes), jnp.ones(n), jnp.arange(n)


@pytest.mark.parametrize("alphas", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}], ids=str)
def test_targets_sum_to_one_and_say_how_much_of_each_picture_is_there(alphas):
    # Pictures of one colour each: the colour of a mixed one is the share of each.
    levels = jnp.array([0.0, 64.0, 128.0, 192.0])
    pictures = jnp.broadcast_to(levels[:, None, None, None], (4, 8, 8, 1))
    mixed, targets = mix(KEY, pictures, jnp.eye(4), jnp.ones(4), jnp.arange(4), **alphas)
    np.testing.assert_allclose(targets.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(mixed.mean((1, 2, 3)), targets @ levels, rtol=1e-4, atol=1e-3)
    assert (targets > 0).sum(-1).max() == 2


def test_a_pasted_rectangle_is_a_rectangle_of_the_other_picture():
    pictures, targets, weight, index = batch()
    mixed, _ = mix(KEY, pictures, targets, weight, index, cutmix=1.0)
    other = np.asarray(partners(jax.random.fold_in(KEY, 0), weight, index))
    seen = 0
    for i, picture in enumerate(np.asarray(mixed)):
        own = (picture == pictures[i])[..., 0]
        assert (own | (picture == pictures[other[i]])[..., 0]).all()
        rows_in, columns_in = np.flatnonzero(~own.all(1)), np.flatnonzero(~own.all(0))
        if len(rows_in):
            seen += 1
            inside = own[rows_in[0] : rows_in[-1] + 1, columns_in[0] : columns_in[-1] + 1]
            assert inside.mean() < 0.2  # but for pixels that are alike in both
    assert seen > 1


def test_the_same_key_gives_the_same_bits_and_another_another():
    one = mix(KEY, *batch(), mixup=0.2, cutmix=1.0)
    assert tiny.same(one, mix(KEY, *batch(), mixup=0.2, cutmix=1.0))
    assert not tiny.same(one, mix(jax.random.key(4), *batch(), mixup=0.2, cutmix=1.0))


def test_padding_is_never_seen():
    pictures, targets, _, index = batch()
    weight = jnp.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    other = pictures.copy()
    other[4:] = 255
    one, rows = mix(KEY, pictures, targets, weight, index, mixup=1.0, cutmix=1.0)
    two, _ = mix(KEY, other, targets, weight, index, mixup=1.0, cutmix=1.0)
    assert tiny.same(one[:4], two[:4])
    assert tiny.same(rows[4:], targets[4:])


def test_the_loss_of_rows_is_the_mean_of_the_losses():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
    a, b = (per_example_loss("classification", logits, jnp.full(5, k)) for k in (0, 2))
    rows = 0.3 * rows_of(jnp.zeros(5, jnp.int32), 3) + 0.7 * rows_of(jnp.full(5, 2), 3)
    np.testing.assert_allclose(per_example_loss("classification", logits, rows), 0.3 * a + 0.7 * b, rtol=1e-5)


STEPS = {"strategy": "full", "epochs": 8, "batch_size": 8, "learning_rate": 0.02}


@pytest.mark.slow
def test_training_with_mixing_learns_is_another_and_is_the_same_again():
    plain = flaxtl.finetune(tiny.model(), tiny.source(), **STEPS)
    mixed = flaxtl.finetune(tiny.model(), tiny.source(), mixup=0.2, cutmix=1.0, **STEPS)
    again = flaxtl.finetune(tiny.model(), tiny.source(), mixup=0.2, cutmix=1.0, **STEPS)
    assert tiny.same(mixed.model.variables, again.model.variables)
    assert not tiny.same(mixed.model.variables, plain.model.variables)
    assert flaxtl.evaluate(mixed.model, tiny.source(8, seed=1)).accuracy.value > 0.6


@pytest.mark.parametrize("strategy", ["head", "cut"])
def test_what_is_computed_once_cannot_be_mixed(strategy):
    with pytest.raises(ConfigError, match="`mixup` and `cutmix` blend pictures, and here"):
        flaxtl.finetune(tiny.model(), tiny.source(), **{**STEPS, "strategy": strategy}, mixup=0.2)


def test_numbers_are_not_mixed():
    from test_strategies import own_data, own_model

    model = dataclasses.replace(own_model("linen", "array"))
    with pytest.raises(ConfigError, match="changes pictures, and this network takes plain numbers"):
        flaxtl.finetune(model, own_data("array"), strategy="full", mixup=0.2)
