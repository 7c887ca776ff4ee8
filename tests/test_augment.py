"""RandAugment, and what one word of augmentation means for which network and classes."""

import numpy as np
import pytest
import tiny

import flaxtl
from flaxtl.card import Card, Image, Text
from flaxtl.config import FinetuneConfig
from flaxtl.data.augment import Augment
from flaxtl.data.rand_augment import rand_augment
from flaxtl.errors import ConfigError
from flaxtl.strategies import hyperrule
from flaxtl.strategies.augmenting import on_host, resolved
from flaxtl.strategies.settling import settled
from flaxtl.training_settings import Augmentation, Training


def picture(channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (12, 10, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_changes_keep_shape_and_type_and_come_from_the_generator_alone(channels):
    row = picture(channels)
    for seed in range(40):
        one = rand_augment(row, np.random.default_rng(seed), 2, 9.0)
        assert one.shape == row.shape
        assert one.dtype == np.uint8
        assert np.array_equal(one, rand_augment(row, np.random.default_rng(seed), 2, 9.0))


def test_most_draws_change_something_and_more_with_more_strength():
    row = np.repeat(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], 32, 1).repeat(3, -1)

    def change(magnitude):
        found = [rand_augment(row, np.random.default_rng(s), 1, magnitude) for s in range(60)]
        return np.mean([np.abs(a.astype(float) - row).mean() for a in found])

    assert change(10.0) > 2 * change(2.0) > 0


def test_strength_zero_moves_and_inverts_nothing():
    # Stretching and equalising have no strength; of the rest nothing is left.
    row = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 128, 1)
    found = [rand_augment(row, np.random.default_rng(s), 1, 0.0) for s in range(60)]
    assert max(np.abs(a.astype(int) - row).max() for a in found) <= 1


def test_nothing_is_mirrored():
    row = np.zeros((16, 16, 1), np.uint8)
    row[:, :4] = 200
    for seed in range(60):
        found = rand_augment(row, np.random.default_rng(seed), 1, 1.0).astype(float)
        assert found[:, :8].sum() >= found[:, 8:].sum()


def test_the_loader_applies_it():
    row = picture()
    augment = on_host(Augmentation(rand_augment=(2, 9.0), mixup=0.5))
    assert augment == Augment(rand_augment=(2, 9.0))
    changed = [augment.apply(row, np.random.default_rng(s)) for s in range(10)]
    assert any(not np.array_equal(row, c) for c in changed)
    assert all(c.flags.c_contiguous for c in changed)


# One word

PHOTOGRAPHS, GREY = Card(Image()), Card(Image(channels=1))
INK = Card(Image(polarity="bright_on_dark"))
AUTO = Augmentation(augment="auto")


def test_standard_is_a_crop_and_a_mirror():
    found, notes = resolved(Augmentation(augment="standard"), GREY, ("cat", "dog"))
    assert found == Augmentation(flip=True, crop_scale=(0.25, 1.0))
    assert notes == []
    own, _ = resolved(Augmentation(augment="standard", crop_scale=(0.5, 1.0), noise=0.1), PHOTOGRAPHS, ("cat", "dog"))
    assert own == Augmentation(flip=True, crop_scale=(0.5, 1.0), noise=0.1)


@pytest.mark.parametrize(
    ("card", "labels", "flips"),
    [
        (PHOTOGRAPHS, ("cat", "dog"), True),
        (PHOTOGRAPHS, ("0", "1", "10"), False),
        (PHOTOGRAPHS, ("a", "b"), False),
        (GREY, ("cat", "dog"), False),
        (INK, ("cat", "dog"), False),
        (Card(Text()), ("good", "bad"), False),
    ],
)
def test_auto_mirrors_photographs_and_no_signs(card, labels, flips):
    assert resolved(AUTO, card, labels)[0].flip is flips


def test_flips_of_digits_are_noted():
    result = flaxtl.finetune(tiny.model(), tiny.source(), strategy="full", flip=True, epochs=1)
    assert any("mirrored" in note for note in result.notes)
    assert flaxtl.finetune(tiny.model(), tiny.source(), strategy="full", augment="auto", epochs=1).notes == ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Augmentation(mixup=-1.0), "`mixup` is -1"),
        (Augmentation(cutmix=float("nan")), "`cutmix` is nan"),
        (Augmentation(rand_augment=(0, 9.0)), "`rand_augment` is 0"),
        (Augmentation(rand_augment=(2, 11.0)), "magnitude from 0 to 10"),
    ],
)
def test_impossible_strengths_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        resolved(settings, PHOTOGRAPHS, ("cat", "dog"))


@pytest.mark.parametrize("settings", [Augmentation(flip=True), Augmentation(mixup=0.1), Augmentation("standard")])
def test_text_is_not_changed_as_pictures_are(settings):
    with pytest.raises(ConfigError, match="changes pictures, and this network takes text"):
        resolved(settings, Card(Text()), ("good", "bad"))


# BiT-HyperRule


@pytest.mark.parametrize(
    ("examples", "steps", "mixup"),
    [(50, 500, 0.0), (19_999, 500, 0.0), (20_000, 10_000, 0.1), (499_999, 10_000, 0.1), (500_000, 20_000, 0.1)],
)
def test_the_rules_rows(examples, steps, mixup):
    from flaxtl.strategies.chains import cadence
    from flaxtl.strategies.phases import phases_of

    config = FinetuneConfig(strategy="full", schedule_rule="bit")
    found, [note] = settled(config, PHOTOGRAPHS, ("cat", "dog"), examples)
    [phase] = phases_of(found)
    assert cadence(phase, examples).steps == steps
    assert phase.augment.mixup == mixup
    assert f"{steps:,} steps, mixup {mixup:g}" in note


def test_settings_come_before_the_rule():
    config = FinetuneConfig(
        strategy="full", schedule_rule="bit", training=Training(epochs=3), augment=Augmentation(mixup=0.3)
    )
    found, _ = hyperrule.applied(config, 50_000)
    assert (found.training.epochs, found.augment.mixup) == (3, 0.3)


def test_the_table_names_every_row():
    text = hyperrule.table()
    assert all(f"{row.steps:,}" in text for row in hyperrule.ROWS)
