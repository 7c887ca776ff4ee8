"""transformers' tokenizers from whatever files they were published as: one tokenizer.json that does the same.

transformers builds the tokenizers of BERT, MPNet and RoBERTa from a vocabulary and the settings of
tokenizer_config.json, which go before what a tokenizer.json says; other classes take tokenizer.json as it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from flaxtl.convert.families.transformers_files import json_settings, read_json
from flaxtl.convert.settings import READ, Setting, irrelevant, only, read_settings, where
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError, listed
from flaxtl.places import cache_or_temporary

FILE = "tokenizer.json"
_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_NAMED = tuple(f"{name}_token" for name in _SPECIAL)
_SIDE = only("left", "right")
_SLOW = "of tokenizers that were written in Python"
UNDERSTOOD: dict[str, Setting] = {
    **dict.fromkeys(("tokenizer_class", "do_lower_case", "strip_accents", "tokenize_chinese_chars"), READ),
    **dict.fromkeys(("model_max_length", "added_tokens_decoder", "add_prefix_space", "trim_offsets"), READ),
    **dict.fromkeys((*_NAMED, "additional_special_tokens", "extra_special_tokens"), READ),
    "truncation_side": _SIDE,
    "padding_side": _SIDE,
    "model_input_names": where(lambda v: v is None or "attention_mask" in v, "with an attention_mask"),
    "split_special_tokens": only(False),
    "wordpieces_prefix": only("##"),
    **irrelevant(_SLOW, "never_split", "do_basic_tokenize", "sp_model_kwargs", "legacy", "from_slow", "use_fast"),
    **irrelevant(_SLOW, "basic_tokenizer", "keep_accents", "remove_space", "tokenizer_type"),
    **irrelevant("how tokens become text again", "clean_up_tokenization_spaces", "errors"),
    **irrelevant("what a call does, which asks for it itself", "max_length", "stride", "truncation_strategy"),
    **irrelevant("what a call does, which asks for it itself", "pad_to_multiple_of", "return_tensors"),
    **irrelevant("the type of padding, which nothing reads", "pad_token_type_id", "pad_token_segment_id"),
    **irrelevant("where the files came from", "name_or_path", "special_tokens_map_file", "tokenizer_file"),
    **irrelevant("where the files came from", "vocab_file", "merges_file", "full_tokenizer_file", "init_inputs"),
    **irrelevant("where the files came from", "is_local", "local_files_only", "backend", "_commit_hash"),
    **irrelevant("where the files came from", "transformers_version", "vocab_size"),
    **irrelevant("of conversations", "chat_template", "response_template", "chat_control_tokens"),
    **irrelevant("names a class that pairs it with another processor", "processor_class"),
    **irrelevant("names code that is run only on request", "auto_map"),
    **irrelevant("a tokenizer.json says where tokens are put", "add_bos_token", "add_eos_token"),
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """What one of transformers' classes builds its tokenizer of.

    Attributes:
        model: "WordPiece", "BPE", "Unigram", or "" for what tokenizer.json holds.
        names: the special tokens where no file says them.
        types: whether it says of which of two texts a token is.
        left: special tokens that take the space before them.
        unknown: the number of what the vocabulary lacks; None for that of the unknown token.
        around: how special tokens are put around texts: as "bert", "roberta" or "xlm-roberta" does.
    """

    model: str = ""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    types: bool = False
    left: tuple[str, ...] = ()
    unknown: int | None = None
    around: Literal["bert", "roberta", "xlm-roberta"] = "roberta"


_BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_ROBERTA = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
_UNIGRAM = Kind("Unigram", _ROBERTA, unknown=3, around="xlm-roberta")
_AS_IT_IS = Kind()
KINDS: dict[str, Kind] = {
    "BertTokenizer": Kind("WordPiece", _BERT, types=True, around="bert"),
    "DistilBertTokenizer": Kind("WordPiece", _BERT, around="bert"),
    "MPNetTokenizer": Kind("WordPiece", {**_ROBERTA, "unk": "[UNK]"}, left=("mask",)),
    "RobertaTokenizer": Kind("BPE", _ROBERTA),
    "XLMRobertaTokenizer": _UNIGRAM,
    "CamembertTokenizer": dataclasses.replace(_UNIGRAM, left=("mask",), unknown=None),
    "TokenizersBackend": _AS_IT_IS,
    "PreTrainedTokenizer": _AS_IT_IS,
}
OF_TYPE = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "modernbert": "TokenizersBackend",
}


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A tokenizer as transformers would build it.

    Attributes:
        files: {"tokenizer.json": its place}, or {} where there is none.
        types: whether it says of which of two texts a token is.
        pad_id: the token that fills short rows; None if no file says it.
        longest: tokens that its settings allow; None if they do not say.
        cut: the side at which long texts are cut.
        notes: what the reader should know, one sentence each.
        last: the token of the largest number, and this number; ("", -1) where there is no tokenizer.
    """

    files: Mapping[str, Path]
    types: bool = False
    pad_id: int | None = None
    longest: int | None = None
    cut: Any = "right"
    notes: tuple[str, ...] = ()
    last: tuple[str, int] = ("", -1)


def read_tokenizer(weights: Weights, kind: str, *, lowercase: bool = False) -> Tokenizer:
    """Returns the tokenizer beside some weights, as transformers' AutoTokenizer would build it.

    Args:
        weights: with the files beside them.
        kind: their model type.
        lowercase: whether capitals are turned small before everything else, as sentence-transformers may ask.

    Raises:
        CheckpointError: a tokenizer of a kind, or a setting, that is not followed; it is named.
    """
    place = "tokenizer_config.json"
    found = json_settings(weights, place)
    given = read_settings(found, UNDERSTOOD, source=place, ignore=weights.ignore_settings)
    built = KINDS[_class(weights, given, kind)]
    base = _base(weights, built)
    if base is None:
        return Tokenizer({}, longest=_length(given))
    notes: list[str] = []
    made = _built(weights, given, built, base, notes)
    if lowercase:
        made = {**made, "normalizer": _lowercased(made.get("normalizer"))}
    side = given.get("truncation_side") or (base.get("truncation") or {}).get("direction") or "right"
    if given.get("padding_side") == "left":
        notes.append(
            "The tokenizer fills short rows on the left (padding_side); here they are filled on the right, which gives "
            "what the source gives for each text alone."
        )
    names = given.get("model_input_names")
    return Tokenizer(
        {FILE: _kept(weights, base, made)},
        types=built.types if names is None else "token_type_ids" in names,
        pad_id=_pad_id(given, built, made),
        longest=_length(given),
        cut=str(side).lower(),
        notes=tuple(notes),
        last=_last(made),
    )


def _class(weights: Weights, given: Mapping[str, Any], kind: str) -> str:
    """The class that AutoTokenizer takes: what the files name, unless ModernBERT, whose files are known to be wrong."""
    said = given.get("tokenizer_class") or weights.config.get("tokenizer_class")
    name = OF_TYPE[kind]
    if said and name != "TokenizersBackend":
        name = str(said).removesuffix("Fast")
    if name not in KINDS:
        raise CheckpointError(
            f"tokenizer_config.json names the tokenizer {said!r}, which flaxtl does not follow. Known are "
            f"{listed(KINDS, 20)}. Write a tokenizer.json with AutoTokenizer.from_pretrained(…).save_pretrained(…) and "
            "say tokenizer_class='PreTrainedTokenizerFast', if that is all there is to it."
        )
    return name


def _length(given: Mapping[str, Any]) -> int | None:
    found = given.get("model_max_length")
    return None if found is None else int(found)


def _base(weights: Weights, built: Kind) -> dict[str, Any] | None:
    """What tokenizer.json holds, or the same made of a vocabulary; None where there is neither."""
    if FILE in weights.files:
        found = dict(read_json(weights.files[FILE]))
        if not isinstance(found.get("model"), Mapping) or "vocab" not in found["model"]:
            raise CheckpointError(
                f"{weights.files[FILE]} holds no tokenizer's model with a vocabulary. Fetch it again from where the "
                "weights were published."
            )
        return found
    empty: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
    if built.model == "WordPiece" and "vocab.txt" in weights.files:
        lines = weights.files["vocab.txt"].read_text(encoding="utf-8").split("\n")
        lines = lines[:-1] if lines and not lines[-1] else lines
        return {**empty, "model": {"type": "WordPiece", "vocab": {line: i for i, line in enumerate(lines)}}}
    if built.model == "BPE" and {"vocab.json", "merges.txt"} <= set(weights.files):
        lines = weights.files["merges.txt"].read_text(encoding="utf-8").split("\n")
        merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        return {**empty, "model": {"type": "BPE", "vocab": read_json(weights.files["vocab.json"]), "merges": merges}}
    pieces = [n for n in weights.files if n.endswith(".model")]
    if pieces:
        raise CheckpointError(
            f"The tokenizer beside the weights is {listed(pieces)}, a SentencePiece model, which flaxtl does not read. "
            f"Write {FILE} beside it: transformers' AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
        )
    return None


def _built(
    weights: Weights, given: Mapping[str, Any], built: Kind, base: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """The tokenizer of a class, from the vocabulary of a base."""
    if not built.model:
        return _completed(weights, given, base)
    if (found := base["model"].get("type")) not in (None, built.model):
        notes.append(
            f"tokenizer.json holds a {found} model where the class of these weights builds a {built.model} one; the "
            "file was taken as it is."
        )
        return dict(base)
    named = {n: given.get(f"{n}_token") or t for n, t in built.names.items()}
    named |= {n: given[f"{n}_token"] for n in _SPECIAL if n not in named and given.get(f"{n}_token")}
    named |= _legacy_names(weights, given)
    named = {n: named[n] for n in _SPECIAL if n in named}  # new ones are numbered in this order
    added, identity = _added(weights, given, built, base, named)
    parts = _PARTS[built.model](given, base, str(_text(named["unk"])))
    if built.unknown is not None:
        parts["model"]["unk_id"] = built.unknown
    first, last = ("bos", "eos") if built.around == "xlm-roberta" else ("cls", "sep")
    ends = [[text, identity(text)] for text in (str(_text(named[n])) for n in (first, last))]
    space = bool(given.get("add_prefix_space")) and built.model == "BPE"
    trims = given.get("trim_offsets") is not False or built.model != "BPE"
    roberta = {"type": "RobertaProcessing", "cls": ends[0], "sep": ends[1], "trim_offsets": trims}
    roberta["add_prefix_space"] = space
    processor = roberta if built.around == "roberta" else _template(*ends, types=built.around == "bert")
    return {**base, **parts, "post_processor": processor, "added_tokens": added}


def _completed(weights: Weights, given: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What tokenizer.json holds, with the tokens that the files beside it name and it does not find in texts."""
    listed_there = list(base.get("added_tokens") or [])
    there = {t["content"] for t in listed_there}
    decoder = given.get("added_tokens_decoder") or {}
    tokens = [_token(_text(t), int(i), t) for i, t in decoder.items() if _text(t) not in there]
    grown = {**base, "added_tokens": [*listed_there, *tokens]}
    named = {n: given[f"{n}_token"] for n in _SPECIAL if given.get(f"{n}_token")} | _legacy_names(weights, given)
    further, _ = _added(weights, {**given, "added_tokens_decoder": None}, _AS_IT_IS, grown, named)
    tokens += [t for t in further if t["content"] not in there | {t["content"] for t in tokens}]
    return {**base, "added_tokens": [*listed_there, *tokens]} if tokens else dict(base)


def _legacy_names(weights: Weights, given: Mapping[str, Any]) -> dict[str, Any]:
    """What special_tokens_map.json says, which is read where tokenizer_config.json lists no added tokens."""
    if given.get("added_tokens_decoder"):
        return {}
    found = json_settings(weights, "special_tokens_map.json")
    return {n: found[f"{n}_token"] for n in _SPECIAL if found.get(f"{n}_token")}


def _text(token: Any) -> Any:
    return token.get("content") if isinstance(token, Mapping) else token


def _added(
    weights: Weights, given: Mapping[str, Any], built: Kind, base: Mapping[str, Any], named: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], Any]:
    """Tokens that are found in a text before it is split, and a function from a token to its number."""
    vocabulary = base["model"]["vocab"]
    vocabulary = vocabulary if isinstance(vocabulary, Mapping) else {t: i for i, (t, _) in enumerate(vocabulary)}
    if decoder := given.get("added_tokens_decoder"):
        tokens = [_token(_text(t), int(i), t) for i, t in decoder.items()]
    else:
        tokens = [_token(t["content"], int(t["id"]), t) for t in base.get("added_tokens") or []]
        known = {t["content"] for t in tokens}
        special = {str(_text(t)) for t in named.values()}
        extra = json_settings(weights, "added_tokens.json")
        plain = {t: i for t, i in extra.items() if t not in known}
        tokens += [
            _token(t, int(i), {"special": t in special, "normalized": t not in special}) for t, i in plain.items()
        ]
    numbers = {t["content"]: t["id"] for t in tokens}
    further = [*given.get("additional_special_tokens", []), *_listed_extra(given.get("extra_special_tokens"))]
    for name, token in [*named.items(), *((None, t) for t in further)]:
        text = str(_text(token))
        if text not in numbers:
            numbers[text] = vocabulary.get(text, 1 + max([*vocabulary.values(), *numbers.values()], default=-1))
            about = token if isinstance(token, Mapping) else {"lstrip": name in built.left}
            tokens.append(_token(text, numbers[text], {**about, "special": True}))
    return sorted(tokens, key=lambda t: t["id"]), lambda text: numbers.get(text, vocabulary.get(text))


def _listed_extra(found: Any) -> list[Any]:
    return list(found.values()) if isinstance(found, Mapping) else list(found or [])


def _token(text: Any, number: int, about: Any) -> dict[str, Any]:
    about = about if isinstance(about, Mapping) else {}
    flags = {k: bool(about.get(k, False)) for k in ("single_word", "lstrip", "rstrip")}
    special = bool(about.get("special", False))
    return {
        "id": number,
        "content": str(text),
        **flags,
        "normalized": bool(about.get("normalized", not special)),
        "special": special,
    }


def _wordpiece(given: Mapping[str, Any], base: Mapping[str, Any], unknown: str) -> dict[str, Any]:
    def flag(name: str, default: bool | None) -> bool | None:
        return given[name] if given.get(name) is not None else default

    if unknown not in base["model"]["vocab"]:
        raise CheckpointError(
            f"The tokenizer's unknown token is {unknown!r}, which its vocabulary lacks. Correct unk_token in "
            "tokenizer_config.json or special_tokens_map.json, or fetch the files again."
        )
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": flag("tokenize_chinese_chars", True),
            "strip_accents": flag("strip_accents", None),
            "lowercase": flag("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": base["model"]["vocab"],
        },
    }


def _bpe(given: Mapping[str, Any], base: Mapping[str, Any], _: str) -> dict[str, Any]:
    level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "normalizer": None,
        "pre_tokenizer": {**level, "add_prefix_space": bool(given.get("add_prefix_space"))},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": base["model"]["vocab"],
            "merges": base["model"]["merges"],
        },
    }


def _unigram(given: Mapping[str, Any], base: Mapping[str, Any], unknown: str) -> dict[str, Any]:
    found = base.get("normalizer") or {}
    steps = found.get("normalizers", [found])
    scheme = "always" if given.get("add_prefix_space", True) else "never"  # null is false
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
    pieces = [piece for piece, _ in base["model"]["vocab"]]
    return {
        # Of the file's own steps the class keeps SentencePiece's table alone.
        "normalizer": next((step for step in steps if step.get("type") == "Precompiled"), None),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, space]},
        "model": {
            "type": "Unigram",
            "unk_id": pieces.index(unknown) if unknown in pieces else 0,
            "vocab": base["model"]["vocab"],
            "byte_fallback": False,
        },
    }


_PARTS = {"WordPiece": _wordpiece, "BPE": _bpe, "Unigram": _unigram}


def _template(cls: list[Any], sep: list[Any], *, types: bool) -> dict[str, Any]:
    """[CLS] A [SEP] B [SEP] with the types of the two texts, or else <s> A </s></s> B </s> without."""

    def token(name: str, kind: int = 0) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": kind}}

    def text(name: str, kind: int = 0) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [token(cls[0]), text("A"), token(sep[0])]
    names = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in (cls, sep)}
    second = [text("B", 1), token(sep[0], 1)] if types else [token(sep[0]), text("B"), token(sep[0])]
    return {"type": "TemplateProcessing", "single": single, "pair": [*single, *second], "special_tokens": names}


def _lowercased(normalizer: Any) -> Any:
    """Turns capitals small before all else, as sentence-transformers does unless that is done already."""
    steps = normalizer.get("normalizers", [normalizer]) if normalizer else []
    if any(step.get("type") == "Lowercase" for step in steps):
        return normalizer
    return {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *steps]}


def _pad_id(given: Mapping[str, Any], built: Kind, made: Mapping[str, Any]) -> int | None:
    name = _text(given.get("pad_token")) or built.names.get("pad") or (made.get("padding") or {}).get("pad_token")
    added = {t["content"]: int(t["id"]) for t in made.get("added_tokens") or []}
    vocabulary = made["model"].get("vocab")
    number = added.get(name, vocabulary.get(name) if isinstance(vocabulary, Mapping) else None)
    return None if number is None else int(number)


def _last(made: Mapping[str, Any]) -> tuple[str, int]:
    vocabulary = made["model"]["vocab"]
    pairs = vocabulary.items() if isinstance(vocabulary, Mapping) else ((t, i) for i, (t, _) in enumerate(vocabulary))
    numbered = [*pairs, *((t["content"], t["id"]) for t in made.get("added_tokens") or [])]
    found = [(str(token), int(number)) for token, number in numbered if token]  # an empty line of vocab.txt is none
    return max(found, key=lambda pair: pair[1], default=("", -1))


def _kept(weights: Weights, base: Mapping[str, Any], made: Mapping[str, Any]) -> Path:
    """Returns the file of a tokenizer: the source's own if it says the same, else one in the cache, by its content."""
    if FILE in weights.files and made == base:
        return weights.files[FILE]
    text = json.dumps(made, ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    file = cache_or_temporary() / "tokenizers" / digest / FILE
    try:
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as fresh:
                fresh.write(text)
            Path(fresh.name).replace(file)
    except OSError as error:
        raise CheckpointError(f"{FILE} could not be written at {file.parent}: {error.strerror}.") from error
    return file
