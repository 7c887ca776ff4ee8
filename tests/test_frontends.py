"""Front ends make of a waveform what the source implementations make of it; recorded, so without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from frontend_cases import CLIPS, FIXTURES, clip

from flaxtl.card import Audio
from flaxtl.data.audio import AudioPreprocess
from flaxtl.data.frontends import FRONT_ENDS, KaldiFbank, front_end, mel_filters
from flaxtl.errors import CardError

# Case → (window in samples, front end, settings, every which frame was recorded).
CASES = {
    "ast": (9840, "kaldi_fbank", {"frames": 60, "bands": 40}, 1),
    "ast_plain": (9840, "kaldi_fbank", {"frames": 60, "mean": 0.0, "std": 0.5}, 4),
    "whisper80": (16000, "whisper_log_mel", {"bands": 80}, 4),
    "whisper128": (16000, "whisper_log_mel", {"bands": 128}, 4),
    "whisper_30s": (480000, "whisper_log_mel", {"bands": 80}, 100),
    "wav2vec2": (16000, "waveform", {"normalise": True, "mask": True}, 16),
    "yamnet": (15600, "log_mel", {}, 1),
}


@pytest.fixture(scope="module")
def recorded():
    found = {}
    for file in FIXTURES.glob("*.npz"):
        with np.load(file) as arrays:
            found.update({name: arrays[name] for name in arrays.files})
    return found


def inputs(window, name):
    pre = AudioPreprocess.of(Audio(16000, window / 16000, window / 16000))
    row = pre.rows(clip(name))[0]
    return jnp.asarray(row["waveform"][None]), jnp.asarray(row["length"][None])


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_source_implementation(recorded, case, name):
    window, kind, settings, step = CASES[case]
    ours = jax.jit(front_end(Audio(16000, front_end=kind, settings=settings)))(*inputs(window, name))
    wanted = recorded[f"{case} {name}"]
    if case == "wav2vec2":
        assert np.array_equal(ours["mask"][0, ::step], recorded[f"wav2vec2_mask {name}"])
        ours = ours["x"]
    found = np.asarray(ours, np.float32)[0, ::step].reshape(wanted.shape)
    # Logarithms magnify what float32 loses in quiet bands; the sources, too, differ that much from float64 there.
    difference = np.abs(found - wanted) / max(float(np.abs(wanted).max()), 1e-30)
    assert difference.max() <= 3e-4
    assert difference.mean() <= 1e-5


def test_every_front_end_has_a_recorded_reference():
    # The keyword transformer's is that of its real weights (test_real_weights_kwt.py).
    assert {kind for _, kind, _, _ in CASES.values()} | {"mfcc"} == set(FRONT_ENDS)


def test_filters_cover_the_band_and_nothing_else():
    filters = mel_filters(64, 512, 16000, 125.0, 7500.0)
    hertz = np.linspace(0, 8000, 257)
    assert not filters[hertz <= 125.0].any()
    assert not filters[hertz >= 7500.0].any()
    assert (filters.sum(axis=0) > 0).all()


@pytest.mark.parametrize("kind", FRONT_ENDS)
def test_silence_gives_finite_numbers_under_jit_and_a_hashable_front_end(kind):
    made = front_end(Audio(front_end=kind))
    assert made == front_end(Audio(front_end=kind))
    assert hash(made) == hash(front_end(Audio(front_end=kind)))
    y = jax.jit(made)(jnp.zeros((2, 16000)), jnp.array([16000, 0]))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(y))


def test_padding_does_not_change_what_is_said_of_the_real_part():
    fbank = KaldiFbank(frames=60)
    short, length = inputs(9840, "short")
    alone = fbank(short[:, : int(length[0])], length)
    np.testing.assert_allclose(fbank(short, length), alone, atol=1e-5)


def test_unknown_front_ends_and_settings_are_named():
    with pytest.raises(CardError, match=r"'mfc'.*Did you mean 'mfcc'"):
        front_end(Audio(front_end="mfc"))
    with pytest.raises(CardError, match=r"no setting 'band'.*'bands'"):
        front_end(Audio(front_end="mfcc", settings={"band": 3}))
