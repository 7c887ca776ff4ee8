"""Labels of tables: what is missing, written as a list, a number, or unclear; and which task they say."""

import datetime
import decimal
import json
import unicodedata

import numpy as np
import pytest

from flaxtl.data import Source, from_arrays, open_source
from flaxtl.data.cells import class_names, is_missing, written_list
from flaxtl.errors import DataError


def csv_of(place, labels, name="t.csv"):
    """A table of short texts with these labels, quoted where need be."""
    quoted = ['"' + label.replace('"', '""') + '"' for label in labels]
    (place / name).write_text("\n".join(["text,label", *(f"t{i},{q}" for i, q in enumerate(quoted))]) + "\n", "utf-8")
    return place / name


def jsonl_of(place, labels):
    rows = [{"text": f"t{i}", "label": label} for i, label in enumerate(labels)]
    (place / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place / "t.jsonl"


def parquet_of(place, labels, name="t.parquet"):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": [f"t{i}" for i in range(len(labels))], "label": labels}), place / name)
    return place / name


def read(file, **settings):
    found = open_source(file, **settings)
    return found.task, found.labels, found.targets.tolist()


# What is missing


@pytest.mark.parametrize("word", ["", "nan", "NaN", "<NA>", "#N/A", "null", " "])
def test_a_word_for_a_missing_label_is_no_class(word, tmp_path):
    with pytest.raises(DataError, match=r"Line 3 of .*t\.csv has no label: 'label' is .* Give it one or remove it"):
        open_source(csv_of(tmp_path, ["a", word, "b"]))


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_label_of_json_lines_is_no_class(value, tmp_path):
    with pytest.raises(DataError, match=r"Line 2 of .*t\.jsonl has no label.* 2 of 4 rows have none"):
        open_source(jsonl_of(tmp_path, ["a", value, "b", value]))


@pytest.mark.parametrize("labels", [[0.0, float("nan"), 1.0], [0, None, 1], ["a", "nan", None], [True, None, False]])
def test_a_missing_label_of_parquet_is_no_class(labels, tmp_path):
    with pytest.raises(DataError, match=r"Row 2 of .*t\.parquet has no label"):
        open_source(parquet_of(tmp_path, labels))


@pytest.mark.parametrize("word", ["None", "NA", "N/A"])
def test_what_may_be_missing_is_a_class_only_where_the_task_says_so(word, tmp_path):
    file = csv_of(tmp_path, ["a", word, "b"])
    with pytest.raises(DataError, match=rf"Line 3 .* has '{word}' as 'label', which may stand for a missing label"):
        open_source(file)
    found = open_source(file, task="classification")
    assert word in found.labels
    assert f"'{word}' in 'label' is read as a class" in found.notes[0]


@pytest.mark.parametrize("labels", [[0, -1, 1], [-1, 0, 0], [2, 0, -1]])
def test_minus_one_among_class_numbers_is_no_class_unless_the_task_says_so(labels, tmp_path):
    for file in (csv_of(tmp_path, list(map(str, labels))), jsonl_of(tmp_path, labels)):
        with pytest.raises(DataError, match=r"-1'? as 'label', which may stand for a missing label"):
            open_source(file)
        assert "-1" in open_source(file, task="classification").labels


def test_two_classes_may_be_called_one_and_minus_one(tmp_path):
    assert read(csv_of(tmp_path, ["1", "-1", "1"])) == ("classification", ("1", "-1"), [0, 1, 0])


@pytest.mark.parametrize("labels", [[-1, -1], [None, None], [float("nan"), float("nan")]])
@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_part_without_labels_is_named_with_the_way_out(part, labels, tmp_path):
    parquet_of(tmp_path, [0, 1, 0], "train.parquet")
    parquet_of(tmp_path, labels, f"{part}.parquet")
    with pytest.raises(
        DataError, match=rf"The part {part} of .* has no labels: .*`split='train=train'` \(--split train=train on"
    ):
        open_source(tmp_path)
    assert len(open_source(tmp_path, split="train=train")) == 3


def test_a_part_without_the_column_of_labels_or_with_other_classes_is_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet_of(tmp_path, ["a", "b"], "train.parquet")
    parquet_of(tmp_path, ["a", "c"], "test.parquet")
    with pytest.raises(DataError, match="The test part has the classes c, which the training part lacks; it has a, b"):
        open_source(tmp_path)
    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"The part test of .* has no column 'label', which the training part has"):
        open_source(tmp_path)


def test_a_published_set_with_an_unlabelled_test_part_is_refused_by_its_name(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )

    def part(labels):
        rows = {"sentence": [f"s{i}" for i in range(len(labels))], "label": labels}
        return datasets.Dataset.from_dict(rows, features=features)

    parts = {"train": part([0, 1, 0]), "validation": part([1, 0]), "test": part([-1, -1])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "glue"))
    with pytest.raises(DataError, match=r"The part test of hf:.*--split train=train,validation=validation"):
        open_source(f"hf:{tmp_path / 'glue'}")
    found = open_source(f"hf:{tmp_path / 'glue'}", split="train=train,validation=validation")
    assert found.validation.targets.tolist() == [1, 0]


@pytest.mark.parametrize("labels", [[[-1], [-1]], [[], []], [None, None]])
def test_a_part_without_any_of_several_labels_is_named(labels, tmp_path):
    datasets = pytest.importorskip("datasets")
    kinds = {"text": datasets.Value("string"), "tags": datasets.Sequence(datasets.ClassLabel(names=["red", "big"]))}
    parts = {
        name: datasets.Dataset.from_dict({"text": ["x", "y"], "tags": tags}, features=datasets.Features(kinds))
        for name, tags in (("train", [[0], [0, 1]]), ("test", labels))
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(DataError, match=r"The part test of hf:.* has no labels: .*--split train=train"):
        open_source(f"hf:{tmp_path / 'set'}")
    found = open_source(f"hf:{tmp_path / 'set'}", split="train")
    assert (found.task, found.labels, found.targets.tolist()) == ("multilabel", ("red", "big"), [[1, 0], [1, 1]])


@pytest.mark.parametrize("names", [[float("nan"), "a"], [None, "a"], ["a", np.datetime64("NaT")]])
def test_missing_names_given_in_python_are_refused(names):
    with pytest.raises(DataError, match="1 of 2 targets are missing"):
        Source.of("text", ["x", "y"], names)
    with pytest.raises(DataError, match="1 of 2 targets are missing"):
        from_arrays(np.zeros((2, 4, 4)), names)


def test_class_numbers_given_in_python_are_names_without_a_point():
    assert Source.of("text", ["x", "y"], np.array([1.0, 0.0])).labels == ("0", "1")
    assert from_arrays(np.zeros((2, 4, 4)), [0.0, 2.0]).labels == ("0", "1", "2")


# What classes are called


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["0.0", "1.0", "0.0"], ("0", "1")),
        (["1.0", "unknown"], ("1", "unknown")),
        (["007", "10", "007"], ("007", "10")),
        (["12345678901234567890", "12345678901234567891"], ("12345678901234567890", "12345678901234567891")),
        (["true", "TRUE", "false"], ("False", "True")),
        (["yes", "no"], ("no", "yes")),
        (["[deleted]", "(good)"], ("(good)", "[deleted]")),
        (["tench, Tinca", "goldfish, Carassius"], ("goldfish, Carassius", "tench, Tinca")),
    ],
)
def test_classes_of_a_csv_are_called_as_people_call_them(labels, names, tmp_path):
    assert open_source(csv_of(tmp_path, labels)).labels == names


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0.0, 1.0], ("0", "1")),
        ([True, False], ("False", "True")),
        ([decimal.Decimal("1.0"), decimal.Decimal("2.0")], ("1", "2")),
        ([b"x", b"y"], ("x", "y")),
    ],
)
def test_classes_of_parquet_are_called_as_people_call_them(labels, names, tmp_path):
    assert open_source(parquet_of(tmp_path, labels)).labels == names


def test_numbers_and_words_of_json_lines_are_one_column_but_truth_values_are_not(tmp_path):
    assert open_source(jsonl_of(tmp_path, [1, "x", 1.0, "1"])).labels == ("1", "x")
    with pytest.raises(DataError, match="has True in line 2 but 1 in line 1 as 'label'; expected values of one kind"):
        open_source(jsonl_of(tmp_path, [1, True]))


@pytest.mark.parametrize("word", ["café", "Überweisung", "tiếng Việt"])
def test_two_unicode_forms_of_a_name_are_one_class(word, tmp_path):
    forms = [unicodedata.normalize(form, word) for form in ("NFC", "NFD")]
    for file in (csv_of(tmp_path, [*forms, "tea"]), jsonl_of(tmp_path, [*forms, "tea"])):
        found = open_source(file)
        assert found.labels == tuple(sorted([forms[0], "tea"]))
        assert found.targets[0] == found.targets[1]
    several = open_source(csv_of(tmp_path, [f"{forms[0]};tea", f"{forms[1]};tea"]), task="multilabel")
    assert set(several.labels) == {forms[0], "tea"}
    trained = found.with_labels(("tea", forms[1]))  # the classes of a model that was trained earlier
    assert trained.targets.tolist() == [1, 1, 0]


def test_names_that_differ_in_case_or_spaces_are_noted(tmp_path):
    found = open_source(csv_of(tmp_path, ["sad", "Sad", "sad ", "glad"]))
    assert len(found.labels) == 4
    assert "'Sad', 'sad', 'sad ' differ only in capital letters or spaces; they are kept apart" in found.notes[0]
    assert open_source(csv_of(tmp_path, ["sad", "glad"])).notes == ()


# Several labels

BOTH = [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    "labels",
    [
        ["['sad', 'angry']", "['sad']", "[]"],
        ['["sad", "angry"]', '["sad"]', "[]"],
        ["['sad' 'angry']", "['sad']", "[]"],
        ["['sad'\n 'angry']", "['sad']", "[]"],
        ["[sad, angry]", "[sad]", "[]"],
        ["('sad', 'angry')", "('sad',)", "()"],
        ["{'sad', 'angry'}", "{'sad'}", "set()"],
        ["array(['sad', 'angry'], dtype=object)", "array(['sad'], dtype=object)", "array([], dtype=object)"],
        ["sad;angry", "sad", ""],
        ["sad | angry", "sad", " "],
    ],
)
@pytest.mark.parametrize("task", ["multilabel", None])
def test_lists_written_in_any_way_are_the_labels_in_them(labels, task, tmp_path):
    found = open_source(csv_of(tmp_path, labels), task=task)
    assert (found.task, found.labels, found.targets.tolist()) == ("multilabel", ("angry", "sad"), BOTH)
    assert any("task is multilabel" in note for note in found.notes) is (task is None)


def test_lists_of_json_lines_and_parquet(tmp_path):
    labels = [["sad", "angry"], ["sad"], []]
    assert read(jsonl_of(tmp_path, labels)) == ("multilabel", ("angry", "sad"), BOTH)
    assert read(parquet_of(tmp_path, labels)) == ("multilabel", ("angry", "sad"), BOTH)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["['a', 'b']", ""], "Line 3 .* has no label: 'label' is ''"),
        (["['a', None]", "['b']"], "Line 2 .* has a label that is missing within"),
        (["['a', nan]", "['b']"], "Line 2 .* has a label that is missing within"),
        (["[very sad]", "['b']"], "Line 2 .* a list that cannot be read: it has no commas between its items"),
        (["['a' ... 'b']", "['b']"], "only a part of its items"),
        (["['a', ['b']]", "['b']"], "a list that cannot be read"),
        (["['a', 'b' 'c']", "['b']"], "commas between some of its items"),
        (["{'a': 1}", "['b']"], "a list that cannot be read"),
        (["['a']", "b;c"], "Line 3 .* where other rows have lists; whether it is one label or several is not clear"),
        (["a;b", "c,d", "c;d"], "some rows have ';' between labels, this one ','"),
        (["[0, 1, 1]", "[1, 0, 1]"], "lists of 3 zeros and ones .* Give a column of 0 and 1 for each label"),
        (["[0.2, 0.8]", "[0.9, 0.1]"], "Line 2 .* has decimals within"),
        (["[]", "[]"], "has no labels: no row of 'label' holds one"),
        (["a;nan", "b"], "Line 2 .* has a label that is missing within"),
    ],
)
def test_lists_that_cannot_be_read_or_in_two_ways(labels, words, tmp_path):
    with pytest.raises(DataError, match=words):
        open_source(csv_of(tmp_path, labels), task="multilabel")


@pytest.mark.parametrize(
    "labels", [[["a"], None], [["a", None], ["b"]], [["a", float("nan")], ["b"]], [[["a"]], ["b"]]]
)
def test_lists_with_holes_are_refused(labels, tmp_path):
    with pytest.raises(DataError, match=r"Line [12] of .* (has no label|has a label that is missing|has lists)"):
        open_source(jsonl_of(tmp_path, labels))


@pytest.mark.parametrize("label", ["['sad']", "['sad', 'angry']", '["sad"]'])
def test_a_list_is_never_the_name_of_a_class(label, tmp_path):
    with pytest.raises(DataError, match=r"has a list or an object as 'label'.*`task='multilabel'`"):
        open_source(csv_of(tmp_path, ["glad", label]), task="classification")


def test_a_column_of_yes_and_no_a_label(tmp_path):
    def flags(body):
        (tmp_path / "f.csv").write_text(f"text,red,big\n{body}")
        return read(tmp_path / "f.csv", label_column="red,big")

    assert flags("x,1,1\ny,0,TRUE\n") == ("multilabel", ("red", "big"), [[1, 1], [0, 1]])
    assert flags("x,1,1\ny,,1\nz,,\n") == ("multilabel", ("red", "big"), [[1, 1], [0, 1], [0, 0]])
    with pytest.raises(DataError, match=r"Line 3 of .* has no label: 'red' is ''"):
        flags("x,0,1\ny,,1\nz,1,1\n")
    (tmp_path / "one.csv").write_text("text,toxic\nx,1\ny,0\n")
    assert read(tmp_path / "one.csv", label_column="toxic", task="multilabel") == ("multilabel", ("toxic",), [[1], [0]])


# The task


def test_many_decimals_are_a_question_of_regression_and_said(tmp_path):
    values = [i * 0.37 for i in range(47)]
    for file in (csv_of(tmp_path, [f"{v:.4f}" for v in values]), jsonl_of(tmp_path, values)):
        found = open_source(file)
        assert (found.task, found.targets.shape) == ("regression", (47, 1))
        assert found.notes == ("The task is regression: 'label' holds 47 different decimals.",)
    assert "0.37" in open_source(file, task="classification").labels


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["0.5", "1.5", "0.5", "1.5"], "2 different decimals such as 0.5; set `task='regression'`"),
        ([str(i * i + 3) for i in range(30)], "30 different whole numbers in 30 rows; set `task='regression'`"),
        (["2024-01-01", "2024-02-01", "2024-01-01"], "dates such as 2024-01-01"),
        (["1.2.2024", "29.2.2024"], "dates such as 1.2.2024"),
        (["1,5", "2,5", "3"], "numbers written like '1,5'; for regression write them with a point"),
        (["45%", "5 %"], "numbers written like '45%'"),
        (["sad, angry", "sad", "angry"], "values such as 'sad, angry'; set `task='multilabel'` if ',' stands between"),
        (["a;b", "c", "d"], "values such as 'a;b'; set `task='multilabel'`"),
    ],
)
def test_a_task_that_is_not_clear_is_asked_for_and_an_answer_is_taken(labels, words, tmp_path):
    file = csv_of(tmp_path, labels)
    with pytest.raises(DataError, match=f"What is to be learned .* is not clear: 'label' holds {words}"):
        open_source(file)
    assert set(open_source(file, task="classification").labels) == set(labels)


def test_infinite_numbers_are_neither_classes_nor_amounts(tmp_path):
    for labels in ([1, float("inf")], [float("-inf"), 0.5]):
        with pytest.raises(DataError, match="has infinite numbers in 'label'"):
            open_source(jsonl_of(tmp_path, labels))
        with pytest.raises(DataError, match=r"-?inf as 'label'; expected a finite number"):
            open_source(jsonl_of(tmp_path, labels), task="regression")


def test_class_numbers_in_order_are_classes_however_many(tmp_path):
    assert open_source(csv_of(tmp_path, [str(i) for i in range(60)])).task == "classification"


def test_dates_are_classes_where_the_task_says_so(tmp_path):
    days = [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]
    with pytest.raises(DataError, match="dates such as 2024-01-01"):
        open_source(parquet_of(tmp_path, days))
    assert open_source(tmp_path / "t.parquet", task="classification").labels == ("2024-01-01", "2024-01-02")


def test_several_columns_of_numbers_are_regression_and_said(tmp_path):
    (tmp_path / "t.csv").write_text("text,w,h\nx,1.5,2\ny,3,4.5\n")
    found = open_source(tmp_path / "t.csv", label_column="w,h")
    assert (found.task, found.notes) == ("regression", ("The task is regression: the columns 'w', 'h' hold numbers.",))


# Cells


def test_what_programs_write_for_nothing_is_missing():
    assert all(map(is_missing, [None, float("nan"), np.float32("nan"), np.datetime64("NaT"), decimal.Decimal("NaN")]))
    assert not any(map(is_missing, ["none", "na", "no", "-", "0", 0, False, "None"]))


def test_lists_keep_quotes_commas_and_escapes_of_their_items():
    assert written_list('["it\'s", "a, b"]') == ["it's", "a, b"]
    assert written_list("['it\\'s', \"b\"]") == ["it's", "b"]
    assert written_list("[1. 2.]") == [1, 2]
    assert written_list("a [b]") is None
    assert class_names(["2.0", "1.5"]) == ["2.0", "1.5"]
