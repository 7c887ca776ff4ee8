"""wav2vec 2.0 and HuBERT of transformers: the bare models and their sequence classifiers."""

from __future__ import annotations

import dataclasses
from typing import Any

from flaxtl.card import Audio, NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.transformers_audio import attention, head, refuse_if
from flaxtl.convert.mapping import CONV1D, Rule, conv, ignored, layer_norm, linear
from flaxtl.convert.weights import Weights
from flaxtl.nets.wav2vec2 import Config

TYPES = ("wav2vec2", "hubert")
# The source has no window: it takes clips of any length. Shorter ones are computed at their length (almost), and give
# what they give alone.
WINDOW = 10.0
CLASSIFIER = "classifier"


def recognise(weights: Weights) -> Recognised | None:
    """Says which network of this kind weights are, by transformers' config.json."""
    source = weights.config
    if source.get("model_type") not in TYPES:
        return None
    refuse_if(source.get("add_adapter"), "an adapter behind the encoder (add_adapter)")
    refuse_if(source.get("adapter_attn_dim") is not None, "language adapters in its blocks (adapter_attn_dim)")
    refuse_if(source.get("conv_pos_batch_norm"), "a BatchNorm before its positions (conv_pos_batch_norm)")
    spec = NetworkSpec("wav2vec2", dataclasses.asdict(_config(source, weights)))
    settings = {"normalise": bool(weights.preprocessor.get("do_normalize", True)), "mask": True}
    rate = int(weights.preprocessor.get("sampling_rate", 16000))
    audio = Audio(rate, WINDOW, WINDOW, front_end="waveform", settings=settings)
    outputs = (weights.shape(f"{CLASSIFIER}.weight") or (0,))[0]
    return Recognised(spec, audio, outputs, labels_of(weights, outputs))


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
