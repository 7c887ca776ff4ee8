"""What a card's `Text` does to a text: read, cut into tokens by the checkpoint's own tokenizer, filled up.

Truncation and padding are the card's; what the tokenizer's file says of them is not looked at. The tokenizers library
is imported when the first text needs it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.card import Text
from flaxtl.data.augment import Changes
from flaxtl.data.image import UNREADABLE, ZipMember, file_stamp
from flaxtl.data.records import Record
from flaxtl.data.rows import Form
from flaxtl.errors import CardError, DataError

# So many characters nearly always hold a token; the tokenizer is spared the rest of a book.
_CHARACTERS_A_TOKEN = 16
# More special tokens than any tokenizer puts around a pair of texts.
_SPECIAL = 8


@dataclasses.dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer.json, known by its content: the same file elsewhere is the same tokenizer.

    Attributes:
        digest: SHA-256 of its bytes.
        path: where it is.
    """

    digest: str
    path: Path = dataclasses.field(compare=False)

    @classmethod
    def of(cls, path: Path) -> TokenizerFile:
        """Reads a file's digest; it is read anew when the file has changed.

        Raises:
            CardError: there is no such file.
        """
        try:
            stamp = file_stamp(Path(path))
        except OSError as error:
            raise CardError(f"The tokenizer {path} cannot be read: {error.strerror}.") from error
        return cls(_digest(Path(path), stamp), Path(path))


@functools.lru_cache(maxsize=64)
def _digest(path: Path, _stamp: tuple[int, ...]) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.lru_cache(maxsize=16)
def _tokenizer(file: TokenizerFile, length: int, pair: bool) -> Any:
    """Opens a tokenizer and sets it to the card's length."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise DataError("To read text, flaxtl needs tokenizers: pip install 'flaxtl[text]'.") from error
    try:
        found = Tokenizer.from_str(file.path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower
        raise CardError(f"{file.path} cannot be read as a tokenizer: {error}.") from error
    special = found.num_special_tokens_to_add(pair)
    if length <= special:
        raise CardError(f"The card keeps {length} tokens, but {special} special ones are added. Raise its max_length.")
    found.no_padding()
    found.enable_truncation(length)
    return found


def read_text(raw: Any) -> str:
    """Returns a text as a string.

    Args:
        raw: a string, the path of a UTF-8 file, a `ZipMember`, a `Record`, or UTF-8 bytes.

    Raises:
        DataError: a file that cannot be read, bytes that are not UTF-8, or something else than text.

    Example:
        >>> read_text(b'caf\\xc3\\xa9')
        'café'
    """
    name = "A text" if isinstance(raw, (str, bytes)) else f"The text {raw}"
    if isinstance(raw, Record):
        raw = raw.value()
        if raw is None:
            raise DataError(f"{name} is missing (null).")
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, (bytes, Path, ZipMember)):
        raise DataError(f"An example is {type(raw).__name__} ({str(raw)[:40]!r}); expected a text.")
    try:
        data = raw if isinstance(raw, bytes) else raw.read() if isinstance(raw, ZipMember) else raw.read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 at byte {error.start}. Save it as UTF-8.") from error
    except UNREADABLE as error:
        raise DataError(f"{name} cannot be read: {error}.") from error


def length_buckets(longest: int) -> tuple[int, ...]:
    """Returns the lengths to which batches are cut, so that few shapes are compiled and little padding is computed.

    Multiples of 16 up to 128, then of 64, and the longest itself.

    Example:
        >>> length_buckets(40), length_buckets(256)[-4:]
        ((16, 32, 40), (112, 128, 192, 256))
    """
    return (*range(16, min(longest, 129), 16), *range(192, longest, 64), longest)


@dataclasses.dataclass(frozen=True)
class TextPreprocess:
    """What a card's `Text` does to a text, or to two of them.

    Attributes:
        spec: the card's input.
        file: its tokenizer; None if there is none, which is refused when a text comes.
    """

    spec: Text
    file: TokenizerFile | None = None

    @classmethod
    def of(cls, spec: Text, files: Mapping[str, Path]) -> TextPreprocess:
        """Finds the card's tokenizer among the files that travel with a model."""
        return cls(spec, TokenizerFile.of(files[spec.tokenizer]) if spec.tokenizer in files else None)

    @property
    def row(self) -> dict[str, Form]:
        """Tokens, which of them are real, and of which of two texts each is."""
        names = ("ids", "mask", "types") if self.spec.types else ("ids", "mask")
        return dict.fromkeys(names, Form((self.spec.max_length,), np.dtype(np.int32)))

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that a batch may be cut to."""
        return length_buckets(self.spec.max_length)

    def rows(
        self, raw: Any, rng: np.random.Generator | None = None, augment: Changes | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Returns one row: tokens up to the card's length, filled up with its padding.

        Raises:
            DataError: it is no text, not two where the card says a pair, or no token is left of it.
            CardError: the tokenizer is missing or damaged.
        """
        encoding, _ = self._encoded(raw)
        count = len(encoding.ids)
        if not count:
            raise DataError(f"No token is left of the text {str(raw)[:40]!r}. Leave it out.")
        row = {name: np.zeros(form.shape, form.dtype) for name, form in self.row.items()}
        row["ids"][:] = self.spec.pad_id
        row["ids"][:count] = encoding.ids
        row["mask"][:count] = 1
        if self.spec.types:
            row["types"][:count] = encoding.type_ids
        return [row]

    def is_cut(self, raw: Any) -> bool:
        """Whether a text has more tokens than the card keeps.

        Raises:
            DataError: as `rows`.
            CardError: likewise.
        """
        parts = raw if isinstance(raw, (tuple, list)) else [raw]
        least = self.spec.max_length - _SPECIAL
        # A token is at least a byte of the text, so that most texts need not be cut into tokens to know.
        if sum(len(read_text(part).encode("utf-8", "surrogatepass")) for part in parts) <= least:
            return False
        return self._encoded(raw)[1]

    def _encoded(self, raw: Any) -> tuple[Any, bool]:
        """Returns the encoding, and whether something of the text is not in it."""
        if self.file is None:
            raise CardError(
                f"The model has no {self.spec.tokenizer} beside it, without which it cannot read text. Put the one "
                "that was published with the weights there; transformers' AutoTokenizer(...).save_pretrained writes it."
            )
        two = isinstance(raw, (tuple, list))
        if two != self.spec.pair or (two and len(raw) != 2):
            found, wanted = f"{len(raw) if two else 1} text(s)", "2" if self.spec.pair else "1"
            raise DataError(f"An example is {found}; this network's card says {wanted} (pair is {self.spec.pair}).")
        tokenizer = _tokenizer(self.file, self.spec.max_length, self.spec.pair)
        texts = [read_text(part) for part in raw] if two else [read_text(raw)]
        try:
            if not two:
                return _encoded_beginning(tokenizer, texts[0], self.spec.max_length)
            encoding = tokenizer.encode(*texts)
            return encoding, bool(encoding.overflowing)
        except TypeError as error:  # a lone surrogate, which is no character, has no UTF-8
            raise DataError(
                f"The text {ascii(texts[0])[:60]} holds half a character (a surrogate). Mend it."
            ) from error

    def augmented(
        self, row: dict[str, np.ndarray], rng: np.random.Generator, augment: Changes
    ) -> dict[str, np.ndarray]:
        """Returns the row as it is: there are changes for pictures and sound, none for text."""
        return row

    def device(self, inputs: Any) -> Any:
        """Returns the batch as it is: the network takes tokens."""
        return inputs


def _encoded_beginning(tokenizer: Any, text: str, length: int) -> tuple[Any, bool]:
    """Encodes a text, of a very long one only as much as fills the row: up to a space, it gives the same tokens."""
    end = text.rfind(" ", 0, _CHARACTERS_A_TOKEN * length)
    if len(text) > _CHARACTERS_A_TOKEN * length and end > 0:
        encoding = tokenizer.encode(text[:end])
        if len(encoding.ids) == length:
            return encoding, bool(encoding.overflowing) or not text[end:].isspace()
    encoding = tokenizer.encode(text)
    return encoding, bool(encoding.overflowing)


def cut_texts(raw: Iterable[Any], preprocess: TextPreprocess) -> list[str]:
    """Says how many of some texts are longer than the card keeps; nothing where none is."""
    found = [preprocess.is_cut(text) for text in raw]
    if not any(found):
        return []
    kind = "pairs of texts" if preprocess.spec.pair else "texts"
    return [f"{sum(found):,} of {len(found):,} {kind} are longer than {preprocess.spec.max_length} tokens and are cut."]
