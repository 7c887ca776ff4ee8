"""all-MiniLM-L6-v2, published in float16, converts and says of raw text what PyTorch recorded."""

import functools

import jax
import numpy as np
import pytest

from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.readers import read_weights

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@functools.cache
def converted(folder):
    return plan_conversion(read_weights(folder)).read()


@pytest.fixture
def folder(shared):
    return shared / "weights" / "minilm_l6_v2"


@pytest.fixture
def reference(folder):
    with np.load(folder / "reference.npz") as file:
        return dict(file)


def relative(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


def test_its_card_says_what_its_files_say(folder):
    model = converted(folder)
    text, config = model.card.input, model.card.network.config
    # sentence_bert_config.json says 256 tokens; the tokenizer's own 128 is not looked at.
    assert (text.modality, text.max_length, text.pad_id, text.types) == ("text", 256, 0, True)
    assert (config["depth"], config["width"], config["pooling"], config["normalise"]) == (6, 384, "mean", True)
    assert list(model.files) == ["tokenizer.json"]


def test_features_of_tokens_are_those_of_the_reference(folder, reference):
    model = converted(folder)
    batch = {
        "ids": reference["input_ids"].astype(np.int32),
        "mask": reference["attention_mask"].astype(np.int32),
        "types": np.zeros_like(reference["input_ids"], np.int32),
    }
    features = jax.jit(lambda v, x: model.network.forward(v, x, 0, model.network.border)[0])(model.variables, batch)
    assert relative(features, reference["embeddings_fp32_weights"]) <= 2e-3


def test_features_of_raw_text_are_those_of_the_reference(folder, reference):
    sentences = [str(s) for s in reference["sentences"]]
    features = converted(folder).features(sentences)
    assert relative(features, reference["embeddings_fp32_weights"]) <= 2e-3
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, rtol=1e-5)
    # The similarities that the model card's example shows, of the first sentence and the other three.
    np.testing.assert_allclose(features[1:] @ features[0], [0.943, 0.695, 0.257], atol=1e-3)


def test_tokens_of_raw_text_are_those_of_the_reference(folder, reference):
    preprocess = converted(folder).pipeline.preprocess
    rows = [preprocess.rows(str(s))[0] for s in reference["sentences"]]
    length = reference["input_ids"].shape[1]
    assert np.array_equal([r["ids"][:length] for r in rows], reference["input_ids"])
    assert np.array_equal([r["mask"][:length] for r in rows], reference["attention_mask"])
    assert all(not r["mask"][length:].any() for r in rows)
