"""What `predict` takes in Python and on the command line, what it gives back, and the columns that a card remembers."""

import csv
import dataclasses
import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image as pillow
from tiny_text import sentences, text_model, write_tokenizer

import flaxtl
from flaxtl.card import Card, Columns
from flaxtl.cli import main
from flaxtl.data import Clip, Source, as_source
from flaxtl.errors import ConfigError, DataError
from flaxtl.model import Model
from flaxtl.predictions import Predictions


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A model of texts in a folder."""
    place = tmp_path_factory.mktemp("texts")
    text_model(write_tokenizer(place), ("no", "yes")).save(place / "model")
    return place


# One input


def test_one_picture_is_predicted_however_it_is_held():
    model, picture = tiny.model(), tiny.pictures()[0][0]
    data = io.BytesIO()
    pillow.fromarray(picture).save(data, "PNG")
    expected = model.predict([picture]).values
    given = [picture, picture[..., None], pillow.fromarray(picture), data.getvalue(), io.BytesIO(data.getvalue())]
    for one in given:
        found = model.predict(one)
        assert len(found) == 1
        np.testing.assert_array_equal(found.values, expected)
    assert len(model.predict([picture, pillow.fromarray(picture), data.getvalue()])) == 3
    assert len(model.predict(tiny.pictures()[0][:5])) == 5


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (np.zeros(50), 1),
        (np.zeros((50, 2)), 1),
        (np.zeros((3, 50)), 3),
        (Clip(np.zeros((50, 1), np.float32), 8000), 1),
        ([np.zeros(50), np.zeros(60)], 2),
    ],
)
def test_one_clip_or_several(data, count):
    assert len(as_source(data, "audio")) == count


def test_plain_numbers_of_the_cards_shape_are_one_example():
    assert len(as_source(np.zeros((2, 3)), "array", shape=(2, 3))) == 1
    assert len(as_source(np.zeros((4, 2, 3)), "array", shape=(2, 3))) == 4
    assert len(as_source(np.zeros((2, 3)), "array")) == 2


def test_texts_may_be_held_in_arrays_and_series():
    pandas = pytest.importorskip("pandas")
    for held in (np.array(["a", "b"]), np.array(["a", "b"], object), pandas.Series(["a", "b"]), ("a", "b")):
        assert as_source(held, "text").raw == ["a", "b"]
    with pytest.raises(DataError, match="DataFrame cannot be used as data; give a list of one column's values"):
        as_source(pandas.DataFrame({"text": ["a"]}), "text")
    with pytest.raises(DataError, match=r"Entry 1 of the list is nan; 1 of 2 entries are missing"):
        as_source(pandas.Series(["a", float("nan")]), "text")


@pytest.mark.parametrize("name", ["reviews.csv", "folder", "note.txt", "absent.csv", "absent.jsonl"])
def test_a_string_that_names_a_file_is_refused_where_texts_are_expected(name, texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "reviews.csv").write_text("text\ngood film\n")
    (tmp_path / "note.txt").write_text("good film")
    model = Model.load(texts / "model")
    for given in (name, [name]):
        with pytest.raises(DataError, match=rf"'{name}' .* string is read as a text here\. .*Path\('{name}'\)"):
            model.predict(given)
    # What the message says to write works.
    assert len(model.predict(Source.of("text", [name]))) == 1
    if name in ("reviews.csv", "note.txt"):
        expected = model.predict(["good film"]).values
        np.testing.assert_array_equal(model.predict(Path(name)).values, expected)


def test_texts_that_are_words_of_folders_or_end_with_a_point_are_texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test").mkdir()
    given = ["test", "A good film."]
    assert as_source(given, "text").raw == given
    for text in ("", "x" * 5000, "a\0b", "~nobody there", "see reviews.csv"):
        assert as_source(text, "text").raw == [text]


# Predictions


def found(**changes):
    values = np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1], [0.6, 0.3, 0.1]])
    return dataclasses.replace(Predictions(("x", "y", "z"), ("a", "b", "c"), values), **changes)


def test_one_prediction_slices_and_iteration():
    one = found()[1]
    assert (one.key, one.label, one.prediction, one.probability) == ("y", "a", "a", 0.7)
    assert one.probabilities == {"a": 0.7, "b": 0.2, "c": 0.1}
    assert found()[-1].key == "z"
    assert found()[np.int64(0)].key == "x"
    with pytest.raises(IndexError):
        found()[3]
    part = found(details={"line": [2, 3, 4]}, sets=np.eye(3, dtype=bool))[1:]
    assert (part.keys, part.details, part.sets.shape) == (("y", "z"), {"line": [3, 4]}, (2, 3))
    assert len(found()[5:]) == 0
    assert [(key, name, p) for key, name, p in found()] == [("x", "c", 0.5), ("y", "a", 0.7), ("z", "a", 0.6)]


def test_the_likeliest_classes():
    assert found().top(2) == [
        [("c", 0.5), ("b", 0.3)],
        [("a", 0.7), ("b", 0.2)],
        [("a", 0.6), ("b", 0.3)],
    ]
    assert found()[0].top(1) == [("c", 0.5)]
    assert len(found().top(9)[0]) == 3
    with pytest.raises(ConfigError, match="k is 0; expected at least 1"):
        found().top(0)
    with pytest.raises(ConfigError, match="no likeliest"):
        found(task="regression").top(1)
    with pytest.raises(ConfigError, match="no likeliest"):
        found(task="regression")[0].top(1)


def test_what_is_shown_of_predictions_is_short():
    assert repr(found()) == "Predictions(3 inputs: a 2, c 1)"
    assert repr(found(task="regression")) == "Predictions(3 inputs of regression: a, b, c)"
    many = Predictions(tuple("vwxyz"), tuple("abcde"), np.eye(5))
    assert repr(many) == "Predictions(5 inputs: a 1, b 1, c 1 and 2 more classes)"


def test_a_data_frame_has_the_columns_of_the_csv():
    pandas = pytest.importorskip("pandas")
    for task in ("classification", "multilabel", "regression"):
        one = found(task=task, details={"line": [2, 3, 4], "a": ["p", "q", "r"]})
        frame = one.to_pandas()
        header = next(csv.reader(io.StringIO(one.to_csv())))
        assert list(frame.columns) == header
        assert header[-2:] == ["line", "a (input)"]  # a class is called a
        np.testing.assert_allclose(frame[["a", "b", "c"]].to_numpy(), one.values)
        assert isinstance(frame, pandas.DataFrame)
    assert len(found()[5:].to_pandas()) == 0


def test_without_pandas_the_command_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="needs pandas: pip install pandas"):
        found().to_pandas()


# The command line


def printed(words, capsys):
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 0
    return capsys.readouterr()


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def give_stdin(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))


def test_texts_on_the_command_line(texts, capsys):
    words = [texts / "model", "--text", "good film", "--text", "bad, poor food", "--format", "csv"]
    rows = rows_of(printed(words, capsys).out)
    assert [(row["path"], row["text"]) for row in rows] == [("text:1", "good film"), ("text:2", "bad, poor food")]
    expected = Model.load(texts / "model").predict(["good film", "bad, poor food"])
    assert [row["prediction"] for row in rows] == expected.classes
    np.testing.assert_allclose([float(row["yes"]) for row in rows], expected.values[:, 1], atol=1e-6)
    assert "good film" in printed([texts / "model", "--text=good film"], capsys).out


@pytest.mark.parametrize("data", ["good film\nschön\n", "good film\r\nschön", "\ufeffgood film\nschön\n"])
def test_texts_from_standard_input_one_a_line(data, texts, capsys, monkeypatch):
    give_stdin(monkeypatch, data.encode())
    rows = rows_of(printed([texts / "model", "-", "--format", "csv"], capsys).out)
    assert [(row["path"], row["text"]) for row in rows] == [("stdin:1", "good film"), ("stdin:2", "schön")]


def test_an_empty_line_of_standard_input_is_an_empty_text(texts, capsys, monkeypatch):
    give_stdin(monkeypatch, b"good\n\nbad\n")
    found = json.loads(printed([texts / "model", "-", "--format", "json"], capsys).out)
    assert [row["input"]["text"] for row in found] == ["good", "", "bad"]


@pytest.mark.parametrize(
    ("words", "data", "said"),
    [
        (["-"], b"", "no text is given"),
        (["-"], b"good\n\xff\n", "Standard input is not UTF-8 at line 2"),
        (["good film"], b"", "There is no file good film. If it is a text itself, write --text 'good film'"),
    ],
)
def test_texts_that_cannot_be_used(words, data, said, texts, capsys, monkeypatch):
    give_stdin(monkeypatch, data)
    assert main(["predict", str(texts / "model"), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--text", "good"], ["-"]])
def test_texts_for_a_model_of_pictures_are_refused(words, tmp_path, capsys):
    tiny.model().save(tmp_path / "model")
    assert main(["predict", str(tmp_path / "model"), *words]) == 2
    assert "gives texts, but this model takes pictures" in capsys.readouterr().err


def test_pairs_on_the_command_line_have_a_tab_between(texts, capsys):
    single = Model.load(texts / "model")
    card = dataclasses.replace(single.card, input=dataclasses.replace(single.card.input, pair=True))
    dataclasses.replace(single, card=card).save(texts / "pair", overwrite=True)
    assert len(rows_of(printed([texts / "pair", "--text", "good\tbad", "--format", "csv"], capsys).out)) == 1
    assert main(["predict", str(texts / "pair"), "--text", "good"]) == 2
    assert "expected two texts with a tab between them" in capsys.readouterr().err


def test_ids_texts_and_lines_of_a_table_are_in_the_predictions(texts, tmp_path, capsys):
    (tmp_path / "t.csv").write_text('id,text,mood\n007,"good\nfilm",x\n,,\n008,bad,y\n')
    out = printed([texts / "model", tmp_path / "t.csv", "--format", "csv"], capsys)
    rows = rows_of(out.out)
    assert list(rows[0]) == ["path", "prediction", "probability", "no", "yes", "line", "id", "text"]
    assert [(r["path"], r["line"], r["id"], r["text"]) for r in rows] == [
        ("t.csv:2", "2", "007", "good\nfilm"),
        ("t.csv:5", "5", "008", "bad"),
    ]
    assert "note: Rows of t.csv in which every field is empty are left out (1)." in out.err
    [first, _] = json.loads(printed([texts / "model", tmp_path / "t.csv", "--format", "json"], capsys).out)
    assert first["input"] == {"line": 2, "id": "007", "text": "good\nfilm"}
    shown = printed([texts / "model", tmp_path / "t.csv"], capsys).out.splitlines()
    assert shown[0].endswith("007 | good film")


def test_the_rows_of_parquet_are_called_rows(texts, tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"uid": ["p", "q"], "text": ["good", "bad"]}), tmp_path / "t.parquet")
    rows = rows_of(printed([texts / "model", tmp_path / "t.parquet", "--format", "csv"], capsys).out)
    assert [(r["row"], r["uid"], r["text"]) for r in rows] == [("1", "p", "good"), ("2", "q", "bad")]


# Columns that a card remembers


def test_the_columns_of_training_are_used_by_evaluate_and_predict(texts, tmp_path, capsys):
    said, names = sentences(24)

    def table(name, header, columns):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *zip(*columns, strict=True)])

    other = [text[::-1] for text in said]
    table("train.csv", ["body", "kind", "title"], [said, names, other])
    table("new.csv", ["title", "body", "text", "label", "kind"], [other, said, other, other, names])
    words = f"finetune {tmp_path}/train.csv --from {texts}/model --input-column body --label-column kind"
    assert main([*words.split(), "--out", str(tmp_path / "run"), "--cache", "off"]) == 0
    model = flaxtl.load(tmp_path / "run" / "model")
    assert model.card.columns == Columns(("body",), ("kind",))
    rows = rows_of(printed([tmp_path / "run" / "model", tmp_path / "new.csv", "--format", "csv"], capsys).out)
    assert [row["body"] for row in rows] == said
    assert model.predict(tmp_path / "new.csv").classes == [row["prediction"] for row in rows]
    assert (
        flaxtl.evaluate(model, tmp_path / "new.csv").accuracy.value
        == flaxtl.evaluate(model, Source.of("text", said, names)).accuracy.value
    )


def test_what_was_inferred_is_said_by_every_command(texts, tmp_path, capsys):
    said, names = sentences(12)
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";").writerows([["words", "mood"], *zip(said, names, strict=True)])
    notes = ("'words' is read as the input and 'mood' as the label", "t.csv is read with semicolons")
    assert main(f"data inspect {tmp_path}/t.csv".split()) == 0
    inspected = capsys.readouterr().out
    assert all(note in inspected for note in notes)
    words = f"finetune {tmp_path}/t.csv --from {texts}/model --out {tmp_path}/run --cache off"
    assert main(words.split()) == 0
    summary = capsys.readouterr().out
    assert all(f"note: {note}" in summary for note in notes)
    assert main(f"evaluate {tmp_path}/run/model {tmp_path}/t.csv".split()) == 0
    assert notes[1] in capsys.readouterr().err


def test_a_card_without_columns_is_written_and_read_as_before(tmp_path):
    card = tiny.CARD
    assert "columns" not in card.to_dict()
    assert Card.from_dict(card.to_dict()).columns is None
    remembered = dataclasses.replace(card, columns=Columns(("a", "b"), ("y",)))
    remembered.write(tmp_path)
    assert Card.read(tmp_path) == remembered
