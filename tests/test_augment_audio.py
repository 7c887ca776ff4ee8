"""Random changes of sound: what each does, that they depend on seed and example alone, and who refuses them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import flaxtl
from flaxtl import nets
from flaxtl.activations import enter
from flaxtl.activations.identity import View
from flaxtl.card import Audio, Card, Head, Image, NetworkSpec, Text
from flaxtl.data import Augment, Loader, SoundAugment, Source
from flaxtl.data.augment_sound import MASKS, masked
from flaxtl.data.preprocess import preprocess_for
from flaxtl.errors import ConfigError
from flaxtl.model import Model
from flaxtl.strategies.augmenting import on_host, resolved
from flaxtl.training_settings import Augmentation, SoundAugmentation

RATE, WINDOW = 1000, 128
MFCC = {"frame": 32, "hop": 16, "fft": 32, "bands": 8, "low": 20.0, "high": 450.0, "coefficients": 5}
SPEC = Audio(sample_rate=RATE, window=WINDOW / RATE, hop=WINDOW / RATE, front_end="mfcc", settings=MFCC)
WAVES = Audio(sample_rate=RATE, window=WINDOW / RATE, hop=WINDOW / RATE, settings={"mask": True})
EVERYTHING = SoundAugment(6.0, 0.02, (5.0, 20.0), (2, 0.3), (1, 0.5))


def model():
    spec = NetworkSpec(
        "keyword_transformer",
        {"width": 16, "depth": 2, "heads": 2, "hidden": 24, "frames": 7},
    )
    network = nets.build(spec, 2)
    bare = Model(network, {}, Card(SPEC, spec, (Head(labels=("low", "high")),)))
    return bare.with_variables(network.init(0, bare.sample()))


def clips(number=8, seed=0):
    """Tones of two heights, of many lengths, in a little noise."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(number):
        time = np.arange(int(rng.integers(70, WINDOW))) / RATE
        found.append(
            np.sin(2 * np.pi * (60 + 200 * (i % 2)) * time + rng.uniform(0, 6)) + 0.1 * rng.normal(size=len(time))
        )
    return Source.of("audio", [c.astype(np.float32) for c in found], ["low", "high"] * (number // 2))


def row(samples, spec=SPEC):
    return preprocess_for(spec).rows(np.asarray(samples, np.float32))[0]


def changed(given, augment, seed=0):
    return augment.apply(given, np.random.default_rng(seed), RATE)


@pytest.mark.parametrize("spec", [SPEC, WAVES], ids=["length", "mask"])
def test_rows_keep_their_form_and_are_silent_beyond_their_length(spec):
    given = row(np.sin(np.arange(90.0)), spec)
    kept = {name: value.copy() for name, value in given.items()}
    for seed in range(30):
        one, two = (changed(given, EVERYTHING, seed) for _ in range(2))
        assert tiny.same(one, two)
        length = int(one["mask"].sum() if "mask" in one else one["length"])
        assert 45 <= length <= WINDOW
        assert not one["waveform"][length:].any()
        assert {n: (v.shape, v.dtype) for n, v in one.items() if n != MASKS} == {
            n: (v.shape, v.dtype) for n, v in given.items()
        }
    assert tiny.same(given, kept)
    assert tiny.same(changed(given, SoundAugment()), given)


def test_gain_scales_within_its_range():
    given = row(np.sin(np.arange(100.0)))
    factors = [changed(given, SoundAugment(gain=6.0), s)["waveform"][3] / given["waveform"][3] for s in range(200)]
    decibels = 20 * np.log10(factors)
    assert -6 <= decibels.min() < -5 < 5 < decibels.max() <= 6


def test_a_shift_moves_and_loses_at_most_half():
    given = row(1.0 + np.arange(100.0))
    moves = set()
    for seed in range(200):
        found = changed(given, SoundAugment(time_shift=0.02), seed)
        samples = found["waveform"][: int(found["length"])]
        begin = int(np.flatnonzero(samples)[0])
        move = begin if begin else -int(samples[0] - 1)
        moves.add(move)
        np.testing.assert_array_equal(samples[begin:], given["waveform"][max(-move, 0) : 100][: WINDOW - begin])
    assert min(moves) == -20
    assert max(moves) == 20
    assert min(int(changed(row(np.ones(10)), SoundAugment(time_shift=9.0), s)["length"]) for s in range(50)) == 5


@pytest.mark.parametrize("ratio", [0.0, 20.0])
def test_noise_has_the_power_that_is_asked_for(ratio):
    given = row(np.sin(np.arange(128.0)))
    noise = [changed(given, SoundAugment(snr=(ratio, ratio)), s)["waveform"] - given["waveform"] for s in range(50)]
    found = 10 * np.log10(np.mean(np.square(given["waveform"])) / np.mean(np.square(noise)))
    assert abs(found - ratio) < 0.5
    assert not changed(row(np.zeros(100)), SoundAugment(snr=(0.0, 0.0)))["waveform"].any()


def test_masks_hide_stretches_and_bands_behind_the_mean():
    spectrum = jnp.asarray(np.random.default_rng(0).normal(size=(2, 10, 4, 1)).astype(np.float32))
    masks = np.array([[[0, 0.2, 0.3], [1, 0.5, 0.25]], [[0, 0.0, 0.0], [1, 0.0, 0.0]]], np.float32)
    found = np.asarray(masked(spectrum, masks))
    hidden = np.zeros((10, 4), bool)
    hidden[2:5] = True
    hidden[:, 2] = True
    np.testing.assert_allclose(found[0][hidden], spectrum[0].mean(), rtol=1e-5)
    np.testing.assert_array_equal(found[0][~hidden], spectrum[0][~hidden])
    np.testing.assert_array_equal(found[1], spectrum[1])


def test_masks_of_time_lie_within_the_clip_and_are_as_wide_as_asked():
    drawn = [changed(row(np.ones(64)), SoundAugment(time_masks=(2, 0.5)), seed)[MASKS] for seed in range(200)]
    axis, start, width = np.concatenate(drawn).T
    assert (axis == 0).all()
    assert len(drawn[0]) == 2
    assert (start + width).max() <= 0.5 + 1e-6  # half of the window is silence
    assert 0.2 < width.max() <= 0.25


def test_batches_depend_on_seed_and_step_and_the_device_applies_the_masks():
    source, preprocess = clips(), preprocess_for(SPEC)
    loader, again = (Loader(source, preprocess, 4, seed=3, augment=EVERYTHING) for _ in range(2))
    batches = list(loader.iterate(0, 4))
    assert tiny.same(batches[3], next(again.iterate(3, 1)))
    assert not tiny.same(batches[0], batches[2])  # another epoch
    assert tiny.same(*(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), b) for b in (loader.largest(), batches[0])))
    inputs = batches[0]["inputs"]
    bare = preprocess.device({name: value for name, value in inputs.items() if name != MASKS})
    found = preprocess.device(inputs)
    assert found.shape == bare.shape
    assert 0 < np.mean(np.asarray(found != bare)) < 0.9


def test_views_are_drawn_once_and_kept_for_the_cut():
    network, source = model(), clips()
    views = [View(number, EVERYTHING, 5) for number in (1, 2)]
    start = 2
    entry = enter(network, source, start, None, views=views)
    assert [len(rows) for rows in entry.source.raw] == [3] * len(source)
    plain = np.stack([rows[0] for rows in enter(network, source, start, None).source.raw])
    first, second, third = (np.stack([rows[i] for rows in entry.source.raw]) for i in range(3))
    np.testing.assert_array_equal(first, plain)
    assert not np.allclose(second, first)
    assert not np.allclose(second, third)
    backwards = enter(network, source.subset(range(len(source))[::-1]), start, None, views=views)
    np.testing.assert_array_equal(np.stack([rows[1] for rows in backwards.source.raw])[::-1], second)


@pytest.mark.parametrize("strategy", ["head", *(pytest.param(s, marks=pytest.mark.slow) for s in ("cut", "lpft"))])
def test_strategies_take_them(strategy, tmp_path):
    settings = {"epochs": 1.0, "batch_size": 4, "strategy": strategy, "cache": "off"}
    if strategy == "head":
        settings["views"] = 2
    plain = flaxtl.finetune(model(), clips(), **settings)
    other = flaxtl.finetune(
        model(), clips(), gain=3.0, snr=(10.0, 20.0), time_masks=(1, 0.2), out=tmp_path / "run", **settings
    )
    assert not tiny.same(plain.model.variables, other.model.variables)
    assert (tmp_path / "run" / "config.yaml").read_text().count("time_masks") == 1


# Who refuses what

SOUND = Card(SPEC)


@pytest.mark.parametrize(
    ("card", "settings", "sound", "said"),
    [
        (SOUND, Augmentation(flip=True), {}, "changes pictures, and this network takes sound.*`gain`"),
        (SOUND, Augmentation(augment="standard"), {}, "changes pictures"),
        (SOUND, Augmentation(noise=0.1), {"gain": 1.0}, "changes pictures"),
        (Card(Image()), Augmentation(), {"gain": 3.0, "snr": (1.0, 2.0)}, "`gain`, `snr` would change sound.*pictures"),
        (Card(Text()), Augmentation(), {"time_shift": 0.1}, "would change sound, and this network takes text"),
        (Card(WAVES), Augmentation(), {"time_masks": (1, 0.1)}, "takes the waveform itself"),
        (Card(WAVES), Augmentation(), {"frequency_masks": (1, 0.1)}, "takes the waveform itself"),
        (SOUND, Augmentation(), {"gain": -1.0}, "`gain` is -1.0"),
        (SOUND, Augmentation(), {"time_shift": float("inf")}, "`time_shift` is inf"),
        (SOUND, Augmentation(), {"snr": (20.0, 10.0)}, "the lower first"),
        (SOUND, Augmentation(), {"time_masks": (0, 0.1)}, "at least 1"),
        (SOUND, Augmentation(), {"frequency_masks": (1, 1.5)}, "a share of up to 1"),
    ],
)
def test_what_means_nothing_is_refused_with_a_sentence(card, settings, sound, said):
    with pytest.raises(ConfigError, match=said):
        resolved(settings, card, ("a", "b"), SoundAugmentation(**sound))


def test_what_is_legitimate_is_taken_and_auto_takes_nothing():
    settings = SoundAugmentation(gain=3.0, time_masks=(2, 0.2))
    assert resolved(Augmentation(augment="auto"), SOUND, ("a", "b"), settings) == (Augmentation(), [])
    assert on_host(Augmentation(), settings) == SoundAugment(gain=3.0, time_masks=(2, 0.2))
    assert on_host(Augmentation()) == Augment()
    assert {f.name for f in dataclasses.fields(SoundAugment)} == {f.name for f in dataclasses.fields(SoundAugmentation)}


def test_a_job_refuses_before_it_begins(tmp_path):
    with pytest.raises(ConfigError, match="would change sound"):
        flaxtl.finetune(tiny.model(), tiny.source(), gain=3.0, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
