"""What `flaxtl predict` is asked about: paths, texts on the command line, texts from standard input."""

from __future__ import annotations

import sys

from flaxtl.card import NOUNS, Card, Text
from flaxtl.config import PredictConfig
from flaxtl.data import Source, to_predict
from flaxtl.data.unlabelled import texts_to_predict, together
from flaxtl.errors import ConfigError, DataError
from flaxtl.places import expanded

STDIN = "-"


def asked(config: PredictConfig, card: Card) -> Source:
    """Returns the inputs of a prediction.

    Args:
        config: with paths, texts, or - for standard input.
        card: of the model.

    Raises:
        ConfigError: texts for a model of something else.
        DataError: a path that does not exist, or nothing to predict.
    """
    spec = card.input
    texts = bool(config.text) or STDIN in config.paths
    if texts and not isinstance(spec, Text):
        given = "--text" if config.text else STDIN
        raise ConfigError(f"{given} gives texts, but this model takes {NOUNS[spec.modality]}. Give it files.")
    found: list[Source] = []
    paths = [path for path in config.paths if path != STDIN]
    if isinstance(spec, Text):
        absent = [path for path in paths if not expanded(path).exists()]
        if absent:
            raise DataError(f"There is no file {absent[0]}. If it is a text itself, write --text {absent[0]!r}.")
        pair = spec.pair
        if config.text:
            found.append(texts_to_predict(config.text, name="text", pair=pair))
        if STDIN in config.paths:
            found.append(texts_to_predict(_lines(), name="stdin", pair=pair))
    if paths:
        found.append(
            to_predict(
                paths,
                modality=spec.modality,
                input_column=config.input_column,
                on_bad_file=config.on_bad_file,
                columns=card.columns,
            )
        )
    return together(found)


def _lines() -> list[str]:
    """Reads standard input as UTF-8, whatever the locale says; an empty line is an empty text."""
    stream = getattr(sys.stdin, "buffer", None)
    try:
        text = sys.stdin.read() if stream is None else stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"Standard input is not UTF-8 at line {line}.") from error
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
