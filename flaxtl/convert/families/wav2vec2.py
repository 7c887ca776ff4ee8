"""wav2vec 2.0 and HuBERT of transformers: the bare models and their sequence classifiers."""

from __future__ import annotations

import dataclasses
from typing import Any

from flaxtl.card import Audio, NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.transformers_audio import attention, extractor_settings, head
from flaxtl.convert.families.transformers_files import TRAINING, task_of, transformers_config
from flaxtl.convert.mapping import CONV1D, Rule, conv, ignored, layer_norm, linear
from flaxtl.convert.settings import READ, Setting, irrelevant, only, where
from flaxtl.convert.weights import Weights
from flaxtl.nets.transformer import ACTIVATIONS
from flaxtl.nets.wav2vec2 import Config

TYPES = ("wav2vec2", "hubert")
# The source has no window: it takes clips of any length. Shorter ones are computed at their length (almost), and give
# what they give alone.
WINDOW = 10.0
CLASSIFIER = "classifier"


_READ = (
    *(
        "conv_dim",
        "conv_kernel",
        "conv_stride",
        "conv_bias",
        "feat_extract_norm",
        "feat_proj_layer_norm",
        "hidden_size",
    ),
    *("num_hidden_layers", "num_attention_heads", "intermediate_size", "num_conv_pos_embeddings"),
    *("num_conv_pos_embedding_groups", "do_stable_layer_norm", "layer_norm_eps", "hidden_dropout"),
)
_ACTIVATION = where(lambda v: v is None or v in ACTIVATIONS, f"the activations {', '.join(ACTIVATIONS)}")
# What becomes of the settings of these networks; see transformers_files.COMMON.
OWN: dict[str, Setting] = {
    **dict.fromkeys(_READ, READ),
    **dict.fromkeys(("hidden_act", "feat_extract_activation"), _ACTIVATION),
    "add_adapter": where(lambda v: not v, "no adapter behind the encoder"),
    "adapter_attn_dim": where(lambda v: v is None, "no language adapters in its blocks"),
    "conv_pos_batch_norm": where(lambda v: not v, "no BatchNorm before its positions"),
    **irrelevant("of an adapter, which add_adapter says is not there", "adapter_kernel_size", "adapter_stride"),
    **irrelevant("of an adapter, which add_adapter says is not there", "num_adapter_layers", "output_hidden_size"),
    **irrelevant("the tensors' shapes say it", "classifier_proj_size", "num_feat_extract_layers"),
    **irrelevant("of heads that tell speakers apart", "tdnn_dim", "tdnn_kernel", "tdnn_dilation", "xvector_output_dim"),
    **irrelevant("of writing text", "ctc_loss_reduction", "ctc_zero_infinity", "num_ctc_classes"),
    **irrelevant(
        TRAINING,
        *("activation_dropout", "feat_proj_dropout", "feat_quantizer_dropout", "final_dropout", "feat_extract_dropout"),
        *("apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob"),
        *("mask_feature_length", "mask_feature_min_masks", "mask_channel_length", "mask_channel_min_space"),
        *("mask_channel_other", "mask_channel_prob", "mask_channel_selection", "mask_time_min_space"),
        *("mask_time_other", "mask_time_selection", "no_mask_channel_overlap", "no_mask_time_overlap"),
        *("num_codevectors_per_group", "num_codevector_groups", "contrastive_logits_temperature", "num_negatives"),
        *("codevector_dim", "proj_codevector_dim", "diversity_loss_weight", "freeze_feat_extract_train"),
        *("loss_reduction",),
    ),
}
_EXTRACTOR: dict[str, Setting] = {"do_normalize": READ, "feature_size": only(1)}


def recognise(weights: Weights) -> Recognised | None:
    """Says which network of this kind weights are, by transformers' config.json."""
    if weights.config.get("model_type") not in TYPES:
        return None
    outputs = (weights.shape(f"{CLASSIFIER}.weight") or (0,))[0]
    mixed = {"use_weighted_layer_sum": only("layer_weights" in weights)}
    # Without an output layer there is nothing that the mixture would enter.
    mixed = mixed if outputs else irrelevant("of an output layer, which is not there", *mixed)
    source = transformers_config(weights, {**OWN, **mixed})
    spec = NetworkSpec("wav2vec2", dataclasses.asdict(_config(source, weights)))
    given, notes = extractor_settings(weights, "Wav2Vec2FeatureExtractor", _EXTRACTOR)
    settings = {"normalise": bool(given.get("do_normalize", True)), "mask": True}
    rate = int(given.get("sampling_rate", 16000))
    audio = Audio(rate, WINDOW, WINDOW, front_end="waveform", settings=settings)
    labels, task = labels_of(weights, outputs), task_of(weights, outputs)
    return Recognised(spec, audio, outputs, labels, task, notes=notes)


def _config(source: Any, weights: Weights) -> Config:
    projector = weights.shape("projector.weight")
    return Config(
        conv_widths=tuple(source.get("conv_dim", Config.conv_widths)),
        conv_sizes=tuple(source.get("conv_kernel", Config.conv_sizes)),
        conv_strides=tuple(source.get("conv_stride", Config.conv_strides)),
        conv_bias=bool(source.get("conv_bias", False)),
        conv_norm=source.get("feat_extract_norm", "group"),
        projection_norm=bool(source.get("feat_proj_layer_norm", True)),
        width=source.get("hidden_size", 768),
        depth=source.get("num_hidden_layers", 12),
        heads=source.get("num_attention_heads", 12),
        hidden=source.get("intermediate_size", 3072),
        position_size=source.get("num_conv_pos_embeddings", 128),
        position_groups=source.get("num_conv_pos_embedding_groups", 16),
        pre_norm=bool(source.get("do_stable_layer_norm", False)),
        projector=projector[0] if projector else 0,
        weighted_sum="layer_weights" in weights,
        activation=source.get("hidden_act", "gelu"),
        conv_activation=source.get("feat_extract_activation", "gelu"),
        epsilon=source.get("layer_norm_eps", 1e-5),
        dropout=float(source.get("hidden_dropout", 0.1)),
    )


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table; names may begin with the model's, as a classifier's do."""
    model = next((f"{t}." for t in TYPES if any(n.startswith(f"{t}.") for n in weights)), "")
    stem, encoder = "backbone/stem", f"{model}encoder"
    table = _convolutions(config, f"{model}feature_extractor.conv_layers", stem)
    if config.projection_norm:
        table += layer_norm(f"{model}feature_projection.layer_norm", f"{stem}/norm")
    table += linear(f"{model}feature_projection.projection", f"{stem}/projection")
    table += _position(f"{encoder}.pos_conv_embed.conv", f"{stem}/position", weights)
    table += layer_norm(f"{encoder}.layer_norm", "backbone/pool/norm" if config.pre_norm else f"{stem}/position_norm")
    table += _block(f"{encoder}.layers.{{i}}", "backbone/blocks_{i}")
    if config.weighted_sum:
        table += [Rule("layer_weights", "backbone/pool/mixture")]
    if config.projector:
        table += linear("projector", "backbone/pool/projector")
    return [
        *table,
        *head(CLASSIFIER, weights),
        ignored(f"{model}masked_spec_embed", "hides frames in pretraining"),
        ignored("quantizer.*", "the targets of pretraining"),
        ignored("project_q.*", "the targets of pretraining"),
        ignored("project_hid.*", "the targets of pretraining"),
        ignored("lm_head.*", "spells text; flaxtl takes the encoder"),
    ]


def _convolutions(config: Config, source: str, stem: str) -> list[Rule]:
    table = conv(f"{source}.{{i}}.conv", f"{stem}/conv{{i}}", bias=config.conv_bias, operation=CONV1D)
    norm = "{i}" if config.conv_norm == "layer" else "0"
    return [*table, *layer_norm(f"{source}.{norm}.layer_norm", f"{stem}/norm{norm}")]


def _position(source: str, target: str, weights: Weights) -> list[Rule]:
    """Weight normalisation's two parts, by their names since torch 2.1 or before."""
    new = f"{source}.parametrizations.weight.original0" in weights
    g, v = (
        ("parametrizations.weight.original0", "parametrizations.weight.original1") if new else ("weight_g", "weight_v")
    )
    return [
        Rule(f"{source}.{g}", f"{target}/magnitude", CONV1D),
        Rule(f"{source}.{v}", f"{target}/direction", CONV1D),
        Rule(f"{source}.bias", f"{target}/bias"),
    ]


def _block(source: str, target: str) -> list[Rule]:
    return [
        *attention(f"{source}.attention", f"{target}/attention", ("q_proj", "k_proj", "v_proj"), "out_proj"),
        *layer_norm(f"{source}.layer_norm", f"{target}/norm1"),
        *linear(f"{source}.feed_forward.intermediate_dense", f"{target}/mlp/fc1"),
        *linear(f"{source}.feed_forward.output_dense", f"{target}/mlp/fc2"),
        *layer_norm(f"{source}.final_layer_norm", f"{target}/norm2"),
    ]


FAMILY = Family("wav2vec2", TYPES, recognise, rules)
