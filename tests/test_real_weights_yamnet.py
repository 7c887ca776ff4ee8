"""Published YAMNet converts, and says what the TFLite original was recorded to say; no TensorFlow is needed."""

import csv
import functools

import numpy as np
import pytest
from scipy.special import expit

from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.readers import read_weights

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@functools.cache
def converted(folder):
    return plan_conversion(read_weights(folder)).read()


@pytest.fixture
def model(shared):
    return converted(shared / "weights" / "yamnet_audioset")


def relative(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


def test_embedding_and_scores_are_those_of_the_reference(shared, model):
    network = model.network
    with np.load(shared / "weights" / "yamnet_audioset" / "reference.npz") as reference:
        patch, embedding, scores = (reference[n] for n in ("log_mel_patch", "embedding", "scores"))
    features, _ = network.forward(model.variables, patch[..., None], 0, network.border)
    assert relative(features, embedding) <= 1e-4
    logits, _ = network.forward(model.variables, features, network.border)
    assert relative(expit(logits), scores) <= 1e-4


def test_it_comes_with_its_input_its_labels_and_its_task(model):
    assert (model.card.input.sample_rate, model.card.input.front_end) == (16000, "log_mel")
    assert (len(model.card.labels), model.card.labels[:2]) == (521, ("Speech", "Child speech, kid speaking"))
    assert model.card.head.task == "multilabel"


# The classes of ESC-10 and the AudioSet labels that mean the same.
SOUNDS = {
    "baby_cry": {"Baby cry, infant cry", "Crying, sobbing"},
    "chainsaw": {"Chainsaw", "Sawing"},
    "clock_tick": {"Tick", "Tick-tock", "Clock"},
    "dog_bark": {"Dog", "Bark", "Bow-wow"},
    "fire_crackling": {"Fire", "Crackle"},
    "helicopter": {"Helicopter"},
    "person_sneeze": {"Sneeze"},
    "rain": {"Rain", "Raindrop", "Rain on surface"},
    "rooster": {"Chicken, rooster", "Crowing, cock-a-doodle-doo"},
    "sea_waves": {"Waves, surf", "Ocean"},
}


def test_real_clips_of_44_kilohertz_are_heard_for_what_they_are(shared, model):
    folder = shared / "data" / "esc10_folds123"
    with (folder / "files.csv").open(newline="") as file:
        every = list(csv.DictReader(file))
    rows = [row for sound in SOUNDS for row in [r for r in every if r["label"] == sound][:4]]
    found = model.predict([folder / "audio" / row["file"] for row in rows])
    names = np.array(model.card.labels)
    scores = np.stack([found.values[:, np.isin(names, list(same))].max(axis=1) for same in SOUNDS.values()])
    heard = [list(SOUNDS)[i] for i in scores.argmax(axis=0)]
    wrong = [(row["file"], sound) for row, sound in zip(rows, heard, strict=True) if sound != row["label"]]
    assert len(wrong) <= 3, wrong  # the README measured 96.5 % of all 400 clips
