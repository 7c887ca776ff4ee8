"""Processors and configurations of transformers and sentence-transformers are followed, or refused by name."""

import dataclasses
import json

import numpy as np
import parity
import pytest
from parity import ours, preprocessing_text
from tiny_text import write_json

from flaxtl.card import Image, Text
from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.export import export
from flaxtl.convert.families.tokenizer_files import read_tokenizer
from flaxtl.convert.families.transformers_image import transformers_image
from flaxtl.convert.readers import read_weights
from flaxtl.convert.weights import Weights
from flaxtl.data.image import ImagePreprocess
from flaxtl.data.text import TextPreprocess
from flaxtl.errors import CheckpointError, DataError, FlaxtlError
from flaxtl.surgery import sharp_matrix

VIT = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 48}}
SQUARE = {"height": 32, "width": 32}


def published(name, preprocessor=None, files=None, **changes):
    """The weights of a recorded case, its config.json with other settings, and files beside them."""
    with np.load(parity.FIXTURES / f"{name}.npz") as file:
        about = json.loads(str(file["about"]))
    weights = ours.weights_of(about["tensors"], {**about["config"], **changes}, preprocessor)
    return dataclasses.replace(weights, files=files or {})


def image_of(settings, kind="vit", ignore=()):
    weights = Weights({}, {"model_type": kind}, settings, ignore_settings=ignore)
    return transformers_image(weights, kind, (32, 48), Image())[0]


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("vit", {**VIT, "do_flip_channel_order": True}, "do_flip_channel_order=True, where flaxtl computes False"),
        ("vit", {**VIT, "crop_pct": 0.9}, "crop_pct=0.9, a setting that flaxtl does not know"),
        ("vit", {**VIT, "do_pad": True, "pad_size": SQUARE}, "do_pad=True"),
        ("vit", {**VIT, "keep_aspect_ratio": True}, "keep_aspect_ratio=True"),
        ("vit", {**VIT, "resample": 9}, "resample=9, where flaxtl computes by Pillow's filters 0 to 5"),
        ("vit", {**VIT, "do_resize": "yes"}, "do_resize='yes', where flaxtl computes with true or false"),
        ("vit", {**VIT, "image_mean": [0.5, 0.5]}, "a number for each of the 3 channels"),
        ("vit", {**VIT, "rescale_factor": 0}, "numbers other than 0"),
        ("vit", {**VIT, "image_std": [0.5, 0.0, 0.5]}, "numbers other than 0"),
        ("vit", {**VIT, "size": {"longest_edge": 32}}, "size={'longest_edge': 32} for ViTImageProcessor"),
        ("vit", {**VIT, "size": {"shortest_edge": 32, "longest_edge": 64}}, "'longest_edge': 64"),
        ("vit", {**VIT, "size": "large"}, "size='large'"),
        ("vit", {**VIT, "do_center_crop": True}, "do_center_crop=True for ViTImageProcessor, .* with a crop_size"),
        ("clip", {"size": 40, "do_center_crop": False}, "do_center_crop=False .* each keeps its own shape"),
        ("clip", {"size": 40, "crop_size": {"shortest_edge": 32}}, "crop_size="),
        ("convnext", {"size": SQUARE}, "{shortest_edge}, as its class does"),
        ("convnext", {"size": 32, "do_center_crop": True, "crop_size": 16}, "one crop, to 32×32"),
        ("vit", {"image_processor_type": "DPTImageProcessor"}, "names the processor 'DPTImageProcessor'"),
        ("vit", {"image_processor_type": "VideoMAEImageProcessor"}, "'VideoMAEImageProcessor', whose steps"),
        ("vit", {"feature_extractor_type": "PoolFormerFeatureExtractor"}, "'PoolFormerFeatureExtractor'"),
    ],
)
def test_what_an_image_processor_says_and_flaxtl_does_not_do_is_refused_by_name(kind, settings, said):
    with pytest.raises(CheckpointError, match=said):
        image_of(settings, kind)


def test_a_refused_setting_of_a_processor_is_left_out_when_asked():
    assert image_of({**VIT, "crop_pct": 0.9}, ignore=("crop_pct",)) == image_of(VIT)


def test_without_a_file_the_published_members_preprocessing_is_taken_and_said():
    model = plan_conversion(published("vit_hf_vit")).model
    assert (model.card.input.size, model.card.input.fit) == ((32, 48), "squash")
    assert any("no preprocessor_config.json" in note for note in model.notes)
    with_file = plan_conversion(published("vit_hf_vit", VIT)).model
    assert not any("preprocessor_config.json" in note for note in with_file.notes)


def test_a_processor_that_resizes_nothing_refuses_pictures_of_another_size():
    pre = ImagePreprocess(image_of({**VIT, "do_resize": False}))
    assert pre.rows(np.zeros((32, 48, 3), np.uint8))[0].shape == (32, 48, 3)
    with pytest.raises(DataError, match=r"A picture has 33×48 pixels.*takes 32×48"):
        pre.rows(np.zeros((33, 48, 3), np.uint8))


def test_the_newer_file_goes_before_the_older_one(tmp_path):
    newer = write_json(tmp_path / "processor_config.json", {"image_processor": {**VIT, "size": SQUARE}})
    weights = Weights({}, {"model_type": "vit"}, VIT, {"processor_config.json": newer})
    assert transformers_image(weights, "vit", (32, 48), Image())[0].size == (32, 32)
    of_a_pair = write_json(tmp_path / "other" / "processor_config.json", {"processor_class": "CLIPProcessor"})
    weights = dataclasses.replace(weights, files={"processor_config.json": of_a_pair})
    assert transformers_image(weights, "vit", (32, 48), Image())[0].size == (32, 48)


@pytest.mark.parametrize("other", [{"video_processor": {"size": SQUARE}}, {"num_image_tokens": 4}, {"patch_size": 8}])
def test_a_processor_of_more_than_pictures_is_refused_by_name(tmp_path, other):
    held = {"image_processor": VIT, "processor_class": "CLIPProcessor", "tokenizer": {}, **other}
    file = write_json(tmp_path / "processor_config.json", held)
    weights = Weights({}, {"model_type": "vit"}, {}, {"processor_config.json": file})
    with pytest.raises(CheckpointError, match=f"processor_config.json says {next(iter(other))}="):
        transformers_image(weights, "vit", (32, 48), Image())


@pytest.mark.parametrize(
    ("kind", "settings", "size", "resized"),
    [
        ("clip", {"size": {"shortest_edge": 256}, "crop_size": 224}, (112, 112), (128,)),
        ("deit", {"size": 256, "crop_size": 224}, (448, 448), (512, 512)),
        ("vit", {"size": 224}, (96, 96), ()),
    ],
)
def test_a_card_at_another_size_resizes_by_the_same_share(kind, settings, size, resized):
    image = image_of(settings, kind).at(size)
    assert (image.size, image.resized) == (size, resized)
    assert ImagePreprocess(image).rows(np.zeros((300, 200, 3), np.uint8))[0].shape == (*size, 3)


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("vit_hf_dinov2", 24, (3, 3)),
        ("vit_hf_siglip", 48, (6, 6)),
        ("vit_hf_clip", 16, (2, 2)),
        ("vit_hf_vit", 40, (5, 5)),
    ],
)
def test_a_vision_transformer_takes_what_its_preprocessing_makes(name, size, grid):
    settings = {"image_processor_type": "ViTImageProcessor", "size": size}
    conversion = plan_conversion(published(name, settings))
    model = conversion.read()
    assert model.card.input.size == (size, size)
    assert tuple(model.card.network.config["grid"]) == grid
    assert any("interpolated" in note for note in conversion.model.notes)
    assert model.network.forward(model.variables, np.zeros((1, size, size, 3), np.float32))[0].shape[0] == 1


def test_interpolated_positions_are_exported_for_the_pictures_that_the_network_takes(tmp_path):
    weights = published("vit_hf_dinov2", {"image_processor_type": "ViTImageProcessor", "size": 24})
    conversion = plan_conversion(weights)
    conversion.save(tmp_path / "model")
    exported = export(tmp_path / "model", tmp_path / "back.safetensors")
    assert any("image_size" in note and "[1, 10, 24]" in note for note in exported.notes)
    back = read_weights(tmp_path / "back.safetensors")
    again = {**weights.config, "image_size": 24}
    settings = {"image_processor_type": "ViTImageProcessor", "size": 24}
    second = plan_conversion(dataclasses.replace(back, config=again, preprocessor=settings)).read()
    x = np.random.default_rng(0).normal(size=(1, 24, 24, 3)).astype(np.float32)
    first = conversion.read()
    assert np.array_equal(first.network.forward(first.variables, x)[0], second.network.forward(second.variables, x)[0])


@pytest.mark.parametrize(("old", "new"), [(7, 3), (4, 9), (5, 5), (2, 8)])
def test_positions_without_antialiasing_are_weighted_means_alike_from_both_ends(old, new):
    matrix = sharp_matrix(old, new)
    assert np.allclose(matrix.sum(axis=1), 1.0)
    assert np.allclose(matrix[::-1, ::-1], matrix, atol=1e-5)
    if old == new:
        assert np.allclose(matrix, np.eye(old))


def test_a_preprocessor_whose_pictures_hold_no_patch_is_refused():
    settings = {"image_processor_type": "ViTImageProcessor", "size": 4}
    with pytest.raises(CheckpointError, match="hold no patch of 8×8"):
        plan_conversion(published("vit_hf_dinov2", settings))


CONFIGS = [
    ("vit_hf_vit", {"hidden_act": "mish"}, "no activation 'mish'"),
    ("vit_hf_vit", {"qkv_bias": False}, "qkv_bias=False, where flaxtl computes True"),
    ("vit_hf_vit", {"rope_theta": 100.0}, "rope_theta=100.0, a setting that flaxtl does not know"),
    ("vit_hf_dinov2", {"position_embedding": "rotary"}, "position_embedding='rotary'"),
    ("vit_hf_dinov2_registers", {"interpolate_antialias": False}, "interpolate_antialias=False"),
    ("vit_hf_clip", {"use_2d_rope": True}, "use_2d_rope=True"),
    ("vit_hf_siglip", {"quantization_config": {"bits": 4}}, "weights that are not quantised"),
    ("convnext_transformers", {"depths": [1, 1, 1, 1]}, "depths="),
    ("convnext_transformers", {"hidden_act": "mish"}, "no activation 'mish'"),
    ("convnextv2_transformers", {"out_stride": 8}, "out_stride=8"),
    ("bert_model", {"num_hidden_layers": 1}, "num_hidden_layers=1, where flaxtl computes 2"),
    ("bert_model", {"is_decoder": True}, "is_decoder=True"),
    ("bert_model", {"embedding_size": 128}, "embedding_size=128"),
    ("roberta_model", {"add_cross_attention": True}, "add_cross_attention=True"),
    ("roberta_model", {"pruned_heads": {"0": [1]}}, "pruned_heads="),
    ("distilbert_model", {"n_layers": 1}, "n_layers=1, where flaxtl computes 2"),
    ("mpnet_model", {"problem_type": "ranking"}, "problem_type='ranking'"),
    ("modernbert_model", {"mlp_bias": True}, "mlp_bias=True, where flaxtl computes False"),
    ("modernbert_model", {"sliding_window": 64}, "sliding_window=64"),
    ("modernbert_classifier", {"classifier_pooling": "max"}, "classifier_pooling='max'"),
    ("wav2vec2_group", {"hidden_act": "mish"}, "hidden_act='mish'"),
    ("wav2vec2_group", {"use_weighted_layer_sum": True}, "use_weighted_layer_sum=True, where flaxtl computes False"),
    ("wav2vec2_layer", {"add_adapter": True}, "no adapter behind the encoder"),
    ("hubert_layer", {"conv_pos_batch_norm": True}, "no BatchNorm before its positions"),
    ("hubert_layer", {"position_embeddings_type": "rotary"}, "position_embeddings_type='rotary'"),
    ("ast_classifier", {"qkv_bias": False}, "qkv_bias=False"),
    ("ast_classifier", {"use_mean_pooling": True}, "use_mean_pooling=True"),
    ("whisper_model", {"use_weighted_layer_sum": True}, "use_weighted_layer_sum=True"),
    ("whisper_model", {"encoder_attention_window": 3}, "encoder_attention_window=3"),
]


@pytest.mark.parametrize(("name", "changes", "said"), CONFIGS)
def test_what_a_config_says_and_flaxtl_does_not_compute_is_refused_by_name(name, changes, said):
    with pytest.raises(FlaxtlError, match=said):
        plan_conversion(published(name, **changes))


def test_an_unknown_setting_of_a_config_is_left_out_when_asked():
    weights = dataclasses.replace(published("bert_model", embedding_size=128), ignore_settings=("embedding_size",))
    model = plan_conversion(weights).model
    assert any("ignored as asked" in note for note in model.notes)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("wav2vec2_group", {"feature_size": 2}, "feature_size=2"),
        ("wav2vec2_group", {"padding_value": 1.0}, "padding_value=1.0"),
        ("wav2vec2_group", {"padding_side": "left"}, "padding_side='left'"),
        ("wav2vec2_group", {"sampling_rate": "16k"}, "sampling_rate='16k'"),
        ("wav2vec2_group", {"feature_extractor_type": "SeamlessM4TFeatureExtractor"}, "SeamlessM4TFeatureExtractor"),
        ("ast_classifier", {"num_mel_bins": 64}, "num_mel_bins=64, where flaxtl computes 13"),
        ("ast_classifier", {"max_length": 7}, "max_length=7, where flaxtl computes 15"),
        ("ast_classifier", {"window_type": "hamming"}, "window_type='hamming'"),
        ("whisper_model", {"feature_size": 80}, "feature_size=80, where flaxtl computes 8"),
        ("whisper_model", {"dither": 0.1}, "dither=0.1"),
        ("whisper_model", {"chunk_length": 30}, "positions for 0.22 seconds.*makes 30"),
    ],
)
def test_what_a_feature_extractor_says_and_flaxtl_does_not_do_is_refused_by_name(name, settings, said):
    with pytest.raises(CheckpointError, match=said):
        plan_conversion(published(name, settings))


def test_sound_without_a_file_is_prepared_by_defaults_and_said():
    model = plan_conversion(published("wav2vec2_group")).model
    assert any("defaults of Wav2Vec2FeatureExtractor" in note for note in model.notes)
    assert not any(
        "defaults" in n for n in plan_conversion(published("wav2vec2_group", {"do_normalize": True})).model.notes
    )


@pytest.mark.parametrize(
    ("name", "kind", "task"),
    [
        ("wav2vec2_group", "multi_label_classification", "multilabel"),
        ("ast_classifier", "regression", "regression"),
        ("vit_hf_vit", "multi_label_classification", "multilabel"),
        ("convnext_transformers", "regression", "regression"),
        ("whisper_classifier", "single_label_classification", "classification"),
    ],
)
def test_what_outputs_mean_is_read_for_every_family(name, kind, task):
    assert plan_conversion(published(name, problem_type=kind)).model.card.head.task == task


VOCABULARY = "\n".join([*preprocessing_text.BERT, *"abcthe", "cat", "##s", "query", ":"]) + "\n"


def folder(tmp_path, config=None, transformer=None, pooling=None, modules=("Transformer", "Pooling"), **files):
    """The files of a sentence encoder, by name."""
    listed = [
        {"idx": i, "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(modules)
    ]
    written = {
        "modules.json": listed,
        "1_Pooling/config.json": pooling or {"pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": transformer or {"max_seq_length": 16},
        "config_sentence_transformers.json": config or {},
        **{name.replace("__", "."): value for name, value in files.items()},
    }
    found = {name: write_json(tmp_path / name, value) for name, value in written.items()}
    (tmp_path / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
    return {**found, "vocab.txt": tmp_path / "vocab.txt"}


def rows_of(conversion, text):
    model = conversion.model
    return TextPreprocess.of(model.card.input, model.files).rows(text)[0]["ids"].tolist()


def test_the_default_prompt_is_put_before_each_text(tmp_path):
    config = {"prompts": {"query": "query: ", "passage": "cat "}, "default_prompt_name": "query"}
    with_prompt = plan_conversion(published("bert_model", files=folder(tmp_path / "a", config)))
    bare = plan_conversion(published("bert_model", files=folder(tmp_path / "b")))
    assert rows_of(with_prompt, "the cats") == rows_of(bare, "query: the cats") != rows_of(bare, "the cats")
    assert any("'query: ' is put before each text" in note for note in with_prompt.model.notes)


def test_prompts_of_which_none_is_the_default_are_said_and_not_used(tmp_path):
    files = folder(tmp_path, {"prompts": {"query": "query: "}, "similarity_fn_name": "dot", "__version__": {}})
    conversion = plan_conversion(published("bert_model", files=files))
    assert conversion.model.card.input.prompt == ""
    assert any("none of which is its default" in note for note in conversion.model.notes)


def test_a_prompt_comes_before_the_first_of_two_texts(tmp_path):
    vocabulary = folder(tmp_path)["vocab.txt"]
    found = read_tokenizer(Weights({}, files={"vocab.txt": vocabulary}), "bert")
    rows = [
        TextPreprocess.of(Text(max_length=16, pair=True, prompt=prompt), dict(found.files)).rows((first, "cat"))[0]
        for prompt, first in (("query ", "the"), ("", "query the"))
    ]
    assert rows[0]["ids"].tolist() == rows[1]["ids"].tolist()


def test_capitals_are_turned_small_where_the_folder_asks(tmp_path):
    cased = {"tokenizer_config__json": {"do_lower_case": False}}
    asked = {"max_seq_length": 16, "do_lower_case": True}
    lower = plan_conversion(published("bert_model", files=folder(tmp_path / "a", transformer=asked, **cased)))
    plain = plan_conversion(published("bert_model", files=folder(tmp_path / "b", **cased)))
    assert rows_of(lower, "the CATS") == rows_of(lower, "the cats") == rows_of(plain, "the cats")
    assert rows_of(plain, "the CATS") != rows_of(plain, "the cats")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"config": {"default_prompt_name": "question"}},
            "default_prompt_name='question', which is none of its prompts",
        ),
        ({"config": {"model_type": "SparseEncoder"}}, "model_type='SparseEncoder'"),
        ({"config": {"encoder_prefix": "x"}}, "encoder_prefix='x'"),
        ({"transformer": {"query_expansion": {"length": 32}}}, "query_expansion="),
        ({"transformer": {"max_seq_length": "long"}}, "max_seq_length='long'"),
        ({"transformer": {"truncate": True}}, "truncate=True"),
        ({"pooling": {"pooling_mode_mean_sqrt_len_tokens": True}}, "pooling by mean_sqrt_len_tokens"),
        ({"pooling": {"pooling_mode_weightedmean_tokens": True}}, "pooling by weightedmean"),
        ({"pooling": {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}}, "pooling by cls, max"),
        ({"pooling": {"pooling_mode_first_last": True}}, "pooling_mode_first_last=True"),
        ({"modules": ("Transformer", "Pooling", "Dense")}, "Dense"),
        ({"modules": ("Transformer", "Pooling", "LayerNorm")}, "LayerNorm"),
        ({"modules": ("Transformer", "Normalize", "Pooling")}, "Transformer, Normalize, Pooling"),
        ({"tokenizer_config__json": {"tokenizer_class": "BertJapaneseTokenizer"}}, "BertJapaneseTokenizer"),
        ({"tokenizer_config__json": {"split_special_tokens": True}}, "split_special_tokens=True"),
        ({"tokenizer_config__json": {"word_tokenizer_type": "mecab"}}, "word_tokenizer_type='mecab'"),
        ({"tokenizer_config__json": {"truncation_side": "middle"}}, "truncation_side='middle'"),
        ({"tokenizer_config__json": {"model_input_names": ["input_ids"]}}, "with an attention_mask"),
    ],
)
def test_what_a_sentence_encoder_says_and_flaxtl_does_not_do_is_refused_by_name(tmp_path, given, said):
    with pytest.raises(CheckpointError, match=said):
        plan_conversion(published("bert_model", files=folder(tmp_path, **given)))


def test_somebodys_own_module_is_refused_whatever_its_name(tmp_path):
    files = folder(tmp_path)
    write_json(tmp_path / "modules.json", [{"path": "", "type": "custom_st.Transformer"}, {"type": "x.Pooling"}])
    with pytest.raises(CheckpointError, match=r"custom_st\.Transformer"):
        plan_conversion(published("bert_model", files=files))


def test_a_prompt_that_pooling_leaves_out_is_refused(tmp_path):
    config = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    with pytest.raises(CheckpointError, match="include_prompt=False"):
        plan_conversion(published("bert_model", files=folder(tmp_path, config, pooling=pooling)))
    plan_conversion(published("bert_model", files=folder(tmp_path / "bare", pooling=pooling)))


def test_a_sentencepiece_model_alone_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"\n")
    weights = Weights({}, files={"sentencepiece.bpe.model": tmp_path / "sentencepiece.bpe.model"})
    with pytest.raises(CheckpointError, match=r"SentencePiece.*Write tokenizer\.json"):
        read_tokenizer(weights, "xlm-roberta")


def test_what_is_filled_on_the_left_is_said(tmp_path):
    files = folder(tmp_path, tokenizer_config__json={"padding_side": "left"})
    assert any("padding_side" in note for note in plan_conversion(published("bert_model", files=files)).model.notes)


def test_a_text_is_cut_on_the_side_that_the_tokenizer_says(tmp_path):
    files = folder(tmp_path, transformer={"max_seq_length": 4}, tokenizer_config__json={"truncation_side": "left"})
    conversion = plan_conversion(published("bert_model", files=files))
    vocabulary = VOCABULARY.split("\n")
    assert [vocabulary[i] for i in rows_of(conversion, "the " * 50 + "a b")] == ["[CLS]", "a", "b", "[SEP]"]


def test_a_text_that_is_cut_for_its_cost_is_said():
    model = plan_conversion(published("modernbert_model", max_position_embeddings=8192)).model
    assert model.card.input.max_length == 512
    assert any("512 of the 8,192 tokens" in note for note in model.notes)


@pytest.mark.parametrize(
    ("settings", "fit"),
    [
        ({"image_processor_type": "ViTImageProcessor", "size": 32, "default_to_square": None, "crop_size": 24}, "crop"),
        (
            {"image_processor_type": "DeiTImageProcessor", "size": 40, "crop_size": 32, "default_to_square": None},
            "crop",
        ),
        ({"image_processor_type": "DeiTImageProcessor", "size": 40, "crop_size": 32}, "squash"),
    ],
)
def test_a_size_of_one_number_is_the_short_side_where_default_to_square_is_null(settings, fit):
    image = image_of({**settings, "do_center_crop": True})
    assert (image.fit, len(image.resized)) == (fit, 1 if fit == "crop" else 2)


def test_what_is_true_or_false_is_false_when_it_is_null():
    net = {"image_processor_type": "EfficientNetImageProcessor", "size": 36, "image_std": 0.5, "image_mean": 0.5}
    assert image_of({**net, "include_top": None}) == image_of({**net, "include_top": False})
    assert image_of({**net, "include_top": None}) != image_of(net)


@pytest.mark.parametrize("name", ["wav2vec2_group", "hubert_layer", "ast_classifier"])
def test_sound_is_not_normalised_where_do_normalize_is_null(name):
    null, off, unsaid = (
        plan_conversion(published(name, {"feature_extractor_type": "", **said})).recognised.input
        for said in ({"do_normalize": None}, {"do_normalize": False}, {"do_normalize": True})
    )
    assert null == off != unsaid


@pytest.mark.parametrize("gone", ["1_Pooling/config.json", "a folder"])
def test_an_encoder_whose_pooling_is_not_there_is_refused(tmp_path, gone):
    files = folder(tmp_path)
    files.pop("1_Pooling/config.json").unlink()
    if gone == "a folder":
        write_json(
            tmp_path / "modules.json",
            [
                {"path": p, "type": f"sentence_transformers.models.{k}"}
                for p, k in (("", "Transformer"), ("modules/pool", "Pooling"))
            ],
        )
    with pytest.raises(CheckpointError, match=r"lists the module Pooling, but there is no .*config\.json"):
        plan_conversion(published("bert_model", files=files))


def test_embeddings_that_are_cut_short_are_refused(tmp_path):
    plan_conversion(published("bert_model", files=folder(tmp_path / "whole", {"truncate_dim": None})))
    with pytest.raises(CheckpointError, match="truncate_dim=8, where flaxtl computes embeddings in full"):
        plan_conversion(published("bert_model", files=folder(tmp_path, {"truncate_dim": 8})))


@pytest.mark.parametrize("grown", ["vocab.txt", "added_tokens.json", "additional_special_tokens", "bos_token"])
def test_a_tokenizer_with_more_tokens_than_the_network_has_rows_for_is_refused(tmp_path, grown):
    extra = {"tokenizer_config__json": {grown: "<new>" if grown == "bos_token" else ["<new>"]}}
    files = folder(tmp_path, **(extra if "token" in grown and "." not in grown else {}))
    rows = published("bert_model")["embeddings.word_embeddings.weight"].shape[0]
    if grown == "added_tokens.json":
        files[grown] = write_json(tmp_path / grown, {"<new>": rows})
    filled = [f"word{i}" for i in range(rows - len(VOCABULARY.split()) + (grown == "vocab.txt"))]
    files["vocab.txt"].write_text(VOCABULARY + "\n".join(filled) + "\n", encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=rf"with {rows}, but the network has rows for the numbers 0 to {rows - 1}"
    ):
        plan_conversion(published("bert_model", files=files))


def test_an_unknown_token_that_the_vocabulary_lacks_is_refused(tmp_path):
    files = folder(tmp_path, tokenizer_config__json={"unk_token": "<what>"})
    with pytest.raises(CheckpointError, match="unknown token is '<what>', which its vocabulary lacks"):
        plan_conversion(published("bert_model", files=files))


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_special_tokens_of_any_name_are_found_in_texts(tmp_path, kind):
    level = preprocessing_text.fixture("bpe.json")
    files = {"tokenizer.json": write_json(tmp_path / "tokenizer.json", level)}
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "the", "additional_special_tokens": ["Ġcat"]}
    files["tokenizer_config.json"] = write_json(tmp_path / "tokenizer_config.json", said)
    made = json.loads(read_tokenizer(Weights({}, files=files), kind).files["tokenizer.json"].read_text())
    added = {t["content"]: t["id"] for t in made["added_tokens"]}
    assert {"the", "Ġcat"} <= set(added)
    assert all(added[t] == level["model"]["vocab"][t] for t in ("the", "Ġcat") if t in level["model"]["vocab"])
    assert made["added_tokens"][: len(level["added_tokens"])] == level["added_tokens"]


@pytest.mark.parametrize(
    ("said", "scheme"), [(None, "never"), (False, "never"), (True, "always"), ("unsaid", "always")]
)
def test_a_null_add_prefix_space_adds_none(tmp_path, said, scheme):
    files = {"tokenizer.json": write_json(tmp_path / "tokenizer.json", preprocessing_text.fixture("unigram.json"))}
    given = {} if said == "unsaid" else {"add_prefix_space": said}
    files["tokenizer_config.json"] = write_json(tmp_path / "tokenizer_config.json", {**given, "unk_token": "[UNK]"})
    made = json.loads(read_tokenizer(Weights({}, files=files), "xlm-roberta").files["tokenizer.json"].read_text())
    assert made["pre_tokenizer"]["pretokenizers"][1]["prepend_scheme"] == scheme
    assert made["model"]["unk_id"] == 3
