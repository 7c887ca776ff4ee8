"""ModernBERT of transformers: the bare model, its sequence classifier, and the sentence encoders made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flaxtl.card import NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.sentence_transformers import SentenceEncoder, sentence_encoder
from flaxtl.convert.families.tokenizer_files import read_tokenizer
from flaxtl.convert.families.transformers_audio import refuse_if
from flaxtl.convert.families.transformers_files import TRAINING, task_of, transformers_config
from flaxtl.convert.families.transformers_text import labels_tokens, prefix_of, text_input
from flaxtl.convert.mapping import Rule, ignored, layer_norm, linear
from flaxtl.convert.settings import READ, Setting, irrelevant, only, where
from flaxtl.convert.weights import Weights, count_numbered
from flaxtl.nets.modernbert import Config
from flaxtl.nets.transformer import ACTIVATIONS

KIND = "modernbert"
PREFIXES = ("", "model.")
PADDING = 50283
LOCAL, GLOBAL = "sliding_attention", "full_attention"
_BASES = {LOCAL: ("local_rope_theta", 10_000.0), GLOBAL: ("global_rope_theta", 160_000.0)}


_READ = (
    *(
        "max_position_embeddings",
        "num_attention_heads",
        "hidden_activation",
        "norm_eps",
        "mlp_dropout",
        "local_attention",
    ),
    *("layer_types", "global_attn_every_n_layers", "rope_parameters", "local_rope_theta", "global_rope_theta"),
    *("classifier_pooling", "classifier_activation", "pad_token_id"),
)
# What becomes of the settings of ModernBERT; see transformers_files.COMMON.
OWN: dict[str, Setting] = {
    **dict.fromkeys(_READ, READ),
    "rope_scaling": where(lambda v: not v, "rotary positions that are not scaled"),
    **irrelevant("of other networks; this one has rotary positions", "position_embedding_type"),
    **irrelevant("of other networks; norm_eps says it", "layer_norm_eps"),
    **irrelevant("of other networks; hidden_activation says it", "hidden_act"),
    **irrelevant(TRAINING, "initializer_cutoff_factor", "embedding_dropout", "sparse_prediction"),
    **irrelevant(TRAINING, "sparse_pred_ignore_index", "repad_logits_with_grad", "decoder_bias"),
    **irrelevant("how the same is computed", "deterministic_flash_attn"),
}


def recognise(weights: Weights) -> Recognised | None:
    """Says which ModernBERT weights are, by transformers' config.json."""
    prefix = prefix_of(weights, PREFIXES, "tok_embeddings")
    if weights.config.get("model_type") != KIND or prefix is None:
        return None
    outputs = _outputs(weights)
    encoder = None if outputs else sentence_encoder(weights)
    config = _config(weights, prefix, outputs > 0, encoder)
    spec = NetworkSpec("modernbert", dataclasses.asdict(config))
    tokenizer = read_tokenizer(weights, KIND, lowercase=encoder is not None and encoder.lowercase)
    rows, longest = config.vocabulary, config.longest
    text, notes = text_input(weights, tokenizer, encoder, rows=rows, longest=longest, pad_id=PADDING, types=False)
    labels, task = labels_of(weights, outputs), task_of(weights, outputs)
    return Recognised(spec, text, outputs, labels, task, tokenizer.files, notes)


def _outputs(weights: Weights) -> int:
    head = weights.shape("classifier.weight")
    return head[0] if head and "head.dense.weight" in weights and not labels_tokens(weights) else 0


def _config(weights: Weights, prefix: str, classifies: bool, encoder: SentenceEncoder | None) -> Config:
    source = transformers_config(weights, {**OWN, **_agreed(weights, prefix, classifies)})
    vocabulary, width = weights[f"{prefix}embeddings.tok_embeddings.weight"].shape
    depth = count_numbered(weights, f"{prefix}layers.")
    kinds = _kinds(source, depth)
    activations = [str(source.get(f"{n}_activation", "gelu")) for n in ("hidden", "classifier")]
    for activation in activations:
        refuse_if(activation not in ACTIVATIONS, f"the activation {activation!r}")
    pooling: dict[str, Any] = {"pooling": source.get("classifier_pooling", "cls")} if classifies else {}
    refuse_if(pooling.get("pooling") not in (None, "cls", "mean"), f"classifier_pooling={pooling.get('pooling')!r}")
    if encoder:
        pooling = {"pooling": encoder.how, "normalise": encoder.normalise}
    return Config(
        vocabulary=vocabulary,
        longest=int(source.get("max_position_embeddings", Config.longest)),
        width=width,
        heads=int(source.get("num_attention_heads", Config.heads)),
        hidden=weights[f"{prefix}layers.0.mlp.Wo.weight"].shape[1],
        local=tuple(kind == LOCAL for kind in kinds),
        reach=int(source.get("local_attention", 2 * Config.reach)) // 2,
        local_base=_base(source, LOCAL),
        global_base=_base(source, GLOBAL),
        activation=activations[0],
        epsilon=float(source.get("norm_eps", Config.epsilon)),
        norm_bias=f"{prefix}final_norm.bias" in weights,
        attention_bias=f"{prefix}layers.0.attn.Wqkv.bias" in weights,
        mlp_bias=f"{prefix}layers.0.mlp.Wi.bias" in weights,
        dense=classifies,
        dense_bias=classifies and "head.dense.bias" in weights,
        dense_activation=activations[1],
        dropout=float(source.get("mlp_dropout", 0.0)),
        **pooling,
    )


def _agreed(weights: Weights, prefix: str, classifies: bool) -> dict[str, Setting]:
    """Settings that the tensors say as well, with which they must agree."""
    biased = {
        "norm_bias": f"{prefix}final_norm.bias" in weights,
        "attention_bias": f"{prefix}layers.0.attn.Wqkv.bias" in weights,
        "mlp_bias": f"{prefix}layers.0.mlp.Wi.bias" in weights,
    }
    if classifies:
        biased["classifier_bias"] = "head.dense.bias" in weights
    bare = irrelevant("of an output layer, which is not there", "classifier_bias") if not classifies else {}
    depth = {"num_hidden_layers": only(count_numbered(weights, f"{prefix}layers."))}
    return {**bare, **depth, **{name: only(there) for name, there in biased.items()}}


def _kinds(source: Mapping[str, Any], depth: int) -> Sequence[str]:
    every = int(source.get("global_attn_every_n_layers", 3))
    kinds = source.get("layer_types") or [LOCAL if i % every else GLOBAL for i in range(depth)]
    unknown = set(kinds) - {LOCAL, GLOBAL}
    refuse_if(unknown or len(kinds) != depth, f"{depth} blocks with layer_types {list(kinds)}")
    return kinds


def _base(source: Mapping[str, Any], kind: str) -> float:
    """The base of rotary positions, in version 5's settings or version 4's; local blocks may share the global one."""
    name, default = _BASES[kind]
    found = (source.get("rope_parameters") or {}).get(kind) or {}
    how = found.get("rope_type", "default")
    refuse_if(how != "default", f"rotary positions of the kind {how!r}")
    others = sorted(set(found) - {"rope_type", "rope_theta"})
    refuse_if(others, f"rotary positions with {', '.join(others)}")
    if kind == LOCAL and name in source and source[name] is None:
        return _base(source, GLOBAL)
    return float(found.get("rope_theta", source.get(name, default)))


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of a ModernBERT."""
    model = prefix_of(weights, PREFIXES, "tok_embeddings")
    assert model is not None
    block, target = f"{model}layers.{{i}}", "backbone/blocks_{i}"
    norm, attention, mlp = config.norm_bias, config.attention_bias, config.mlp_bias
    table = [
        Rule(f"{model}embeddings.tok_embeddings.weight", "backbone/stem/tokens/embedding"),
        *layer_norm(f"{model}embeddings.norm", "backbone/stem/norm", bias=norm),
        *(
            dataclasses.replace(r, optional=True)
            for r in layer_norm(f"{block}.attn_norm", f"{target}/norm1", bias=norm)
        ),
        *linear(f"{block}.attn.Wqkv", f"{target}/attention/qkv", bias=attention),
        *linear(f"{block}.attn.Wo", f"{target}/attention/out", bias=attention),
        *layer_norm(f"{block}.mlp_norm", f"{target}/norm2", bias=norm),
        *linear(f"{block}.mlp.Wi", f"{target}/mlp/fc1", bias=mlp),
        *linear(f"{block}.mlp.Wo", f"{target}/mlp/fc2", bias=mlp),
        *layer_norm(f"{model}final_norm", "backbone/pool/norm", bias=norm),
    ]
    if config.dense:
        table += linear("head.dense", "backbone/pool/dense", bias=config.dense_bias)
        table += layer_norm("head.norm", "backbone/pool/dense_norm", bias=norm)
        table += linear("classifier", "head")
    return [
        *table,
        ignored("head.*", "guesses hidden tokens, in pretraining, or labels each token"),
        ignored("decoder.*", "guesses hidden tokens, in pretraining only"),
        ignored("classifier.*", "labels each token; flaxtl takes the encoder"),
        ignored("qa_outputs.*", "marks answers in a text; flaxtl takes the encoder"),
    ]


FAMILY = Family("modernbert", (KIND,), recognise, rules)
