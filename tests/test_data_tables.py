"""Tables: CSV, TSV and JSON lines, of files or of the text itself."""

import json

import pytest
from PIL import Image as pillow

from flaxtl.data import from_csv, from_jsonl, open_source
from flaxtl.errors import DataError


def table(place, content, name="t.csv"):
    (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return place / name


def lines(place, *rows):
    return table(place, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "t.jsonl")


@pytest.fixture
def photos(tmp_path):
    for name in ("1.png", "2.png", "10.png"):
        pillow.new("L", (4, 4), 7).save(tmp_path / name)
    return tmp_path


# Text


def test_text_and_labels_in_natural_order(tmp_path):
    source = from_csv(table(tmp_path, "text,label\ngood,10\nbad,2\n,10\n"))
    assert (source.modality, source.labels) == ("text", ("2", "10"))
    assert source.raw == ["good", "bad", ""]
    assert source.targets.tolist() == [1, 0, 1]
    assert source.keys == ("t.csv:2", "t.csv:3", "t.csv:4")  # the lines that an editor shows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quoted_newlines_commas_and_quotes(end, tmp_path):
    content = f'text,label{end}"one{end}two{end}{end}three",a{end}"x, ""y""",b{end}'
    assert from_csv(table(tmp_path, content)).raw == [f"one{end}two{end}{end}three", 'x, "y"']


ODD = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei"  # what str.splitlines takes for ends of lines


@pytest.mark.parametrize("quote", ["", '"'])
def test_odd_separators_stay_inside_a_field(quote, tmp_path):
    source = from_csv(table(tmp_path, f"text,label\n{quote}{ODD}{quote},x\nplain,y\n"))
    assert source.raw == [ODD, "plain"]
    assert from_jsonl(lines(tmp_path, {"text": ODD, "label": "x"}, {"text": "p", "label": "y"})).raw == [ODD, "p"]


def test_a_byte_order_mark_blank_lines_and_emoji(tmp_path):
    content = "\ufefftext,label\n\nמזל טוב 🎉,a\n\nx,b\n"
    assert from_csv(table(tmp_path, content)).raw == ["מזל טוב 🎉", "x"]
    marked = table(tmp_path, '\ufeff{"text": "x", "label": "a"}\r\n\r\n{"text": "y", "label": "b"}\r\n', "t.jsonl")
    assert from_jsonl(marked).raw == ["x", "y"]


def test_tabs_separate_the_fields_of_a_tsv(tmp_path):
    for name in ("t.tsv", "T.TSV"):
        assert open_source(table(tmp_path, "text\tlabel\nx, y\ta\nz\tb\n", name)).raw == ["x, y", "z"]


def test_a_text_of_a_hundred_thousand_characters(tmp_path):
    assert len(from_csv(table(tmp_path, f"text,label\n{'x' * 100_000},a\ny,b\n")).raw[0]) == 100_000


def test_labels_that_are_no_strings(tmp_path):
    source = from_jsonl(lines(tmp_path, {"text": "x", "label": 0}, {"text": 5, "label": "a"}))
    assert source.labels == ("0", "a")
    assert source.raw == ["x", "5"]


def test_columns_are_guessed_or_named(tmp_path):
    file = table(tmp_path, "id,Sentence,Category,other\n1,x,a,p\n2,y,b,q\n")
    assert from_csv(file).labels == ("a", "b")
    assert from_csv(file, input_column="id", label_column="other").raw == ["1", "2"]
    with pytest.raises(DataError, match=r"no column 'Categori'\. Did you mean 'Category'"):
        from_csv(file, label_column="Categori")


# Files


def test_paths_are_relative_to_the_table(photos):
    source = from_csv(table(photos, "path,label\n10.png,b\n1.png,a\n10.png,a\n"))
    assert source.modality == "image"
    assert source.keys == tuple(str(photos / n) for n in ("10.png", "1.png", "10.png"))
    assert source.targets.tolist() == [1, 0, 0]  # a file that is listed twice keeps each row's label


def test_missing_files_are_counted_and_named(photos):
    file = table(photos, "path,label\n1.png,a\nx.png,b\ny.png,a\n")
    with pytest.raises(DataError, match=r"names 2 files that do not exist: .*x\.png, .*y\.png"):
        from_csv(file)


def test_bad_files_are_named_or_skipped_without_moving_labels(photos):
    (photos / "1.png").write_bytes(b"")
    file = table(photos, "path,label\n1.png,a\n2.png,b\n10.png,c\n")
    with pytest.raises(DataError, match=r"1\.png is empty"):
        from_csv(file)
    source = from_csv(file, on_bad_file="skip")
    assert [source.labels[t] for t in source.targets] == ["b", "c"]
    assert source.labels == ("a", "b", "c")
    assert source.skipped[0][0] == str(photos / "1.png")


@pytest.mark.parametrize("odd", ["", "2.heic", "2"])
def test_a_column_of_paths_is_not_taken_for_text(odd, photos):
    with pytest.raises(DataError, match=rf"has '{odd}' in 'path', which has no ending of a picture"):
        from_csv(table(photos, f"path,label\n1.png,a\n{odd},b\n"))


# What is no table


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no rows"),
        ("text,label\n", "holds no rows"),
        ("text,label\nx,a\ny\n", "Line 3 of .* has another number of fields"),
        ('text,label\n"x\ny",a\nz,b,c\n', "Line 4 of .* has another number of fields"),
        ('text,label\n"x,a\n', "not a well-formed table at line"),
        ("text,label,label\nx,a,b\n", "more than one column 'label'"),
        ("text;label\nx;a\ny\n", "Line 3 of .* has another number of fields .*with semicolons between them"),
        ("text,label\nx,a\ny,\n", "Line 3 of .* has no label: 'label' is ''"),
        ("one,two,label\nx,y,a\nz,w,b\n", "columns one, two, label; which one holds the input cannot be inferred"),
        (b"text,label\nx,a\n\xff,b\n", "is not UTF-8 at line 3"),
    ],
)
def test_csv_that_cannot_be_used(content, words, tmp_path):
    with pytest.raises(DataError, match=words):
        from_csv(table(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no rows"),
        ('{"text": "x"\n', "Line 1 of .* is not JSON"),
        ('{"text": "x", "label": "a"}\n[1]\n', "Line 2 of .* holds list; expected one object a line"),
        ('{"text": "x", "label": "a"}\n{"text": "y"}\n', "Line 2 of .* has no label: 'label' is None"),
        ('{"text": null, "label": "a"}\n', "Line 1 of .* has nothing in 'text'"),
        ('{"text": "x", "label": {"a": 1}}\n', "Line 1 of .* has a list or an object"),
        ('{"text": "x", "label": "a", "label": "b"}\n', "Line 1 of .* has 'label' more than once"),
    ],
)
def test_json_lines_that_cannot_be_used(content, words, tmp_path):
    with pytest.raises(DataError, match=words):
        from_jsonl(table(tmp_path, content, "t.jsonl"))


def test_an_absent_table(tmp_path):
    with pytest.raises(DataError, match="There is no table"):
        open_source(tmp_path / "t.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        open_source(tmp_path / "d.csv")
