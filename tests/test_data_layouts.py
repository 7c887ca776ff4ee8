"""Folders as people have them: files of any ending, part folders of any spelling, folders without labels, odd names."""

import os
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image as pillow
from PIL import features

from flaxtl.data import Source, Splits, from_files, from_folder, open_source
from flaxtl.data.contents import skipped_notes
from flaxtl.errors import DataError

ENDINGS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "tga": "TGA", "pbm": "PPM", "gif": "GIF"}


def put(place, *names):
    """Writes small pictures of differing content; what has another ending than a picture's gets a few bytes."""
    for number, name in enumerate(names):
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        form = ENDINGS.get(file.suffix[1:].lower())
        if form is None:
            file.write_bytes(b"%d" % number)
        else:
            pillow.new("1" if form == "PPM" else "L", (4, 4), number % 2 if form == "PPM" else number).save(file, form)
    return place


def sizes(data):
    """Returns how many examples of which classes each part has."""
    parts = data.parts if isinstance(data, Splits) else {"all": data}
    return {name: (len(part), part.labels) for name, part in parts.items()}


# Nothing vanishes


@pytest.mark.parametrize(
    ("ending", "form", "feature"),
    [
        ("jfif", "JPEG", None),
        ("jpe", "JPEG", None),
        ("pjpeg", "JPEG", None),
        ("tga", "TGA", None),
        ("dib", "DIB", None),
        ("jp2", "JPEG2000", "jpg_2000"),
        ("avif", "AVIF", "avif"),
        ("AVIF", "AVIF", "avif"),
    ],
)
def test_what_pillow_reads_is_read_whatever_its_ending(ending, form, feature, tmp_path):
    if feature and not features.check(feature):
        pytest.skip(f"this Pillow has no {feature}")
    put(tmp_path, "cat/1.jpg")
    (tmp_path / "owl").mkdir()
    pillow.new("RGB", (32, 32), "red").save(tmp_path / "owl" / f"1.{ending}", form)
    assert sizes(from_folder(tmp_path)) == {"all": (2, ("cat", "owl"))}
    assert len(from_files(tmp_path)) == len(open_source(tmp_path)) == 2


@pytest.mark.parametrize("name", ["photo_0017", "1.jpg_large", "1.1", "IMG.X"])
def test_a_picture_without_a_known_ending_is_known_by_its_first_bytes(name, tmp_path):
    put(tmp_path, "cat/1.jpg", "owl/1.png")
    (tmp_path / "owl" / "1.png").rename(tmp_path / "owl" / name)
    source = from_folder(tmp_path)
    assert sizes(source) == {"all": (2, ("cat", "owl"))}
    assert source.skipped == ()
    assert from_files(tmp_path / "owl" / name).modality == "image"


def test_files_that_are_no_examples_are_listed_with_the_reason(tmp_path):
    place = put(
        tmp_path, "a/1.png", "b/1.png", "a/1.xml", "a/2.heic", "b/clip.m4a", "b/1.png~", "b/.hid.png", "more.tar"
    )
    put(
        place,
        "b/.hid.png",
        "a/data",
        "a/.DS_Store",
        "a/Thumbs.db",
        "README.md",
        "a/LICENSE",
        "b/1.md5",
        "__MACOSX/a/1.png",
    )
    (place / "c").mkdir()
    for source in (from_folder(place), from_files(place), from_files(place, modality="image")):
        assert len(source) == 2
        reasons = {os.path.relpath(path, place): reason for path, reason in source.skipped}
        assert sorted(reasons) == [
            "a/1.xml",
            "a/2.heic",
            "a/data",
            "b/.hid.png",
            "b/1.png~",
            "b/clip.m4a",
            "c",
            "more.tar",
        ]
        assert "'.heic' is a picture format that Pillow cannot read here" in reasons["a/2.heic"]
        assert "convert it to .wav or .flac" in reasons["b/clip.m4a"]
        assert "unpack it" in reasons["more.tar"]
        assert "empty" in reasons["c"]
        assert "hidden" in reasons["b/.hid.png"]


def test_what_lies_in_an_archive_is_named_too(tmp_path):
    put(tmp_path, "made/a/1.png", "made/b/1.png", "made/b/2.xml")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("a/1.png", "b/1.png", "b/2.xml"):
            archive.write(tmp_path / "made" / name, f"top\\{name}".replace("/", "\\"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set.zip").rename(tmp_path / "set" / "set.zip")
    source = from_folder(tmp_path / "set")
    assert source.labels == ("a", "b")
    [[path, reason]] = source.skipped
    assert path.endswith("2.xml")
    assert "no ending" in reason


@pytest.mark.parametrize("ending", ["heic", "cr2", "m4a", "mp4", "7z"])
def test_a_class_of_which_nothing_can_be_read_does_not_vanish(ending, tmp_path):
    place = put(tmp_path, "a/1.png", "b/1.png", f"owl/1.{ending}", f"owl/2.{ending}")
    with pytest.raises(DataError, match=rf"None of the files in {place}/owl can be read.*'\.{ending}'"):
        from_folder(place)
    source = from_folder(place, on_bad_file="skip")
    assert source.labels == ("a", "b")
    assert len(source.skipped) == 2


def test_a_folder_of_nothing_that_can_be_read_says_what_there_is(tmp_path):
    with pytest.raises(DataError, match=r"holds no pictures.* but 2 other files, such as .*\.heic'"):
        from_folder(put(tmp_path, "a/1.heic", "b/1.heic"))
    with pytest.raises(DataError, match=r"No files were found.*1\.heic was left out"):
        from_files(tmp_path)


def test_files_of_another_modality_are_named_when_a_folder_is_predicted(tmp_path):
    source = from_files(put(tmp_path, "1.png", "2.txt"), modality="image")
    assert [os.path.basename(key) for key in source.keys] == ["1.png"]
    assert source.skipped == ((str(tmp_path / "2.txt"), "it holds text, not image."),)


def test_what_was_left_out_is_told_by_reason(tmp_path):
    source = from_folder(put(tmp_path, "a/1.png", "b/1.png", "a/1.xml", "a/2.xml", "b/3.npy"))
    first, second = skipped_notes(source.skipped)
    assert first.startswith("2 files were left out, ")
    assert "'.xml' is no ending" in first
    assert second.startswith("1 file was left out, ")
    assert skipped_notes([]) == []


# Part folders

NESTED = ("chest/train", "chest/val", "chest/test")


@pytest.mark.parametrize(
    "tops",
    [
        ("train", "val", "test"),
        ("Training", "VALID", "Testing"),
        ("training_set", "validation_set", "test_set"),
        ("train-set", "dev", "eval"),
        ("trn", "Val Set", "tst"),
        ("train_images", "dev_images", "test1"),
        ("images_train", "images_val", "images_test"),
        NESTED,
        ("wrapper/images/train", "wrapper/images/val", "wrapper/images/test"),
        ("train/train", "val/val", "test/test"),
        ("training_set/training_set", "val", "test_set/test_set"),
        ("train/images", "val/images", "test/images"),
    ],
)
def test_part_folders_of_any_spelling_are_recognised(tops, tmp_path):
    for top in tops:
        put(tmp_path / top, "cat/1.png", "dog/1.png", "dog/2.png")
    put(tmp_path, "labels.csv", "README.txt")
    classes = ("cat", "dog")
    assert sizes(from_folder(tmp_path)) == dict.fromkeys(("train", "validation", "test"), (3, classes))


def test_folders_beside_part_folders_are_left_out_and_named(tmp_path):
    for part in ("train", "test"):
        put(tmp_path / part, "cat/1.png", "dog/1.png")
    put(tmp_path, "samples/1.png", "more/cat/1.png", "unlabeled/1.png")
    found = from_folder(tmp_path)
    assert sizes(found) == {"train": (2, ("cat", "dog")), "test": (2, ("cat", "dog"))}
    reasons = {os.path.relpath(path, tmp_path): reason for path, reason in found.train.skipped}
    assert sorted(reasons) == ["more/cat/1.png", "samples/1.png", "unlabeled/1.png"]
    assert "'samples' lies beside the part folders" in reasons["samples/1.png"]
    assert "examples without labels" in reasons["unlabeled/1.png"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        # the same set once more, inside
        (
            [f"{top}{part}/{c}/1.png" for top in ("", "x/") for part in ("train", "test") for c in "ab"],
            "x holds test, train once more",
        ),
        # train alone, or test alone, beside what may be classes
        (["train/a/1.png", "train/b/1.png", "extra/1.png"], r"If train are parts.*classes=\['train=train'\]"),
        (["a/1.png", "b/1.png", "test/a/1.png", "test/b/1.png"], "beside others"),
        (["train/1.png", "test/1.png", "car/1.png"], "beside others"),
        # parts within classes, or within several folders
        (["a/train/1.png", "a/test/1.png", "b/train/1.png", "b/test/1.png"], "part folders test, train lie in"),
        (["x/train/a/1.png", "x/val/a/1.png", "y/train/a/1.png", "y/val/a/1.png"], "part folders train, val lie in"),
        # parts without labels
        (["train/a/1.png", "train/b/1.png", "test/1.png"], r"The test part .*/test holds 1 files but no class folders"),
        (["train/1.png", "train/2.png", "test/1.png", "train.csv"], r"no class folders.*train\.csv holds the labels"),
        # folds
        (["fold1/a/1.png", "fold1/b/1.png", "fold2/a/1.png"], "divide data for cross-validation"),
        (["audio/fold1/1.png", "audio/fold2/1.png", "audio/fold10/1.png"], "divide data for cross-validation"),
        (["val/a/1.png", "test/a/1.png"], "but no train folder"),
    ],
)
def test_a_layout_that_can_be_read_in_two_ways_is_refused(names, words, tmp_path):
    with pytest.raises(DataError, match=words):
        from_folder(put(tmp_path, *names))


@pytest.mark.parametrize("inside", ["", "train/", "data/", "training_set/images/"])
def test_archives_that_are_called_like_parts_are_the_parts(inside, tmp_path):
    put(tmp_path / "made", "cat/1.png", "dog/1.png", "dog/2.png")
    (tmp_path / "set").mkdir()
    for part in ("train", "test"):
        with zipfile.ZipFile(tmp_path / "set" / f"{part}.zip", "w") as archive:
            for name in ("cat/1.png", "dog/1.png", "dog/2.png"):
                archive.write(tmp_path / "made" / name, inside.replace("train", part) + name)
    found = from_folder(tmp_path / "set")
    assert sizes(found) == {"train": (3, ("cat", "dog")), "test": (3, ("cat", "dog"))}


def test_an_empty_part_folder_is_named(tmp_path):
    place = put(tmp_path, "train/a/1.png", "train/b/1.png")
    (place / "val").mkdir()
    found = from_folder(place)
    assert found.validation is None
    assert [path for path, _ in found.train.skipped] == [str(place / "val")]
    (place / "train").rename(place / "test")
    (place / "train").mkdir()
    with pytest.raises(DataError, match="no train folder with files in it"):
        from_folder(place)


@pytest.mark.parametrize("name", ["test", "val", "Train", "dev"])
def test_a_class_that_is_called_like_a_part_is_a_class_and_the_note_says_so(name, tmp_path):
    source = from_folder(put(tmp_path, "bus/1.png", "car/1.png", f"{name}/1.png"))
    assert isinstance(source, Source)
    assert set(source.labels) == {"bus", "car", name}
    assert f"folder {name!r} lies beside class folders and is read as a class" in source.notes[0]


def test_the_setting_split_names_the_parts(tmp_path):
    place = put(tmp_path, *(f"{top}/{c}/1.png" for top in ("one", "two", "Test") for c in "ab"), "Test/a/2.png")
    assert sizes(open_source(place, split="train=one,test=two")) == {"train": (2, ("a", "b")), "test": (2, ("a", "b"))}
    assert sizes(open_source(place, split="one")) == {"all": (2, ("a", "b"))}
    assert sizes(open_source(place, split="train=two,test=test"))["test"] == (3, ("a", "b"))
    with pytest.raises(DataError, match="has no split 'three'"):
        open_source(place, split="three")
    # A competition's test part has no labels.
    place = put(tmp_path / "kaggle", "train/a/1.png", "train/b/1.png", "test/1.png")
    source = open_source(place, split="train")
    assert sizes(source) == {"all": (2, ("a", "b"))}
    assert [os.path.relpath(path, place) for path, _ in source.skipped] == ["test/1.png"]


def test_the_setting_classes_makes_classes_of_folders_that_are_called_like_parts(tmp_path):
    place = put(tmp_path, "train/steam/1.png", "train/electric/1.png", "car/1.png")
    assert open_source(place, classes=["train=train"]).labels == ("car", "train/electric", "train/steam")
    place = put(tmp_path / "folds", "fold1/1.png", "fold2/1.png")
    assert open_source(place, classes=["fold1=fold1,fold2=fold2"]).labels == ("fold1", "fold2")


# Folders without labels


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled", "unknown", "unsorted", "un-labelled images", "to_label"])
def test_examples_without_labels_are_left_out_and_the_note_says_how_to_keep_them(name, tmp_path):
    place = put(tmp_path, "a/1.png", "b/1.png", f"{name}/1.png", f"{name}/2.png")
    source = from_folder(place)
    assert source.labels == ("a", "b")
    [note] = skipped_notes(source.skipped)
    assert note.startswith("2 files were left out, ")
    assert f"classes=['{name}={name}']" in note
    assert set(open_source(place, classes=[f"{name}={name}"]).labels) == {"a", "b", name}
    assert set(open_source(place, classes=[f"{name}=other"]).labels) == {"a", "b", "other"}
    assert len(open_source(place, known_classes=[name])) == 4
    assert len(from_files(place)) == 4


def test_a_stray_file_beside_part_folders_is_named(tmp_path):
    place = put(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "stray.png", "notes.txt")
    names = [os.path.basename(path) for path, _ in from_folder(place).train.skipped]
    assert sorted(names) == ["notes.txt", "stray.png"]
    assert [os.path.basename(path) for path, _ in open_source(place, split="train").skipped] == [
        "notes.txt",
        "1.png",
        "stray.png",
    ]


def test_two_folders_of_which_one_may_be_without_labels_are_refused(tmp_path):
    place = put(tmp_path, "known/1.png", "unknown/1.png")
    with pytest.raises(DataError, match=r"holds the folder unknown.*classes=\['unknown=unknown'\]"):
        from_folder(place)
    assert open_source(place, classes=["unknown=unknown"]).labels == ("known", "unknown")


def test_examples_without_labels_within_a_part(tmp_path):
    place = put(tmp_path, *(f"{part}/{c}/1.png" for part in ("train", "val") for c in ("a", "b", "unlabeled")))
    found = from_folder(place)
    assert sizes(found) == {"train": (2, ("a", "b")), "validation": (2, ("a", "b"))}
    assert len(found.validation.skipped) == 1
    place = put(tmp_path / "one", "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/unknown/1.png")
    assert len(from_folder(place).validation) == 1
    place = put(tmp_path / "none", "train/a/1.png", "train/b/1.png", "val/unknown/1.png")
    with pytest.raises(DataError, match="val holds the folder unknown"):
        from_folder(place)


# Names


@pytest.mark.parametrize("name", ["café", "Überweisung", "がぎ"])
def test_two_unicode_forms_of_a_name_are_one_class(name, tmp_path):
    composed, apart = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    assert composed != apart
    put(tmp_path / "parts" / "train", f"{composed}/1.png", "tea/1.png")
    put(tmp_path / "parts" / "test", f"{apart}/1.png", "tea/1.png")
    found = from_folder(tmp_path / "parts")
    assert found.test.labels == found.train.labels
    assert sorted(found.test.targets) == [0, 1]
    beside = from_folder(put(tmp_path / "beside", f"{composed}/1.png", f"{apart}/2.png", "tea/1.png"))
    assert set(beside.labels) == {composed, "tea"}
    assert "2 folders are called" in beside.notes[0]
    # A model keeps the spelling that it was trained with.
    assert set(beside.with_labels((apart, "tea")).targets) == {0, 1}
    assert beside.with_labels((apart, "tea")).labels == (apart, "tea")
    assert open_source(tmp_path / "beside", classes=[f"{apart}=x"]).labels in (("tea", "x"), ("x", "tea"))


def test_names_that_differ_in_case_or_spaces_stay_apart_with_a_note(tmp_path):
    source = from_folder(put(tmp_path, "Cat/1.png", "cat /1.png", "dog/1.png"))
    assert len(source.labels) == 3
    assert "differ only in capital letters or spaces" in source.notes[0]


def test_names_that_are_no_utf8_are_read_and_shown_with_escapes(tmp_path):
    place = put(tmp_path, "a/1.png", "b/1.png")
    os.rename(os.fsencode(place / "a" / "1.png"), os.fsencode(place) + b"/a/f\xfcnf.png")
    os.rename(os.fsencode(place / "b"), os.fsencode(place) + b"/gr\xfcn")
    source = from_folder(place)
    assert source.labels == ("a", "gr\\xfcn")
    assert source.keys[0] == f"{place}/a/f\\xfcnf.png"
    assert "2 file names are not UTF-8" in source.notes[0]
    assert all(np.asarray(pillow.open(raw)).shape == (4, 4) for raw in source.raw)
    with open(os.fsencode(place) + b"/a/z\xe9ro.png", "wb"):
        pass
    with pytest.raises(DataError, match="is empty"):
        from_folder(place)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train2017", "val2017"),
        ("flowers_train", "flowers_test"),
        ("01_train", "02_test"),
        ("train_1", "test_1"),
        ("My Training Data v2", "My Test Data v2"),
    ],
)
def test_parts_are_recognised_by_a_word_in_names_that_are_otherwise_the_same(train, test, tmp_path):
    for part in (train, test):
        for name in ("cat", "dog"):
            put(tmp_path / "d" / part / name, "1.png")
    found = from_folder(tmp_path / "d")
    assert found.train.labels == ("cat", "dog")
    assert len(found.parts) == 2


def test_classes_that_have_a_part_s_word_in_their_names_stay_classes(tmp_path):
    for name in ("steam train", "test tube", "evaluation board"):
        put(tmp_path / "d" / name, "1.png")
    assert from_folder(tmp_path / "d").labels == ("evaluation board", "steam train", "test tube")


@pytest.mark.parametrize("tops", [("query", "gallery"), ("entrainement", "test"), ("site A", "site B", "site C")])
def test_folders_that_all_hold_the_same_folders_are_asked_about(tops, tmp_path):
    for top in tops:
        for name in ("cat", "dog"):
            put(tmp_path / "d" / top / name, "1.png")
    with pytest.raises(DataError, match=r"split='train=.*label_column='\*/\{\}/\*'"):
        from_folder(tmp_path / "d")
    split = f"train={tops[0]},test={tops[1]}"
    assert open_source(tmp_path / "d", split=split).train.labels == ("cat", "dog")
    assert open_source(tmp_path / "d", label_column="*/{}/*").labels == ("cat", "dog")
    names = [f"{top}/{name}" for top in tops for name in ("cat", "dog")]
    assert set(open_source(tmp_path / "d", classes=names).labels) == set(names)


@pytest.mark.parametrize("name", ["nan", "-1", "None", "?"])
def test_a_class_folder_that_may_stand_for_no_label_is_noted(name, tmp_path):
    put(tmp_path, f"{name}/1.png", "0/1.png", "1/1.png")
    found = open_source(tmp_path)
    assert name in found.labels
    assert any(note.startswith(f"{name!r} is read as a class. If it stands") for note in found.notes)
    assert open_source(tmp_path, classes=[f"{name}="]).labels == ("0", "1")
    assert open_source(tmp_path, classes=[f"{name}={name}"]).notes == ()


def test_folders_called_like_classes_beside_them_are_noted(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "augmented/a/2.png", "augmented/b/2.png")
    [note] = open_source(tmp_path).notes
    assert note.startswith("The folders augmented/a, augmented/b are called like classes beside them")
    merged = open_source(tmp_path, classes={"augmented/a": "a", "augmented/b": "b"})
    assert (merged.labels, len(merged)) == (("a", "b"), 4)


@pytest.mark.parametrize(
    ("names", "pattern", "labels"),
    [
        (["001_cat.jpg", "002_dog.png", "003_cat.png"], "*_{}", ("cat", "dog")),
        (["x/1-v1.5.jpg", "x/2-v1.5.png", "x/3-old.jpg"], "*-{}", ("old", "v1.5")),
        (["cat.jpg", "dog.png"], "{}", ("cat", "dog")),
    ],
)
def test_the_ending_of_a_file_is_no_part_of_a_class_at_the_end_of_a_pattern(names, pattern, labels, tmp_path):
    put(tmp_path, *names)
    found = open_source(tmp_path, label_column=pattern)
    assert (found.labels, found.notes) == (labels, ())


def test_a_stray_file_that_a_pattern_does_not_match_is_named_and_left_out_where_asked(tmp_path):
    put(tmp_path, "cat_1.png", "dog_1.png", "logo.png")
    with pytest.raises(DataError, match="does not match 1 of 3 paths"):
        open_source(tmp_path, label_column="{}_#")
    found = open_source(tmp_path, label_column="{}_#", on_bad_file="skip")
    assert (found.labels, found.skipped) == (
        ("cat", "dog"),
        ((str(tmp_path / "logo.png"), "'{}_#' does not match its name."),),
    )
    with pytest.raises(DataError, match=r"does not match 1 of 3 paths: .*logo"):
        open_source(tmp_path, label_column=r"(?P<label>cat|dog)?(_\d|logo)\.png")
