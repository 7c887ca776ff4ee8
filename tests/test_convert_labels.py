"""Class names are found in settings and in the files beside the weights, and only where they fit the outputs."""

import pytest

from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.weights import Weights


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
