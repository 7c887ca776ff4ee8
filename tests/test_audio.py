"""Clips: decoded, mixed, resampled, cut into windows; bad ones handled or refused by name."""

import io
import itertools
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

import flaxtl
from flaxtl import nets
from flaxtl.card import Audio, Card, Head, NetworkSpec
from flaxtl.data import Loader, Source, from_arrays, from_folder
from flaxtl.data.audio import AudioPreprocess, Clip, decode, mono, resample, window_starts
from flaxtl.data.rows import stack
from flaxtl.data.traits import traits_of
from flaxtl.errors import CardError, DataError
from flaxtl.model import Model

SPEC = Audio(16000, window=1.0, hop=0.5)


def tone(seconds, rate=16000, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples, rate=16000, kind="WAV", **settings):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **settings)
    return file.getvalue()


def rows(raw, spec=SPEC):
    return AudioPreprocess.of(spec).rows(raw)


@pytest.mark.parametrize(("kind", "tolerance"), [("WAV", 4e-5), ("FLAC", 4e-5), ("OGG", 0.1), ("MP3", 0.1)])
def test_every_format_decodes_to_the_same_sound(kind, tolerance):
    wave = tone(0.5)
    found = decode(encoded(wave, kind=kind))
    assert found.sample_rate == 16000
    assert found.samples.dtype == np.float32
    assert np.abs(found.samples[: len(wave), 0] - wave)[500:-500].max() < tolerance


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_another_rate_is_resampled_to_the_same_sound(rate):
    [row] = rows(encoded(tone(0.5, rate), rate))
    assert row["length"] == 8000
    np.testing.assert_allclose(row["waveform"][1000:7000], tone(0.5)[1000:7000], atol=2e-3)


def test_stereo_becomes_what_the_card_says():
    left, right = tone(0.2), tone(0.2, hertz=1000.0)
    data = encoded(np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(rows(data)[0]["waveform"][:3200], (left + right) / 2, atol=1e-6)
    first = rows(data, Audio(16000, mix="first"))[0]["waveform"][:3200]
    np.testing.assert_array_equal(first, left)


def test_short_clips_are_filled_up_with_zeros_and_say_how_long_they_are():
    [row] = rows(encoded(tone(0.05)))
    assert row["length"] == 800
    assert row["waveform"].shape == (16000,)
    assert not row["waveform"][800:].any()


def test_long_clips_become_windows_that_cover_them_and_end_with_them():
    wave = tone(1.7, hertz=3.0)
    made = rows(wave)
    assert [int(r["length"]) for r in made] == [16000] * 3
    np.testing.assert_array_equal(made[1]["waveform"], wave[8000:24000])
    np.testing.assert_array_equal(made[2]["waveform"], wave[-16000:])


@given(st.integers(1, 5000), st.integers(1, 700), st.integers(1, 700))
def test_windows_cover_a_clip_without_leaving_it(length, window, hop):
    starts = window_starts(length, window, hop)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert max(starts[-1] + window, length) == max(length, window)
    if hop <= window:
        assert all(b - a <= hop for a, b in itertools.pairwise(starts))


def test_silent_and_clipped_clips_are_taken_as_they_are():
    assert not rows(np.zeros(16000, np.float32))[0]["waveform"].any()
    loud = np.clip(10 * tone(1.0), -1, 1)
    np.testing.assert_allclose(rows(encoded(loud))[0]["waveform"], loud, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "value", "wanted"),
    [(np.int16, 16384, 0.5), (np.int32, 2**30, 0.5), (np.uint8, 192, 0.5), (np.int64, -16384, -0.5)],
)
def test_integers_are_scaled_by_their_range(dtype, value, wanted):
    assert decode(np.full(4, value, dtype)).samples[0, 0] == wanted


def test_clips_in_memory_bring_their_rate():
    [row] = rows(Clip(tone(0.5, 8000), 8000))
    assert row["length"] == 8000


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "empty"),
        (b"not sound at all" * 20, "cannot be decoded"),
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((2, 3, 4), np.float32), "shape"),
        (np.array([0.0, np.nan], np.float32), "not finite"),
        (np.array([0.0, 32767.0], np.float32), "from -1 to 1"),
        (np.array(["a"]), "holds <U1"),
        (Clip(np.zeros(9, np.float32), 3), "3 samples a second"),
        (Clip(np.zeros(1, np.float32), 700_000), "too short"),
    ],
)
def test_what_is_no_sound_is_refused_with_a_sentence(raw, words):
    with pytest.raises(DataError, match=words):
        rows(raw)


def test_a_file_is_named_in_the_refusal(tmp_path):
    file = tmp_path / "bark.wav"
    file.write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"bark\.wav"):
        rows(file)
    with pytest.raises(DataError, match=r"absent\.wav cannot be read"):
        rows(tmp_path / "absent.wav")


FORMATS = [
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "GSM610", "G721_32")),
    *(("AIFF", subtype) for subtype in ("PCM_16", "GSM610")),
    *(("AU", "PCM_16"), ("CAF", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16"), ("NIST", "PCM_16")),
    *(("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
]


def written(kind, subtype):
    stream, tone = io.BytesIO(), 0.3 * np.sin(np.arange(16000) / 5)
    soundfile.write(stream, tone, 8000, format=kind, subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_every_format_is_read_whole_and_refused_where_it_is_cut_short(kind, subtype):
    data = written(kind, subtype)
    samples = decode(data).samples
    assert 16000 <= len(samples) <= 16200
    assert 0.25 < np.abs(samples).max() < 0.35
    for length in (len(data) // 2, len(data) - 1):
        with pytest.raises(DataError, match="is cut short"):
            decode(data[:length])


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_that_was_written_to_a_pipe_is_whole(size, tmp_path):
    data = bytearray(written("WAV", "PCM_16"))
    data[40:44] = size.to_bytes(4, "little")
    assert len(decode(bytes(data)).samples) == 16000
    (tmp_path / "piped.wav").write_bytes(data)
    assert traits_of(Source.of("audio", [tmp_path / "piped.wav"])) == [(16000, 8000, 1)]


def test_a_flac_that_was_written_to_a_pipe_is_whole():
    data = bytearray(written("FLAC", "PCM_16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # the number of samples
    assert len(decode(bytes(data)).samples) == 16000


def test_a_wav_of_no_samples_with_a_comment_behind_them_is_empty():
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(0), 8000, format="WAV")
    data = stream.getvalue() + b"LIST" + (4).to_bytes(4, "little") + b"INFO"
    with pytest.raises(DataError, match="holds no samples"):
        decode(data)


def test_a_wav_with_a_comment_behind_its_samples_is_whole():
    data = written("WAV", "PCM_16") + b"LIST" + (4).to_bytes(4, "little") + b"INFO"
    assert len(decode(data).samples) == 16000


def test_floats_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="not finite"):
        decode(encoded(np.array([0.0, np.nan, 0.5], np.float32), kind="WAV", subtype="FLOAT"))


@pytest.mark.parametrize(("module", "raw"), [("soundfile", b"RIFF"), ("soxr", Clip(np.zeros(800, np.float32), 8000))])
def test_an_absent_package_is_one_clear_sentence(monkeypatch, module, raw):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf"needs {module}: pip install 'flaxtl\[audio\]'"):
        rows(raw)


def test_equal_cards_give_equal_preprocessing():
    one, two = (AudioPreprocess.of(Audio(front_end="mfcc", settings={"coefficients": 13})) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)


def test_mixing_and_resampling_keep_what_needs_nothing():
    wave = tone(0.1)
    assert resample(wave, 16000, 16000) is wave
    np.testing.assert_array_equal(mono(wave[:, None]), wave)


def test_batches_of_short_clips_are_cut_where_the_network_knows_what_is_real():
    pre = AudioPreprocess.of(Audio(16000, settings={"mask": True, "normalise": True}))
    assert pre.lengths == (1000, 2000, 4000, 8000, 16000)
    source = from_arrays(np.stack([tone(0.1), tone(0.1, hertz=90.0)]), modality="audio")
    [batch] = Loader(source, pre, 2, train=False).iterate()
    assert batch["inputs"]["waveform"].shape == (2, 2000)
    made = pre.device(batch["inputs"])
    whole = pre.device(stack([pre.rows(clip)[0] for clip in source.raw]))
    assert np.asarray(made["mask"]).sum(axis=1).tolist() == [1600, 1600]
    np.testing.assert_allclose(made["x"], whole["x"][:, :2000], atol=1e-5)
    assert AudioPreprocess.of(SPEC).lengths == ()


def test_a_model_takes_clips_in_memory_and_files_and_averages_their_windows(tmp_path):
    spec = NetworkSpec("yamnet", {"stem_width": 4, "widths": (4,), "strides": (1,)})
    card = Card(Audio(16000, 0.1, 0.1, front_end="log_mel", settings={"bands": 8}), spec, (Head(labels=("a", "b")),))
    network = nets.build(spec, 2)
    model = Model(network, {}, card)
    model = model.with_variables(network.init(0, np.zeros(model.sample().shape, np.float32)))
    soundfile.write(tmp_path / "a.wav", tone(0.25), 16000, subtype="FLOAT")
    from_memory = model.features([tone(0.25), Clip(tone(0.05, 8000), 8000)])
    assert from_memory.shape == (2, 4)
    np.testing.assert_allclose(model.features(tmp_path / "a.wav")[0], from_memory[0], rtol=1e-5)
    with pytest.raises(CardError, match=r"sound.*plain numbers|plain numbers.*sound"):
        model.predict(from_arrays(np.zeros((2, 100), np.float32), modality="array"))
    one = model.predict(tone(0.25))
    np.testing.assert_array_equal(one.values, model.predict([tone(0.25)]).values)


def test_a_folder_with_a_damaged_clip_names_it_before_anything_is_trained(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "1.wav", tone(0.1), 16000)
    (tmp_path / "dog" / "2.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"2\.wav cannot be decoded"):
        from_folder(tmp_path)
    source = from_folder(tmp_path, on_bad_file="skip")
    assert (source.modality, len(source), len(source.skipped)) == ("audio", 2, 1)


def test_the_windows_of_a_clip_are_averaged_as_probabilities_where_several_labels_may_be_true():
    spec = NetworkSpec("yamnet", {"stem_width": 4, "widths": (4,), "strides": (1,)})
    head = Head(labels=("a", "b"), task="multilabel")
    card = Card(Audio(16000, 0.1, 0.1, front_end="log_mel", settings={"bands": 8}), spec, (head,))
    model = Model(nets.build(spec, 2), {}, card)
    variables = model.network.init(0, np.zeros(model.sample().shape, np.float32))
    variables["params"]["head"]["kernel"] = np.full((4, 2), 3.0, np.float32)
    model = model.with_variables(variables)
    rows, _ = model.outputs([tone(0.2)])
    np.testing.assert_allclose(model.predict([tone(0.2)]).values[0], expit(rows).mean(axis=0), rtol=1e-5)


def test_a_solved_head_predicts_from_a_clips_mean_features_and_a_trained_one_from_its_windows(tmp_path):
    spec = NetworkSpec("yamnet", {"stem_width": 4, "widths": (4,), "strides": (1,)})
    card = Card(Audio(16000, 0.1, 0.1, front_end="log_mel", settings={"bands": 8}), spec, (Head(labels=("a", "b")),))
    model = Model(nets.build(spec, 2), {}, card)
    model = model.with_variables(model.network.init(0, np.zeros(model.sample().shape, np.float32)))
    # Each clip begins alike, so that its windows say other things than its mean.
    clips = [np.concatenate([tone(0.1), tone(0.2, hertz=(300.0, 3000.0)[i % 2] + 40.0 * i)]) for i in range(6)]
    source = from_arrays(np.stack(clips), ["a", "b"] * 3, modality="audio")
    solved = flaxtl.finetune(model, source, strategy="head", cache="off").model
    assert solved.card.head.rows == "features"
    x = solved.features(source)
    if solved.card.head.normalise == "rms":
        x = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + 1e-12)
    head = solved.params["head"]
    np.testing.assert_allclose(solved.logits(source), x @ head["kernel"] + head["bias"], rtol=1e-3, atol=1e-3)
    rows, index = solved.outputs(source)
    assert len(rows) == 3 * len(clips)
    apart = np.log([softmax(rows[index == i], axis=1).mean(axis=0) for i in range(len(clips))])
    assert not np.allclose(softmax(solved.logits(source), axis=1), np.exp(apart), rtol=1e-2)
    again = Model.load(solved.save(tmp_path / "m"))
    np.testing.assert_array_equal(again.logits(source), solved.logits(source))
    trained = flaxtl.finetune(model, source, strategy="lpft", epochs=1.0, cache="off").model
    rows, index = trained.outputs(source)
    apart = [softmax(rows[index == i], axis=1).mean(axis=0) for i in range(len(clips))]
    np.testing.assert_allclose(softmax(trained.logits(source), axis=1), apart, atol=1e-5)
    assert trained.with_head(("c", "d")).card.head.rows == "probabilities"


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF"])
def test_a_tag_before_another_format_moves_nothing(form, tmp_path):
    samples = np.linspace(-0.5, 0.5, 400, dtype=np.float32)
    soundfile.write(tmp_path / "clip", samples, 8000, format=form)
    tag = b"ID3\x03\0\0\0\0\0\x0a" + bytes(10)
    (tmp_path / "tagged.wav").write_bytes(tag + (tmp_path / "clip").read_bytes())
    np.testing.assert_allclose(decode(tmp_path / "tagged.wav").samples[:, 0], samples, atol=1e-4)


def test_what_is_no_sound_is_named_without_an_address_in_memory(tmp_path):
    (tmp_path / "404.wav").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"404\.wav cannot be decoded: Format not recognised"):
        decode(tmp_path / "404.wav")
