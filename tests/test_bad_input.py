"""Whatever a user can get wrong ends with exit code 2 and one sentence that names the thing; never with a traceback."""

import csv
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny
from PIL import Image as pillow

from flaxtl import checkpoint
from flaxtl.card import NetworkSpec
from flaxtl.cli import main


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A good model and good data, which each test copies before it spoils them."""
    place = tmp_path_factory.mktemp("given")
    tiny.model().save(place / "model")
    tiny.folder(place / "photos", per_class=2)
    return place


@pytest.fixture
def place(given, tmp_path):
    shutil.copytree(given, tmp_path / "p")
    return tmp_path / "p"


def refused(words, capsys):
    """Runs a command that must be refused; returns the one sentence, or few, on stderr."""
    capsys.readouterr()
    assert main([str(w) for w in words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert printed.err.startswith("flaxtl: ")
    assert printed.err.rstrip().endswith((".", "?")) or "For example: flaxtl " in printed.err
    return printed.err


def finetune(place, *more):
    return ["finetune", place / "photos", "--from", place / "model", "--out", place / "run", *more]


def refused_data(place, capsys, *more):
    """Data that is refused leaves no run behind."""
    said = refused(finetune(place, *more), capsys)
    assert not (place / "run").exists()
    return said


# Data


def test_an_absent_folder(place, capsys):
    shutil.rmtree(place / "photos")
    assert f"There is no folder {place / 'photos'}" in refused_data(place, capsys)


def test_an_empty_folder(place, capsys):
    shutil.rmtree(place / "photos")
    (place / "photos").mkdir()
    assert f"{place / 'photos'} holds no pictures, sound or text. Expected" in refused_data(place, capsys)


def test_a_folder_of_one_class(place, capsys):
    for name in ("2", "10"):
        shutil.rmtree(place / "photos" / name)
    assert "The data holds the one class 'a'; expected at least two" in refused_data(place, capsys)


def test_a_folder_without_class_folders(place, capsys):
    for file in list((place / "photos").rglob("*.png")):
        file.rename(place / "photos" / file.name)
    assert "holds no class folders" in refused_data(place, capsys)


def no_picture(file):
    file.write_bytes(b"this is no picture")


def truncated(file):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    pillow.fromarray(noise).save(file)
    os.truncate(file, file.stat().st_size // 2)


def zero_bytes(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("spoil", [no_picture, truncated, zero_bytes])
def test_an_unreadable_picture_is_named_or_skipped(spoil, place, capsys):
    bad = place / "photos" / "a" / "bad.png"
    spoil(bad)
    said = refused_data(place, capsys)
    assert str(bad) in said
    assert "--on-bad-file skip" in said
    for command in (["predict", place / "model", bad], ["evaluate", place / "model", place / "photos"]):
        assert str(bad) in refused(command, capsys)
    assert main([str(w) for w in finetune(place, "--on-bad-file", "skip")]) == 0
    printed = capsys.readouterr().out
    assert "1 unreadable files were skipped" in printed
    assert str(bad) in printed


def test_a_folder_of_nothing_but_unreadable_pictures(place, capsys):
    for file in (place / "photos").rglob("*.png"):
        no_picture(file)
    assert "All 6 files are unreadable" in refused_data(place, capsys, "--on-bad-file", "skip")


def table(place, rows, header=("path", "label")):
    file = place / "table.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file


def test_a_table_that_names_missing_files(place, capsys):
    file = table(place, [("photos/a/4.png", "a"), ("photos/a/nowhere.png", "b")])
    said = refused(["finetune", file, "--from", place / "model", "--out", place / "run"], capsys)
    assert f"{file} names 1 files that do not exist: {place / 'photos' / 'a' / 'nowhere.png'}" in said


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        ([], ("path", "label"), "holds no rows"),
        ([("x", "y", "a")], ("one", "other", "label"), "cannot be inferred. Name it with"),
        ([("x.png", "a"), ("x.png", "")], ("path", "label"), "table.csv has no label: 'label' is ''"),
        ([("photos/a/4.png", "a"), ("photos/a/5.png", "a")], ("path", "label"), "holds the one class 'a'"),
    ],
)
def test_a_table_that_cannot_be_used(rows, header, words, place, capsys):
    file = table(place, rows, header)
    assert words in refused(["finetune", file, "--from", place / "model", "--out", place / "run"], capsys)


def test_text_for_a_network_of_pictures(place, capsys):
    file = table(place, [("good", "yes"), ("bad", "no")], ("text", "label"))
    for command in (
        ["finetune", file, "--from", place / "model", "--out", place / "run"],
        ["evaluate", place / "model", file],
    ):
        said = refused(command, capsys)
        assert "holds text, but this network was pretrained on pictures" in said
    (place / "note.txt").write_text("good")
    assert "pretrained on pictures" in refused(["predict", place / "model", place / "note.txt"], capsys)
    assert "pictures" in refused(["pretrain", file, "--out", place / "run"], capsys)


def test_classes_that_the_model_does_not_know(place, capsys):
    said = refused(["evaluate", place / "model", place / "photos"], capsys)
    assert "classes 2, 10, a, which are not among the model's: x, y" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["predict", "MODEL", "nowhere.png"], "There is no file nowhere.png"),
        (["predict", "MODEL", "MODEL/card.json"], "which is no table"),
        (["evaluate", "MODEL", "nowhere"], "There is no folder nowhere"),
        (["evaluate", "MODEL", "MODEL/card.json"], "which is no table"),
        (["predict", "MODEL"], "The model or the files is missing"),
        (["evaluate", "MODEL"], "The model or the data is missing"),
        (["finetune"], "The training data is missing"),
        (["pretrain"], "The training data is missing"),
        (["inspect"], "The checkpoint is missing"),
        (["predict", "MODEL", "x.png", "--batch-size", "0"], "--batch-size is 0"),
        (["evaluate", "MODEL", "x", "--batch-size", "0"], "--batch-size is 0"),
    ],
)
def test_what_is_missing_is_named(words, sentence, place, capsys):
    assert sentence in refused([w.replace("MODEL", str(place / "model")) for w in words], capsys)


# Checkpoints


def data_files(model):
    return [f for f in (model / "checkpoint").rglob("*") if f.is_file() and f.parent.name == "d"]


def missing(model):
    shutil.rmtree(model)


def empty(model):
    missing(model)
    model.mkdir()


def not_orbax(model):
    missing(model / "checkpoint")
    (model / "checkpoint").mkdir()
    (model / "checkpoint" / "weights.npz").write_bytes(b"x")


def cut(model):
    for file in data_files(model):
        os.truncate(file, file.stat().st_size // 2)


def flipped(model):
    [file] = [f for f in data_files(model) if f.stat().st_size == max(g.stat().st_size for g in data_files(model))]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def card_cut(model):
    os.truncate(model / "card.json", 20)


def not_a_number(model):
    variables = tiny.model().variables
    head = {**variables["params"]["head"], "bias": np.array([np.nan, 0.0], np.float32)}
    tree = {**variables, "params": {**variables["params"], "head": head}}
    checkpoint.save(model / "checkpoint", tree, overwrite=True)


def a_file(model):
    missing(model)
    model.write_bytes(b"x")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (missing, "There is no model at PLACE"),
        (empty, "PLACE holds no card.json"),
        (a_file, "PLACE is no kind of file that flaxtl reads"),
        (not_orbax, "PLACE/checkpoint is no Orbax checkpoint"),
        (cut, "PLACE/checkpoint"),
        (flipped, "PLACE/checkpoint"),
        (card_cut, "PLACE/card.json is not readable JSON"),
        (not_a_number, "PLACE holds NaN or infinity in params:head/bias"),
    ],
)
def test_a_model_that_is_no_good(spoil, words, place, capsys):
    spoil(place / "model")
    sentence = words.replace("PLACE", str(place / "model"))
    for command in (
        finetune(place),
        ["predict", place / "model", place / "photos"],
        ["evaluate", place / "model", place / "photos"],
    ):
        assert sentence in refused(command, capsys)
    assert not (place / "run").exists()


def test_a_flipped_byte_is_said_to_be_damage(place, capsys):
    flipped(place / "model")
    assert "is damaged" in refused(finetune(place), capsys)


def test_a_tree_that_does_not_fit_prints_both_lists(place, capsys):
    card = tiny.CARD
    other = NetworkSpec("resnet", {**card.network.config, "depths": [2]})
    tiny.with_card(tiny.model(), network=other).card.write(place / "model")
    said = refused(finetune(place), capsys)
    assert "Missing in the checkpoint (10): batch_stats:backbone/blocks_1/bn1/mean" in said
    assert "Left over in the checkpoint (0): none" in said


@pytest.mark.parametrize(
    ("spoil", "words"), [(missing, "no checkpoint at"), (empty, "is empty"), (a_file, "is a file")]
)
def test_inspecting_what_is_no_checkpoint(spoil, words, place, capsys):
    spoil(place / "model")
    said = refused(["inspect", place / "model"], capsys)
    assert words in said
    assert str(place / "model") in said


def test_inspecting_a_pattern_that_matches_nothing(place, capsys):
    said = refused(["inspect", place / "model", "--pattern", "heads/**"], capsys)
    assert "'heads/**' matches none of the" in said
    assert "Did you mean" in said


# Settings


def test_unknown_keys_of_a_file_suggest_the_nearest(place, capsys):
    (place / "c.yaml").write_text("optimizer: {learning_rat: 0.1}\n")
    said = refused(finetune(place, "--config", place / "c.yaml"), capsys)
    assert "no setting 'optimizer.learning_rat'. Did you mean 'optimizer.learning_rate'" in said
    assert "no configuration file" in refused(finetune(place, "--config", place / "absent.yaml"), capsys)
    assert "--config needs the name" in refused(finetune(place, "--config"), capsys)
    assert "There is no command 'finetun'. Did you mean 'finetune'" in refused(["finetun"], capsys)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--learning-rat", "0.1"], ["--learning-rat", "--learning-rate"]),
        (["--epochs", "many"], ["--epochs", "many"]),
        (["--strategy", "magic"], ["magic", "head", "full", "lpft", "scratch"]),
        (["--seed"], ["--seed"]),
    ],
)
def test_wrong_options_exit_with_two_and_name_the_right_ones(words, named, place, capsys):
    assert main([str(w) for w in finetune(place, *words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    for name in named:
        assert name in printed.err
    assert not (place / "run").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--batch-size", "0"], "--batch-size is 0; expected a whole number of at least 1."),
        (["--learning-rate", "-1"], "--learning-rate is -1.0; expected a number above 0."),
        (["--examples-per-class", "0"], "--examples-per-class is 0"),
        (["--trainable", "heads/**", "--strategy", "full"], "'heads/**' matches none of the"),
        (["--from", "flaxtl:charactres"], "no embedded model 'charactres'. Did you mean 'characters'"),
    ],
)
def test_impossible_values(words, sentence, place, capsys):
    assert sentence in refused_data(place, capsys, *words)


def test_pretraining_a_network_that_does_not_exist(place, capsys):
    words = ["pretrain", place / "photos", "--out", place / "run"]
    assert "Did you mean 'resnet18" in refused([*words, "--variant", "resnet-18"], capsys)
    assert "no network family 'resnets'. Did you mean 'resnet'" in refused([*words, "--family", "resnets"], capsys)
    assert not (place / "run").exists()


# Places


def test_a_run_directory_that_is_taken(place, capsys):
    (place / "run").mkdir()
    (place / "run" / "thesis.txt").write_text("precious")
    for more in ((), ("--overwrite",), ("--resume",)):
        assert f"{place / 'run'} holds files but no run" in refused(finetune(place, *more), capsys)
    assert (place / "run" / "thesis.txt").read_text() == "precious"


def test_a_run_directory_that_cannot_be_made(place, capsys):
    (place / "file").write_text("x")
    said = refused(["finetune", place / "photos", "--from", place / "model", "--out", place / "file" / "run"], capsys)
    assert str(place / "file" / "run") in said


FULL_DISK = """
import resource, sys
from flaxtl.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_full_disk_while_the_model_is_saved_leaves_the_earlier_model_whole(place):
    words = finetune(place, "--strategy", "full", "--epochs", "1", "--json")
    assert main([str(w) for w in words]) == 0
    before = {f: f.read_bytes() for f in (place / "run" / "model").rglob("*") if f.is_file()}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *map(str, words), "--resume"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert f"flaxtl: {place / 'run' / 'model'} could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert {f: f.read_bytes() for f in (place / "run" / "model").rglob("*") if f.is_file()} == before


# Tracebacks, for those who ask


def test_debug_shows_the_traceback_and_the_sentence(place, capsys):
    shutil.rmtree(place / "photos")
    assert main([str(w) for w in finetune(place, "--debug")]) == 2
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert "DataError" in said
    assert said.splitlines()[-1].startswith(f"flaxtl: There is no folder {place / 'photos'}")


def test_a_defect_of_ours_is_not_dressed_up_as_the_users(place, monkeypatch):
    monkeypatch.setattr("flaxtl.cli.commands.inspect", lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["inspect", str(place / "model")])
