"""Whisper's encoder from transformers: out of the whole model, or of its audio classifier."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from flaxtl.card import Audio, NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.transformers_audio import head, refuse_if
from flaxtl.convert.mapping import CONCAT_LINEAR, CONV1D, Operation, Rule, conv, ignored, layer_norm, linear
from flaxtl.convert.weights import Weights
from flaxtl.data.frontends import WhisperLogMel
from flaxtl.nets.whisper import VARIANTS, Config

CLASSIFIER = "classifier"
# Keys have no bias: one would add the same to all scores of a query, which softmax takes away again.
ZERO_KEY_BIAS = Operation(
    "concatenate, zeros for the key",
    lambda arrays: np.concatenate([arrays[0], np.zeros_like(arrays[0]), arrays[1]]),
    lambda leaf, n: [np.split(leaf, 3)[0], np.split(leaf, 3)[2]],
)


def recognise(weights: Weights) -> Recognised | None:
    """Says which Whisper weights are, by transformers' config.json."""
    source = weights.config
    if source.get("model_type") != "whisper":
        return None
    refuse_if("layer_weights" in weights, "a learnt mixture of its blocks' outputs (use_weighted_layer_sum)")
    projector = weights.shape("projector.weight")
    config = Config(
        bands=source.get("num_mel_bins", 80),
        positions=source.get("max_source_positions", 1500),
        width=source.get("d_model", 384),
        depth=source.get("encoder_layers", 4),
        heads=source.get("encoder_attention_heads", 6),
        hidden=source.get("encoder_ffn_dim", 1536),
        projector=projector[0] if projector else 0,
        activation=source.get("activation_function", "gelu"),
        dropout=float(source.get("dropout", 0.0)),
    )
    outputs = (weights.shape(f"{CLASSIFIER}.weight") or (0,))[0]
    spec = NetworkSpec("whisper", dataclasses.asdict(config))
    return Recognised(spec, _audio(config, weights.preprocessor), outputs, labels_of(weights, outputs))


def _audio(config: Config, settings: Any) -> Audio:
    rate = int(settings.get("sampling_rate", 16000))
    front = {
        "bands": config.bands,
        "fft": int(settings.get("n_fft", WhisperLogMel.fft)),
        "hop": int(settings.get("hop_length", WhisperLogMel.hop)),
    }
    window = 2 * config.positions * front["hop"] / rate
    return Audio(rate, window, window, front_end=WhisperLogMel.name, settings=front)


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of a Whisper encoder."""
    model = "model." if any(n.startswith("model.") for n in weights) else ""
    encoder, ours = f"{model}encoder", "backbone/blocks_{i}"
    block = f"{encoder}.layers.{{i}}"
    table = [
        *conv(f"{encoder}.conv1", "backbone/stem/conv1", bias=True, operation=CONV1D),
        *conv(f"{encoder}.conv2", "backbone/stem/conv2", bias=True, operation=CONV1D),
        Rule(f"{encoder}.embed_positions.weight", "backbone/stem/position"),
        Rule(tuple(f"{block}.self_attn.{p}_proj.weight" for p in "qkv"), f"{ours}/attention/qkv/kernel", CONCAT_LINEAR),
        Rule(tuple(f"{block}.self_attn.{p}_proj.bias" for p in "qv"), f"{ours}/attention/qkv/bias", ZERO_KEY_BIAS),
        *linear(f"{block}.self_attn.out_proj", f"{ours}/attention/out"),
        *layer_norm(f"{block}.self_attn_layer_norm", f"{ours}/norm1"),
        *linear(f"{block}.fc1", f"{ours}/mlp/fc1"),
        *linear(f"{block}.fc2", f"{ours}/mlp/fc2"),
        *layer_norm(f"{block}.final_layer_norm", f"{ours}/norm2"),
        *layer_norm(f"{encoder}.layer_norm", "backbone/pool/norm"),
    ]
    if config.projector:
        table += linear("projector", "backbone/pool/projector")
    return [
        *table,
        *head(CLASSIFIER, weights),
        ignored(f"{model}decoder.*", "writes text; features come from the encoder"),
        ignored("proj_out.*", "spells text; features come from the encoder"),
    ]


FAMILY = Family("whisper", ("whisper", *VARIANTS), recognise, rules)
