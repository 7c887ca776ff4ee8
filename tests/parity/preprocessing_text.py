"""Texts as transformers' tokenizers cut them: cases, the reference side, ours."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).parent.parent / "fixtures" / "preprocessing"
LENGTH = 24
_HOSTILE = "﻿cafe\u0301 \u200bze\u200dro\u00a0width\u2028line\x00nul\x07bell �"
TEXTS: tuple[Any, ...] = (
    "",
    " ",
    "The cat sat on the mat.",
    "THE CAT, THE CAT!  two  spaces\tand\na line",
    "Café Müller naïve ÅNGSTRÖM ﬁne",
    "Cafe\u0301 decomposed, I\u0307stanbul",
    _HOSTILE,
    "東京の猫 고양이 猫 cat",
    "قطة تجلس on the mat שלום",
    "🙂 cat 👩‍👩‍👧‍👦 🇪🇺 mat",
    "see https://the.cat/mat?sat=1&q=%20#on or mail a@b.cat",
    "[CLS] the [SEP] cat [MASK] <s> </s> <pad> <mask> [PAD] [unk]",
    "don't can't we're 'twas it's 1,000.50 €5 50% a_b c-d",
    "the cat sat on the mat " * 40,
    "catcatcatcatcat" * 12,
    "x" * 300,
    " leading and trailing ",
    "NEWTOKEN newtoken <extra>cat",
)
PAIRS: tuple[Any, ...] = (("the cat", "sat on the mat"), ("the cat " * 20, "mat"), ("", "cat"), ("a", "the mat " * 30))
_WORDS = (
    *("the", "cat", "sat", "on", "mat", "two", "space", "line", "don", "can", "we", "it", "see", "mail", "a", "is"),
    *("mat.", "leading", "and", "trailing", "new", "token", "cafe"),
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'\"#&%@:/=-_[]<>()€$猫東京éüıñاقطة"


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A tokenizer's files, and what model they lie beside.

    Attributes:
        name: of the case.
        type: model type of the config.json beside it.
        files: contents by name; JSON where the name says so.
        texts: what is cut into tokens.
        lowercase: whether sentence-transformers' do_lower_case is set.
    """

    name: str
    type: str
    files: Mapping[str, Any]
    texts: tuple[Any, ...] = TEXTS
    lowercase: bool = False


def _vocabulary(special: tuple[str, ...], *, cased: bool = False) -> str:
    letters = _LETTERS + (_LETTERS.upper() if cased else "")
    words = [*_WORDS, *(w.upper() for w in _WORDS if cased)]
    entries = dict.fromkeys([*special, *letters, *(f"##{c}" for c in letters), *words, "##cat", "##ing"])
    return "\n".join(entries) + "\n"


BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MPNET = ("<s>", "<pad>", "</s>", "<unk>", "[UNK]")


def fixture(name: str) -> Any:
    """Returns a fixture's content."""
    text = (FIXTURES / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


def written_by_tokenizers(vocabulary: str, *, lowercase: bool, strip: bool | None = None) -> dict[str, Any]:
    """Returns the tokenizer.json of a BERT that lies beside published weights."""
    entries = {token: i for i, token in enumerate(vocabulary.split("\n")[:-1])}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    sequence = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    end = {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
    second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 11, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [{"id": entries[t], "content": t, **flags} for t in BERT],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": strip,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*sequence, end],
            "pair": [*sequence, end, *second],
            "special_tokens": {t: {"id": t, "ids": [entries[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": entries,
        },
    }


def cases() -> list[Tokens]:
    """Returns the cases; the learnt vocabularies are fixtures."""
    small, cased = _vocabulary(BERT), _vocabulary(BERT, cased=True)
    plain, capital = {"vocab.txt": small}, {"vocab.txt": cased}
    mpnet, mpnet_cased = (_vocabulary(MPNET, cased=c) + "<mask>\n" for c in (False, True))
    file = {"tokenizer.json": written_by_tokenizers(cased, lowercase=False)}
    bpe = {"vocab.json": fixture("bpe_vocab.json"), "merges.txt": fixture("bpe_merges.txt")}
    unigram, level = {"tokenizer.json": fixture("unigram.json")}, {"tokenizer.json": fixture("bpe.json")}
    as_cased: dict[str, Any] = {"do_lower_case": False}
    generic = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    left = {"truncation_side": "left"}
    added = {str(i): {"content": t, "special": True} for i, t in enumerate(BERT)}
    added["900"] = {"content": "NEWTOKEN", "normalized": True, "special": False}
    sep = {"content": "[SEP]", "lstrip": False, "normalized": False, "rstrip": True, "single_word": False}
    names = ["input_ids", "attention_mask"]
    table: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None]] = {
        "vocabulary_alone": ("bert", plain, None),
        "vocabulary_alone_pairs": ("bert", plain, None),
        "vocabulary_cased": ("bert", capital, as_cased),
        "vocabulary_accents_kept": ("bert", plain, {"strip_accents": False}),
        "vocabulary_accents_stripped": ("bert", capital, {**as_cased, "strip_accents": True}),
        "chinese_in_one_piece": ("bert", plain, {"tokenize_chinese_chars": False}),
        "file_alone": ("bert", {"tokenizer.json": written_by_tokenizers(small, lowercase=True)}, None),
        "file_against_its_class": ("bert", file, None),
        "file_and_settings_agree": ("bert", file, as_cased),
        "file_of_no_class": ("bert", file, {**generic, "do_lower_case": True}),
        "file_of_no_class_pairs": ("bert", file, generic),
        "cut_on_the_left": ("bert", plain, left),
        "cut_on_the_left_pairs": ("bert", plain, left),
        "without_types_pairs": ("bert", plain, {"model_input_names": names}),
        "added_tokens": ("bert", plain, {"added_tokens_decoder": added}),
        "added_tokens_old": ("bert", {**plain, "added_tokens.json": {"newtoken": 901, "<extra>": 902}}, None),
        "extra_special": ("bert", plain, {"additional_special_tokens": ["<extra>"]}),
        "special_map": ("bert", {**plain, "special_tokens_map.json": {"cls_token": "[MASK]", "sep_token": sep}}, None),
        "lowercased_first": ("bert", capital, as_cased),
        "distilbert_pairs": ("distilbert", plain, {"tokenizer_class": "DistilBertTokenizer"}),
        "mpnet": ("mpnet", {"vocab.txt": mpnet}, None),
        "mpnet_pairs": ("mpnet", {"vocab.txt": mpnet}, None),
        "mpnet_cased": ("mpnet", {"vocab.txt": mpnet_cased}, {**as_cased, "tokenizer_class": "MPNetTokenizer"}),
        "roberta": ("roberta", bpe, None),
        "roberta_pairs": ("roberta", bpe, None),
        "roberta_space_first": ("roberta", bpe, {"add_prefix_space": True, "tokenizer_class": "RobertaTokenizerFast"}),
        "roberta_file": ("roberta", level, None),
        "xlm_roberta_file": ("xlm-roberta", unigram, None),
        "xlm_roberta_file_pairs": ("xlm-roberta", unigram, None),
        "xlm_roberta_no_space": ("xlm-roberta", unigram, {"add_prefix_space": False}),
        "camembert_file": ("camembert", unigram, {"tokenizer_class": "CamembertTokenizer"}),
        "modernbert_file": ("modernbert", level, {**generic, "pad_token": "<pad>"}),
    }
    return [
        Tokens(
            name,
            kind,
            files if config is None else {**files, "tokenizer_config.json": config},
            PAIRS if name.endswith("_pairs") else TEXTS,
            name == "lowercased_first",
        )
        for name, (kind, files, config) in table.items()
    ]


def write(case: Tokens, folder: Path) -> None:
    """Writes a case's files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"config.json": {"model_type": case.type}, **case.files}.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (folder / name).write_text(text, encoding="utf-8")


def theirs(case: Tokens, folder: Path) -> list[dict[str, list[int]]]:
    """Returns the reference's ids, mask and, where it gives them, types of each text."""
    import transformers

    write(case, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if case.lowercase:
        from tokenizers import normalizers

        steps = [normalizers.Lowercase(), tokenizer.backend_tokenizer.normalizer]
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(steps)
    names = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types"}
    found = []
    for text in case.texts:
        parts = text if isinstance(text, tuple) else (text,)
        row = tokenizer(*parts, truncation=True, max_length=LENGTH, padding="max_length", padding_side="right")
        found.append({names[k]: list(v) for k, v in row.items()})
    return found


def ours(case: Tokens, folder: Path) -> list[dict[str, list[int]]]:
    """Returns ours."""
    from flaxtl.card import Text
    from flaxtl.convert.families.tokenizer_files import read_tokenizer
    from flaxtl.convert.weights import Weights
    from flaxtl.data.text import TextPreprocess

    write(case, folder)
    weights = Weights({}, {"model_type": case.type}, {}, {f.name: f for f in folder.iterdir()})
    found = read_tokenizer(weights, case.type, lowercase=case.lowercase)
    pair = isinstance(case.texts[0], tuple)
    spec = Text(max_length=LENGTH, pad_id=found.pad_id or 0, pair=pair, types=found.types, cut=found.cut)
    pre = TextPreprocess.of(spec, dict(found.files))
    return [{k: np.asarray(v).tolist() for k, v in pre.rows(text)[0].items()} for text in case.texts]
