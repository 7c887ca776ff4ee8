"""The Audio Spectrogram Transformer of transformers, bare or with its classifier, in the names of versions 4 and 5."""

from __future__ import annotations

import dataclasses

from flaxtl.card import Audio, NetworkSpec, Task
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.transformers_audio import attention, extractor_settings, head
from flaxtl.convert.families.transformers_files import task_of, transformers_config
from flaxtl.convert.mapping import Rule, conv, layer_norm, linear
from flaxtl.convert.settings import READ, Setting, irrelevant, only, where
from flaxtl.convert.weights import Weights
from flaxtl.data.frontends import KaldiFbank
from flaxtl.nets.ast import VARIANTS, Config
from flaxtl.nets.transformer import ACTIVATIONS

TYPE = "audio-spectrogram-transformer"
CLASSIFIER = "classifier.dense"


_READ = (
    *("num_mel_bins", "max_length", "patch_size", "frequency_stride", "time_stride", "hidden_size"),
    *("num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps", "hidden_dropout_prob"),
)
# What becomes of the settings of an AST; see transformers_files.COMMON.
OWN: dict[str, Setting] = {
    **dict.fromkeys(_READ, READ),
    "hidden_act": where(lambda v: v is None or v in ACTIVATIONS, f"the activations {', '.join(ACTIVATIONS)}"),
}


def recognise(weights: Weights) -> Recognised | None:
    """Says which AST weights are, by transformers' config.json."""
    if weights.config.get("model_type") != TYPE:
        return None
    biased = any(name.endswith((".query.bias", ".q_proj.bias")) for name in weights)
    source = transformers_config(weights, {**OWN, "qkv_bias": only(biased)})
    outputs = (weights.shape(f"{CLASSIFIER}.weight") or (0,))[0]
    config = Config(
        bands=source.get("num_mel_bins", 128),
        frames=source.get("max_length", 1024),
        patch=source.get("patch_size", 16),
        band_stride=source.get("frequency_stride", 10),
        frame_stride=source.get("time_stride", 10),
        width=source.get("hidden_size", 768),
        depth=source.get("num_hidden_layers", 12),
        heads=source.get("num_attention_heads", 12),
        hidden=source.get("intermediate_size", 3072),
        qkv_bias=biased,
        head_norm="classifier.layernorm.weight" in weights,
        activation=source.get("hidden_act", "gelu"),
        epsilon=source.get("layer_norm_eps", 1e-12),
        dropout=float(source.get("hidden_dropout_prob", 0.0)),
    )
    # AudioSet, on which the published classifier of 527 outputs was trained, lets several labels be true at once.
    audio_set = outputs == 527 and weights.config.get("problem_type") is None
    task: Task = "multilabel" if audio_set else task_of(weights, outputs)
    spec = NetworkSpec("ast", dataclasses.asdict(config))
    audio, notes = _audio(config, weights)
    return Recognised(spec, audio, outputs, labels_of(weights, outputs), task, notes=notes)


def _audio(config: Config, weights: Weights) -> tuple[Audio, tuple[str, ...]]:
    own: dict[str, Setting] = {
        **dict.fromkeys(("do_normalize", "mean", "std"), READ),
        "num_mel_bins": only(config.bands),
        "max_length": only(config.frames),
        **irrelevant("counts channels, of which a clip has one", "feature_size"),
    }
    settings, notes = extractor_settings(weights, "ASTFeatureExtractor", own)
    rate = int(settings.get("sampling_rate", 16000))
    normalised = settings.get("do_normalize", True)
    front = {
        "bands": config.bands,
        "frames": config.frames,
        "mean": float(settings.get("mean", KaldiFbank.mean)) if normalised else 0.0,
        "std": float(settings.get("std", KaldiFbank.std)) if normalised else 0.5,
    }
    window = ((config.frames - 1) * (rate // 100) + rate // 40) / rate
    return Audio(rate, window, window, front_end=KaldiFbank.name, settings=front), notes


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of an AST."""
    model = "audio_spectrogram_transformer."
    model = model if any(n.startswith(model) for n in weights) else ""
    stem = "backbone/stem"
    table = [
        Rule(f"{model}embeddings.cls_token", f"{stem}/class_token"),
        Rule(f"{model}embeddings.distillation_token", f"{stem}/distillation_token"),
        Rule(f"{model}embeddings.position_embeddings", f"{stem}/position"),
        *conv(f"{model}embeddings.patch_embeddings.projection", f"{stem}/patch", bias=True),
        *layer_norm(f"{model}layernorm", "backbone/pool/norm"),
    ]
    old = any(n.startswith(f"{model}encoder.layer.") for n in weights)
    table += (_block4 if old else _block5)(model, "backbone/blocks_{i}", config.qkv_bias)
    if config.head_norm:
        table += layer_norm("classifier.layernorm", "backbone/pool/head_norm")
    return table + head(CLASSIFIER, weights)


def _block4(model: str, target: str, bias: bool) -> list[Rule]:
    """The names that are published: transformers 4's, which version 5 still reads."""
    block = f"{model}encoder.layer.{{i}}"
    parts = ("attention.query", "attention.key", "attention.value")
    return [
        *attention(f"{block}.attention", f"{target}/attention", parts, "output.dense", bias=bias),
        *layer_norm(f"{block}.layernorm_before", f"{target}/norm1"),
        *layer_norm(f"{block}.layernorm_after", f"{target}/norm2"),
        *linear(f"{block}.intermediate.dense", f"{target}/mlp/fc1"),
        *linear(f"{block}.output.dense", f"{target}/mlp/fc2"),
    ]


def _block5(model: str, target: str, bias: bool) -> list[Rule]:
    block = f"{model}layers.{{i}}"
    parts = ("q_proj", "k_proj", "v_proj")
    return [
        *attention(f"{block}.attention", f"{target}/attention", parts, "o_proj", bias=bias),
        *layer_norm(f"{block}.layernorm_before", f"{target}/norm1"),
        *layer_norm(f"{block}.layernorm_after", f"{target}/norm2"),
        *linear(f"{block}.mlp.fc1", f"{target}/mlp/fc1"),
        *linear(f"{block}.mlp.fc2", f"{target}/mlp/fc2"),
    ]


FAMILY = Family("ast", (TYPE, *VARIANTS), recognise, rules)
