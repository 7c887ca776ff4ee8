"""What is taken of data: classes renamed and left out, limits, groups and classes read off paths, splits, tasks."""

import json
import re

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as pillow

from flaxtl.data import Source, Splits, from_csv, from_folder, limited, open_source, renamed, select, stratified_split
from flaxtl.data.patterns import ambiguity_notes, from_paths
from flaxtl.data.selecting import class_map
from flaxtl.errors import ConfigError, DataError


def source(names):
    return Source.of("text", [str(i) for i in range(len(names))], list(names))


def table(place, text, name="t.csv"):
    (place / name).write_text(text)
    return place / name


# Classes


def test_classes_are_renamed_merged_and_left_out():
    found = renamed(source("abcda"), ["a=one,b=one", "c="])
    assert (found.labels, found.raw, found.targets.tolist()) == (("one", "d"), ["0", "1", "3", "4"], [0, 0, 1, 0])


def test_with_a_bare_name_only_what_is_named_stays():
    found = renamed(source("abcd"), ["a", "c=see"])
    assert (found.labels, found.raw) == (("a", "see"), ["0", "2"])


def test_commas_and_equals_signs_in_names_are_kept_behind_a_backslash():
    assert class_map([r"cats\, dogs=pets,a\=b="]) == {"cats, dogs": "pets", "a=b": None}


@pytest.mark.parametrize(
    ("classes", "error", "words"),
    [
        (["dgo=cat"], DataError, "'dgo'.*does not have.*Did you mean 'dog'"),
        (["dog=", "cat="], DataError, "leaves nothing of the classes cat, dog"),
        (["a=b=c"], ConfigError, "expected old=new, old= or name"),
        (["dog=x,dog=y"], ConfigError, "each class once"),
        (["=x"], ConfigError, "expected old=new"),
    ],
)
def test_changes_to_classes_that_are_refused(classes, error, words):
    with pytest.raises(error, match=words):
        renamed(source(["cat", "dog"]), classes)


def test_the_parts_of_a_set_keep_one_class_order():
    parts = Splits(source("abc"), test=source("abc").subset([2]))
    found = select(parts, classes=["c=z", "a=y"])
    assert found.train.labels == found.test.labels == ("y", "b", "z")
    assert found.test.targets.tolist() == [2]


# Limits


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 5))
def test_a_limit_takes_the_same_share_of_each_class_and_smaller_draws_are_part_of_larger(names, limit, seed):
    data = source(names)
    chosen = limited(data, limit, seed)
    assert len(chosen) == min(limit, len(data)) == len(set(chosen.tolist()))
    assert set(limited(data, max(limit - 1, 1), seed).tolist()) <= set(chosen.tolist())
    taken = np.bincount(data.targets[chosen], minlength=len(data.labels))
    whole = np.bincount(data.targets, minlength=len(data.labels))
    if limit >= len(data.labels):
        assert taken.min() >= 1
    assert (np.abs(taken - whole * len(chosen) / len(data)) < len(data.labels)).all()


def test_a_limit_is_of_the_training_part_alone_and_drawn_by_the_seed():
    parts = Splits(source("ab" * 20), test=source("ab" * 5))
    found = select(parts, limit=6)
    assert (len(found.train), len(found.test)) == (6, 10)
    assert select(parts, limit=6).train.keys == found.train.keys != select(parts, limit=6, seed=1).train.keys
    with pytest.raises(ConfigError, match="`limit` is 0"):
        select(parts, limit=0)


# Paths


@pytest.mark.parametrize(
    ("path", "pattern", "name"),
    [
        ("x/7_jackson_32.wav", "*_{}_*", "jackson"),
        ("x/7_jackson_32.wav", "{}_*", "7"),
        ("scans/patient 4/left/1.png", "{}/*/*", "patient 4"),
        ("a/b.c+d.png", "{}.png", "b.c+d"),
        ("a/1-234-A.ogg", "?-{}-*", "234"),
    ],
)
def test_names_are_read_off_paths(path, pattern, name):
    assert from_paths([path], pattern, "group_by") == (name,)


def test_patterns_that_do_not_fit():
    with pytest.raises(DataError, match=r"'\*_\{\}_\*' does not match 1 of 2 paths: a/b\.wav"):
        from_paths(["a/1_x_2.wav", "a/b.wav"], "*_{}_*", "group_by")
    with pytest.raises(ConfigError, match="`group_by` is 'speaker'; expected a column of a table, or"):
        from_paths(["a"], "speaker", "`group_by`")


def test_files_that_lie_in_no_class_folders_by_a_pattern_with_groups(tmp_path):
    for name in ("7_ann_0", "7_bob_0", "3_ann_0", "10_bob_1"):
        pillow.new("L", (4, 4)).save(tmp_path / f"{name}.png")
    found = open_source(tmp_path, label_column="{}_*", group_by="*_{}_*")
    assert found.labels == ("3", "7", "10")
    assert found.groups == ("ann", "ann", "bob", "bob")
    with pytest.raises(DataError, match=r"no class folders.*`label_column='\{\}_\*'"):
        from_folder(tmp_path)


def test_groups_of_a_folder_and_of_a_table_are_never_divided(tmp_path):
    rows = "".join(f"t{i},{'ab'[i % 2]},s{i // 4}\n" for i in range(24))
    found = from_csv(table(tmp_path, f"text,label,speaker\n{rows}"), group_by="speaker")
    kept, held = stratified_split(found.targets, 0.25, 0, found.groups)
    assert len(held)
    assert not {found.groups[i] for i in kept} & {found.groups[i] for i in held}
    with pytest.raises(DataError, match=r"`group_by` names the columns 'text', 'label'; expected one"):
        from_csv(table(tmp_path, f"text,label,speaker\n{rows}"), group_by="text,label")
    with pytest.raises(DataError, match=r"no column 'speakr' to group by\. Did you mean 'speaker'"):
        from_csv(tmp_path / "t.csv", group_by="speakr")
    with pytest.raises(DataError, match=r"Line 3 of .* has no group in 'speaker' \(1 of 2 rows\)"):
        from_csv(table(tmp_path, "text,label,speaker\nx,a,s\ny,b,\n", "u.csv"), group_by="speaker")


def test_groups_are_held_out_as_test_data():
    found = Source.of("text", list("abcdef"), list("xyxyxy"), groups=["ann", "ann", "bob", "bob", "cyd", "cyd"])
    parts = select(found, test_groups=["bob"], limit=3)
    assert (set(parts.train.groups), parts.test.raw) == ({"ann", "cyd"}, ["c", "d"])
    assert len(parts.train) == 3
    for groups, words in (
        (["bo"], "'bo', which the data does not have. Did you mean 'bob'"),
        (["ann", "bob", "cyd"], "nothing is left to learn from"),
    ):
        with pytest.raises(DataError, match=words):
            select(found, test_groups=groups)
    with pytest.raises(DataError, match="Say with `group_by` what they are"):
        select(source("ab"), test_groups=["x"])
    with pytest.raises(DataError, match="has parts already"):
        select(Splits(source("ab")), test_groups=["x"])


def test_one_class_is_read_since_it_may_be_there_to_measure_on(tmp_path):
    assert from_csv(table(tmp_path, "text,label\nx,a\n")).labels == ("a",)
    (tmp_path / "p" / "a").mkdir(parents=True)
    pillow.new("L", (4, 4)).save(tmp_path / "p" / "a" / "1.png")
    assert from_folder(tmp_path / "p").labels == ("a",)


# Splits


def test_a_part_of_a_folder_is_chosen(tmp_path):
    for part in ("train", "test", "val"):
        tiny.folder(tmp_path / part, per_class=1)
    assert len(open_source(tmp_path, split="test")) == 3
    swapped = open_source(tmp_path, split="train=test,test=train")
    assert "test" in swapped.train.keys[0]
    assert swapped.validation is None
    with pytest.raises(DataError, match="has no split 'exam'"):
        open_source(tmp_path, split="exam")
    with pytest.raises(DataError, match=r"cannot be cut at 'train\[:2\]'"):
        open_source(tmp_path, split="train[:2]")
    with pytest.raises(DataError, match="has no split 'test'"):
        open_source("digits", split="test")


# Pairs, numbers, tasks


def test_two_columns_of_text_are_pairs(tmp_path):
    found = from_csv(table(tmp_path, "first,second,label\nx,y,a\n1,2,b\n"), input_column="first,second")
    assert (found.modality, found.raw) == ("text", [("x", "y"), ("1", "2")])


def test_columns_of_numbers_are_an_array_named_or_where_nothing_else_is_there(tmp_path):
    content = "width,height,label\n1,2.5,a\n-3,1e2,b\n"
    for columns in ("width,height", None):
        found = from_csv(table(tmp_path, content), input_column=columns)
        assert found.modality == "array"
        assert np.asarray(found.raw).tolist() == [[1.0, 2.5], [-3.0, 100.0]]
    three = table(tmp_path, "a,b,c,label\nx,y,z,1\n")
    with pytest.raises(DataError, match="input columns 'a', 'b', 'c'; expected one, two of texts, or several of num"):
        from_csv(three, input_column="a,b,c")


@pytest.mark.parametrize("sign", [";", "|", ","])
def test_several_labels_in_one_column(sign, tmp_path):
    content = f'text,label\nx,"red{sign}big"\ny,\nz,big\n'
    found = from_csv(table(tmp_path, content), task="multilabel")
    assert (found.task, found.labels, found.targets.tolist()) == (
        "multilabel",
        ("big", "red"),
        [[1, 1], [0, 0], [1, 0]],
    )


def test_lists_of_labels_and_a_column_a_label(tmp_path):
    rows = [{"text": "x", "label": ["b", "a"]}, {"text": "y", "label": []}, {"text": "z", "label": "a"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = open_source(tmp_path / "t.jsonl", task="multilabel")
    assert (found.labels, found.targets.tolist()) == (("a", "b"), [[1, 1], [0, 0], [1, 0]])
    flags = table(tmp_path, "text,red,big\nx,1,no\ny,0,TRUE\n")
    found = from_csv(flags, label_column="red,big", task="multilabel")
    assert (found.labels, found.targets.tolist()) == (("red", "big"), [[1, 0], [0, 1]])


def test_numbers_to_be_predicted(tmp_path):
    found = from_csv(
        table(tmp_path, "text,price,size\nx,1.5,2\ny,-3,4\n"), label_column="price,size", task="regression"
    )
    assert (found.task, found.labels, found.targets.tolist()) == ("regression", ("price", "size"), [[1.5, 2], [-3, 4]])


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        ("text,a,b\nx,p,q\n", {"label_column": "a,b"}, "One example has one class.*`task='multilabel'` or `task='regr"),
        ("text,a,b\nx,1,0\ny,0,1\n", {"label_column": "a,b"}, "each row has exactly one 1 in 'a', 'b'.*`task='multi"),
        ("text,a,b\nx,1,2\n", {"label_column": "a,b", "task": "multilabel"}, "has '2' as 'b'; expected 0 or 1, no or"),
        ("text,label\nx,much\n", {"task": "regression"}, "has 'much' as 'label'; expected a finite number"),
        ("text,label\nx,nan\n", {"task": "regression"}, "has no labels: 'label' is 'nan' in all 1 rows"),
        ("text,label\nx,1\ny,\n", {"task": "regression"}, "Line 3 of .* has no label: 'label' is ''"),
        ("text,label\nx,1e39\n", {"task": "regression"}, "has '1e39' as 'label'; expected a finite number"),
        ("text;label\nx;1,5\n", {"task": "regression"}, "'1,5' as 'label'; expected a finite number such as 1.5"),
    ],
)
def test_labels_that_the_task_cannot_have(content, settings, words, tmp_path):
    with pytest.raises(DataError, match=words):
        from_csv(table(tmp_path, content), **settings)


def test_a_folder_says_classes_only(tmp_path):
    tiny.folder(tmp_path / "p", per_class=1)
    with pytest.raises(DataError, match=r"says one class an example\. For `task='multilabel'` give a table"):
        open_source(tmp_path / "p", task="multilabel")


def test_outputs_in_another_order_and_labels_that_no_test_example_has():
    flags = Source.of("text", ["x"]).with_outputs([[1, 0]], ["a", "b"], "multilabel")
    assert flags.with_labels(("b", "c", "a")).targets.tolist() == [[0, 0, 1]]
    with pytest.raises(DataError, match="outputs are called a, b; expected b"):
        flags.with_labels(("b",))
    numbers = Source.of("text", ["x"]).with_outputs([[1.0]], ["a"], "regression")
    with pytest.raises(DataError, match="outputs are called a; expected a, b"):
        numbers.with_labels(("a", "b"))


@pytest.mark.parametrize(
    ("values", "labels", "task", "words"),
    [
        ([[1.0, 2.0]], ["a"], "regression", r"shape \(1, 2\); expected 1 rows of one number"),
        ([[0.5]], ["a"], "multilabel", "has 0.5 as 'a'; expected 0 or 1"),
        ([[np.inf]], ["a"], "regression", "has inf as 'a'; expected a finite number"),
        ([["x"]], ["a"], "regression", "not all numbers"),
        ([[1, 1]], ["a", "a"], "multilabel", "each with a name of its own"),
    ],
)
def test_outputs_that_are_refused(values, labels, task, words):
    with pytest.raises(DataError, match=words):
        Source.of("text", ["x"]).with_outputs(values, labels, task)


def test_the_column_of_texts_may_be_called_so_on_the_command_line():
    from flaxtl import config as configs

    words = ["t.csv", "--text-column", "question", "--label-column", "intent"]
    parsed = configs.parse(configs.FinetuneConfig, words, program="flaxtl finetune").data_options
    assert (parsed.input_column, parsed.label_column) == ("question", "intent")


# Patterns that the names themselves make ambiguous

PETS = [
    f"pets/{breed}_{number}.jpg"
    for breed in ("american_bulldog", "american_pit_bull_terrier", "beagle", "english_cocker_spaniel", "english_setter")
    for number in (1, 20)
]
BREEDS = {path.removeprefix("pets/").rpartition("_")[0] for path in PETS}


@pytest.mark.parametrize(
    "pattern",
    ["{}_*", "{}_#", "{}_#.jpg", "{}_#.*", r"(?P<label>.+)_\d+\.jpg", r"(?P<breed>[a-z_]+)_[0-9]+[.].*"],
)
def test_names_that_hold_the_sign_before_their_number(pattern):
    assert set(from_paths(PETS, pattern, "--label-column")) == BREEDS


def test_a_pattern_that_fits_in_several_ways_takes_the_first_and_says_so():
    paths = ["7_jackson_32.wav", "0_theo_1.wav"]
    assert from_paths(paths, "{}_*", "x") == ("7", "0")
    [note] = ambiguity_notes(paths, "{}_*", "label_column")
    assert "reads '7' in 7_jackson_32.wav, where '7_jackson' fits too" in note
    for pattern in ("(?P<label>[^/]+?)_[^/]*", "{}_#"):
        assert repr(pattern) in note
        assert ambiguity_notes(paths, pattern, "label_column") == []
    assert from_paths(paths, "{}_#", "x") == ("7_jackson", "0_theo")
    assert from_paths(paths, "{}_*_*", "x") == ("7", "0")
    assert ambiguity_notes(PETS, "{}_*", "label_column")


@pytest.mark.parametrize(
    ("paths", "pattern"),
    [
        (["cat_img_1.jpg", "dog_img_1_copy.jpg"], "{}_*"),
        (["red-fox-a.png", "cat-b.png"], "{}-*"),
        (["a_b_cat.png", "dog_c.png", "x_y_z_owl.png"], "*_{}"),
    ],
)
def test_paths_of_several_shapes_that_do_not_tell_are_refused_with_patterns_that_do(paths, pattern):
    with pytest.raises(DataError, match=r"can be read in several ways.*Write ") as refused:
        from_paths(paths, pattern, "--label-column")
    for advised in re.findall(r"'(\(\?P[^']*)'", str(refused.value)):
        assert len(from_paths(paths, advised, "x")) == len(paths)


@pytest.mark.parametrize("pattern", ["(?P<label>", "(?P<a>x)(?P<b>y)", "{}_{}", "cat"])
def test_a_pattern_that_is_none(pattern):
    with pytest.raises(ConfigError):
        from_paths(["xy"], pattern, "--label-column")


def test_folders_are_part_of_a_regular_expression_only_where_it_has_a_slash():
    paths = ["data/ann/a_1.png", "data/bob/b_2.png"]
    assert from_paths(paths, r"(?P<label>[^/]+)_\d\.png", "x") == ("a", "b")
    assert from_paths(paths, r"(?P<label>[^/]+)/[^/]+", "x") == ("ann", "bob")


def test_breeds_of_a_folder_are_classes_and_groups(tmp_path):
    for path in PETS:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        pillow.new("L", (4, 4)).save(tmp_path / path)
    source = open_source(tmp_path / "pets", label_column="{}_#")
    assert set(source.labels) == BREEDS
    assert source.notes == ()
    noted = open_source(tmp_path / "pets", label_column="{}_*", group_by=r".*_(?P<number>\d+)\.jpg")
    assert set(noted.labels) == BREEDS
    assert set(noted.groups) == {"1", "20"}
    assert "american_bulldog" in noted.notes[0]


def test_a_class_map_entry_that_changes_nothing_keeps_the_others():
    source = Source.of("text", list("abc"), ["x", "y", "z"])
    assert renamed(source, ["x=x"]).labels == ("x", "y", "z")
    assert renamed(source, ["x"]).labels == ("x",)
