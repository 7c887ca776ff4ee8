"""Learns the small vocabularies of the tokenizer cases; they are fixtures, so that no library can change them.

python scripts/record_vocabularies.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from parity import preprocessing_text as text
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def corpus() -> list[str]:
    """Returns what the vocabularies are learnt from."""
    return [t for t in text.TEXTS for _ in range(3)] + ["the cat sat on the mat and it was fine"] * 5


def byte_pairs() -> Tokenizer:
    """Returns a tokenizer as RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    return tokenizer


def unigrams() -> Tokenizer:
    """Returns a tokenizer as XLM-RoBERTa's."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    split = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    trainer = trainers.UnigramTrainer(vocab_size=220, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def main() -> None:
    """Writes the fixtures."""
    text.FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, tokenizer in (("bpe", byte_pairs()), ("unigram", unigrams())):
        tokenizer.save(str(text.FIXTURES / f"{name}.json"), pretty=False)
    model = text.fixture("bpe.json")["model"]
    (text.FIXTURES / "bpe_vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"])])
    (text.FIXTURES / "bpe_merges.txt").write_text(merges + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
