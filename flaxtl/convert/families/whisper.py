"""Whisper's encoder from transformers: out of the whole model, or of its audio classifier."""

from __future__ import annotations

import dataclasses

import numpy as np

from flaxtl.card import Audio, NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.transformers_audio import extractor_settings, head, refuse_if
from flaxtl.convert.families.transformers_files import TRAINING, task_of, transformers_config
from flaxtl.convert.mapping import CONCAT_LINEAR, CONV1D, Operation, Rule, conv, ignored, layer_norm, linear
from flaxtl.convert.settings import READ, Setting, irrelevant, only, where
from flaxtl.convert.weights import Weights
from flaxtl.data.frontends import WhisperLogMel
from flaxtl.nets.transformer import ACTIVATIONS
from flaxtl.nets.whisper import VARIANTS, Config

CLASSIFIER = "classifier"
# Keys have no bias: one would add the same to all scores of a query, which softmax takes away again.
ZERO_KEY_BIAS = Operation(
    "concatenate, zeros for the key",
    lambda arrays: np.concatenate([arrays[0], np.zeros_like(arrays[0]), arrays[1]]),
    lambda leaf, n: [np.split(leaf, 3)[0], np.split(leaf, 3)[2]],
)


_READ = (
    *("num_mel_bins", "max_source_positions", "d_model", "encoder_layers", "encoder_attention_heads"),
    *("encoder_ffn_dim", "dropout"),
)
# What becomes of the settings of a Whisper; see transformers_files.COMMON.
OWN: dict[str, Setting] = {
    **dict.fromkeys(_READ, READ),
    "activation_function": where(lambda v: v is None or v in ACTIVATIONS, f"the activations {', '.join(ACTIVATIONS)}"),
    "use_weighted_layer_sum": only(False),
    **irrelevant("the tensors' shapes say it", "classifier_proj_size", "num_hidden_layers"),
    **irrelevant(
        "of the decoder, which writes text",
        *("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "max_target_positions", "scale_embedding"),
        *(
            "lang_ids",
            "task_ids",
            "alignment_heads",
            "median_filter_width",
            "language",
            "task",
            "no_timestamps_token_id",
        ),
    ),
    **irrelevant(
        TRAINING,
        *("encoder_layerdrop", "decoder_layerdrop", "activation_dropout", "init_std", "apply_spec_augment"),
        *("mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob", "mask_feature_length"),
        *("mask_feature_min_masks",),
    ),
}


def recognise(weights: Weights) -> Recognised | None:
    """Says which Whisper weights are, by transformers' config.json."""
    if weights.config.get("model_type") != "whisper":
        return None
    source = transformers_config(weights, OWN)
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
    audio, notes = _audio(config, weights)
    labels, task = labels_of(weights, outputs), task_of(weights, outputs)
    return Recognised(spec, audio, outputs, labels, task, notes=notes)


def _audio(config: Config, weights: Weights) -> tuple[Audio, tuple[str, ...]]:
    own: dict[str, Setting] = {
        **dict.fromkeys(("n_fft", "hop_length", "chunk_length"), READ),
        "feature_size": only(config.bands),
        "dither": only(0.0),
        **irrelevant("computed from the others", "mel_filters", "n_samples", "nb_max_frames"),
        **irrelevant("of a call, which does not look at it", "do_normalize"),
    }
    settings, notes = extractor_settings(weights, "WhisperFeatureExtractor", own)
    rate = int(settings.get("sampling_rate", 16000))
    front = {
        "bands": config.bands,
        "fft": int(settings.get("n_fft", WhisperLogMel.fft)),
        "hop": int(settings.get("hop_length", WhisperLogMel.hop)),
    }
    window = 2 * config.positions * front["hop"] / rate
    chunk = settings.get("chunk_length", window)
    refuse_if(
        chunk != window,
        f"positions for {window:g} seconds, where its preprocessing (chunk_length, hop_length) makes {chunk:g}",
    )
    return Audio(rate, window, window, front_end=WhisperLogMel.name, settings=front), notes


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
