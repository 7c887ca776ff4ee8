"""What is predicted of tables, pairs, several labels and numbers, and which texts are said to be cut."""

import csv
import io
import json

import numpy as np
import pytest
from tiny_text import text_model, write_tokenizer

from flaxtl import nets
from flaxtl.card import Array, Card, Head, NetworkSpec
from flaxtl.cli import main
from flaxtl.data import Source, to_predict
from flaxtl.data.text import cut_texts
from flaxtl.errors import DataError
from flaxtl.model import Model
from flaxtl.predictions import Predictions
from flaxtl.strategies.given import fitted, known_of

TEXTS = ["good film", "bad, poor food", 'the "awful" day']


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("tables")
    for name, labels, changes in (("single", ("no", "yes"), {}), ("marks", ("good", "long"), {"task": "multilabel"})):
        model = text_model(write_tokenizer(place), labels)
        model = Model(model.network, model.variables, model.card.with_head(**changes), model.files)
        model.save(place / name)
    with (place / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["category", "text"], *(["yes", text] for text in TEXTS)])
    (place / "t.jsonl").write_text("".join(json.dumps({"words": text}) + "\n" for text in TEXTS))
    return place


def predicted(words, capsys):
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_a_table_is_predicted_row_by_row_as_its_texts_are(place, capsys):
    expected = Model.load(place / "single").predict(TEXTS)
    for table in ("t.csv", "t.jsonl"):
        rows = list(csv.reader(io.StringIO(predicted([place / "single", place / table, "--format", "csv"], capsys))))
        column = "text" if table == "t.csv" else "words"
        assert rows[0] == ["path", "prediction", "probability", "no", "yes", "line", column]
        first = 2 if table == "t.csv" else 1  # a line of names stands above
        assert [row[0] for row in rows[1:]] == [f"{table}:{i}" for i in range(first, first + 3)]
        assert [row[6] for row in rows[1:]] == TEXTS
        found = np.array([row[3:5] for row in rows[1:]], float)
        np.testing.assert_allclose(found, expected.probabilities, atol=1e-6)


def test_the_column_is_the_one_that_is_named(place, capsys):
    words = [place / "single", place / "t.csv", "--text-column", "category", "--format", "json"]
    found = json.loads(predicted(words, capsys))
    assert len({row["probability"] for row in found}) == 1  # the column says yes thrice
    assert main(["predict", str(place / "single"), str(place / "t.csv"), "--input-column", "texts"]) == 2
    assert "has no column 'texts'" in capsys.readouterr().err
    (place / "one.txt").write_text("good film")
    with pytest.raises(DataError, match="no table is among the files"):
        to_predict(place / "one.txt", input_column="text")


def test_tables_and_files_come_together_and_what_is_of_another_kind_does_not(place):
    (place / "one.txt").write_text("good film")
    both = to_predict([place / "one.txt", place / "t.csv"], modality="text")
    assert both.keys == ("t.csv:2", "t.csv:3", "t.csv:4", str(place / "one.txt"))
    assert Model.load(place / "single").predict([place / "t.csv"]).keys == both.keys[:3]
    (place / "n.csv").write_text("a,b,label\n1,2,x\n3,4,y\n")
    with pytest.raises(DataError, match="array, text"):
        to_predict([place / "n.csv", place / "t.csv"])


def test_columns_of_numbers_are_an_array_without_the_label(place):
    (place / "n.csv").write_text("a,b,label\n1,2,0\n3,4,1\n")
    source = to_predict(place / "n.csv")
    assert np.array_equal(np.stack(source.raw), [[1, 2], [3, 4]])
    assert np.array_equal(np.stack(to_predict(place / "n.csv", input_column="b,a").raw), [[2, 1], [4, 3]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no rows"),
        ("one,two\na,b\n", r"Name it with `input_column`"),
        ('{"text": "a"}\n{"text": null}\n', "Line 2 of .* has nothing in 'text'"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, text, said):
    file = tmp_path / ("bad.jsonl" if text.startswith("{") else "bad.csv")
    file.write_text(text)
    with pytest.raises(DataError, match=said):
        to_predict(file)


def test_parquet_is_a_table_too(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": TEXTS, "label": [0, 1, 0]}), tmp_path / "t.parquet")
    assert list(to_predict(tmp_path / "t.parquet").raw) == TEXTS


def test_pairs_are_two_columns(place, capsys):
    single = Model.load(place / "single")
    pair = fitted(single, Source.of("text", [("a", "b")]))
    pair.save(place / "pair")
    (place / "p.csv").write_text("premise,hypothesis\ngood film,bad film\nthe day,food\n")
    words = [place / "pair", place / "p.csv", "--input-column", "premise,hypothesis", "--format", "json"]
    found = json.loads(predicted(words, capsys))
    expected = pair.predict([("good film", "bad film"), ("the day", "food")])
    np.testing.assert_allclose([row["probabilities"]["yes"] for row in found], expected.probabilities[:, 1], atol=1e-6)


def test_several_labels_are_listed_each_with_its_probability(place, capsys):
    head = Head(task="multilabel", labels=("good", "long", "sad"))
    found = Predictions.of(("a", "bc"), np.array([[2.0, -1.0, 3.0], [-2.0, -3.0, -4.0]]), head)
    assert found.to_text().splitlines() == [
        "a   sad 95.3%, good 88.1%, (long 26.9%)",
        "bc  (good 11.9%), (long 4.7%), (sad 1.8%)",
    ]
    assert found.to_csv().splitlines()[:2] == [
        "path,prediction,good,long,sad",
        "a,good;sad,0.880797,0.268941,0.952574",
    ]
    assert set(json.loads(found.to_json())[0]) == {"path", "prediction", "probabilities"}
    assert predicted([place / "marks", place / "t.csv"], capsys).count("%") == 2 * len(TEXTS)


def test_numbers_are_shown_as_they_are_and_nothing_is_called_a_probability(tmp_path, capsys):
    spec = NetworkSpec("vit", {"grid": (1, 1), "patch": (2, 2), "width": 8, "depth": 1, "heads": 2, "hidden": 8})
    card = Card(Array((2, 2, 3)), spec, (Head(task="regression", labels=("w", "h")),))
    network = nets.build(spec, 2)
    model = Model(network, {}, card)
    model = model.with_variables(network.init(0, np.zeros((1, 2, 2, 3), np.float32)))
    expected = model.predict([np.ones((2, 2, 3))]).values[0]
    found = Predictions(("x",), ("w", "h"), np.array([[1234.5678, -0.25]]), "regression")
    assert found.to_text() == "x  w 1234.57, h -0.25\n"
    assert found.to_csv() == "path,w,h\nx,1234.5678,-0.25\n"
    assert json.loads(found.to_json()) == [{"path": "x", "values": {"w": 1234.5678, "h": -0.25}}]
    assert model.predict([np.ones((2, 2, 3))]).to_csv().count("%") == 0
    assert expected.shape == (2,)


# Texts that are cut


def test_texts_longer_than_the_card_keeps_are_counted_once(tmp_path):
    model = text_model(write_tokenizer(tmp_path), ("no", "yes"), max_length=8)
    preprocess = model.pipeline.preprocess
    fits, over = "good " * 6, "good " * 7  # two special tokens are added
    assert [preprocess.is_cut(text) for text in (fits, over, "", "x" * 30, over * 200, fits + " " * 2000)] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    train, test = Source.of("text", [fits, over], ["no", "yes"]), Source.of("text", [over], ["no"])
    assert known_of(model, {"train": train, "test": test})[0] == "2 of 3 texts are longer than 8 tokens and are cut."
    assert cut_texts([fits, "bad"], preprocess) == []
    pair = fitted(model, Source.of("text", [("a", "b")])).pipeline.preprocess
    said = cut_texts([("good bad", "film"), ("good " * 5, "bad")], pair)
    assert said == ["1 of 2 pairs of texts are longer than 8 tokens and are cut."]
