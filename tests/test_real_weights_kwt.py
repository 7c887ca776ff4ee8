"""The published keyword transformer converts, and hears in raw sound what it was recorded to hear."""

import functools

import numpy as np
import pytest

from flaxtl.convert import mapping
from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.readers import read_weights
from flaxtl.data.audio import Clip

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@functools.cache
def converted(folder):
    conversion = plan_conversion(read_weights(folder))
    return conversion, conversion.read()


@pytest.fixture
def folder(shared):
    return shared / "weights" / "kwt1_speech_commands"


def relative(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


def test_mfcc_and_logits_from_raw_sound_are_those_of_the_reference(folder):
    _, model = converted(folder)
    with np.load(folder / "reference.npz") as reference:
        waves, mfcc, logits = (reference[n] for n in ("wav", "mfcc", "logits"))
    rows = {"waveform": waves, "length": np.full(len(waves), waves.shape[1], np.int32)}
    assert relative(model.pipeline.preprocess.device(rows), mfcc) <= 1e-5
    assert relative(model.logits(list(waves)), logits) <= 1e-4


def test_the_three_words_are_recognised_from_their_files(folder):
    _, model = converted(folder)
    found = model.predict([folder / f"{name}_1000ms.wav" for name in ("yes", "no", "silence")])
    assert found.classes == ["yes", "no", "_silence_"]
    assert found.values.max(axis=1).min() > 0.9


def test_another_rate_and_a_short_clip_are_heard_all_the_same(folder):
    import soundfile
    import soxr

    _, model = converted(folder)
    wave, rate = soundfile.read(folder / "yes_1000ms.wav", dtype="float32")
    slow = soxr.resample(wave, rate, 8000)
    stereo = np.stack([wave, wave], axis=1)
    assert model.predict([Clip(slow, 8000), Clip(stereo, rate), Clip(wave[:15000], rate)]).classes == ["yes"] * 3


def test_the_way_back_gives_every_mapped_tensor_to_the_bit(folder):
    conversion, model = converted(folder)
    back = mapping.invert(conversion.steps, model.variables)
    assert all(np.array_equal(array, conversion.weights[name].read()) for name, array in back.items())
    left_out = sorted(set(conversion.weights) - set(back))
    assert left_out == sorted(
        ["attn_scale"]
        + [f"features/{n}" for n in ("window", "log_floor", "norm_sub", "norm_mul", "dft_re", "dft_im", "mel", "dct")]
    )
