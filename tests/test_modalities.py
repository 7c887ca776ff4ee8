"""The contract of modalities: what does not fit is refused by both names; near misses are handled and said."""

import numpy as np
import pytest
import tiny
from flax import linen as nn
from PIL import Image as pillow
from tiny_text import text_model, write_tokenizer

import flaxtl
from flaxtl import nets
from flaxtl.card import Array, Audio, Card, Head, Image, NetworkSpec
from flaxtl.data import from_files, from_folder, open_source
from flaxtl.data.traits import adaptations
from flaxtl.errors import CardError, DataError
from flaxtl.model import Model
from flaxtl.nets.adapt import LinenModule

soundfile = pytest.importorskip("soundfile", reason="needs the [audio] extra")

NOUNS = {"image": "pictures", "audio": "sound", "text": "text", "array": "plain numbers"}
RATE = 16000


def sound_model():
    spec = NetworkSpec("yamnet", {"stem_width": 4, "widths": (4,), "strides": (1,)})
    front = Audio(RATE, 0.1, 0.1, front_end="log_mel", settings={"bands": 8})
    network = nets.build(spec, 2)
    model = Model(network, {}, Card(front, spec, (Head(labels=("a", "b")),)))
    return model.with_variables(network.init(0, np.zeros(model.sample().shape, np.float32)))


class Net(nn.Module):
    """Two dense layers."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, name="head")(nn.relu(nn.Dense(3, name="body")(x)))


def array_model():
    network = LinenModule(Net(), head="head")
    card = Card(Array((2,)), NetworkSpec("custom", {}), (Head(labels=("a", "b")),))
    return Model(network, network.init(0, np.zeros((1, 2), np.float32)), card)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    text = text_model(write_tokenizer(tmp_path_factory.mktemp("t")), ("a", "b"))
    return {"image": tiny.model(), "audio": sound_model(), "text": text, "array": array_model()}


def tone(seconds, rate=RATE, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Labelled data of each modality by path: folders of pictures and sound, a table of texts, one of numbers."""
    place = tmp_path_factory.mktemp("given")
    tiny.folder(place / "image", per_class=2)
    for name in ("a", "b"):
        (place / "audio" / name).mkdir(parents=True)
        soundfile.write(place / "audio" / name / "1.wav", tone(0.1), RATE)
    (place / "text.csv").write_text("text,label\ngood,a\nbad,b\n")
    (place / "array.csv").write_text("width,height,label\n1,2,a\n3,4,b\n")
    return {
        "image": place / "image",
        "audio": place / "audio",
        "text": place / "text.csv",
        "array": place / "array.csv",
    }


@pytest.mark.parametrize("network", NOUNS)
@pytest.mark.parametrize("data", NOUNS)
def test_every_pair_of_modalities_that_differ_is_refused_by_both_names(data, network, models, given):
    if data == network:
        assert open_source(given[data]) is not None
        return
    words = f"{NOUNS[data]}, but this network was pretrained on {NOUNS[network]}.* Load a network pretrained on"
    for use in (
        lambda: flaxtl.finetune(models[network], given[data]),
        lambda: flaxtl.evaluate(models[network], given[data]),
        lambda: models[network].predict(open_source(given[data])),
    ):
        with pytest.raises(CardError, match=words):
            use()


@pytest.mark.parametrize("data", NOUNS)
def test_data_of_the_right_modality_is_learned_from(data, models, given):
    result = flaxtl.finetune(models[data], given[data], test=given[data], cache="off")
    assert result.metrics.examples == result.examples


def test_what_is_predicted_is_refused_by_both_names_too(models, given):
    with pytest.raises(CardError, match="holds sound, but this network was pretrained on pictures"):
        models["image"].predict(given["audio"])
    with pytest.raises(CardError, match="holds pictures, but this network was pretrained on text"):
        models["text"].predict(from_files(given["image"]))
    with pytest.raises(DataError, match="The test data is text, but the training data image"):
        flaxtl.finetune(models["image"], given["image"], test=given["text"])


# Near misses are handled, and said


def test_pictures_of_other_channels_and_sizes_are_adapted_and_said(tmp_path, models):
    for name, shape in (("a", (20, 9, 3)), ("b", (4, 30))):
        (tmp_path / name).mkdir()
        for i in range(2):
            pillow.fromarray(np.full(shape, 40 * i, np.uint8)).save(tmp_path / name / f"{i}.png")
    result = flaxtl.finetune(models["image"], tmp_path, cache="off")
    assert "2 colour pictures are made grey." in result.notes
    assert "2 pictures smaller than 8×8 are enlarged." in result.notes
    grey = adaptations([from_folder(tmp_path)], Image((4, 4), 3))
    assert grey == ["2 grey pictures are given to the network's three channels alike."]


def test_rates_channels_and_lengths_of_clips_are_adapted_and_said(tmp_path, models):
    clips = {"a/1": (tone(0.1, 8000), 8000), "a/2": (tone(0.3), RATE), "b/1": (tone(0.1, 44100), 44100)}
    clips["b/2"] = (np.stack([tone(0.1, 8000)] * 2, 1), 8000)
    for name, (samples, rate) in clips.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"{name}.wav", samples, rate)
    notes = flaxtl.finetune(models["audio"], tmp_path, cache="off").notes
    assert "2 clips of 8,000 Hz are resampled to 16,000 Hz." in notes
    assert "1 clips of 44,100 Hz are resampled to 16,000 Hz." in notes
    assert "1 clips of several channels are mixed to one." in notes
    assert "1 clips longer than 0.1 s are cut into windows, which are averaged." in notes


def test_nothing_is_said_of_data_that_needs_nothing(models):
    assert flaxtl.finetune(models["image"], tiny.source(), test=tiny.source(seed=1), cache="off").notes == ()


# Odd clips and odd texts, through the whole job

ODD_CLIPS = {
    "mixed rate": (tone(0.2, 22050), 22050),
    "stereo": (np.stack([tone(0.2), tone(0.2, hertz=900.0)], 1), RATE),
    "0.05 s": (tone(0.05), RATE),
    "silent": (np.zeros(3200, np.float32), RATE),
    "clipped": (np.clip(4 * tone(0.2), -1, 1), RATE),
}


def test_odd_clips_are_learned_from_and_a_truncated_one_is_refused_by_name(tmp_path, models):
    for name, (samples, rate) in ODD_CLIPS.items():
        for label in ("a", "b"):
            (tmp_path / label).mkdir(exist_ok=True)
            soundfile.write(tmp_path / label / f"{name}.wav", samples * (1.0 if label == "a" else 0.5), rate)
    result = flaxtl.finetune(models["audio"], tmp_path, cache="off")
    assert result.examples == 10
    assert np.isfinite(result.model.predict(tmp_path).values).all()
    whole = (tmp_path / "a" / "stereo.wav").read_bytes()
    (tmp_path / "a" / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b" / "header.wav").write_bytes(whole[:20])
    with pytest.raises(DataError, match=r"header\.wav cannot be decoded|truncated\.wav"):
        flaxtl.finetune(models["audio"], tmp_path)
    result = flaxtl.finetune(models["audio"], tmp_path, on_bad_file="skip", cache="off")
    assert "header.wav" in result.notes[0]


ODD_TEXTS = ["", "x" * 100_000, "good 😀👩‍👩‍👧", "שלום \u202egood", 'a "quoted"\nnewline, and a comma', "bad " * 30_000]


def test_odd_texts_are_learned_from_and_invalid_utf8_is_refused_by_name(tmp_path, models):
    import csv

    file = tmp_path / "t.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *((text, "ab"[i % 2]) for i, text in enumerate(ODD_TEXTS))])
    assert open_source(file).raw == ODD_TEXTS
    result = flaxtl.finetune(models["text"], file, cache="off")
    assert result.examples == len(ODD_TEXTS)
    assert np.isfinite(result.model.predict(ODD_TEXTS).values).all()
    file.write_bytes(file.read_bytes() + b"\xff\xfe,a\n")
    with pytest.raises(DataError, match=r"t\.csv is not UTF-8 at line"):
        flaxtl.finetune(models["text"], file)


# Pairs


def test_pairs_of_texts_are_learned_and_the_saved_model_takes_pairs(tmp_path, models):
    pairs = [("good", "good film"), ("bad", "good film"), ("good", "bad day"), ("bad", "awful food")] * 3
    lines = "".join(f"{a},{b},{'same' if (a == 'good') == ('good' in b) else 'other'}\n" for a, b in pairs)
    (tmp_path / "pairs.csv").write_text(f"first,second,label\n{lines}")

    result = flaxtl.finetune(models["text"], tmp_path / "pairs.csv", input_column="first,second", cache="off")
    assert result.model.card.input.pair
    assert result.model.card.labels == ("other", "same")
    saved = Model.load(result.model.save(tmp_path / "model"))
    np.testing.assert_array_equal(saved.predict(pairs[:4]).values, result.model.predict(pairs[:4]).values)
    [row] = saved.pipeline.preprocess.rows(("good", "bad day"))
    assert row["types"][: row["mask"].sum()].tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(DataError, match="card says 2"):
        saved.predict(["good"])
