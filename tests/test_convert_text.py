"""Text networks under each of their namings, with the settings that lie beside them; nothing is computed."""

import json
import re

import numpy as np
import parity
import pytest
from parity import ours, preprocessing_text
from tiny_text import write_json

from flaxtl import paths
from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.families.sentence_transformers import SentenceEncoder, sentence_encoder
from flaxtl.convert.families.tokenizer_files import read_tokenizer
from flaxtl.convert.families.transformers_text import text_input
from flaxtl.convert.weights import Tensor, Weights
from flaxtl.errors import CheckpointError


def published(name, **changes):
    """The weights of a recorded case, and its config.json with other settings (None takes one out)."""
    with np.load(parity.FIXTURES / f"{name}.npz") as file:
        about = json.loads(str(file["about"]))
    config = {k: v for k, v in {**about["config"], **changes}.items() if v is not None}
    return ours.weights_of(about["tensors"], config)


def with_tensors(weights, tensors):
    return Weights(tensors, weights.config, weights.preprocessor, weights.files)


def as_flax(weights):
    """What the Flax class of the same network would have written."""
    found = {}
    for name, tensor in weights.items():
        array = tensor.read()
        module, _, leaf = name.rpartition(".")
        if leaf == "weight":
            norm = re.search(r"layer_?norm$", module, re.IGNORECASE)
            leaf = "scale" if norm else "embedding" if module.endswith("embeddings") else "kernel"
            array = array.T if leaf == "kernel" else array
        found[f"{module}.{leaf}".replace(".", "/")] = Tensor.of(array)
    return with_tensors(weights, found)


def leaves(weights):
    return {leaf.name: value for leaf, value in paths.leaves(plan_conversion(weights).read().variables)}


@pytest.mark.parametrize(
    "name", ["bert_model", "bert_classifier", "roberta_classifier", "distilbert_classifier", "distilbert_model"]
)
def test_flax_and_pytorch_names_give_the_same_network(name):
    torch = published(name)
    ours, theirs = leaves(torch), leaves(as_flax(torch))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours)


def test_the_first_names_of_bert_with_its_pretraining_head():
    weights = published("bert_model")
    first = {
        "bert." + n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for n, t in weights.items()
    }
    extra = ("cls.predictions.bias", "cls.predictions.decoder.weight", "cls.seq_relationship.weight")
    old = with_tensors(weights, {**first, **{n: Tensor.of(np.zeros((2, 2), np.float32)) for n in extra}})
    old_leaves = {k: v.shape for k, v in leaves(old).items()}
    assert old_leaves == {k: v.shape for k, v in leaves(weights).items()}


@pytest.mark.parametrize("prefix", ["module.", "module.bert."])
def test_a_wrapped_network_is_found(prefix):
    weights = published("bert_model")
    wrapped = with_tensors(weights, {f"{prefix}{n}": t for n, t in weights.items()})
    conversion = plan_conversion(wrapped)
    assert conversion.family.name == "bert"
    assert "'module.' was taken off" in " ".join(conversion.model.notes)


@pytest.mark.parametrize(
    ("name", "changes", "task", "labels"),
    [
        ("bert_classifier", {}, "classification", ("0", "1", "2", "3", "4")),
        ("bert_classifier", {"problem_type": "multi_label_classification"}, "multilabel", None),
        ("roberta_classifier", {"problem_type": "regression"}, "regression", None),
        ("modernbert_classifier", {"id2label": dict(enumerate("abcde"))}, "classification", tuple("abcde")),
    ],
)
def test_what_the_outputs_mean(name, changes, task, labels):
    head = plan_conversion(published(name, **changes)).model.card.head
    assert head.task == task
    assert labels is None or head.labels == labels


def test_one_output_is_a_number():
    weights = published("bert_classifier")
    one = {"classifier.weight": np.zeros((1, 24), np.float32), "classifier.bias": np.zeros(1, np.float32)}
    head = plan_conversion(
        with_tensors(weights, {**weights, **{n: Tensor.of(a) for n, a in one.items()}})
    ).model.card.head
    assert (head.task, len(head.labels)) == ("regression", 1)


@pytest.mark.parametrize("name", ["bert_classifier", "roberta_classifier", "modernbert_classifier"])
def test_a_network_that_labels_tokens_gives_its_encoder(name):
    weights = published(name, architectures=["XForTokenClassification"])
    model = plan_conversion(weights).model
    assert model.card.labels == ()
    assert model.card.network.config["pooling"] == "mean"


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "word_embedding_dimension": 24}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, None),
        ({"pooling_mode_lasttoken": True}, None),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({"pooling_mode": ["mean", "max"]}, None),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode": "weightedmean"}, None),
    ],
)
@pytest.mark.parametrize("name", ["mpnet_model", "modernbert_model"])
def test_pooling_is_that_of_sentence_transformers(tmp_path, name, modes, expected):
    weights = folder_of(published(name), tmp_path, ("Transformer", "Pooling", "Normalize"), modes)
    if expected is None:
        with pytest.raises(CheckpointError, match=r"1_Pooling.config\.json asks for"):
            plan_conversion(weights)
        return
    config = plan_conversion(weights).model.card.network.config
    assert (config["pooling"], config["normalise"]) == (expected, True)


def folder_of(weights, folder, kinds, modes):
    modules = [
        {"idx": i, "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "1_Pooling" / "config.json", modes)
    files = {"modules.json": write_json(folder / "modules.json", modules)}
    return Weights(weights.tensors, weights.config, {}, files)


def test_modules_that_flaxtl_does_not_build_are_refused(tmp_path):
    weights = folder_of(published("bert_model"), tmp_path, ("Transformer", "Pooling", "Dense"), {})
    with pytest.raises(CheckpointError, match="lists the modules Transformer, Pooling, Dense"):
        plan_conversion(weights)
    plain = folder_of(weights, tmp_path, ("Transformer", "Pooling"), {"pooling_mode_cls_token": True})
    assert sentence_encoder(plain) == SentenceEncoder("cls")
    (tmp_path / "modules.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"modules\.json cannot be read"):
        sentence_encoder(plain)


@pytest.mark.parametrize(
    ("files", "longest", "expected"),
    [
        ({}, 514, 512),
        ({}, 20, 20),
        ({"sentence_bert_config.json": {"max_seq_length": 256}}, 512, 256),
        ({"sentence_bert_config.json": {"max_seq_length": 1024}}, 8192, 1024),
        ({"sentence_bert_config.json": {"max_seq_length": 600}}, 512, 512),
        ({"tokenizer_config.json": {"model_max_length": 384}}, 512, 384),
        ({"tokenizer_config.json": {"model_max_length": 1e30}}, 8192, 512),
    ],
)
def test_the_card_keeps_as_many_tokens_as_the_source(tmp_path, files, longest, expected):
    found = {name: write_json(tmp_path / name, value) for name, value in files.items()}
    weights = Weights({}, files=found)
    encoder = sentence_encoder(weights)
    text, _ = text_input(
        weights, read_tokenizer(weights, "roberta"), encoder, rows=50, longest=longest, pad_id=1, types=False
    )
    assert text.max_length == expected


def test_the_tokenizer_travels_and_padding_is_the_sources(tmp_path):
    weights = published("roberta_model", pad_token_id=1)
    tokenizer = write_json(tmp_path / "tokenizer.json", preprocessing_text.fixture("bpe.json"))
    [name] = [n for n in weights if n.endswith("word_embeddings.weight")]
    rows = Tensor.of(np.zeros((500, weights[name].shape[1]), np.float32))
    weights = Weights({**weights.tensors, name: rows}, weights.config, files={"tokenizer.json": tokenizer})
    model = plan_conversion(weights).model
    made, given = (json.loads(f.read_text(encoding="utf-8")) for f in (model.files["tokenizer.json"], tokenizer))
    assert made["model"]["vocab"] == given["model"]["vocab"]
    assert made["pre_tokenizer"] == given["pre_tokenizer"]
    assert (model.card.input.pad_id, model.card.input.types, model.card.input.max_length) == (1, False, 18)


def test_modernbert_settings_of_either_version():
    new = published("modernbert_model")
    parameters = {"rope_parameters": None, "layer_types": None}
    old = published("modernbert_model", **parameters, global_rope_theta=160000.0, local_rope_theta=10000.0)
    shared = published("modernbert_model", **parameters, global_rope_theta=5000.0)
    shared.config["local_rope_theta"] = None
    first, second, third = (plan_conversion(w).model.card.network.config for w in (new, old, shared))
    assert first == second
    assert (third["local_base"], third["global_base"]) == (5000.0, 5000.0)
    assert first["local"] == (False, True, True, False, True)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("bert_model", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("bert_model", {"hidden_act": "mish"}, "activation 'mish'"),
        ("bert_model", {"num_attention_heads": None}, "lacks 'num_attention_heads'"),
        ("bert_model", {"model_type": "bertt"}, "Did you mean 'bert'"),
        ("modernbert_model", {"rope_scaling": {"rope_type": "yarn"}}, "rotary positions"),
        ("modernbert_model", {"layer_types": ["full_attention"]}, "5 blocks"),
    ],
)
def test_what_flaxtl_does_not_build_is_refused_by_name(name, changes, said):
    with pytest.raises(CheckpointError, match=said):
        plan_conversion(published(name, **changes))


@pytest.mark.parametrize("name", ["bert_model", "roberta_classifier", "distilbert_model", "mpnet_model"])
def test_without_a_config_the_sentence_says_what_is_missing(name):
    weights = published(name)
    with pytest.raises(CheckpointError, match=r"Put the config\.json beside them"):
        plan_conversion(Weights(weights.tensors))
