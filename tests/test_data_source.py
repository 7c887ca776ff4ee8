"""Sources: labels in natural order, subsets, other class orders; arrays; and what `predict` is given."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from flaxtl.data import Source, Splits, as_source, from_arrays, open_source
from flaxtl.data.source import natural_order
from flaxtl.errors import DataError


def of_names(names, **more):
    return Source.of("text", [f"text {i}" for i in range(len(names))], names, **more)


# Labels


def test_numbers_are_sorted_by_value():
    assert natural_order(["10", "2", "1"]) == ("1", "2", "10")
    assert natural_order(["a10", "a9b2", "a9b10", "B", "9"]) == ("9", "B", "a9b2", "a9b10", "a10")
    assert of_names(["10", "2", "10"]).labels == ("2", "10")
    assert of_names(["10", "2", "10"]).targets.tolist() == [1, 0, 1]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(alphabet="ab01२²9 -", max_size=6), unique=True), st.randoms())
def test_the_natural_order_does_not_depend_on_the_order_given(names, random):
    shuffled = random.sample(names, len(names))
    assert natural_order(names) == natural_order(shuffled)
    assert sorted(natural_order(names)) == sorted(names)


def test_a_given_order_is_kept_and_holds_every_name():
    source = of_names(["b", "a"], labels=["b", "c", "a"])
    assert source.labels == ("b", "c", "a")
    assert source.targets.tolist() == [0, 2]
    with pytest.raises(DataError, match="The classes x are not among the known ones: a, b"):
        of_names(["x"], labels=["a", "b"])
    with pytest.raises(DataError, match="labels a occur more than once"):
        of_names(["a"], labels=["a", "b", "a"])


@pytest.mark.parametrize("what", ["names", "keys", "groups"])
def test_lists_of_another_length_are_refused(what):
    with pytest.raises(DataError, match="There are 2 inputs but 1"):
        Source.of("text", ["x", "y"], **{what: ["a"]})


def test_an_example_has_all_that_is_known_of_it():
    source = Source.of("text", ["x", "y"], ["b", "a"], keys=["first", "second"], groups=["g", "h"])
    example = list(source)[1]
    assert (example.raw, example.target, example.key, example.group, example.weight) == ("y", 0, "second", "h", 1.0)


def test_a_subset_keeps_order_and_classes():
    source = of_names(list("abc"), groups=["x", "y", "z"]).subset([2, 0])
    assert source.raw == ["text 2", "text 0"]
    assert source.labels == ("a", "b", "c")
    assert source.targets.tolist() == [2, 0]
    assert source.keys == ("2", "0")
    assert source.groups == ("z", "x")
    assert len(source.subset([])) == 0
    pictures = from_arrays(np.zeros((3, 4, 4)), list("aba"))
    assert pictures.subset([1]).raw.shape == (1, 4, 4)


def test_a_mask_chooses_where_it_is_true():
    source = of_names(list("abc"))
    assert source.subset(source.targets == 2).keys == ("2",)
    for wrong in ([3], np.array([True])):
        with pytest.raises(IndexError):
            source.subset(wrong)


def test_other_class_orders():
    source = of_names(["a", "b", "a"])
    found = source.with_labels(["z", "b", "a"])
    assert found.targets.tolist() == [2, 1, 2]
    assert found.labels == ("z", "b", "a")
    assert source.with_labels(("a", "b")) is source
    with pytest.raises(DataError, match="classes b, which are not among the model's: a"):
        source.with_labels(["a"])
    assert source.subset([0, 2]).with_labels(["a"]).targets.tolist() == [0, 0]


def test_the_unlabelled_stay_so_in_any_class_order():
    assert Source.of("text", ["x", "y"]).targets.tolist() == [-1, -1]
    assert Source.of("text", ["x", "y"]).with_labels(["a", "b"]).targets.tolist() == [-1, -1]
    part = from_arrays(np.zeros((3, 4, 4)), list("aba"))
    mixed = Source("image", part.raw, np.array([1, -1, 0], np.int32), part.labels, part.keys, part.weights)
    assert mixed.with_labels(["b", "c", "a"]).targets.tolist() == [0, -1, 2]


# Arrays


def test_class_numbers_index_the_labels_and_missing_ones_keep_their_place():
    pictures = np.zeros((2, 4, 4), np.uint8)
    assert from_arrays(pictures, [0, 11]).labels == tuple(map(str, range(12)))
    source = from_arrays(pictures, np.array([2, 0]), labels=["x", "y", "z"], weights=[1, 0.5], groups=["g", "h"])
    assert source.targets.tolist() == [2, 0]
    assert source.labels == ("x", "y", "z")
    assert source.weights.tolist() == [1.0, 0.5]
    assert source.groups == ("g", "h")
    assert from_arrays(pictures).targets.tolist() == [-1, -1]
    assert from_arrays(np.zeros((2, 3)), [True, False], modality="array").labels == ("False", "True")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": np.zeros((0, 4, 4))}, "no examples"),
        ({"inputs": np.zeros((2, 4))}, r"shape \(2, 4\)"),
        ({"inputs": [np.zeros((4, 4)), np.zeros((5, 4))]}, "differ in shape"),
        ({"targets": [0]}, "2 inputs but 1 targets"),
        ({"targets": [0, -1]}, "run from -1 to 0"),
        ({"targets": [0, 2], "labels": ["a", "b"]}, "expected numbers from 0 to 1"),
        ({"targets": [[0, 1], [1, 0]]}, "expected one class an example"),
        ({"targets": [0.0, np.nan]}, "1 of 2 targets are missing: that of example 1 is nan"),
        ({"targets": np.array(["a", np.nan])}, "1 of 2 targets are missing"),
        ({"targets": [None, "a"]}, "that of example 0 is None"),
        ({"targets": [["a"], ["a", "b"]]}, "The target of example 0 holds several values"),
        ({"targets": [0.5, 1.0]}, "The targets are decimals such as 0.5"),
        ({"targets": ["a", "x"], "labels": ["a", "b"]}, "classes x are not among"),
        ({"weights": [1]}, "one for each of the 2 inputs"),
        ({"weights": [1, -1]}, "run from -1.0"),
        ({"weights": [1, np.nan]}, "run from nan"),
        ({"weights": [0, 0]}, "some above 0"),
        ({"groups": ["g"]}, "2 inputs but 1 groups"),
    ],
)
def test_arrays_that_do_not_fit_together(change, words):
    with pytest.raises(DataError, match=words):
        from_arrays(**{"inputs": np.zeros((2, 4, 4)), "targets": [0, 1], **change})


# What is named or handed over


def test_the_digits_are_those_of_scikit_learn():
    digits = open_source("digits")
    assert digits.raw.shape == (1797, 8, 8)
    assert (digits.raw.dtype, digits.raw.max()) == (np.uint8, 255)
    assert digits.labels == tuple("0123456789")


def test_a_picture_is_predicted_however_it_is_given(tmp_path):
    values = np.full((5, 6, 3), 7, np.uint8)
    file = tmp_path / "x.png"
    pillow.fromarray(values).save(file)
    one = [file, str(file), tmp_path, [file], file.read_bytes(), pillow.fromarray(values), [values], values[None]]
    for data in one:
        source = as_source(data, "image")
        assert (source.modality, len(source)) == ("image", 1)
    several = as_source([values, values[:4], file.read_bytes(), pillow.fromarray(values)], "image")
    assert len(several) == 4
    assert as_source(several, "image") is several


def test_one_picture_is_not_taken_for_several():
    with pytest.raises(DataError, match="may be one picture or several narrow ones"):
        as_source(np.zeros((5, 4, 3), np.uint8), "image")
    for shape in ((5, 6, 3), (5, 6, 1), (5, 6, 4), (5, 6)):
        [raw] = as_source(np.zeros(shape, np.uint8), "image").raw
        assert raw.shape == shape
    assert len(as_source(np.zeros((5, 6, 8), np.uint8), "image")) == 5


def test_strings_are_text_where_the_card_says_so(tmp_path):
    assert as_source("good", "text").raw == ["good"]
    assert as_source(["good", "bad"], "text").raw == ["good", "bad"]
    (tmp_path / "x.txt").write_text("good")
    assert as_source(tmp_path / "x.txt", "text").raw == [tmp_path / "x.txt"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "the list is empty"),
        (5, "int cannot be used"),
        ([5], "list of int cannot be used"),
        ({"text": ["a"]}, "dict cannot be used as data; give a list"),
        ({"a", "b"}, "set cannot be used as data; give a list"),
        (np.float32(3), "single number 3.0 cannot be used"),
        ([None, "a"], "Entry 0 of the list is None"),
        (b"x", "bytes cannot be used"),
        (Splits(of_names(["a"])), "choose one of them"),
        ("nowhere.png", "no file nowhere.png"),
    ],
)
def test_what_is_no_data(data, words):
    with pytest.raises(DataError, match=words):
        as_source(data, "array")
