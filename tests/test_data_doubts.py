"""Labels that may stand for a missing one, combinations of labels, and names that are one name written in two ways."""

import numpy as np
import pytest
from test_data_labels import csv_of, jsonl_of, parquet_of, read

from flaxtl.data import open_source
from flaxtl.data.names import similar_names
from flaxtl.errors import DataError


@pytest.mark.parametrize("word", ["?", "-", "--", "–", "...", "*", "n.a.", "TBD", "unlabeled", "Missing", "-1", "-100"])
def test_words_and_signs_for_nothing_are_asked_about(word, tmp_path):
    file = csv_of(tmp_path, ["cat", "dog", word, "cat"])
    with pytest.raises(DataError, match=r"Line 4 .* as 'label', which may stand for a missing label \(1 of 4 rows\)"):
        open_source(file)
    explicit = open_source(file, task="classification")
    assert word in explicit.labels
    assert f"{word!r} in 'label' is read as a class, not as missing (1 times)." in explicit.notes


@pytest.mark.parametrize("word", ["#REF!", "#DIV/0!", "\\N", "(null)", "<NULL>", "(blank)"])
def test_what_spreadsheets_and_databases_write_for_nothing_is_no_class(word, tmp_path):
    with pytest.raises(DataError, match=r"Line 3 .* has no label"):
        open_source(csv_of(tmp_path, ["a", word, "b"]), task="classification")


@pytest.mark.parametrize("word", ["?", "-", "-100"])
def test_classes_leaves_such_rows_out_or_makes_them_a_class(word, tmp_path):
    file = csv_of(tmp_path, ["cat", word, "dog", "cat"])
    with pytest.raises(DataError) as refused:
        open_source(file)
    assert f"classes={[f'{word}=']!r}" in str(refused.value)
    without = open_source(file, classes=[f"{word}="])
    assert (without.labels, without.raw) == (("cat", "dog"), ["t0", "t2", "t3"])
    assert word in open_source(file, classes=[f"{word}={word}"]).labels
    assert "unsure" in open_source(file, classes={word: "unsure"}).labels
    assert word in open_source(file, known_classes=["cat", "dog", word]).labels  # those of the model to be measured


@pytest.mark.parametrize("labels", [["+", "-"], ["+", "-", "0"], ["+", "-", "*", "/"], [".", "?", "!"], ["-", "–"]])
def test_signs_among_signs_are_classes(labels, tmp_path):
    assert set(open_source(csv_of(tmp_path, labels * 2)).labels) == set(labels)


@pytest.mark.parametrize(
    "labels",
    [[0, 1, -100], [3, 0, -999, 3], [*range(12), -100], [0, 1, 2, 255], [1, 2, 99], [-1, -100, 0, 1], [2, 1, 0, -5]],
)
def test_numbers_for_nothing_among_class_numbers_are_asked_about(labels, tmp_path):
    for file in (csv_of(tmp_path, list(map(str, labels))), jsonl_of(tmp_path, labels)):
        with pytest.raises(DataError, match="which may stand for a missing label"):
            open_source(file)


@pytest.mark.parametrize("labels", [[-2, -1, 0, 1, 2], [-1, 1], [-5, 5], [0, 1, 2, 3], [98, 99, 100], [1, 99]])
def test_class_numbers_that_stand_for_something_are_classes(labels, tmp_path):
    assert set(open_source(csv_of(tmp_path, list(map(str, labels)) * 3)).labels) == set(map(str, labels))


def test_the_minus_sign_of_word_processors_is_a_minus_sign(tmp_path):
    with pytest.raises(DataError, match="which may stand for a missing label"):
        open_source(csv_of(tmp_path, ["−1", "0", "1"] * 2))


def test_a_part_of_nothing_but_signs_for_nothing_has_no_labels(tmp_path):
    parquet_of(tmp_path, ["a", "b", "a"], "train.parquet")
    parquet_of(tmp_path, ["?", "?"], "test.parquet")
    with pytest.raises(DataError, match=r"The part test of .* has no labels: 'label' is '\?' in all 2 rows"):
        open_source(tmp_path)


@pytest.mark.parametrize("labels", [[["a", "b"], ["a"], ["?"]], [[0, 1], [1], [-1]], [["a"], ["-"], ["b"]]])
def test_signs_for_nothing_within_lists_are_asked_about(labels, tmp_path):
    with pytest.raises(DataError, match=r"may stand for a missing label\. If it is one of the labels, set `task="):
        open_source(jsonl_of(tmp_path, labels))
    assert len(open_source(jsonl_of(tmp_path, labels), task="multilabel").labels) == 3


@pytest.mark.parametrize("value", [-999, -1, 9999])
def test_amounts_that_may_stand_for_nothing_are_noted(value, tmp_path):
    amounts = [0.25 + i * 0.37 for i in range(30)]
    found = open_source(jsonl_of(tmp_path, [*amounts, value, value]))
    assert found.task == "regression"
    assert f"{value} occurs 2 times in 'label', outside of all other values" in found.notes[1]
    assert len(open_source(jsonl_of(tmp_path, amounts)).notes) == 1


# Combinations of labels


@pytest.mark.parametrize("sign", ["/", " ", "+", " & ", " and ", "-", "_"])
def test_combinations_of_labels_of_other_rows_are_asked_about(sign, tmp_path):
    file = csv_of(tmp_path, ["sad", "angry", f"sad{sign}angry", "glad"])
    with pytest.raises(DataError, match=r"values such as 'sad.*angry' beside their parts; set `task='multilabel'` if"):
        open_source(file)
    found = open_source(file, task="multilabel")
    assert found.labels == ("angry", "glad", "sad")
    assert found.targets.tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert len(open_source(file, task="classification").labels) == 4


@pytest.mark.parametrize(
    "labels",
    [
        ["New York", "York", "Old Town", "New"],
        ["great_pyrenees", "beagle", "great_dane"],
        ["m/s", "km/h", "m"],
        ["very sad", "sad", "very"][:2],
        ["black-and-white", "colour"],
    ],
)
def test_names_that_hold_such_signs_are_classes(labels, tmp_path):
    task, names, _ = read(csv_of(tmp_path, labels * 2))
    assert (task, set(names)) == ("classification", set(labels))


# One name in several ways


@pytest.mark.parametrize(
    "names",
    [("cat", "cat\u200b"), ("cat", "\ufeffcat"), ("new york", "New_York"), ("1", "01"), ("3", "٣"), ("don't", "don’t")],
)
def test_one_name_written_in_two_ways_is_noted(names, tmp_path):
    found = open_source(csv_of(tmp_path, [*names, "other", "dog"]))
    assert len(found.labels) == 4
    assert any("kept apart. Merge them with classes=" in note for note in found.notes)


def test_names_that_look_alike_but_are_not_one_are_not_noted():
    assert similar_names(["1", "-1", "1.5", "10", "a-b", "ab", "C", "C++", "C#"]) == []


@pytest.mark.parametrize("labels", [["True", "1", "0"], ["yes", "1", "no"], ["true", "no", "yes"]])
def test_truth_values_of_several_kinds_are_refused(labels, tmp_path):
    with pytest.raises(DataError, match="which may be the same; expected values of one kind"):
        open_source(csv_of(tmp_path, labels))


def test_numpy_scalars_are_class_numbers(tmp_path):
    assert read(parquet_of(tmp_path, np.array([0, 1, 1], np.int8)))[1] == ("0", "1")
