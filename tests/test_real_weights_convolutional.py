"""Published convolutional networks convert, and say what PyTorch recorded of them; no torch is needed."""

import functools

import jax
import numpy as np
import pytest

from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.readers import read_weights
from flaxtl.pipeline import Pipeline

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@functools.cache
def converted(folder):
    conversion = plan_conversion(read_weights(folder))
    return conversion, conversion.read()


def relative(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


@functools.cache
def answers(folder):
    """Features and logits by the path that prediction takes: the card's preprocessing, then the network."""
    _, model = converted(folder)
    pipeline, border = Pipeline.of(model.network, model.card), model.network.border

    def both(variables, x):
        features, _ = pipeline(variables, x, 0, border)
        return features, pipeline(variables, features, border)[0]

    with np.load(folder / "reference.npz") as reference:
        return jax.jit(both)(model.variables, reference["images_uint8_nhwc"])


@pytest.mark.parametrize("name", ["mobilenet_v2_imagenet", "resnet20_cifar10", "resnet56_cifar10"])
def test_logits_and_features_are_those_of_the_reference(shared, name):
    reference = np.load(shared / "weights" / name / "reference.npz")
    features, logits = answers(shared / "weights" / name)
    assert relative(logits, reference["logits"]) <= 1e-4
    if "pooled_features" in reference:
        assert relative(features, reference["pooled_features"]) <= 1e-4


def test_mobilenet_v2_is_recognised_with_its_input_and_its_class_names(shared):
    folder = shared / "weights" / "mobilenet_v2_imagenet"
    conversion, model = converted(folder)
    assert conversion.family.name == "mobilenet"
    assert (model.card.input.size, model.card.input.crop_fraction) == ((224, 224), 0.875)
    np.testing.assert_allclose(model.card.input.mean, (0.485, 0.456, 0.406))
    labels = model.card.labels
    assert (len(labels), labels[0], labels[999]) == (1000, "tench", "toilet tissue")
    assert [label for label in labels if label.startswith("crane")] == ["crane (n02012849)", "crane (n03126707)"]
    _, logits = answers(folder)
    photos = np.load(folder / "reference.npz")["photos"]
    found = dict(zip(photos, (labels[i] for i in np.argmax(logits, -1)), strict=True))
    assert {"hotdog", "macaw", "tench"} <= set(found.values()), found


@pytest.mark.parametrize(("name", "blocks"), [("resnet20_cifar10", 9), ("resnet56_cifar10", 27)])
def test_cifar_networks_lose_their_wrapping_and_keep_their_input(shared, name, blocks):
    conversion, model = converted(shared / "weights" / name)
    assert model.card.network.config["depths"] == (blocks // 3,) * 3
    assert model.card.network.config["shortcut"] == "pad"
    assert (model.card.input.size, model.card.input.channels) == ((32, 32), 3)
    assert any("module." in note for note in conversion.weights.notes)
