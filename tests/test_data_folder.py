"""Folders of classes, of train/val/test folders, of archives; what cannot be read is named, or skipped and listed."""

import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image as pillow

from flaxtl.data import Source, Splits, from_files, from_folder, open_source
from flaxtl.data.image import decode
from flaxtl.errors import DataError


def picture(file, value=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    pillow.new("L", (4, 4), value).save(file)
    return file


def pictures(place, *names):
    """Writes small pictures, each of its own brightness."""
    for value, name in enumerate(names):
        picture(place / name, value)
    return place


def brightness(source):
    return {key: int(decode(raw).mean()) for key, raw in zip(source.keys, source.raw, strict=True)}


def archive(file, **members):
    """Writes a zip archive; members are its entries (with / as __) by brightness."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as packed:
        for name, value in members.items():
            made = picture(file.parent / "made" / "x.png", value)
            packed.write(made, name.replace("__", "/") + ".png")
        shutil.rmtree(file.parent / "made")
    return file


# Class folders


def test_classes_and_files_are_in_natural_order(tmp_path):
    place = pictures(tmp_path, "10/a.png", "2/b10.PNG", "2/b9.png", "x/c.png", ".git/d.png", "2/.e.png")
    (place / "2" / "notes.md").write_text("no data")
    source = from_folder(place)
    assert isinstance(source, Source)
    assert (source.modality, source.labels) == ("image", ("2", "10", "x"))
    assert [source.labels[t] for t in source.targets] == ["2", "2", "10", "x"]
    assert source.keys == tuple(str(place / n) for n in ("2/b9.png", "2/b10.PNG", "10/a.png", "x/c.png"))
    assert list(brightness(source).values()) == [2, 1, 0, 3]
    # What is hidden and what is no data is named; what a tool put there is not.
    assert [os.path.basename(path) for path, _ in source.skipped] == [".e.png", "notes.md"]


def test_a_class_is_the_path_of_its_folder(tmp_path):
    source = from_folder(pictures(tmp_path, "Greek/1/a.png", "Latin/1/a.png", "Latin/2/a.png"))
    assert source.labels == ("Greek/1", "Latin/1", "Latin/2")
    assert source.targets.tolist() == [0, 1, 2]


def test_a_linked_class_folder_is_read_and_a_circle_is_not_followed(tmp_path):
    place = pictures(tmp_path / "data", "a/1.png")
    pictures(tmp_path / "elsewhere", "1.png", "2.png")
    (place / "b").symlink_to(tmp_path / "elsewhere")
    (place / "a" / "circle").symlink_to(place)
    source = from_folder(place)
    assert source.labels == ("a", "b")
    assert source.targets.tolist() == [0, 1, 1]


def test_text_and_sound_are_told_by_their_ending(tmp_path):
    for name in ("t/a/1.txt", "t/b/1.txt", "s/a/1.wav", "s/b/1.flac"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    assert from_folder(tmp_path / "t").modality == "text"
    with pytest.raises(DataError, match=r"audio \(.*1\.wav\), text \(.*1\.txt\); expected one kind"):
        from_folder(tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "holds no pictures, sound or text. Expected"),
        (("1.png", "2.png"), "holds no class folders"),
        (("a/1.png", "b/1.png", "stray.png"), r"stray\.png lies in no class folder"),
        (("train/1.png", "test/1.png"), "holds no class folders"),
        (("train/a/1.png", "train/b/1.png", "train/stray.png"), r"stray\.png lies in no class folder"),
        (("test/a/1.png", "test/b/1.png"), "holds test but no train folder"),
        (("train/a/1.png", "train/b/1.png", "val/c/1.png"), "classes c are not among the known ones: a, b"),
        (("val/a/1.png", "Valid/a/1.png", "train/a/1.png", "train/b/1.png"), "of the same part"),
    ],
)
def test_folders_that_are_no_data(names, words, tmp_path):
    with pytest.raises(DataError, match=words):
        from_folder(pictures(tmp_path, *names))


def test_a_wrapping_folder_and_a_licence_beside_it_are_not_classes(tmp_path):
    place = pictures(tmp_path, "images/a/1.png", "images/b/1.png")
    (place / "LICENSE.txt").write_text("free")
    found = from_folder(place)
    assert found.labels == ("a", "b")
    assert len(found) == 2
    inner = from_folder(pictures(tmp_path / "w", "set/train/a/1.png", "set/train/b/1.png", "set/test/a/1.png"))
    assert inner.test is not None
    assert inner.train.labels == ("a", "b")


def test_of_a_folder_to_predict_only_what_the_network_takes_is_read(tmp_path):
    place = pictures(tmp_path, "a/1.png", "2.png")
    (place / "LICENSE.txt").write_text("free")
    assert len(from_files(place, modality="image")) == 2
    assert from_files(place, modality="text").modality == "text"
    assert from_files(place / "a", modality="text").modality == "image"  # and is then refused by both names


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(DataError, match="There is no folder nowhere"):
        from_folder("nowhere")
    with pytest.raises(DataError, match="is a file; expected a folder"):
        from_folder(picture(tmp_path / "x.png"))
    with pytest.raises(DataError, match=r"x\.png is neither a folder nor a \.csv"):
        open_source(tmp_path / "x.png")


# Parts


def test_parts_share_the_class_order_of_training(tmp_path):
    place = pictures(tmp_path, "Train/10/1.png", "Train/2/1.png", "Valid/10/1.png", "test/2/1.png", "test/10/1.png")
    found = from_folder(place)
    assert isinstance(found, Splits)
    for part, targets in ((found.train, [0, 1]), (found.validation, [1]), (found.test, [0, 1])):
        assert part.labels == ("2", "10")
        assert part.targets.tolist() == targets


def test_training_alone_and_classes_that_are_called_like_parts(tmp_path):
    found = from_folder(pictures(tmp_path / "a", "train/x/1.png", "train/y/1.png"))
    assert isinstance(found, Splits)
    assert (found.validation, found.test) == (None, None)
    assert from_folder(pictures(tmp_path / "b", "train/1.png", "car/1.png")).labels == ("car", "train")


# Archives


def test_archives_count_as_unpacked(tmp_path):
    archive(tmp_path / "one.zip", top__a__1=1, top__b__1=2)
    archive(tmp_path / "two.zip", a__2=3, a__3=4, c__1=5)
    source = from_folder(tmp_path)
    assert source.labels == ("a", "b", "c")
    assert source.targets.tolist() == [0, 0, 0, 1, 2]
    assert list(brightness(source).values()) == [1, 3, 4, 2, 5]
    assert source.keys[0] == f"{tmp_path}/one.zip/top/a/1.png"


def test_the_same_file_in_two_archives_counts_once_and_another_one_is_refused(tmp_path):
    archive(tmp_path / "one.zip", a__1=1, b__1=2)
    archive(tmp_path / "two.zip", a__1=1, b__2=3)
    assert len(from_folder(tmp_path)) == 3
    archive(tmp_path / "three.zip", b__1=9, a__7=3)
    with pytest.raises(DataError, match=r"one\.zip/b/1\.png and .*three\.zip/b/1\.png are two files"):
        from_folder(tmp_path)


def test_an_archive_that_is_none_is_named(tmp_path):
    pictures(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "bad.zip").write_bytes(b"PK, but no archive")
    with pytest.raises(DataError, match=r"bad\.zip cannot be read"):
        from_folder(tmp_path)


# Bad files


@pytest.fixture
def spoilt(tmp_path):
    """Five pictures, three of which cannot be read: nothing in it, cut in half, no picture."""
    place = pictures(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png", "c/1.png")
    (place / "a" / "2.png").write_bytes(b"")
    pillow.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)).save(place / "b" / "1.png")
    os.truncate(place / "b" / "1.png", (place / "b" / "1.png").stat().st_size // 2)
    (place / "c" / "1.png").write_bytes(b"no picture")
    return place


def test_the_first_bad_file_is_named(spoilt):
    with pytest.raises(DataError, match=r"a/2\.png is empty \(zero bytes\)\. Mend or remove it"):
        from_folder(spoilt)


def test_skipped_files_are_listed_with_the_reason_and_labels_stay_right(spoilt):
    source = from_folder(spoilt, on_bad_file="skip")
    assert source.keys == (str(spoilt / "a/1.png"), str(spoilt / "b/2.png"))
    assert source.labels == ("a", "b", "c")  # a class does not vanish with its only file
    assert source.targets.tolist() == [0, 1]
    assert [path for path, _ in source.skipped] == [str(spoilt / n) for n in ("a/2.png", "b/1.png", "c/1.png")]
    assert all(
        word in reason for word, (_, reason) in zip(("zero bytes", "truncated", "not in a format"), source.skipped)
    )
    assert source.subset([0]).skipped == source.skipped


def test_nothing_but_bad_files(spoilt):
    for good in ("a/1.png", "b/2.png"):
        (spoilt / good).write_bytes(b"")
    with pytest.raises(DataError, match="All 5 files are unreadable"):
        from_folder(spoilt, on_bad_file="skip")


def test_a_broken_link_is_a_bad_file(tmp_path):
    place = pictures(tmp_path, "a/1.png", "b/1.png")
    (place / "b" / "2.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"b/2\.png cannot be decoded"):
        from_folder(place)


def test_a_bad_member_of_an_archive_is_named(tmp_path):
    archive(tmp_path / "x.zip", a__1=1, b__1=2)
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as packed:
        packed.writestr("b/2.png", b"no picture")
    with pytest.raises(DataError, match=r"x\.zip/b/2\.png is not in a format"):
        from_folder(tmp_path)


# Files without labels


def test_files_and_folders_for_prediction(spoilt, tmp_path):
    source = from_files([spoilt / "b", spoilt / "a" / "1.png"], on_bad_file="skip")
    assert source.keys == (str(spoilt / "b/2.png"), str(spoilt / "a/1.png"))
    assert source.targets.tolist() == [-1, -1]
    assert source.labels == ()
    assert len(source.skipped) == 1
    (tmp_path / "empty").mkdir()
    for given, words in (
        (tmp_path / "x.png", "There is no file"),
        (tmp_path / "empty", "No files were found"),
        (__file__, r"unknown ending: '\.py' is no ending of a picture"),
        (spoilt, r"a/2\.png is empty"),
    ):
        with pytest.raises(DataError, match=words):
            from_files(given)


# Real data


@pytest.mark.shared
def test_the_flowers(shared):
    source = from_folder(shared / "data" / "flowers" / "images")
    assert source.labels == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    assert np.bincount(source.targets).tolist() == [120] * 5
    assert all(f"/{source.labels[t]}/" in key for t, key in zip(source.targets, source.keys, strict=True))
    assert source.skipped == ()
    picture = decode(source.raw[0])
    assert (min(picture.shape[:2]), picture.shape[2]) == (224, 3)


@pytest.mark.shared
def test_the_handwritten_characters_in_two_archives(shared):
    source = from_folder(shared / "data" / "omniglot_small")
    assert len(source.labels) == 242
    assert set(np.bincount(source.targets)) == {20}
    assert source.labels[0] == "Balinese/character01"
    picture = decode(source.raw[0])
    assert picture.shape == (105, 105, 1)
    assert np.unique(picture).tolist() == [0, 255]
    assert picture.mean() > 200  # ink on paper
