"""A column of a table that says which part of the data each row is."""

import pytest

from flaxtl.data import Splits, open_source
from flaxtl.errors import DataError


def table(place, values, name="split", labels="ab"):
    rows = [f"text {i} here,{labels[i // 2 % len(labels)]},{value}" for i, value in enumerate(values)]
    (place / "t.csv").write_text("\n".join([f"text,label,{name}", *rows]) + "\n", encoding="utf-8")
    return place / "t.csv"


def sizes(found):
    return {part: len(source) for part, source in found.parts.items()} if isinstance(found, Splits) else len(found)


TWO = ["train"] * 4 + ["test"] * 4


@pytest.mark.parametrize("name", ["split", "Split", "data_split", "Usage", "subset", "dataset", "which", "dataSplit"])
def test_a_column_of_part_names_divides_the_table_whatever_it_is_called(name, tmp_path):
    found = open_source(table(tmp_path, TWO, name))
    assert sizes(found) == {"train": 4, "test": 4}
    assert found.train.notes[0] == f"The column {name!r} says which rows are for training, validation and test."


@pytest.mark.parametrize(
    ("values", "odd"),
    [
        ([*TWO, "", ""], r"No part is called '' \(2 rows\).*`split='train=train,test=test'`"),
        ([*TWO, "unlabeled"], r"No part is called 'unlabeled' \(1 rows\)"),
        ([*TWO, "trian"], r"'train' \(4 rows\), 'test' \(4 rows\)\. No part is called 'trian'"),
        (["train"] * 4 + ["extra"] * 4, r"No part is called 'extra' \(4 rows\).*`split='train=train,test=extra'`"),
        (["Training"] * 4 + ["PublicTest"] * 4, r"such as `split='train=Training,test=PublicTest'`"),
    ],
)
def test_rows_of_no_known_part_are_neither_trained_on_nor_lost_without_a_word(values, odd, tmp_path):
    with pytest.raises(DataError, match=odd):
        open_source(table(tmp_path, values))


def test_the_setting_split_says_which_value_is_which_part(tmp_path):
    values = ["Training"] * 4 + ["PublicTest"] * 4 + ["PrivateTest"] * 4
    named = "train=Training,validation=PublicTest,test=PrivateTest"
    assert sizes(open_source(table(tmp_path, values, "Usage"), split=named)) == {"train": 4, "validation": 4, "test": 4}
    assert sizes(open_source(table(tmp_path, [*TWO, "extra"]), split="train=train,test=test")) == {
        "train": 4,
        "test": 4,
    }
    found = open_source(table(tmp_path, ["0"] * 4 + ["1"] * 4), split="train=0,test=1")
    assert [raw[:6] for raw in found.test.raw] == ["text 4", "text 5", "text 6", "text 7"]


@pytest.mark.parametrize("split", ["nope", "train=train,test=nope"])
def test_a_split_that_is_not_there_is_refused(split, tmp_path):
    with pytest.raises(DataError, match="has no split 'nope'"):
        open_source(table(tmp_path, TWO), split=split)


def test_one_part_is_read_alone_with_the_classes_of_training(tmp_path):
    file = table(tmp_path, TWO, labels="abb")  # the test rows are of class b and a
    for split in ("test", "holdout"):
        found = open_source(table(tmp_path, ["train"] * 4 + [split] * 2, labels="ab"), split=split)
        assert (sizes(found), found.labels) == (2, ("a", "b"))
    assert sizes(open_source(file, split="train")) == 4


def test_an_unlabelled_part_is_left_out_as_its_message_says(tmp_path):
    file = table(tmp_path, TWO)
    file.write_text(file.read_text().replace(",a,test", ",,test").replace(",b,test", ",,test"))
    with pytest.raises(DataError, match=r"The part test of .* has no labels.*`split='train=train'`"):
        open_source(file)
    assert sizes(open_source(file, split="train=train")) == 4


@pytest.mark.parametrize(
    ("name", "yes", "no", "expected"),
    [
        ("is_train", "1", "0", {"train": 4, "test": 4}),
        ("isTrain", "True", "False", {"train": 4, "test": 4}),
        ("is_test", "yes", "no", {"train": 4, "test": 4}),
        ("is_validation", "1", "0", {"train": 4, "validation": 4}),
    ],
)
def test_a_column_that_says_yes_or_no_to_a_part(name, yes, no, expected, tmp_path):
    trained = name.lower().endswith("train")
    found = open_source(table(tmp_path, [yes if trained else no] * 4 + [no if trained else yes] * 4, name))
    assert sizes(found) == expected
    assert found.train.raw[0] == "text 0 here"


@pytest.mark.parametrize("values", [["1", "2", "3", "1"] * 2, ["tr"] * 4 + ["te"] * 4])
def test_a_column_that_is_called_so_but_says_something_else_is_noted(values, tmp_path):
    found = open_source(table(tmp_path, values, "fold"))
    assert sizes(found) == len(values)
    assert "The column 'fold' is not looked at: its values" in found.notes[0]


def test_other_columns_divide_nothing(tmp_path):
    assert sizes(open_source(table(tmp_path, ["train", "plane"] * 4, "kind"))) == 8
    assert sizes(open_source(table(tmp_path, ["x"] * 8, "split"))) == 8
    (tmp_path / "t.csv").write_text("text,label\nthe one,train\nthe two,test\nthe three,train\n")
    assert open_source(tmp_path / "t.csv").labels == ("test", "train")
