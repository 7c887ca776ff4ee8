"""BERT, RoBERTa, XLM-R, CamemBERT, DistilBERT and MPNet of transformers, and the sentence encoders made of them.

Names are those of the published files, of BERT's first ones (LayerNorm.gamma), and of the Flax classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flaxtl.card import NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.sentence_transformers import SentenceEncoder, sentence_encoder
from flaxtl.convert.families.tokenizer_files import read_tokenizer
from flaxtl.convert.families.transformers_audio import attention, refuse_if
from flaxtl.convert.families.transformers_files import TRAINING, task_of, transformers_config
from flaxtl.convert.families.transformers_text import labels_tokens, named_as, prefix_of, shape_of, text_input
from flaxtl.convert.mapping import Rule, ignored, layer_norm, linear
from flaxtl.convert.settings import READ, Setting, irrelevant, only, where
from flaxtl.convert.weights import Weights, count_numbered
from flaxtl.errors import CheckpointError
from flaxtl.nets.bert import Config
from flaxtl.nets.transformer import ACTIVATIONS


@dataclasses.dataclass(frozen=True)
class Naming:
    """How one of the kinds names its parts.

    Attributes:
        layers: what comes before a block's number.
        attention: query, key and value, below a block.
        out: attention's output.
        norm1: the normalisation after it.
        fc1: the first layer of the feed-forward part.
        fc2: the second.
        norm2: the normalisation after it.
        classifier: the output layer of a sequence classifier.
        inner: the layer before it.
    """

    layers: str = "encoder.layer"
    attention: tuple[str, str, str] = ("attention.self.query", "attention.self.key", "attention.self.value")
    out: str = "attention.output.dense"
    norm1: str = "attention.output.LayerNorm"
    fc1: str = "intermediate.dense"
    fc2: str = "output.dense"
    norm2: str = "output.LayerNorm"
    classifier: str = "classifier.out_proj"
    inner: str = "classifier.dense"


_ROBERTA = Naming()
_MPNET = Naming(
    attention=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    out="attention.attn.o",
    norm1="attention.LayerNorm",
)
_DISTILBERT = Naming(
    layers="transformer.layer",
    attention=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    out="attention.out_lin",
    norm1="sa_layer_norm",
    fc1="ffn.lin1",
    fc2="ffn.lin2",
    norm2="output_layer_norm",
    classifier="classifier",
    inner="pre_classifier",
)
NAMINGS = {
    "bert": Naming(classifier="classifier", inner="{model}pooler.dense"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": _DISTILBERT,
    "mpnet": _MPNET,
}
PREFIXES = ("", "bert.", "roberta.", "distilbert.", "mpnet.")
# Token embeddings, positions counted from the row after padding's: the kinds that took them from RoBERTa.
COUNTED = ("roberta", "xlm-roberta", "camembert", "mpnet")


_POSITIONS = "positions in order (position_embedding_type absolute)"
_READ = ("num_attention_heads", "layer_norm_eps", "pad_token_id", "hidden_dropout_prob")
_DISTIL = ("n_heads", "dropout")
_FROM_SHAPES = (
    *("max_position_embeddings", "type_vocab_size", "relative_attention_num_buckets", "dim", "hidden_dim"),
    *("sinusoidal_pos_embds",),
)
# What becomes of the settings of these networks; see transformers_files.COMMON.
OWN: dict[str, Setting] = {
    **dict.fromkeys((*_READ, *_DISTIL, "hidden_act", "activation"), READ),
    "position_embedding_type": where(lambda v: v in (None, "absolute"), _POSITIONS),
    **irrelevant("the tensors' shapes say it", *_FROM_SHAPES),
    **irrelevant(
        "of the program that BERT was first published with",
        *("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
        *("pooler_size_per_head", "pooler_type"),
    ),
    **irrelevant(TRAINING, "qa_dropout", "seq_classif_dropout", "tie_weights_", "adapters", "summary_use_proj"),
}


def recognise(weights: Weights) -> Recognised | None:
    """Says which network of this kind weights are, by transformers' config.json."""
    kind, prefix = _kind(weights), prefix_of(weights, PREFIXES, "word_embeddings")
    if kind is None or prefix is None:
        return None
    outputs = _outputs(weights, kind, prefix)
    encoder = None if outputs else sentence_encoder(weights)
    config = _config(weights, kind, prefix, encoder)
    spec = NetworkSpec("bert", dataclasses.asdict(config))
    tokenizer = read_tokenizer(weights, kind, lowercase=encoder is not None and encoder.lowercase)
    text, notes = text_input(
        weights,
        tokenizer,
        encoder,
        rows=config.vocabulary,
        longest=config.longest,
        pad_id=max(config.first_position - 1, 0),
        types=config.types > 1,
    )
    labels, task = labels_of(weights, outputs), task_of(weights, outputs)
    return Recognised(spec, text, outputs, labels, task, tokenizer.files, notes)


def _kind(weights: Weights) -> str | None:
    """The model type of config.json. Without one the names are those of several kinds, and none says the heads."""
    if "model_type" in weights.config:
        kind = str(weights.config["model_type"])
        return kind if kind in NAMINGS else None
    prefix = prefix_of(weights, PREFIXES, "word_embeddings")
    marks = tuple(f"{prefix}{n.layers}".replace(".", s) for n in NAMINGS.values() for s in "./")
    if prefix is not None and not weights.config and any(name.startswith(marks) for name in weights):
        raise CheckpointError(
            "The tensors are named as BERT or one of its kin, but do not say which, nor their number of heads. "
            "Put the config.json beside them."
        )
    return None


def _config(weights: Weights, kind: str, prefix: str, encoder: SentenceEncoder | None) -> Config:
    distil = kind == "distilbert"
    layers = f"{prefix}{NAMINGS[kind].layers}."
    depth = count_numbered([n.replace("/", ".") for n in weights], layers)
    source = transformers_config(weights, {**OWN, "num_hidden_layers": only(depth), "n_layers": only(depth)})
    activation = str(source.get("activation" if distil else "hidden_act", "gelu"))
    refuse_if(activation not in ACTIVATIONS, f"the activation {activation!r}")
    tables = {
        name: shape_of(weights, f"{prefix}embeddings.{name}_embeddings") or (0, 0)
        for name in ("word", "position", "token_type")
    }
    buckets = shape_of(weights, f"{prefix}encoder.relative_attention_bias") if kind == "mpnet" else None
    padding = source.get("pad_token_id")
    first = (1 if padding is None or kind == "mpnet" else int(padding)) + 1 if kind in COUNTED else 0
    inner = shape_of(weights, f"{layers}0.{NAMINGS[kind].fc1}")
    return Config(
        vocabulary=tables["word"][0],
        positions=tables["position"][0],
        first_position=first,
        types=tables["token_type"][0],
        buckets=buckets[0] if buckets else 0,
        width=tables["word"][1],
        depth=depth,
        heads=int(_setting(source, "n_heads" if distil else "num_attention_heads")),
        hidden=inner[0] if inner else 0,
        activation=activation,
        epsilon=1e-12 if distil else float(source.get("layer_norm_eps", 1e-12)),
        dropout=float(source.get("dropout" if distil else "hidden_dropout_prob", 0.1)),
        **_pooling(weights, kind, prefix, encoder),
    )


def _setting(source: Mapping[str, Any], name: str) -> Any:
    if name not in source:
        raise CheckpointError(f"config.json lacks {name!r}. Take the one that was published with the weights.")
    return source[name]


def _outputs(weights: Weights, kind: str, prefix: str) -> int:
    """The units of a sequence classifier's output layer; that of a token classifier has no layer before it."""
    naming = NAMINGS[kind]
    inner = shape_of(weights, naming.inner.format(model=prefix))
    head = shape_of(weights, naming.classifier)
    return head[0] if head and inner and not labels_tokens(weights) else 0


def _pooling(weights: Weights, kind: str, prefix: str, encoder: SentenceEncoder | None) -> dict[str, Any]:
    if _outputs(weights, kind, prefix):
        return {"pooling": "pooler", "pooler_activation": "relu" if kind == "distilbert" else "tanh"}
    return {"pooling": encoder.how, "normalise": encoder.normalise} if encoder else {"pooling": "mean"}


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of a network of this kind."""
    kind, model = _kind(weights), prefix_of(weights, PREFIXES, "word_embeddings")
    assert kind is not None
    assert model is not None
    naming = NAMINGS[kind]
    block, target = f"{model}{naming.layers}.{{i}}", "backbone/blocks_{i}"
    table = [
        *_stem(config, f"{model}embeddings"),
        *attention(block, f"{target}/attention", naming.attention, naming.out),
        *layer_norm(f"{block}.{naming.norm1}", f"{target}/norm1"),
        *linear(f"{block}.{naming.fc1}", f"{target}/mlp/fc1"),
        *linear(f"{block}.{naming.fc2}", f"{target}/mlp/fc2"),
        *layer_norm(f"{block}.{naming.norm2}", f"{target}/norm2"),
    ]
    if config.buckets:
        table.append(Rule(f"{model}encoder.relative_attention_bias.weight", "backbone/stem/distances/embedding"))
    if config.pooling == "pooler":
        table += linear(naming.inner.format(model=model), "backbone/pool/dense") + linear(naming.classifier, "head")
    return named_as(weights, [*table, *_not_needed(model)])


def _stem(config: Config, source: str) -> list[Rule]:
    target = "backbone/stem"
    table = [
        Rule(f"{source}.word_embeddings.weight", f"{target}/tokens/embedding"),
        Rule(f"{source}.position_embeddings.weight", f"{target}/positions/embedding"),
        *layer_norm(f"{source}.LayerNorm", f"{target}/norm"),
    ]
    if config.types:
        table.append(Rule(f"{source}.token_type_embeddings.weight", f"{target}/types/embedding"))
    return table


def _not_needed(model: str) -> list[Rule]:
    return [
        ignored(f"{model}embeddings.position_ids", "the numbers 0, 1, 2 …"),
        ignored(f"{model}embeddings.token_type_ids", "zeros"),
        ignored(f"{model}pooler.*", "a layer on the first token; the features are made of the tokens themselves"),
        ignored("cls.*", "guesses hidden tokens, in pretraining only"),
        ignored("lm_head.*", "guesses hidden tokens, in pretraining only"),
        ignored("vocab_*", "guesses hidden tokens, in pretraining only"),
        ignored("predictions.*", "guesses hidden tokens, in pretraining only"),
        ignored("qa_outputs.*", "marks answers in a text; flaxtl takes the encoder"),
        ignored("classifier.*", "labels each token; flaxtl takes the encoder"),
    ]


FAMILY = Family("bert", tuple(NAMINGS), recognise, rules)
