"""Text: BERT, RoBERTa, XLM-R, DistilBERT, MPNet and ModernBERT of transformers."""

from parity import Case

CONFIG = "{**model.config.to_dict(), 'architectures': [type(model).__name__]}"
SHAPE = (3, 13)
VOCABULARY = 40
_TINY = (
    "vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, "
    "max_position_embeddings=20, num_labels=5"
)
_TINY_DISTIL = "vocab_size=40, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=20, num_labels=5"
_TINY_MODERN = (
    "vocab_size=40, hidden_size=24, num_hidden_layers=5, num_attention_heads=3, intermediate_size=40, "
    "max_position_embeddings=64, num_labels=5, pad_token_id=0, eos_token_id=1, bos_token_id=2, cls_token_id=2, "
    "sep_token_id=1, "
)
MEAN = (
    "(y.last_hidden_state * torch.tensor(np.arange({length})[None, :, None] < np.array({real})[:, None, None]))"
    ".sum(1) / torch.tensor({real})[:, None]"
)


def _mean(rows: int, length: int) -> str:
    """The mean over real tokens, whose numbers are those of the mask."""
    return MEAN.format(length=length, real=[length - 3 * i for i in range(rows)])


def _case(
    name: str,
    build: str,
    outputs: dict[str, str],
    layers: str,
    *,
    types: bool = False,
    shape: tuple[int, int] = SHAPE,
    vocabulary: int = VOCABULARY,
    padding: int = 0,
    full: bool = False,
    blocks: int = 2,
) -> Case:
    inputs: dict[str, tuple] = {
        "input_ids": ("padded", shape, vocabulary, padding),
        "attention_mask": ("mask", shape),
    }
    network = "'ids': inputs['input_ids'], 'mask': inputs['attention_mask']"
    if types:
        inputs["token_type_ids"] = ("types", shape)
        network += ", 'types': inputs['token_type_ids']"
    places = {f"{layers}.{i}": f"blocks_{i}" for i in range(blocks)}
    return Case(name, f"transformers.{build}", inputs, outputs, places, CONFIG, f"{{{network}}}", full=full)


def _published(case: Case) -> Case:
    import dataclasses

    return dataclasses.replace(case, published=True)


LOGITS = {"logits": "y.logits"}
FEATURES = {"features": _mean(*SHAPE)}
CASES = [
    _case("bert_model", f"BertModel(transformers.BertConfig({_TINY}))", FEATURES, "encoder.layer", types=True),
    _case(
        "bert_classifier",
        f"BertForSequenceClassification(transformers.BertConfig({_TINY}, hidden_act='gelu_new', layer_norm_eps=1e-6))",
        {**LOGITS, "features": "hooks['bert.pooler']"},
        "bert.encoder.layer",
        types=True,
    ),
    _case(
        "roberta_model",
        f"RobertaModel(transformers.RobertaConfig({_TINY}, type_vocab_size=1))",
        FEATURES,
        "encoder.layer",
        padding=1,
    ),
    _case(
        "roberta_classifier",
        f"RobertaForSequenceClassification(transformers.RobertaConfig({_TINY}, type_vocab_size=1))",
        LOGITS,
        "roberta.encoder.layer",
        padding=1,
    ),
    _case(
        "xlm_roberta_classifier",
        f"XLMRobertaForSequenceClassification(transformers.XLMRobertaConfig({_TINY}, type_vocab_size=1))",
        LOGITS,
        "roberta.encoder.layer",
        padding=1,
    ),
    _case(
        "distilbert_model",
        f"DistilBertModel(transformers.DistilBertConfig({_TINY_DISTIL}))",
        FEATURES,
        "transformer.layer",
    ),
    _case(
        "distilbert_classifier",
        f"DistilBertForSequenceClassification(transformers.DistilBertConfig({_TINY_DISTIL}, activation='relu'))",
        LOGITS,
        "distilbert.transformer.layer",
    ),
    _case(
        "mpnet_model",
        f"MPNetModel(transformers.MPNetConfig({_TINY}))",
        FEATURES,
        "encoder.layer",
        padding=1,
    ),
    _case(
        "mpnet_classifier",
        f"MPNetForSequenceClassification(transformers.MPNetConfig({_TINY}))",
        LOGITS,
        "mpnet.encoder.layer",
        padding=1,
    ),
    _case(
        "modernbert_model",
        f"ModernBertModel(transformers.ModernBertConfig({_TINY_MODERN} local_attention=12))",
        FEATURES,
        "layers",
        blocks=4,
    ),
    _case(
        "modernbert_classifier",
        f"ModernBertForSequenceClassification(transformers.ModernBertConfig({_TINY_MODERN} local_attention=12, "
        "classifier_pooling='mean', norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True))",
        LOGITS,
        "model.layers",
        blocks=4,
    ),
    _case(
        "bert_base_full",
        "BertModel(transformers.BertConfig())",
        {"features": _mean(2, 128)},
        "encoder.layer",
        types=True,
        shape=(2, 128),
        vocabulary=30522,
        blocks=12,
        full=True,
    ),
    _case(
        "roberta_base_full",
        "RobertaForSequenceClassification(transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, "
        "type_vocab_size=1, layer_norm_eps=1e-5, num_labels=3))",
        LOGITS,
        "roberta.encoder.layer",
        shape=(2, 100),
        vocabulary=50265,
        padding=1,
        blocks=12,
        full=True,
    ),
    _case(
        "distilbert_base_full",
        "DistilBertForSequenceClassification(transformers.DistilBertConfig(num_labels=2))",
        LOGITS,
        "distilbert.transformer.layer",
        shape=(2, 65),
        vocabulary=30522,
        blocks=6,
        full=True,
    ),
    _case(
        "mpnet_base_full",
        "MPNetModel(transformers.MPNetConfig(max_position_embeddings=514, layer_norm_eps=1e-5))",
        {"features": _mean(2, 300)},
        "encoder.layer",
        shape=(2, 300),
        vocabulary=30527,
        padding=1,
        blocks=12,
        full=True,
    ),
    _case(
        "modernbert_base_full",
        "ModernBertForSequenceClassification(transformers.ModernBertConfig(num_labels=4))",
        LOGITS,
        "model.layers",
        shape=(2, 200),
        vocabulary=50368,
        padding=50283,
        blocks=22,
        full=True,
    ),
]
