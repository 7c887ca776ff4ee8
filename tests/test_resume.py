"""Nothing is lost: a run that was killed and resumed equals, to the bit, the one that was left alone."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny

import flaxtl
from flaxtl import checkpoint
from flaxtl import config as configs
from flaxtl.cli import main
from flaxtl.config import FinetuneConfig
from flaxtl.data.loader import Loader
from flaxtl.strategies import executor
from flaxtl.train.rundir import RunDirectory

# 9 or 12 pictures in batches of 4: 24 steps, a state every fourth, a line of metrics every tenth.
COMMON = ["--epochs", "8", "--batch-size", "4", "--learning-rate", "0.02", "--save-every", "4", "--shift", "0.1"]
CASES = {
    "lpft": ["--strategy", "lpft", *COMMON],
    "full": ["--strategy", "full", "--ema", "0.9", "--validation", "0.25", "--statistics", "batch", *COMMON],
}
SPEED = ("examples_per_second", "step_seconds", "data_wait", "flops_per_second", "mfu")  # other each time
KILLED_AT = 10  # in phase 2 of lpft and phase 1 of full; the last state before it is of step 8

KILLED = """
import os, signal, sys
from flaxtl.train.rundir import RunDirectory
log = RunDirectory.log
def log_and_die(self, **entry):
    log(self, **entry)
    if entry.get("step") == int(sys.argv[1]) and "loss" in entry:
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write('{"phase": 1, "st')  # cut off in the middle of a line
        os.kill(os.getpid(), signal.SIGKILL)
RunDirectory.log = log_and_die
from flaxtl.cli import main
sys.exit(main(sys.argv[2:]))
"""
FULL_DISK = """
import resource, sys
from flaxtl.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


class Runs:
    """One case: the run that was left alone, and the one that was killed."""

    def __init__(self, case, place):
        self.case, self.place = case, place
        tiny.model().save(place / "base")
        tiny.folder(place / "data")
        assert main(self.words(place / "whole")) == 0
        done = python(KILLED, KILLED_AT, *self.words(place / "killed"))
        assert done.returncode == -signal.SIGKILL, done.stderr

    def words(self, out, *more):
        place = self.place
        return [
            "finetune",
            str(place / "data"),
            "--from",
            str(place / "base"),
            "--out",
            str(out),
            *CASES[self.case],
            *more,
        ]

    def copy(self, name):
        shutil.copytree(self.place / "killed", self.place / name)
        return self.place / name

    def states(self, run):
        return run / "checkpoints" / ("phase_2" if self.case == "lpft" else "phase_1")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return functools.cache(lambda case: Runs(case, tmp_path_factory.mktemp(case)))


@pytest.fixture(params=["full", pytest.param("lpft", marks=pytest.mark.slow)])
def runs(request, made):
    return made(request.param)


@pytest.fixture
def full(made):
    return made("full")


def metrics_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in SPEED} for line in lines]


def result_of(run):
    found = json.loads((run / "result.json").read_text())
    return {k: v for k, v in found.items() if k not in ("seconds", "model", "notes")}


def assert_equal(run, whole):
    a, b = flaxtl.load(run), flaxtl.load(whole)
    assert tiny.same(a.variables, b.variables)
    assert a.card == b.card
    assert metrics_of(run) == metrics_of(whole)
    assert result_of(run) == result_of(whole)


def test_a_killed_run_left_states_and_no_model(runs):
    killed = runs.place / "killed"
    assert sorted(int(p.name) for p in runs.states(killed).iterdir()) in ([4, 8], [0, 4, 8])
    assert not (killed / "model").exists()
    assert '"step": 10' in (killed / "metrics.jsonl").read_text()


def test_a_killed_and_resumed_run_equals_the_one_left_alone(runs, monkeypatch):
    run = runs.copy("resumed")

    def solved_again(*args, **kwargs):
        raise AssertionError("the head was solved again")

    monkeypatch.setattr(executor, "solve_and_attach", solved_again)
    assert main(runs.words(run, "--resume")) == 0
    assert_equal(run, runs.place / "whole")
    assert json.loads((run / "result.json").read_text())["notes"] == []


def test_a_damaged_state_is_named_and_the_one_before_it_used(runs, capsys):
    run = runs.copy("damaged")
    for file in [f for f in (runs.states(run) / "8").rglob("*") if f.parent.name == "d"]:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0x10
        file.write_bytes(content)
    assert main(runs.words(run, "--resume")) == 0
    assert "note: Step 8 was passed over." in capsys.readouterr().out
    assert_equal(run, runs.place / "whole")
    [note] = json.loads((run / "result.json").read_text())["notes"]
    assert note.startswith("Step 8 was passed over.")


def test_a_run_whose_states_are_all_damaged_says_so(full, capsys):
    run = full.copy("all_damaged")
    for file in [f for f in full.states(run).rglob("*") if f.parent.name == "d"]:
        os.truncate(file, 10)
    assert main(full.words(run, "--resume")) == 2
    assert "None of the states in" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_costs_nothing_that_was_kept(full):
    run = full.copy("no_space")
    before = sorted(int(p.name) for p in full.states(run).iterdir())
    done = python(FULL_DISK, *full.words(run, "--resume"))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert f"flaxtl: The state of step 12 could not be saved in {full.states(run)}" in done.stderr
    assert sorted(int(p.name) for p in full.states(run).iterdir()) == before
    assert main(full.words(run, "--resume")) == 0
    assert_equal(run, full.place / "whole")


def test_a_finished_run_can_be_resumed_and_stays_what_it_is(full):
    run = full.place / "finished"
    shutil.copytree(full.place / "whole", run)
    assert main(full.words(run, "--resume")) == 0
    assert_equal(run, full.place / "whole")


def test_a_run_killed_before_its_first_state_begins_anew(full):
    run = full.place / "early"
    words = full.words(run)
    config = configs.parse(FinetuneConfig, words[1:], program="")
    RunDirectory.claim(run, config).log(phase=1, kind="train", step=3)
    assert main([*words, "--resume"]) == 0
    assert_equal(run, full.place / "whole")


def test_a_loss_that_is_no_longer_finite_stops_and_what_was_kept_is_good(full, monkeypatch, capsys):
    run = full.place / "diverged"
    batch = Loader.batch

    def spoiled(self, step):
        found = batch(self, step)
        return found if step < 10 else {**found, "weight": np.full_like(found["weight"], np.nan)}

    with monkeypatch.context() as patched:
        patched.setattr(Loader, "batch", spoiled)
        assert main(full.words(run)) == 2
    said = capsys.readouterr().err
    assert said.startswith("flaxtl: The loss became nan at step 11. Training has stopped")
    assert not (run / "model").exists()
    assert max(int(p.name) for p in full.states(run).iterdir()) == 8
    kept = checkpoint.load(full.states(run) / "8")
    assert all(np.isfinite(a).all() for a in kept["params"]["head"].values())
    assert main(full.words(run, "--resume")) == 0
    assert_equal(run, full.place / "whole")


def test_a_lost_best_state_is_told_and_the_last_one_used(full):
    run = full.place / "lost_best"
    shutil.copytree(full.place / "whole", run)
    best = json.loads((run / "result.json").read_text())["evidence"][-1]["best_step"]
    last = max(int(p.name) for p in full.states(run).iterdir())
    assert best < last, "the case must have a best step before its last"
    for file in [f for f in (full.states(run) / str(best)).rglob("*") if f.parent.name == "d"]:
        os.truncate(file, 10)
    assert main(full.words(run, "--resume")) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["notes"][0].startswith(f"The best state, of step {best}, is lost; the last one is used.")
    assert "best_step" not in result["evidence"][-1]


def test_a_run_that_is_asked_to_end_keeps_its_state_and_loses_nothing(runs, monkeypatch, capsys):
    run, log = runs.place / "asked", RunDirectory.log

    def log_and_ask(self, **entry):
        log(self, **entry)
        if entry.get("step") == KILLED_AT and "loss" in entry:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "log", log_and_ask)
        assert main(runs.words(run)) == 0
    step = KILLED_AT + 1
    assert f"Stopped after step {step} as asked; its state is saved. Continue with --resume." in capsys.readouterr().err
    assert max(int(p.name) for p in runs.states(run).iterdir()) == step
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert main(runs.words(run, "--resume")) == 0
    assert_equal(run, runs.place / "whole")


# What is refused


def refusal(words, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("flaxtl: ")
    assert "Traceback" not in said
    return said


def test_other_settings_and_other_data_are_refused(full, capsys):
    run = full.copy("changed")
    said = refusal(full.words(run, "--resume", "--learning-rate", "0.5"), capsys)
    assert "--learning-rate was 0.02 and is now 0.5" in said
    assert "--seed was 0 and is now 1" in refusal(full.words(run, "--resume", "--seed", "1"), capsys)
    moved = full.place / "data" / "a" / "8.png"
    moved.rename(moved.with_name("100.png"))
    try:
        assert "data are not those that the run was started with" in refusal(full.words(run, "--resume"), capsys)
    finally:
        moved.with_name("100.png").rename(moved)


def test_a_directory_that_holds_something_is_not_touched(full, capsys, tmp_path):
    run = full.place / "whole"
    before = sorted(run.rglob("*"))
    assert "already holds a run. Continue it with --resume" in refusal(full.words(run), capsys)
    assert "choose one of them" in refusal(full.words(run, "--resume", "--overwrite"), capsys)
    assert sorted(run.rglob("*")) == before
    (tmp_path / "precious.txt").write_text("x")
    for more in ((), ("--overwrite",), ("--resume",)):
        assert "holds files but no run" in refusal(full.words(tmp_path, *more), capsys)
    assert "is a file" in refusal(full.words(tmp_path / "precious.txt"), capsys)
    assert (tmp_path / "precious.txt").read_text() == "x"


def test_another_commands_run_is_not_resumed(full, capsys):
    words = ["pretrain", str(full.place / "data"), "--out", str(full.place / "whole"), "--resume"]
    assert "was not started by this command" in refusal(words, capsys)


def test_overwriting_begins_anew_and_resuming_nothing_begins(full):
    run = full.copy("overwritten")
    assert main(full.words(run, "--overwrite")) == 0
    assert_equal(run, full.place / "whole")
    assert configs.load(FinetuneConfig, run / "config.yaml").run.overwrite is False


# Pretraining


def pretraining(place, out, *more):
    return [
        "pretrain",
        str(place / "data"),
        "--out",
        str(out),
        "--config",
        str(place / "network.yaml"),
        "--save-every",
        "4",
        "--epochs",
        "8",
        "--batch-size",
        "4",
        *more,
    ]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A pretraining that was left alone, and one that was killed between two states."""
    place = tmp_path_factory.mktemp("pretrained")
    tiny.folder(place / "data")
    settings = "{depths: [1], widths: [8], stem: cifar}"
    network = f"network: {{family: resnet, size: 8, channels: 1, settings: {settings}}}"
    (place / "network.yaml").write_text(f"{network}\ntraining: {{validation: 0.25, ema: 0.9}}\n")
    assert main(pretraining(place, place / "whole")) == 0
    done = python(KILLED, KILLED_AT, *pretraining(place, place / "killed"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    return place


def test_a_killed_pretraining_is_resumed_to_the_same_bits(pretrained, monkeypatch):
    run = pretrained / "resumed"
    shutil.copytree(pretrained / "killed", run)
    steps = []
    monkeypatch.setattr(Loader, "iterate", noting(steps, Loader.iterate))
    assert main(pretraining(pretrained, run, "--resume")) == 0
    assert steps[0] == 8  # where the last state before the kill was kept
    assert_equal(run, pretrained / "whole")


def noting(steps, iterate):
    def iterated(self, first=0, *rest):
        steps.append(first)
        return iterate(self, first, *rest)

    return iterated


def test_a_pretraining_is_resumed_in_python_by_the_setting_of_that_name(pretrained):
    run = pretrained / "python"
    shutil.copytree(pretrained / "killed", run)
    config = configs.load(configs.PretrainConfig, run / "config.yaml")
    result = flaxtl.pretrain(str(pretrained / "data"), config=config, out=str(run), resume=True)
    assert tiny.same(result.model.variables, flaxtl.load(pretrained / "whole").variables)


def test_a_finished_pretraining_and_one_killed_before_its_first_state_are_resumed_too(pretrained):
    finished, early = pretrained / "finished", pretrained / "early"
    shutil.copytree(pretrained / "whole", finished)
    shutil.copytree(pretrained / "killed", early)
    shutil.rmtree(early / "checkpoints")
    for run in (finished, early):
        assert main(pretraining(pretrained, run, "--resume")) == 0
        assert_equal(run, pretrained / "whole")


def test_a_pretraining_is_not_resumed_with_other_settings(pretrained, capsys):
    run = pretrained / "killed"
    for words, changed in (
        (["--lr", "0.5"], "Did you mean --learning-rate?"),
        (["--learning-rate", "0.5"], "--learning-rate was None and is now 0.5"),
        (["--turned-classes"], "--turned-classes was False and is now True"),
    ):
        assert changed in refusal(pretraining(pretrained, run, "--resume", *words), capsys)
