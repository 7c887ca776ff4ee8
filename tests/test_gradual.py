"""Gradual unfreezing: stages from the top down that share one optimizer state and one schedule."""

import json
import os
import signal

import jax
import numpy as np
import pytest
import tiny
from test_resume import KILLED, assert_equal, python

import flaxtl
from flaxtl.cli import main
from flaxtl.config import FinetuneConfig
from flaxtl.strategies import chains, phases_of
from flaxtl.strategies.executor import execute
from flaxtl.strategies.phases import Phase
from flaxtl.strategies.work import Work
from flaxtl.training_settings import Optimizer, Training

COMMON = ["--epochs", "8", "--batch-size", "4", "--learning-rate", "0.02", "--save-every", "4", "--shift", "0.1"]


def test_the_stages_go_down_and_share_the_steps():
    config = FinetuneConfig(strategy="gradual", training=Training(epochs=8, batch_size=4), stages=4)
    solve, *stages = phases_of(config)
    assert (solve.kind, [p.start for p in stages]) == ("solve", ["0.7500", "0.5000", "0.2500", ""])
    assert [p.carry for p in stages] == [False, True, True, True]
    chain = chains.Chain.of((solve, *stages), 4)
    assert (chain.place, chain.steps(12), chain.done(12)) == (2, 24, 12)
    assert [chains.cadence(p, 12).steps for p in stages] == [6, 6, 6, 6]


def test_a_leaf_is_grouped_by_the_stage_that_it_joined_in():
    model = tiny.model()
    phases = phases_of(FinetuneConfig(strategy="gradual", stages=3))
    last = chains.Chain.of(phases, 4).labels(model)  # borders 0.67 (the pooling), 0.33 (the block), 0
    assert set(jax.tree.leaves(last["head"])) == {"head"}
    assert set(jax.tree.leaves(last["backbone"]["blocks_0"])) == {"backbone-since-1"}
    assert set(jax.tree.leaves(last["backbone"]["stem"])) == {"backbone-since-2"}
    middle = chains.Chain.of(phases, 3).labels(model)
    assert set(jax.tree.leaves(middle["backbone"]["stem"])) == {"frozen"}


def run(*phases):
    return execute(Work(tiny.source()), tiny.model().with_head(tiny.LABELS), phases)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_two_carried_phases_are_one_of_both_lengths(optimizer):
    # All pictures in each batch, so that the order does not matter.
    settings = {
        "training": Training(epochs=8, batch_size=12),
        "optimizer": Optimizer(optimizer=optimizer, learning_rate=0.01, weight_decay=0.1),
    }
    whole = run(Phase("train", **settings))
    halves = [Phase("train", share=0.5, **settings), Phase("train", share=0.5, carry=True, draw=1, **settings)]
    both = run(*halves)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), whole.params, both.params)
    anew = run(halves[0], Phase("train", share=0.5, **settings))
    gap = max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), whole.params, anew.params)))
    assert gap > 1e-3


def test_it_learns_and_trains_everything_in_the_end():
    result = flaxtl.finetune(
        tiny.model(), tiny.source(), strategy="gradual", epochs=8, batch_size=8, learning_rate=0.02, stages=3
    )
    moved = tiny.changed(tiny.model().with_head(tiny.LABELS).variables, result.model.variables)
    assert moved == {f"params:{path}" for path in _paths(result.model)}
    assert flaxtl.evaluate(result.model, tiny.source(8, seed=1)).accuracy.value > 0.6
    assert [e["kind"] for e in result.evidence] == ["solve", "train", "train", "train"]


def _paths(model):
    from flaxtl import paths

    return {leaf.path for leaf, _ in paths.leaves(model.params)}


@pytest.mark.slow
def test_a_users_module_of_two_parts_has_two_kinds_of_stages():
    from test_strategies import own_data, own_model

    result = flaxtl.finetune(own_model("linen", "array"), own_data("array"), strategy="gradual", epochs=8)
    assert result.evidence[-1]["kind"] == "train"
    assert flaxtl.evaluate(result.model, own_data("array")).accuracy.value > 0.6


# Killed and resumed


def words(place, out, *more):
    return [
        *("finetune", str(place / "data"), "--from", str(place / "base"), "--out", str(out)),
        *("--strategy", "gradual", "--stages", "2", *COMMON, *more),
    ]


@pytest.mark.slow
def test_a_run_killed_in_its_second_stage_goes_on_to_the_bit(tmp_path):
    tiny.model().save(tmp_path / "base")
    tiny.folder(tmp_path / "data")
    assert main(words(tmp_path, tmp_path / "whole")) == 0
    # The stages take 12 steps each, with a line of metrics at every tenth, a state at every fourth.
    second = KILLED.replace('entry.get("step") == int(sys.argv[1])', 'entry["phase"] == 3 and entry.get("step") == 10')
    done = python(second, 10, *words(tmp_path, tmp_path / "killed"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "killed" / "checkpoints" / "phase_3" / "8").is_dir()
    assert not (tmp_path / "killed" / "model").exists()
    assert main(words(tmp_path, tmp_path / "killed", "--resume")) == 0
    assert_equal(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_killed_between_its_stages_carries_the_first_ones_moments(tmp_path):
    tiny.model().save(tmp_path / "base")
    tiny.folder(tmp_path / "data")
    assert main(words(tmp_path, tmp_path / "whole")) == 0
    at_the_end = KILLED.replace(
        'entry.get("step") == int(sys.argv[1])', 'entry["phase"] == 2 and entry.get("step") == 12'
    )
    done = python(at_the_end, 12, *words(tmp_path, tmp_path / "killed"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not os.path.exists(tmp_path / "killed" / "checkpoints" / "phase_3")
    assert main(words(tmp_path, tmp_path / "killed", "--resume")) == 0
    assert_equal(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_a_soup_with_wise_killed_in_its_second_run_goes_on_to_the_bit(tmp_path):
    tiny.model().save(tmp_path / "base")
    tiny.folder(tmp_path / "data")
    more = ["--strategy", "full", "--soup", "2", "--wise", "0.5"]
    assert main(words(tmp_path, tmp_path / "whole", *more)) == 0
    second = KILLED.replace('entry.get("step") == int(sys.argv[1])', 'entry["phase"] == 2 and entry.get("step") == 10')
    done = python(second, 10, *words(tmp_path, tmp_path / "killed", *more))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert main(words(tmp_path, tmp_path / "killed", *more, "--resume")) == 0
    assert_equal(tmp_path / "killed", tmp_path / "whole")
    kinds = [e["kind"] for e in json.loads((tmp_path / "whole" / "result.json").read_text())["evidence"]]
    assert kinds == ["train", "train", "soup", "wise"]
