"""A tiny tokenizer and tiny text networks that tests share."""

import json

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from flaxtl import nets
from flaxtl.card import Card, Head, NetworkSpec, Text
from flaxtl.model import Model

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("good", "fine", "great", "bad", "poor", "awful", "film", "food", "day", "the", "a", "was")
CONFIG = {"vocabulary": 16, "positions": 40, "width": 12, "depth": 2, "heads": 2, "hidden": 16, "epsilon": 1e-5}


def write_tokenizer(folder):
    """Writes a tokenizer.json whose own truncation and padding are not the card's; returns its path."""
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=7)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def text_model(tokenizer, labels=(), *, max_length=40, **config):
    """Returns a tiny BERT with random parameters and its card."""
    spec = NetworkSpec("bert", {**CONFIG, **config})
    card = Card(Text(max_length=max_length, types=True), spec, (Head(labels=tuple(labels)),))
    network = nets.build(spec, len(labels))
    model = Model(network, {}, card, {"tokenizer.json": tokenizer})
    variables = network.init(0, model.sample())
    variables["params"]["backbone"]["stem"]["tokens"]["embedding"] *= np.float32(50.0)
    return model.with_variables(variables)


def sentences(number, seed=0):
    """Returns texts of two kinds and their classes."""
    rng = np.random.default_rng(seed)
    texts, names = [], []
    for i in range(number):
        kind = i % 2
        word = str(rng.choice(WORDS[:3] if kind else WORDS[3:6]))
        count = int(rng.integers(1, 18))
        texts.append(" ".join([*[word] * count, *map(str, rng.choice(WORDS[6:], count))]))
        names.append("yes" if kind else "no")
    return texts, names


def write_json(path, value):
    """Writes JSON into a file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path
