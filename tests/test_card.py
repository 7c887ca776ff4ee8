"""The card: written, read back, and enforced."""

import json

import pytest

from flaxtl.card import INPUTS, Array, Audio, Card, Head, Image, NetworkSpec, Text
from flaxtl.errors import CardError

CARDS = [
    Card(Image((32, 24), 1, (0.5,), (0.25,), "bicubic", 0.875, "squash", "bright_on_dark")),
    Card(Audio(8000, 2.0, 0.5, front_end="log_mel", settings={"bands": 64}), NetworkSpec("resnet", {"depths": [1, 2]})),
    Card(Text("tok.json", 64, 1, True), heads=(Head("top/dense", "multilabel", ("ä", "日本"), 1.5, "rms"),)),
    Card(Array((3,), "float32", (1.0,), (2.0,)), provenance={"source": "here"}),
]


@pytest.mark.parametrize("card", CARDS, ids=lambda c: c.input.modality)
def test_a_card_is_read_as_it_was_written(card, tmp_path):
    card.write(tmp_path)
    assert Card.read(tmp_path) == card


@pytest.mark.parametrize("other", sorted(INPUTS))
@pytest.mark.parametrize("card", CARDS, ids=lambda c: c.input.modality)
def test_another_modality_is_refused_by_name(card, other):
    if other == card.input.modality:
        card.require_modality(other)
        return
    words = {"image": "pictures", "audio": "sound", "text": "text", "array": "numbers"}
    with pytest.raises(CardError, match=f"{words[other]}.*{words[card.input.modality]}.*Load a network"):
        card.require_modality(other)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 99}, "format 99"),
        ({"input": {"kind": "smell"}}, "'smell'"),
        ({"input": {"kind": "image", "sizes": [1, 1]}}, "unknown key 'sizes'.*'size'"),
        ({"input": {"kind": "image", "interpolation": "magic"}}, "'magic'; expected one of"),
        ({"input": {"kind": "image", "channels": "three"}}, "type int"),
        ({"input": {"kind": "image", "size": 3}}, "expected a list"),
        ({"heads": ["head"]}, "expected an object"),
        ({"extra": 1}, "unknown key 'extra'"),
    ],
)
def test_a_card_that_cannot_be_understood_is_refused(change, sentence, tmp_path):
    (tmp_path / "card.json").write_text(json.dumps({**CARDS[0].to_dict(), **change}))
    with pytest.raises(CardError, match=sentence):
        Card.read(tmp_path)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(CardError, match=r"holds no card\.json"):
        Card.read(tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(CardError, match="not readable JSON"):
        Card.read(tmp_path)
