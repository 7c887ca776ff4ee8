"""Which columns of a table are inputs and labels, and how its text is read: names, contents, separators, encodings."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image as pillow

from flaxtl.card import Columns
from flaxtl.data import Splits, open_source, to_predict
from flaxtl.errors import DataError

TEXTS = [f"this is text number {i} of many" for i in range(12)]
MOODS = ["glad" if i % 2 else "sad" for i in range(12)]


def table(place, header, *columns, sign=",", name="t.csv"):
    rows = [sign.join(map(str, row)) for row in zip(*columns, strict=True)]
    (place / name).write_text("\n".join([*([header] if header else []), *rows]) + "\n", "utf-8")
    return place / name


# Columns


@pytest.mark.parametrize("header", ["words,mood", "Kommentar,Gefühl", "x1,x2"])
def test_texts_and_few_values_are_understood_whatever_they_are_called(header, tmp_path):
    first, second = header.split(",")
    for file in (
        table(tmp_path, header, TEXTS, MOODS),
        table(tmp_path, f"{second},{first}", MOODS, TEXTS, name="r.csv"),
    ):
        found = open_source(file)
        assert (found.raw, found.labels) == (TEXTS, ("glad", "sad"))
        assert found.columns == Columns((first,), (second,))
        assert f"'{first}' is read as the input and '{second}' as the label" in found.notes[0]


def test_paths_and_few_values_are_understood_whatever_they_are_called(tmp_path):
    for i in range(4):
        pillow.new("L", (4, 4), i).save(tmp_path / f"{i}.png")
    names = [f"{i}.png" for i in range(4)]
    for header, columns in (("Bild,Art", (names, "aabb")), ("Art,image_id", ("aabb", names)), ("x,y", (names, "aabb"))):
        found = open_source(table(tmp_path, header, *columns))
        assert (found.modality, found.targets.tolist()) == ("image", [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("header", "numbers"),
    [(",words,mood", range(12)), ("Unnamed: 0,words,mood", range(12)), ("review_id,words,mood", range(500, 512))],
)
def test_an_index_is_no_input_and_no_label(header, numbers, tmp_path):
    found = open_source(table(tmp_path, header, numbers, TEXTS, MOODS))
    assert (found.raw, found.labels) == (TEXTS, ("glad", "sad"))
    counted = open_source(table(tmp_path, "lfd,words,mood", range(1, 13), TEXTS, MOODS))
    assert counted.columns == Columns(("words",), ("mood",))


def test_an_index_beside_numbers_is_none_of_the_numbers(tmp_path):
    found = open_source(table(tmp_path, "id,w,h,label", range(4), [1.5, 2, 3, 4], [2, 1, 2, 1], "abab"))
    assert np.asarray(found.raw).tolist() == [[1.5, 2], [2, 1], [3, 2], [4, 1]]


@pytest.mark.parametrize("cell", ["", "nan", "NA"])
def test_a_missing_number_of_an_input_is_named(cell, tmp_path):
    file = table(tmp_path, "w,h,label", [1, 2, 3, 4], [1, 2, cell, 4], "abab")
    with pytest.raises(DataError, match=rf"Line 4 of .* has '{cell}' in 'h'; expected a number in each cell"):
        open_source(file)
    with pytest.raises(DataError, match="which one holds the input cannot be inferred"):
        open_source(table(tmp_path, "w,h,label", [1, 2, 3, 4], [1, 2, "wide", 4], "abab"))


def test_a_column_of_objects_is_no_text_and_no_label(tmp_path):
    rows = [{"words": text, "meta": {"i": i}, "mood": mood} for i, (text, mood) in enumerate(zip(TEXTS, MOODS))]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert open_source(tmp_path / "t.jsonl").columns == Columns(("words",), ("mood",))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_name_of_a_column_is_one_in_both_unicode_forms(form, tmp_path):
    name = unicodedata.normalize(form, "Gefühl")
    row = {"text": "a", name: "x"}
    (tmp_path / "t.jsonl").write_text(json.dumps(row, ensure_ascii=False), "utf-8")
    for file in (tmp_path / "t.jsonl", table(tmp_path, f"text,{name}", ["a"], ["x"])):
        for other in ("NFC", "NFD"):
            assert open_source(file, label_column=unicodedata.normalize(other, "Gefühl")).labels == ("x",)


def test_with_the_input_known_the_one_column_left_is_the_label(tmp_path):
    found = open_source(table(tmp_path, "text,outcome2", list("ab"), list("xy")))
    assert found.labels == ("x", "y")
    named = open_source(table(tmp_path, "one,two", list("ab"), list("xy")), input_column="two")
    assert (named.raw, named.labels) == (["x", "y"], ("a", "b"))
    assert open_source(table(tmp_path, "words,label", ["x"], ["a"])).raw == ["x"]
    assert open_source(table(tmp_path, "id,text,class_id", [7, 9], list("ab"), [3, 5])).labels == ("3", "5")
    kind = open_source(table(tmp_path, "words,language,mood", TEXTS, ["en"] * 12, MOODS))
    assert kind.columns == Columns(("words",), ("mood",))


def test_a_date_or_a_number_beside_texts_is_no_text(tmp_path):
    days = [f"2024-01-{i + 1:02d}" for i in range(12)]
    found = open_source(table(tmp_path, "day,words,likes,label", days, TEXTS, range(7, 19), MOODS))
    assert found.raw == TEXTS


@pytest.mark.parametrize(
    ("header", "columns", "words"),
    [
        ("title,body,label", (TEXTS, TEXTS[::-1], MOODS), "which one holds the input cannot be inferred"),
        ("one,two", (list("abcd"), list("wxyz")), "which one holds the input cannot be inferred"),
        ("text,one,two", (TEXTS, MOODS, MOODS[::-1]), "which one holds the label cannot be inferred"),
        ("text", (TEXTS,), "which one holds the label cannot be inferred.*Name it with `label_column`"),
    ],
)
def test_columns_that_are_not_clear_are_asked_for(header, columns, words, tmp_path):
    with pytest.raises(DataError, match=words):
        open_source(table(tmp_path, header, *columns))


def test_columns_of_an_earlier_table_are_taken_where_they_are(tmp_path):
    file = table(tmp_path, "title,body,label,kind", TEXTS, TEXTS[::-1], MOODS, "ab" * 6)
    found = open_source(file, columns=Columns(("body",), ("kind",)))
    assert (found.raw, found.labels) == (TEXTS[::-1], ("a", "b"))
    assert to_predict(file, columns=Columns(("body",), ("kind",))).raw == TEXTS[::-1]
    assert to_predict(file, columns=Columns(("body",)), input_column="title").raw == TEXTS
    other = open_source(table(tmp_path, "text,label", TEXTS, MOODS), columns=Columns(("body",), ("kind",)))
    assert other.columns == Columns(("text",), ("label",))
    assert other.notes == (
        f"'text' of {tmp_path / 't.csv'} is read, which lacks the column 'body' of the training data.",
    )
    assert to_predict(tmp_path / "t.csv", columns=Columns(("body",))).notes == other.notes


def test_several_columns_of_an_earlier_table_are_all_there_or_the_missing_ones_are_named(tmp_path):
    file = table(tmp_path, "w,h2,label", [1, 2], [3, 4], "ab")
    for read in (to_predict, open_source):
        with pytest.raises(DataError, match="has no column 'h', which the training data has"):
            read(file, columns=Columns(("w", "h"), ("label",)))
    assert np.asarray(to_predict(file, columns=Columns(("w", "h")), input_column="h2,w").raw).tolist() == [
        [3, 1],
        [4, 2],
    ]


def test_a_column_that_says_the_part_divides_the_table(tmp_path):
    parts = ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    found = open_source(table(tmp_path, "text,label,split", TEXTS, MOODS, parts))
    assert isinstance(found, Splits)
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 6, "validation": 2, "test": 4}
    assert found.test.keys[0] == "t.csv:10"
    assert "The column 'split' says which rows are for training" in found.train.notes[0]
    assert len(open_source(tmp_path / "t.csv", split="test")) == 4


# A first line that is none of names


@pytest.mark.parametrize("labels", [MOODS, [i % 2 for i in range(12)], [i * 0.3 for i in range(12)]])
def test_a_table_without_a_line_of_names_is_refused(labels, tmp_path):
    with pytest.raises(DataError, match=r"The first line of .* looks like an example, not like names of columns"):
        open_source(table(tmp_path, "", TEXTS, labels))


def test_a_table_of_paths_or_texts_without_names_is_refused(tmp_path):
    with pytest.raises(DataError, match="looks like an example"):
        open_source(table(tmp_path, "", [f"{i}.png" for i in range(4)], ["a", "b", "c", "d"]))
    with pytest.raises(DataError, match="looks like an example"):
        to_predict(table(tmp_path, "", TEXTS))


def test_odd_names_are_names_where_the_user_or_another_name_says_so(tmp_path):
    file = table(tmp_path, "message,spam", TEXTS, ["spam", "ham"] * 6)
    assert open_source(file).labels == ("ham", "spam")
    question = "How did you like your stay with us?"
    found = open_source(table(tmp_path, f"{question},7", TEXTS, [7, 8] * 6), input_column=question, label_column="7")
    assert found.labels == ("7", "8")
    pixels = open_source(table(tmp_path, "0,1,label", [5, 6, 7, 8], [1, 2, 3, 4], "abab"))
    assert pixels.modality == "array"


# Text files


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_other_separators_are_noticed_and_said(sign, name, tmp_path):
    found = open_source(table(tmp_path, f"text{sign}label", ["hello, you", "b"], "xy", sign=sign))
    assert found.raw == ["hello, you", "b"]
    assert found.notes == (f"t.csv is read with {name} between its fields.",)
    (tmp_path / "s.csv").write_text(f"sep={sign}\ntext{sign}label\na{sign}x\nb{sign}y\n")
    assert open_source(tmp_path / "s.csv").keys == ("s.csv:3", "s.csv:4")


def test_a_table_that_two_separators_fit_is_refused_until_one_is_said(tmp_path):
    body = "text;price, net\nlong;1,5\nshort;2,5\n"
    (tmp_path / "t.csv").write_text(body)
    with pytest.raises(DataError, match=r"can be divided at commas or at semicolons.*sep=; or sep=,"):
        open_source(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(f"sep=;\n{body}")
    assert open_source(tmp_path / "t.csv", task="classification").raw == ["long", "short"]
    (tmp_path / "q.csv").write_text('"text;words",label\na;b,x\nc;d,y\n')
    assert open_source(tmp_path / "q.csv").raw == ["a;b", "c;d"]  # the quotes say it


def test_commas_in_a_single_column_are_text(tmp_path):
    (tmp_path / "t.csv").write_text("words\ngood, film\nbad\n")
    found = to_predict(tmp_path / "t.csv")
    assert (found.raw, found.notes) == (["good, film", "bad"], ())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(encoding, tmp_path):
    (tmp_path / "t.csv").write_bytes("text,label\nschön,x\n好,y\n".encode(encoding))
    assert open_source(tmp_path / "t.csv").raw == ["schön", "好"]


@pytest.mark.parametrize(("encoding", "line"), [("latin-1", 2), ("cp1252", 2), ("utf-16-le", 2)])
def test_other_encodings_are_refused_with_the_line(encoding, line, tmp_path):
    (tmp_path / "t.csv").write_bytes("text,label\nschön,x\nb,y\n".encode(encoding))
    with pytest.raises(DataError, match=rf"(is not UTF-8|holds a zero byte) at line [1{line}]"):
        open_source(tmp_path / "t.csv")


def test_rows_of_separators_are_left_out_and_noted_and_lines_stay_right(tmp_path):
    (tmp_path / "t.csv").write_text('text,label,,\n"a\nb",x,,\n,,,\n,,,\nc,y,,\n')
    found = open_source(tmp_path / "t.csv")
    assert (found.raw, found.keys) == (["a\nb", "c"], ("t.csv:2", "t.csv:6"))
    assert found.notes == ("Rows of t.csv in which every field is empty are left out (2).",)


def test_a_text_may_be_as_long_as_a_book(tmp_path):
    (tmp_path / "t.csv").write_text(f"text,label\n{'word ' * 60_000},a\nb,c\n")
    assert len(open_source(tmp_path / "t.csv").raw[0]) == 300_000


def test_spaces_behind_separators_are_no_part_of_names_or_classes(tmp_path):
    (tmp_path / "t.csv").write_text('text, label\n"a, b", x\nc, y\n')
    found = open_source(tmp_path / "t.csv")
    assert (found.raw, found.labels) == (["a, b", "c"], ("x", "y"))


def test_paths_of_other_systems_are_found(tmp_path):
    folder = tmp_path / unicodedata.normalize("NFD", "Blüten")
    folder.mkdir()
    pillow.new("L", (4, 4)).save(folder / "1.png")
    pillow.new("L", (4, 4)).save(folder / "2.png")
    composed = unicodedata.normalize("NFC", "Blüten")
    found = open_source(table(tmp_path, "path,label", [f"{composed}/1.png", f"{composed}\\2.png"], "ab"))
    assert len(found) == 2


@pytest.mark.parametrize("value", ["null", "NaN"])
def test_a_missing_input_is_refused_with_its_line(value, tmp_path):
    (tmp_path / "t.jsonl").write_text(f'{{"text": "a", "label": "x"}}\n\n{{"text": {value}, "label": "y"}}\n')
    with pytest.raises(DataError, match=r"Line 3 of .* has nothing in 'text' \(1 of 2 rows\)"):
        open_source(tmp_path / "t.jsonl")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_of_mixed_unicode_forms_are_found(form, tmp_path):
    folder = tmp_path / unicodedata.normalize("NFC", "größe") / unicodedata.normalize("NFD", "がぎ")
    folder.mkdir(parents=True)
    for name in ("ü1.png", "é2.png"):
        pillow.new("L", (4, 4), 7).save(folder / unicodedata.normalize("NFD", name))
    rows = [f"größe/がぎ/{name},{label}" for name, label in (("ü1.png", "a"), ("é2.png", "b"))]
    (tmp_path / "t.csv").write_text(unicodedata.normalize(form, "\n".join(["path,label", *rows])), "utf-8")
    assert [path.is_file() for path in open_source(tmp_path / "t.csv").raw] == [True, True]


@pytest.mark.parametrize("cells", ["0,5;1,25", "1.000,5;2", "50%;0.5", "$3;4"])
def test_numbers_that_only_people_can_read_are_no_texts(cells, tmp_path):
    rows = [f"{cells};{label}" for label in "abab"]
    (tmp_path / "t.csv").write_text("\n".join(["x;y;label", *rows]))
    with pytest.raises(DataError, match=r"holds the input cannot be inferred.*'x'.* written with a point"):
        open_source(tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"Line 2 of .* expected a number such as 1\.5, with a point and no"):
        open_source(tmp_path / "t.csv", input_column="x,y")


def test_numbers_of_inputs_that_may_stand_for_nothing_are_noted(tmp_path):
    rows = [f"{i}.5,{-999 if i % 3 == 0 else i},{'ab'[i % 2]}" for i in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,label", *rows]))
    [note] = open_source(tmp_path / "t.csv").notes
    assert note.startswith("-999 occurs 3 times in 'y', outside of all other values, and is read as an amount.")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ([[0.5, float("nan")], [1.0, 2.0]], "Row 1 of .* has numbers in 'emb' that are missing or infinite"),
        ([[0.5, 1.0], [1.0, None]], "Row 2 of .* has numbers in 'emb' that are missing or infinite"),
        ([[0.5, 1.0], [1.0]], r"has arrays of several shapes in 'emb': \(2,\) in row 1, \(1,\) in row 2"),
    ],
)
def test_arrays_of_a_table_are_whole_and_of_one_shape(arrays, words, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for kind in (pyarrow.list_, pyarrow.large_list):
        column = pyarrow.array(arrays, kind(pyarrow.float64()))
        parquet.write_table(pyarrow.table({"emb": column, "label": ["a", "b"]}), tmp_path / "t.parquet")
        with pytest.raises(DataError, match=words):
            open_source(tmp_path / "t.parquet")
