"""What `flaxtl data inspect` tells of pictures, sound, texts and numbers, and the sheet that it draws."""

import json

import numpy as np
import pytest
import tiny
from PIL import Image as pillow

from flaxtl.cli import main
from flaxtl.cli.data import describe
from flaxtl.data import Source, from_arrays


def told(words, capsys):
    capsys.readouterr()
    assert main(["data", "inspect", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(words, capsys):
    capsys.readouterr()
    assert main(list(map(str, words))) == 2
    return capsys.readouterr().err


@pytest.fixture
def photos(tmp_path):
    tiny.folder(tmp_path / "photos", per_class=3)
    pillow.new("RGB", (30, 20)).save(tmp_path / "photos" / "a" / "wide.png")
    twin = (tmp_path / "photos" / "2" / "0.png").read_bytes()
    (tmp_path / "photos" / "10" / "twin.png").write_bytes(twin)
    (tmp_path / "photos" / "a" / "bad.png").write_bytes(twin[:50])
    return tmp_path / "photos"


def test_pictures(photos, capsys):
    found = told([photos], capsys)
    [part] = found["parts"].values()
    assert (part["examples"], part["modality"], part["task"]) == (11, "image", "classification")
    assert part["labels"] == {"2": 3, "10": 4, "a": 4}
    assert part["traits"]["width"] == {"minimum": 8, "median": 8, "maximum": 30}
    assert part["traits"]["height"]["maximum"] == 20
    assert part["traits"]["channels"] == {"1": 10, "3": 1}
    [[path, reason]] = part["unreadable"]
    assert path == str(photos / "a" / "bad.png")
    assert "cannot be decoded" in reason
    [group] = found["duplicates"]
    assert [(entry["key"], entry["label"]) for entry in group] == [
        (str(photos / "2" / "0.png"), "2"),
        (str(photos / "10" / "twin.png"), "10"),
    ]
    assert any("several labels" in warning for warning in found["warnings"])
    assert any("1 unreadable files were skipped" in warning for warning in found["warnings"])


def test_the_text_for_people_says_the_same(photos, capsys):
    assert main(["data", "inspect", str(photos)]) == 0
    said = capsys.readouterr().out
    assert "all: 11 examples (image, classification)" in said
    assert "duplicates: 1" in said
    assert "left out: 1" in said


def test_parts_are_compared(tmp_path, capsys):
    for part in ("train", "test"):
        tiny.folder(tmp_path / part, per_class=2, seed=part == "test")
    (tmp_path / "test" / "2" / "twin.png").write_bytes((tmp_path / "train" / "2" / "0.png").read_bytes())
    found = told([tmp_path], capsys)
    assert {name: part["examples"] for name, part in found["parts"].items()} == {"train": 6, "test": 7}
    assert any("1 examples are in more than one part" in warning for warning in found["warnings"])


def test_sound_with_groups_off_its_file_names(tmp_path, capsys):
    soundfile = pytest.importorskip("soundfile", reason="needs the [audio] extra")
    for name, seconds, rate in (("1_ann_0", 0.5, 8000), ("2_ann_0", 1.0, 8000), ("1_bob_0", 0.25, 16000)):
        soundfile.write(tmp_path / f"{name}.wav", np.full((int(seconds * rate), 2), 0.1), rate)
    out = tmp_path / "sheet.png"
    found = told([tmp_path, "--label-column", "{}_*", "--group-by", "*_{}_*", "--out", out], capsys)
    [part] = found["parts"].values()
    assert (part["labels"], part["groups"]) == ({"1": 2, "2": 1}, 2)
    assert part["traits"]["seconds"] == {"minimum": 0.25, "median": 0.5, "maximum": 1.0, "all": 1.75}
    assert part["traits"]["sample rate"] == {"8000": 2, "16000": 1}
    assert part["traits"]["channels"] == {"2": 3}
    with pillow.open(out) as sheet:
        assert sheet.size == (4 + 2 * 100, 2 * 114)


def test_texts_pairs_numbers_and_several_outputs(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("text,label\nabc,a\n,b\n" + "x,a\n" * 10 + "y,a\n")
    found = told([tmp_path / "t.csv"], capsys)
    assert found["parts"]["all"]["traits"] == {"characters": {"minimum": 0, "median": 1, "maximum": 3}, "empty": 1}
    assert any("less than a third of that: b (1)" in warning for warning in found["warnings"])
    assert sum(len(group) - 1 for group in found["duplicates"]) == 9
    pairs = describe({"all": Source.of("text", [("ab", "c")], ["x"])})
    assert pairs.parts["all"].traits["characters"]["maximum"] == 3
    numbers = from_arrays(np.zeros((2, 3)), modality="array").with_outputs([1.0, 3.0], ["y"], "regression")
    part = describe({"all": numbers}).parts["all"]
    assert part.labels == {"y": {"minimum": 1.0, "mean": 2.0, "maximum": 3.0}}
    assert part.traits == {"shape": {"3": 2}}
    flags = from_arrays(np.eye(3), modality="array").with_outputs([[1, 0]] * 3, ["p", "q"], "multilabel")
    assert describe({"all": flags}).parts["all"].labels == {"p": 3, "q": 0}


def test_a_sheet_shows_a_row_of_each_class(photos, tmp_path, capsys):
    found = told([photos, "--out", tmp_path / "sheets" / "s.png"], capsys)
    assert found["sheet"] == str(tmp_path / "sheets" / "s.png")
    with pillow.open(found["sheet"]) as drawn:
        sheet = np.asarray(drawn)
    assert sheet.shape == (3 * 114, 4 + 4 * 100, 3)
    tile = sheet[2 * 114 + 14 :][:96, 4:100]
    assert tile.mean() > sheet[14:110, 4:100].mean()  # class "a" is brighter than class "2"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data"], "The word inspect or the data is missing. For example: flaxtl data inspect"),
        (["data", "inspekt", "digits"], "takes the word inspect; found 'inspekt'. Did you mean 'inspect'"),
        (["data", "inspect", "nowhere"], "There is no folder nowhere"),
        (["data", "inspect", "digits", "--out", "sheet.gif"], "expected a file that ends in .png"),
    ],
)
def test_what_cannot_be_inspected(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(words, capsys)


def test_texts_are_not_drawn(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("text,label\nx,a\n")
    assert "this data holds text" in refused(["data", "inspect", tmp_path / "t.csv", "--out", "s.png"], capsys)


@pytest.mark.parametrize("stray", ["logo.png", "notes/todo.txt", "2/caption.txt", "10/jingle.wav"])
def test_stray_files_are_named_and_the_rest_is_inspected(stray, tmp_path, capsys):
    place = tiny.folder(tmp_path / "photos", per_class=3)
    (place / stray).parent.mkdir(exist_ok=True)
    if stray.endswith("png"):
        pillow.new("RGB", (5, 5)).save(place / stray)
    elif stray.endswith("wav"):
        pytest.importorskip("soundfile").write(place / stray, np.zeros(100), 8000)
    else:
        (place / stray).write_text("words")
    [part] = told([place], capsys)["parts"].values()
    assert {name: count for name, count in part["labels"].items() if count} == {"2": 3, "10": 3, "a": 3}
    assert str(place / stray) in [path for path, _ in part["unreadable"]]
    assert main(["finetune", str(place), "--from", "nowhere"]) == 2
