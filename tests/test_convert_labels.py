"""Class names are found in settings and in the files beside the weights, and only where they fit the outputs."""

import dataclasses

import pytest

from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError


def beside(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return Weights({}, files={name: tmp_path / name})


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("labels.txt", "no\nnot sure\n\nyes\n", ("no", "not sure", "yes")),
        ("imagenet_classes.csv", "0,n01,tench\n1,n02,goldfish\n", ("tench", "goldfish")),
        (
            "class_map.csv",
            'index,mid,display_name\n1,/m/b,"Child, speaking"\n0,/m/a,Speech\n',
            ("Speech", "Child, speaking"),
        ),
        ("classes.csv", "name,count\nb,3\na,4\n", ("b", "a")),
        ("my_Classes.csv", "b\na\n", ("b", "a")),
        (
            "classes.csv",
            "0,n02012849,crane\n1,n03126707,crane\n2,n1,owl\n",
            ("crane (n02012849)", "crane (n03126707)", "owl"),
        ),
        ("labels.txt", "crane\ncrane\n", ("crane (0)", "crane (1)")),
    ],
)
def test_a_file_beside_the_weights(tmp_path, name, text, wanted):
    assert labels_of(beside(tmp_path, name, text), len(wanted)) == wanted


@pytest.mark.parametrize(
    ("name", "text"), [("labels.txt", "no\nyes\n"), ("classes.csv", ""), ("other.csv", "a\nb\nc\n")]
)
def test_names_that_do_not_fit_are_no_names(tmp_path, name, text):
    assert labels_of(beside(tmp_path, name, text), 3) == ()


def test_settings_come_before_files(tmp_path):
    file = beside(tmp_path, "labels.txt", "a\nb\n")
    named = Weights({}, {"id2label": {"1": "yes", "0": "no"}}, files=file.files)
    numbered = Weights({}, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, files=file.files)
    assert labels_of(named, 2) == ("no", "yes")
    assert labels_of(numbered, 2) == ("a", "b")
    assert labels_of(Weights({}, {"label_names": ["p", "q"]}), 2) == ("p", "q")
    assert labels_of(named, 0) == ()


def test_ten_classes_are_in_the_order_of_their_numbers():
    names = {str(i): f"class {i}" for i in (*range(5, 12), *range(5))}
    assert labels_of(Weights({}, {"id2label": names}), 12) == tuple(f"class {i}" for i in range(12))


FIVE = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("key", ["id2label", "label_names", "labels"])
@pytest.mark.parametrize(
    "found",
    [
        FIVE,
        {n: i for i, n in enumerate(FIVE)},
        {str(i): n for i, n in enumerate(FIVE)},
        dict(reversed(list(enumerate(FIVE)))),
        {n: str(i) for i, n in reversed(list(enumerate(FIVE)))},
    ],
)
def test_names_are_read_from_a_list_or_from_a_table_in_either_direction(key, found):
    assert labels_of(Weights({}, {key: found}), 5) == tuple(FIVE)


@pytest.mark.parametrize("key", ["id2label", "label_names"])
@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({str(i + 1): n for i, n in enumerate(FIVE)}, "numbers 1, 2, 3"),
        ({"0": "a", "1": "b", "2": "c", "3": "d", "7": "e"}, "7, where outputs are numbered"),
        ({n: i + 1 for i, n in enumerate(FIVE)}, "numbers 1, 2, 3"),
        ({f"{i}.0": n for i, n in enumerate(FIVE)}, "dict"),
        ({f"n{i}": n for i, n in enumerate(FIVE)}, "dict"),
        ("abcde", "str 'abcde'"),
        (["a", None, "c", "d", "e"], "None, which is no name"),
        ([["a", "x"], "b", "c", "d", "e"], "which is no name"),
        ({"0": "a", "1": True, "2": "c", "3": "d", "4": "e"}, "True, which is no name"),
    ],
)
def test_names_that_no_output_has_for_sure_are_refused_unless_left_out(key, found, said):
    weights = Weights({}, {key: found})
    with pytest.raises(CheckpointError, match=said) as error:
        labels_of(weights, 5)
    assert f"ignore_settings=({key!r},)" in str(error.value)
    assert labels_of(dataclasses.replace(weights, ignore_settings=(key,)), 5) == ()
