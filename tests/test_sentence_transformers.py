"""Sentence encoders say what sentence-transformers itself says, whatever its files ask for."""

import numpy as np
import pytest
from parity import preprocessing_text as text
from tiny_text import write_json

import flaxtl

pytestmark = pytest.mark.parity
FOLDERS = {
    "mean": {},
    "cls": {"1_Pooling/config.json": {"word_embedding_dimension": 24, "pooling_mode_cls_token": True}},
    "max": {"1_Pooling/config.json": {"embedding_dimension": 24, "pooling_mode": "max"}},
    "no_mode": {"1_Pooling/config.json": {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": False}},
    "prompt": {
        "config_sentence_transformers.json": {
            "prompts": {"query": "the cat: ", "document": "mat "},
            "default_prompt_name": "query",
            "similarity_fn_name": "cosine",
        }
    },
    "prompt_not_default": {"config_sentence_transformers.json": {"prompts": {"query": "the cat: "}}},
    "lowercase": {"sentence_bert_config.json": {"max_seq_length": 20, "do_lower_case": True}},
    "short": {"sentence_bert_config.json": {"max_seq_length": 6, "do_lower_case": False}},
    "length_of_the_tokenizer": {
        "sentence_bert_config.json": {},
        "tokenizer_config.json": {"model_max_length": 9, "do_lower_case": False},
    },
}


def encoder(folder, files):
    """Writes a small random BERT as a folder of sentence-transformers."""
    import torch
    import transformers

    torch.manual_seed(0)
    vocabulary = text.cases()[2].files["vocab.txt"]
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    count = len(vocabulary.split("\n")) - 1
    config = transformers.BertConfig(vocab_size=count, max_position_embeddings=40, initializer_range=0.3, **size)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")))
    ]
    usual = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 20, "do_lower_case": False},
        "tokenizer_config.json": {"do_lower_case": False},
    }
    for name, value in {**usual, **files}.items():
        write_json(folder / name, value)
    (folder / "2_Normalize").mkdir()


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.filterwarnings("ignore")
def test_embeddings_are_those_of_sentence_transformers(name, tmp_path, monkeypatch):
    from sentence_transformers import SentenceTransformer

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "encoder"
    folder.mkdir()
    encoder(folder, FOLDERS[name])
    texts = list(text.TEXTS)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts)
    ours = flaxtl.load(folder).features(texts)
    assert np.abs(ours - theirs).max() <= 1e-5
