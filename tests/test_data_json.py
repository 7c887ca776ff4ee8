"""JSON files as tables, in the forms that people and pandas write them."""

import json

import pytest

from flaxtl.data import Splits, open_source
from flaxtl.data.unlabelled import to_predict
from flaxtl.errors import DataError

ROWS = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(4)]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("text", "label")}


def written(place, value, name="t.json"):
    (place / name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return place / name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (ROWS, "t.json"),
        (json.dumps(ROWS, indent=2), "T.JSON"),
        (ROWS, "t.jsonl"),
        ({"data": ROWS}, "t.json"),
        ({"version": "1.0", "examples": ROWS}, "t.json"),
        ({"schema": {"fields": []}, "data": ROWS}, "t.json"),
        ("\n".join(map(json.dumps, ROWS)), "t.json"),
        (COLUMNS, "t.json"),
        ({name: {str(i): v for i, v in enumerate(values)} for name, values in COLUMNS.items()}, "t.json"),
        ({"columns": ["text", "label"], "index": [0, 1, 2, 3], "data": [[*row.values()] for row in ROWS]}, "t.json"),
    ],
)
def test_every_form_of_a_table_gives_the_same_rows(value, name, tmp_path):
    found = open_source(written(tmp_path, value, name))
    assert (found.raw, found.labels, found.targets.tolist()) == (COLUMNS["text"], ("a", "b"), [0, 1, 0, 1])
    assert to_predict(tmp_path / name).raw == COLUMNS["text"]


def test_what_beside_the_rows_is_not_looked_at_is_named(tmp_path):
    found = open_source(written(tmp_path, {"version": "1.0", "data": ROWS}))
    assert found.notes[0] == "The rows of t.json are read from 'data'; 'version' is not looked at."


def test_rows_are_called_rows_and_a_column_divides_them(tmp_path):
    rows = [{**row, "split": "test" if i > 1 else "train"} for i, row in enumerate(ROWS)]
    found = open_source(written(tmp_path, rows))
    assert isinstance(found, Splits)
    assert found.test.keys == ("t.json:3", "t.json:4")
    with pytest.raises(DataError, match=r"Row 2 of .*t\.json has no label"):
        open_source(written(tmp_path, [ROWS[0], {**ROWS[1], "label": None}, ROWS[2]]))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"train": ROWS, "test": ROWS}, "several lists of objects, 'train', 'test'; .* Save each of them as a file"),
        ({"images": [{"id": 1}], "annotations": [{"id": 1}]}, "several lists of objects, 'images', 'annotations'"),
        ({"1.png": "cat", "2.png": "dog"}, "an object with the names '1.png', '2.png', which is no table.*save it so"),
        ({"input": {"size": 8}, "heads": ROWS}, "an object with the names 'input', 'heads', which is no table"),
        ({"data": {"x": ROWS}}, "an object with the names 'data', which is no table"),
        (["a", "b"], "Row 1 of .* is str. Expected one object a line, or a list of objects"),
        (json.dumps(ROWS)[:-4], "is not JSON"),
        ('[{"text": "a", "text": "b"}]', "has 'text' more than once"),
        ([], "holds no rows"),
        ("{}", "holds an empty object"),
        ("null", "holds NoneType"),
    ],
)
def test_json_that_is_no_table_says_what_to_do(value, words, tmp_path):
    with pytest.raises(DataError, match=words):
        open_source(written(tmp_path, value))
