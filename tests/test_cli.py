"""The forms of the command line that other people's scripts rely on."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tiny
import yaml

import flaxtl
from flaxtl import config as configs
from flaxtl import paths
from flaxtl.cli import main
from flaxtl.config import COMMANDS

FAST = ["--epochs", "2", "--batch-size", "8", "--save-every", "100"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model to start from, pictures to learn from, and others to measure on."""
    place = tmp_path_factory.mktemp("cli")
    tiny.model().save(place / "base")
    tiny.folder(place / "photos", per_class=6)
    tiny.folder(place / "photos-test", seed=1)
    return place


@pytest.fixture(scope="module")
def run(place):
    """The form of a run that everything below goes on with."""
    words = f"{place}/photos --from {place}/base --strategy head --out {place}/run --test {place}/photos-test"
    assert main(["finetune", *words.split(), "--examples-per-class", "3", "--seed", "2", "--json"]) == 0
    return place / "run"


def output(words, capsys):
    capsys.readouterr()
    assert main([str(w) for w in words]) == 0
    return capsys.readouterr().out


def test_finetune_leaves_a_model_and_what_it_printed(run):
    told = {"out_of_fold.csv", "predictions.csv", "report.html", "result.json"}
    assert {p.name for p in run.iterdir()} == {"config.yaml", "metrics.jsonl", "model", *told}
    result = json.loads((run / "result.json").read_text())
    assert result["examples"] == 9
    assert result["classes"] == ["2", "10", "a"]  # natural order
    assert result["test"]["examples"] == 12
    assert result["test"]["accuracy"]["value"] > 0.8
    assert result["model"] == str(run / "model")
    assert flaxtl.load(run / "model").card.labels == ("2", "10", "a")


def test_json_is_all_that_is_printed(place, capsys):
    words = ["finetune", place / "photos", "--from", place / "base", "--strategy", "full", *FAST]
    printed = json.loads(output([*words, "--out", place / "printed", "--json"], capsys))
    assert printed == json.loads((place / "printed" / "result.json").read_text())
    assert printed["strategy"] == "full"
    assert printed["test"] is None
    said = output([*words, "--out", place / "printed", "--overwrite"], capsys)
    assert said.startswith("full: 18 examples, 3 classes")
    assert f"model saved in {place / 'printed' / 'model'}" in said


def test_predict_prints_a_column_a_class(run, place, capsys):
    one, folder = place / "photos-test" / "a" / "8.png", place / "photos-test" / "2"
    table = list(csv.reader(io.StringIO(output(["predict", run / "model", one, folder, "--format", "csv"], capsys))))
    assert table[0] == ["path", "prediction", "probability", "2", "10", "a"]
    assert [row[0] for row in table[1:]] == [str(one), *(str(folder / f"{i}.png") for i in range(4))]
    model = flaxtl.load(run / "model")
    predictions = model.predict([one, folder])
    for row, name, values in zip(table[1:], predictions.classes, predictions.probabilities, strict=True):
        assert row[1] == name
        assert row[2] == f"{values.max():.6f}" == max(row[3:])
        np.testing.assert_allclose(np.array(row[3:], float), values, atol=1e-6)


def test_predict_as_json_and_text(run, place, capsys):
    file = place / "photos-test" / "a" / "8.png"
    [found] = json.loads(output(["predict", run / "model", file, "--format", "json"], capsys))
    assert set(found) == {"path", "prediction", "probability", "set", "probabilities"}
    assert found["prediction"] in found["set"]
    assert list(found["probabilities"]) == ["2", "10", "a"]
    said = output(["predict", run, file], capsys)
    assert said.startswith(f"{file}  {found['prediction']}  {found['probability']:.1%}")


def test_evaluate(run, place, capsys):
    figures = json.loads(output(["evaluate", run / "model", place / "photos-test", "--json"], capsys))
    assert figures == json.loads((run / "result.json").read_text())["test"]
    assert figures["accuracy"]["low"] < figures["accuracy"]["value"] <= figures["accuracy"]["high"]
    assert "12 examples" in output(["evaluate", run / "model", place / "photos-test"], capsys)


def test_inspect(run, place, capsys):
    found = json.loads(output(["inspect", run, "--json"], capsys))
    model = flaxtl.load(run)
    assert [leaf["path"] for leaf in found["leaves"]] == paths.names(model.variables)
    sizes = {leaf.name: np.asarray(value).nbytes for leaf, value in paths.leaves(model.variables)}
    assert {leaf["path"]: leaf["bytes"] for leaf in found["leaves"]} == sizes
    assert found["bytes"] == sum(sizes.values())
    assert all(len(leaf["sha256"]) == 64 for leaf in found["leaves"])
    assert found["card"]["heads"][0]["labels"] == ["2", "10", "a"]
    [bias, kernel] = json.loads(output(["inspect", run / "model", "--pattern", "head/**", "--json"], capsys))["leaves"]
    assert (bias["path"], bias["shape"], bias["dtype"]) == ("params:head/bias", [3], "float32")
    assert kernel["shape"] == [8, 3]
    said = output(["inspect", run / "model"], capsys)
    assert "params:head/kernel" in said
    assert "card.json" in said


def test_the_test_part_of_a_folder_is_what_is_measured(place, capsys):
    tiny.folder(place / "parts" / "train")
    tiny.folder(place / "parts" / "test", per_class=2, seed=5)
    words = ["finetune", place / "parts", "--from", place / "base", "--out", place / "of_parts", "--json"]
    result = json.loads(output(words, capsys))
    assert (result["examples"], result["test"]["examples"]) == (12, 6)
    assert json.loads(output(["evaluate", place / "of_parts", place / "parts", "--json"], capsys))["examples"] == 6


def test_unreadable_files_are_skipped_and_told_when_asked(run, place, capsys):
    tiny.folder(place / "spoiled")
    (place / "spoiled" / "a" / "bad.png").write_bytes(b"no picture")
    words = ["finetune", place / "spoiled", "--from", place / "base", "--out", place / "skipped"]
    said = output([*words, "--on-bad-file", "skip"], capsys)
    assert "note: 1 unreadable files were skipped" in said
    assert "bad.png" in said
    capsys.readouterr()
    assert main(["predict", str(run), str(place / "spoiled"), "--on-bad-file", "skip", "--format", "csv"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1 + 12
    assert "1 unreadable files were skipped" in printed.err


def test_pretrain(place, capsys):
    settings = {"network": {"settings": {"depths": [1], "widths": [8], "stem": "cifar"}, "size": 8, "channels": 1}}
    (place / "recipe.yaml").write_text(yaml.safe_dump({**settings, "licence": "CC0", "training": {"epochs": 9}}))
    words = ["pretrain", place / "photos", "--config", place / "recipe.yaml", "--out", place / "pretrained"]
    result = json.loads(output([*words, *FAST, "--test", place / "photos-test", "--json"], capsys))
    assert result["strategy"] == "pretrain"
    assert result["test"]["examples"] == 12
    model = flaxtl.load(place / "pretrained")
    assert model.card.provenance["pretrained"]["licence"] == "CC0"
    assert model.card.provenance["pretrained"]["data"] == "photos"
    assert configs.load(configs.PretrainConfig, place / "pretrained" / "config.yaml").training.epochs == 2
    assert output(["finetune", place / "photos", "--from", place / "pretrained", "--out", place / "next"], capsys)


def test_the_kept_configuration_reproduces_the_run(place, capsys):
    words = ["finetune", place / "photos", "--from", place / "base", "--strategy", "lpft", *FAST, "--seed", "3"]
    output([*words, "--out", place / "first", "--overwrite", "--shift", "0.1", "--json"], capsys)
    kept = place / "first" / "config.yaml"
    # The file alone names the same directory, and must not delete what is there.
    assert main(["finetune", "--config", str(kept)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    output(["finetune", f"--config={kept}", "--out", place / "second"], capsys)
    a, b = flaxtl.load(place / "first"), flaxtl.load(place / "second")
    assert tiny.same(a.variables, b.variables)
    assert a.card == b.card
    ours, theirs = (
        configs.to_dict(configs.load(configs.FinetuneConfig, p)) for p in (kept, place / "second" / "config.yaml")
    )
    assert {k for k in ours if ours[k] != theirs[k]} == {"out"}


def test_a_run_from_python_names_what_has_a_name(place, tmp_path):
    flaxtl.finetune(str(place / "base"), place / "photos", out=tmp_path / "a", strategy="head")
    kept = configs.load(configs.FinetuneConfig, tmp_path / "a" / "config.yaml")
    assert (kept.pretrained, kept.data, kept.test) == (str(place / "base"), str(place / "photos"), None)
    flaxtl.finetune(tiny.model(), tiny.source(), test=tiny.source(), out=tmp_path / "b")
    kept = configs.load(configs.FinetuneConfig, tmp_path / "b" / "config.yaml")
    assert (kept.pretrained, kept.data, kept.test) == ("", "", None)


def test_a_run_of_objects_cannot_be_repeated_by_its_file_and_says_so(tmp_path, capsys):
    flaxtl.finetune(tiny.model(), tiny.source(), out=tmp_path / "b")
    words = ["finetune", "--config", str(tmp_path / "b" / "config.yaml"), "--out", str(tmp_path / "c")]
    assert main(words) == 2
    assert "The training data is missing" in capsys.readouterr().err
    assert main([*words, "digits"]) == 2
    assert "The model is missing" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"usage: flaxtl {command}" in said
    assert command in output(["--help"], capsys)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_reader_of_our_output_may_go_away(unbuffered):
    """`flaxtl … | head -0` ends quietly, whenever it is that the output is written."""
    words = [sys.executable, "-c", "import sys; from flaxtl.cli import main; sys.exit(main(sys.argv[1:]))", "--help"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    words[2] = "import sys; sys.stdin.read(); " + words[2]  # begins when the reader has gone
    with subprocess.Popen(words, env=environment, **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize("words", [["finetune", "--help"], ["help", "pretrain"], ["inspect", "{model}"]])
def test_the_reader_of_a_commands_output_may_go_away(words, run):
    words = [word.format(model=run / "model") for word in words]
    code = "import sys; sys.stdin.read(); from flaxtl.cli import main; sys.exit(main(sys.argv[1:]))"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, *words], **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize("moment", ["training", "reading"])
def test_an_interrupted_command_says_so_without_a_traceback(moment, place, tmp_path):
    """SIGINT in the middle of a command, as Ctrl-C sends it: before JAX is imported, and between two steps."""
    at = {
        "reading": "import flaxtl.cli; sys.modules['flaxtl.cli.main'].settings = lambda *a: stop()",
        "training": "from flaxtl.train.rundir import RunDirectory as R; R.log = lambda *a, **k: stop()",
    }[moment]
    code = (
        "import os, signal, sys; stop = lambda: os.kill(os.getpid(), signal.SIGINT); "
        # A shell's background jobs inherit that it is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"{at}; from flaxtl.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["finetune", place / "photos", "--from", place / "base", "--out", tmp_path / "run"]
    words = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (130, "flaxtl: interrupted")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 0, "usage: flaxtl COMMAND"),
        (["help"], 0, "usage: flaxtl COMMAND"),
        (["-h"], 0, "usage: flaxtl COMMAND"),
        (["help", "finetune"], 0, "usage: flaxtl finetune"),
        (["finetune", "-h"], 0, "usage: flaxtl finetune"),
        (["--version"], 0, "flaxtl 0."),
        (["-V"], 0, "flaxtl 0."),
        (["version"], 0, "flaxtl 0."),
        (["finetun"], 2, "no command 'finetun'. Did you mean 'finetune'"),
        (["help", "finetun"], 2, "no command 'finetun'. Did you mean 'finetune'"),
        (["train"], 2, "no command 'train'. Did you mean"),
        (["--lr"], 2, "no option '--lr'"),
        (["finetune"], 2, "The training data is missing. For example: flaxtl finetune photos/"),
        (["pretrain"], 2, "The training data is missing"),
        (["evaluate", "m"], 2, "The model or the data is missing"),
        (["compare", "a"], 2, "A second run is missing"),
        (["finetune", "x", "y"], 2, "flaxtl finetune has no place for 'y'"),
        (["finetune", "x", "--json", "true"], 2, "has no place for 'true'"),
        (["finetune", "x", "--batch-size"], 2, "--batch-size lacks its value"),
        (["finetune", "x", "--zoom", "1"], 2, "--zoom lacks a value; expected 2"),
        (["finetune", "x", "--batch-size", "a"], 2, "--batch-size is 'a'; expected a whole number"),
        (["finetune", "x", "--warmup", "a"], 2, "--warmup is 'a'; expected a number"),
        (["finetune", "x", "--epochs", "a"], 2, "--epochs is 'a'; expected None or a number"),
        (["finetune", "x", "--strategy", "ful"], 2, "--strategy is 'ful'; expected one of 'auto', 'head'"),
        (["finetune", "x", "--strategy", "linear"], 2, "Did you mean 'head'?"),
        (["finetune", "x", "-x"], 2, "has no option -x. A path that begins with a dash is written ./-x"),
        (["finetune", "x", "--training.epochs", "3"], 2, "Did you mean --epochs?"),
        (["evaluate", "x", "--epochs", "3"], 2, "flaxtl evaluate has no option --epochs"),
        (["finetune", "x", "--config"], 2, "--config needs the name of one YAML file"),
        (["finetune", "x", "--config", "absent.yaml"], 2, "There is no configuration file absent.yaml"),
        (["finetune", "x", "--config", "."], 2, ". is a folder; expected a YAML file"),
        (["finetune", "x", "--config", "a", "--config", "b"], 2, "There is no configuration file a"),
    ],
)
def test_what_is_typed_is_answered_with_a_sentence_or_help(words, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    printed = capsys.readouterr()
    assert said in (printed.out if code == 0 else printed.err)
    if code:
        assert printed.out == ""
        assert len(printed.err.strip().splitlines()) == 1
        assert printed.err.startswith("flaxtl: ")


def test_underscores_and_equals_signs_are_understood():
    from flaxtl.cli.reading import settings

    words = ["photos", "--batch_size", "7", "--seed=3", "--no-flip", "--text-column", "t", "--shift", "-1"]
    read = settings("finetune", words)
    assert (read.training.batch_size, read.run.seed, read.data_options.input_column) == (7, 3, "t")
    assert settings("finetune", ["./-x", "--out=-y"]).out == "-y"


@pytest.mark.parametrize("words", [["2=2"], ["2", "2"], ["2=2", "10=0.5"]])
def test_factors_of_classes_are_given_by_name(words, place):
    out = place / f"weighted-{len(words)}-{'='.join(words)}"
    given = ["finetune", str(place / "photos"), "--from", str(place / "base"), "--strategy", "head", "--cache", "off"]
    assert main([*given, "--out", str(out), "--class-weight", *words]) == 0
    assert "class_weight:\n    '2': 2.0" in (out / "config.yaml").read_text()


def test_a_word_that_is_no_class_weight_is_answered_with_what_is_expected(capsys):
    assert main(["finetune", "data", "--class-weight", "ballanced"]) == 2
    assert "expected none, auto, or numbers by name such as daisy=2" in capsys.readouterr().err


def test_the_package_runs_as_the_command_does():
    words = [sys.executable, "-m", "flaxtl", "--version"]
    done = subprocess.run(words, capture_output=True, check=False, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("flaxtl ")
    wrong = subprocess.run([*words[:3], "finetoon"], capture_output=True, check=False, text=True, encoding="utf-8")
    assert wrong.returncode == 2
    assert "Did you mean 'finetune'" in wrong.stderr
