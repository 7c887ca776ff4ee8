"""A model keeps its parameters to the bit and its card to the letter, and refuses what would mislead."""

import csv
import dataclasses
import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import linen as nn

from flaxtl import checkpoint, data, surgery
from flaxtl.card import Array, Card, Head, NetworkSpec
from flaxtl.convert import load
from flaxtl.errors import CardError, CheckpointError, ConfigError, DataError, TrainingError
from flaxtl.model import Model, non_finite
from flaxtl.nets.adapt import LinenModule
from flaxtl.predictions import Predictions


def test_a_saved_model_comes_back_to_the_bit_with_its_card_and_files(tmp_path):
    (tmp_path / "notes.txt").write_text("ß")
    model = dataclasses.replace(tiny.model(), files={"notes.txt": tmp_path / "notes.txt"})
    assert model.save(tmp_path / "m") == tmp_path / "m"
    found = load(tmp_path / "m")
    assert tiny.same(found.variables, model.variables)
    assert np.signbit(found.params["head"]["bias"][1])
    assert found.card == model.card
    found.save(tmp_path / "again")
    assert (tmp_path / "again" / "notes.txt").read_text() == "ß"


def test_labels_keep_their_order_through_save_load_and_predict(tmp_path):
    # An order that no sorting gives.
    model = tiny.model().with_head(["b", "10", "2", "a"])
    head = {"kernel": np.zeros((8, 4), np.float32), "bias": np.array([0.0, 3.0, 1.0, 2.0], np.float32)}
    model = model.with_variables({**model.variables, "params": {**model.params, "head": head}})
    model.save(tmp_path / "m")
    predictions = load(tmp_path / "m").predict(tiny.pictures()[0])
    assert predictions.labels == ("b", "10", "2", "a")
    assert set(predictions.classes) == {"10"}
    np.testing.assert_allclose(predictions.probabilities[0], np.exp(head["bias"]) / np.exp(head["bias"]).sum())


@pytest.mark.parametrize("init", ["zeros", "lecun_normal"])
def test_a_new_head_is_all_that_is_initialised_anew(init):
    model = tiny.model()
    new = model.with_head(tiny.LABELS) if init == "zeros" else model.with_head(tiny.LABELS, init=init, seed=3)
    assert new.params["head"]["kernel"].shape == (8, 3)
    assert not np.any(new.params["head"]["bias"])
    assert np.any(new.params["head"]["kernel"]) == (init != "zeros")
    assert new.card.labels == tiny.LABELS
    old, kept = model.variables, {**new.variables, "params": {**new.params, "head": model.params["head"]}}
    assert tiny.same(old, kept)
    a, b = model.params["backbone"]["stem"], new.params["backbone"]["stem"]
    assert a["conv1"]["kernel"] is b["conv1"]["kernel"]
    assert "re-initialised" in new.notes[-1]


def test_a_named_initialiser_draws_by_the_seed():
    model = tiny.model()
    kernels = [model.with_head(tiny.LABELS, init="he_normal", seed=s).params["head"]["kernel"] for s in (1, 1, 2)]
    assert tiny.same(kernels[0], kernels[1])
    assert not tiny.same(kernels[0], kernels[2])
    by_hand = surgery.reinit(model.with_head(tiny.LABELS).params, "head/**", "he_normal", seed=1)
    assert tiny.same(by_hand["head"]["kernel"], kernels[0])
    with pytest.raises(ConfigError, match="Did you mean 'he_normal'"):
        model.with_head(tiny.LABELS, init="he_norma")


def test_a_new_head_of_the_old_size_is_new_too():
    new = tiny.model().with_head(["p", "q"])
    assert not np.any(new.params["head"]["kernel"])
    assert new.card.labels == ("p", "q")


def test_an_old_calibration_does_not_outlive_its_head():
    model = tiny.model()
    model = dataclasses.replace(model, card=model.card.with_head(temperature=3.0, normalise="rms"))
    head = model.with_head(tiny.LABELS).card.head
    assert (head.temperature, head.normalise) == (1.0, "none")


@pytest.mark.parametrize(("labels", "words"), [((), "found none"), (("a", "b", "a"), "found a more than once")])
def test_a_head_needs_labels_that_differ(labels, words):
    with pytest.raises(ConfigError, match=words):
        tiny.model().with_head(labels)


def test_the_temperature_moves_into_the_head_without_changing_predictions():
    model = tiny.model()
    model = dataclasses.replace(model, card=model.card.with_head(temperature=0.25))
    folded = model.with_temperature_in_head()
    assert folded.card.head.temperature == 1.0
    np.testing.assert_array_equal(folded.params["head"]["kernel"], 4 * model.params["head"]["kernel"])
    inputs = tiny.pictures()[0]
    np.testing.assert_allclose(
        folded.predict(inputs).probabilities, model.predict(inputs).probabilities, rtol=1e-5, atol=1e-7
    )


# Numbers that are not finite


def spoiled(value):
    model = tiny.model()
    kernel = np.array(model.params["head"]["kernel"])
    kernel[3, 1] = value
    return model.with_variables(
        {**model.variables, "params": {**model.params, "head": {**model.params["head"], "kernel": kernel}}}
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_neither_saved_nor_loaded_nor_used(value, tmp_path):
    model = spoiled(value)
    with pytest.raises(CheckpointError, match=r"NaN or infinity in params:head/kernel"):
        model.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()
    tiny.model().save(tmp_path / "m")
    checkpoint.save(tmp_path / "m" / "checkpoint", model.variables, overwrite=True)
    with pytest.raises(CheckpointError, match=r"NaN or infinity in params:head/kernel"):
        load(tmp_path / "m")
    with pytest.raises(TrainingError, match=r"params:head/kernel"):
        model.predict(tiny.pictures()[0])


def test_non_finite_numbers_are_found_in_every_float():
    tree = {"a": jnp.array([1, jnp.nan], jnp.bfloat16), "b": np.array([np.inf], np.float16), "c": np.array([1])}
    assert non_finite({**tree, "d": np.ones(2, np.float32)}) == ["params:a", "params:b"]


# What does not fit


def test_a_tree_that_does_not_fit_is_refused_with_both_lists(tmp_path):
    tiny.model().save(tmp_path / "m")
    other = dataclasses.replace(tiny.CARD, network=NetworkSpec("resnet", {"depths": (2,), "widths": (4,)}))
    other.write(tmp_path / "m")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "m")
    assert "backbone/blocks_1" in str(caught.value)  # what the network has and the checkpoint lacks
    assert "backbone/blocks_0/conv1/kernel" in str(caught.value)  # what has another shape


def test_what_is_no_model_is_said_to_be_none(tmp_path):
    with pytest.raises(CheckpointError, match="no model at"):
        load(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="is no kind of file"):
        load(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no card\.json"):
        load(tmp_path / "empty")
    tiny.CARD.write(tmp_path / "empty")
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*checkpoint"):
        load(tmp_path / "empty")
    with pytest.raises(CheckpointError, match=r"Did you mean 'characters'"):
        load("flaxtl:character")


def test_a_run_directory_stands_for_its_model(tmp_path):
    tiny.model().save(tmp_path / "run" / "model")
    assert tiny.same(load(tmp_path / "run").variables, tiny.model().variables)


def test_a_saved_model_is_replaced_only_when_asked(tmp_path):
    tiny.model(0).save(tmp_path / "m")
    with pytest.raises(CheckpointError, match="already exists"):
        tiny.model(1).save(tmp_path / "m")
    assert tiny.same(load(tmp_path / "m").variables, tiny.model(0).variables)
    tiny.model(1).save(tmp_path / "m", overwrite=True)
    assert tiny.same(load(tmp_path / "m").variables, tiny.model(1).variables)


class Net(nn.Module):
    outputs: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs, name="top")(nn.relu(nn.Dense(4, name="body")(x)))


def test_a_users_own_module_is_loaded_with_the_module(tmp_path):
    network = LinenModule(Net(), head="top", rebuild=Net)
    card = Card(input=Array((3,)), heads=(Head(path="top", labels=("n", "y")),))
    model = Model(network, network.init(0, np.zeros((1, 3), np.float32)), card)
    model.save(tmp_path / "m")
    with pytest.raises(CheckpointError, match="module of the user's own"):
        load(tmp_path / "m")
    found = load(tmp_path / "m", network=network)
    assert tiny.same(found.variables, model.variables)
    inputs = np.ones((2, 3), np.float32)
    assert tiny.same(found.predict(inputs).probabilities, model.predict(inputs).probabilities)


def test_data_of_another_modality_is_refused():
    text = data.Source.of("text", ["a"])
    for use in (tiny.model().predict, tiny.model().features, tiny.model().logits):
        with pytest.raises(CardError, match=r"holds text, but this network was pretrained on pictures"):
            use(text)


@pytest.mark.parametrize("nothing", [[], tiny.source().subset([])])
def test_nothing_is_refused(nothing):
    with pytest.raises(DataError, match=r"empty|no examples"):
        tiny.model().predict(nothing)


def test_batches_do_not_change_what_is_said():
    model, inputs = tiny.model(), tiny.pictures()[0]
    whole = model.logits(inputs)
    np.testing.assert_allclose(model.logits(inputs, batch_size=5), whole, rtol=1e-5, atol=1e-5)
    assert model.features(inputs).shape == (len(inputs), 8)
    assert whole.shape == (len(inputs), 2)


# Predictions


def predictions(task="classification", labels=("2", "10", "a,b")):
    head = Head(task=task, labels=labels)
    return Predictions.of(["x.png", 'odd, "name".png'], np.log([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]), head)


def test_predictions_as_csv():
    table = list(csv.reader(io.StringIO(predictions().to_csv())))
    assert table == [
        ["path", "prediction", "probability", "2", "10", "a,b"],
        ["x.png", "a,b", "0.500000", "0.200000", "0.300000", "0.500000"],
        ['odd, "name".png', "2", "0.700000", "0.700000", "0.200000", "0.100000"],
    ]


def test_predictions_as_json():
    first, second = json.loads(predictions().to_json())
    assert first == {
        "path": "x.png",
        "prediction": "a,b",
        "probability": 0.5,
        "probabilities": {"2": 0.2, "10": 0.3, "a,b": 0.5},
    }
    assert second["prediction"] == "2"


def test_predictions_as_text():
    assert predictions().to_text().splitlines() == [
        "x.png            a,b  50.0%",
        'odd, "name".png  2  70.0%',
    ]


def test_predictions_of_other_tasks():
    several = predictions("multilabel")
    np.testing.assert_allclose(several.probabilities[1], [7 / 17, 2 / 12, 1 / 11])
    assert several.classes == ["", ""]
    numbers = Predictions.of(["x"], np.array([[1.5, -2.0]]), Head(task="regression", labels=("w", "h")))
    assert numbers.classes == ["1.5;-2"]
