"""auto keeps what the data speak for, says why, heeds its budget, and goes on where it was interrupted."""

import dataclasses
import time

import numpy as np
import pytest
import tiny

import flaxtl
from flaxtl.config import FinetuneConfig, Training
from flaxtl.data import Source, from_arrays
from flaxtl.errors import ConfigError
from flaxtl.metrics import corrected_winner
from flaxtl.strategies import auto
from flaxtl.strategies.borders import border_by_cost, segment_costs
from flaxtl.strategies.clock import Clock, OutOfTimeError, seconds_of
from flaxtl.strategies.phases import Phase
from flaxtl.strategies.trials import Journal, Trial, paired
from flaxtl.strategies.work import Work

SETTINGS = {"strategy": "auto", "cache": "off", "epochs": 2.0, "budget": None}


@pytest.fixture(autouse=True)
def _something_to_gain(monkeypatch):
    """The tiny pictures are so easy that the head alone would be enough."""
    monkeypatch.setattr(auto, "CEILING", 2.0)


def _candidates(result):
    return {(row["name"], row["share"]): row for row in result.evidence[0]["candidates"]}


def _trial(name, logits, share=1.0):
    return Trial(name, (), share, np.asarray(logits, np.float32), 1.0, 1.0, None)


def _source(targets, **settings):
    names = [tiny.LABELS[t] for t in targets]
    return Source.of("array", np.arange(len(names)), names, labels=tiny.LABELS, **settings)


@pytest.mark.slow
def test_every_candidate_is_judged_on_examples_it_did_not_see():
    result = flaxtl.finetune(tiny.model(), tiny.source(per_class=6), **SETTINGS)
    rows = _candidates(result)
    assert {name for name, _ in rows} == {"head", "cut", "deep_cut", "lpft"}
    assert all(row["tried"] and row["accuracy"] is not None and row["seconds"] > 0 for row in rows.values())
    evidence = result.evidence[0]
    assert evidence["chosen"] in ("head", "cut", "deep_cut", "lpft")
    assert evidence["corrected"]["low"] <= evidence["corrected"]["accuracy"] <= evidence["corrected"]["high"]
    assert evidence["learning_curve"]["examples"] == sorted(evidence["learning_curve"]["examples"])


@pytest.mark.slow
def test_labels_that_are_noise_are_not_learned_out_of_fold():
    """Were a candidate judged on what it was trained on, it would be right on most of this noise."""
    pictures, _ = tiny.pictures(per_class=10)
    noise = np.random.default_rng(0).permutation(np.repeat(np.arange(3), 10))
    result = flaxtl.finetune(
        tiny.model(), from_arrays(pictures, noise, labels=tiny.LABELS), **SETTINGS | {"epochs": 30.0}
    )
    assert all(row["accuracy"] < 0.62 for row in _candidates(result).values())


def test_one_example_a_class_takes_the_head_and_says_so():
    result = flaxtl.finetune(tiny.model(), tiny.source(per_class=1), **SETTINGS)
    evidence = result.evidence[0]
    assert not evidence["possible"]
    assert evidence["chosen"] == "head"
    assert "one example" in evidence["why"]
    assert result.evidence[1]["kind"] == "solve"


def test_two_examples_a_class_are_too_few_for_more_than_the_head():
    result = flaxtl.finetune(tiny.model(), tiny.source(per_class=2), **SETTINGS)
    assert result.evidence[0]["chosen"] == "head"
    assert "too few" in result.evidence[0]["why"]


def test_a_perfect_head_is_left_alone(monkeypatch):
    monkeypatch.setattr(auto, "CEILING", 0.0)
    result = flaxtl.finetune(tiny.model(), tiny.source(), **SETTINGS)
    assert "nothing to gain" in result.evidence[0]["why"]
    assert [row["tried"] for row in result.evidence[0]["candidates"]] == [True, False, False, False]


def test_a_tie_goes_to_the_cheaper_and_on_pictures_to_the_cut():
    targets = np.arange(30) % 3
    rng = np.random.default_rng(0)
    sure = 2.0 * np.eye(3)[targets]
    trials = [_trial(name, sure + rng.normal(size=(30, 3))) for name in ("head", "cut")]
    source = _source(targets)
    assert auto.chosen(trials, source) == 0
    assert auto.chosen(trials, dataclasses.replace(source, modality="image")) == 1
    dear = [*trials, _trial("lpft", sure + rng.normal(size=(30, 3)))]
    assert auto.chosen(dear, dataclasses.replace(source, modality="image")) == 1


def test_a_clear_winner_wins_though_it_is_dearer():
    targets = np.arange(30) % 3
    trials = [
        _trial("head", np.zeros((30, 3))),
        _trial("cut", 2.0 * np.eye(3)[targets]),
        _trial("lpft", np.zeros((30, 3))),
    ]
    assert auto.chosen(trials, _source(targets)) == 1


def test_three_quarters_of_the_way_are_taken_where_shares_are_tied():
    targets = np.arange(30) % 3
    said = 2.0 * np.eye(3)[targets] + np.random.default_rng(0).normal(size=(30, 3))
    trials = [_trial("head", np.zeros((30, 3))), *(_trial("cut", said, share) for share in (0.25, 0.5, 0.75, 1.0))]
    assert auto.chosen(trials, _source(targets)) == 3


def test_the_best_share_stands_for_its_strategy():
    targets = np.arange(30) % 3
    trials = [
        _trial("head", np.zeros((30, 3))),
        _trial("cut", 0.5 * np.eye(3)[targets], 0.25),
        _trial("cut", 3.0 * np.eye(3)[targets], 0.5),
        _trial("cut", 1.0 * np.eye(3)[targets], 1.0),
    ]
    assert auto.chosen(trials, _source(targets)) == 2


def test_a_group_counts_as_one_draw():
    difference = np.repeat([1.0, -1.0, 1.0, 1.0], 5)
    alone = paired(difference, _source(np.arange(20) % 3))
    together = paired(difference, _source(np.arange(20) % 3, groups=[str(i // 5) for i in range(20)]))
    assert alone[0] == together[0]
    assert together[1] > 2 * alone[1]


def test_what_wins_is_trained_on_all_labels_and_calibrated(monkeypatch):
    monkeypatch.setattr(auto, "chosen", lambda trials, source: next(i for i, t in enumerate(trials) if t.share == 0.5))
    result = flaxtl.finetune(tiny.model(), tiny.source(), **SETTINGS)
    assert result.evidence[0]["chosen"] == "cut"
    assert [found["kind"] for found in result.evidence] == ["auto", "solve", "train", "wise"]
    assert result.evidence[-1]["share"] == 0.5
    assert result.model.card.head.temperature != 1.0


@pytest.mark.slow
def test_a_deep_cut_that_wins_is_trained_from_a_new_head_and_says_how_it_is_had(monkeypatch):
    monkeypatch.setattr(
        auto, "chosen", lambda trials, source: next(i for i, t in enumerate(trials) if t.name == auto.DEEP)
    )
    model, source = tiny.model(), tiny.source()
    result = flaxtl.finetune(model, source, **SETTINGS)
    assert result.evidence[0]["chosen"] == auto.DEEP
    assert [found["kind"] for found in result.evidence] == ["auto", "train"]
    assert result.model.card.head.temperature != 1.0
    border = border_by_cost(model, auto.DEEP_SHARE)
    alone = flaxtl.finetune(
        model, source, strategy="cut", cut=border, cut_head="new", cache="off", epochs=SETTINGS["epochs"]
    )
    assert tiny.same(result.model.variables, alone.model.variables)


def test_of_two_cuts_the_better_stands_for_both_and_the_deep_one_is_explained():
    targets = np.arange(30) % 3
    sure, noise = 2.0 * np.eye(3)[targets], np.random.default_rng(0).normal(size=(30, 3))
    source = dataclasses.replace(_source(targets), modality="image")
    head = _trial("head", sure + noise)
    for factor, expected in ((1.1, 2), (0.9, 1)):
        cuts = [_trial("cut", sure + noise), _trial(auto.DEEP, factor * sure + noise)]
        assert auto.chosen([head, *cuts], source) == expected
    phases = (Phase("train", start="blocks_0"),)
    told = auto._why([_trial("cut", sure + noise), dataclasses.replace(head, name=auto.DEEP, phases=phases)], 1, source)
    assert "cut='blocks_0', cut_head='new'`" in told
    assert "the better one of two cuts" in told
    better = dataclasses.replace(_trial(auto.DEEP, 3.0 * sure), phases=(Phase("train", start="blocks_0"),))
    assert auto.chosen([head, better], source) == 1
    assert "`strategy='cut', cut='blocks_0', cut_head='new'`" in auto._why([head, better], 1, source)


@pytest.mark.slow
def test_the_budget_is_heeded():
    model, source = tiny.model(), tiny.source(per_class=8)
    flaxtl.finetune(model, source, **SETTINGS)  # so that compiling is not what is timed
    began = time.perf_counter()
    result = flaxtl.finetune(model, source, **SETTINGS | {"epochs": 100000.0, "budget": "8s"})
    assert time.perf_counter() - began < 20
    notes = [row["note"] for row in result.evidence[0]["candidates"] if row["name"] == "cut"]
    assert any("budget" in note or "left" in note for note in notes)
    assert result.evidence[0]["chosen"] == "head"


def test_a_budget_too_small_to_judge_by_solves_the_head():
    result = flaxtl.finetune(tiny.model(), tiny.source(), **SETTINGS | {"budget": "0.001s"})
    assert result.evidence[0]["chosen"] == "head"
    assert "budget was spent" in result.evidence[0]["why"]
    assert result.evidence[1]["kind"] == "solve"


def test_the_learning_curve_is_left_out_where_little_time_is_left(monkeypatch):
    plenty = flaxtl.finetune(tiny.model(), tiny.source(), **SETTINGS)
    assert plenty.evidence[0]["learning_curve"] is not None
    monkeypatch.setattr(auto, "_SPARE", 1e9)
    little = flaxtl.finetune(tiny.model(), tiny.source(), **SETTINGS | {"budget": "10m"})
    assert little.evidence[0]["learning_curve"] is None
    assert little.evidence[0]["chosen"] == plenty.evidence[0]["chosen"]
    assert "learning curve" not in little.summary()


@pytest.mark.slow
def test_an_interrupted_search_goes_on(tmp_path, monkeypatch):
    settings = {**SETTINGS, "out": str(tmp_path / "run")}
    model, source = tiny.model(), tiny.source(per_class=5)
    whole = flaxtl.finetune(model, source, **settings)
    folds, real = [], auto.Judge._of_training

    def counted(self, fold, phases):
        if len(folds) == 4:
            raise KeyboardInterrupt
        folds.append(fold)
        return real(self, fold, phases)

    monkeypatch.setattr(auto.Judge, "_of_training", counted)
    settings["out"] = str(tmp_path / "other")
    with pytest.raises(KeyboardInterrupt):
        flaxtl.finetune(model, source, **settings)
    monkeypatch.setattr(
        auto.Judge, "_of_training", lambda self, fold, phases: folds.append(fold) or real(self, fold, phases)
    )
    resumed = flaxtl.finetune(model, source, **settings, resume=True)
    from_a_solved_head = {row["name"] for row in whole.evidence[0]["candidates"]} - {"head", "deep_cut"}
    assert len(folds) == 4 * len(from_a_solved_head)
    assert resumed.evidence[0]["chosen"] == whole.evidence[0]["chosen"]
    assert tiny.same(resumed.model.variables, whole.model.variables)


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_decision(tmp_path, monkeypatch):
    """Killed in the final training, it must not choose otherwise, though time is there again for more."""
    settings = {**SETTINGS, "out": str(tmp_path / "run")}
    monkeypatch.setattr(auto, "chosen", lambda trials, source: next(i for i, t in enumerate(trials) if t.share == 0.5))
    first = flaxtl.finetune(tiny.model(), tiny.source(), **settings)
    monkeypatch.setattr(auto, "chosen", lambda trials, source: 0)
    again = flaxtl.finetune(tiny.model(), tiny.source(), **settings, resume=True)
    assert again.evidence[0] == first.evidence[0]
    assert again.model.card.head == first.model.card.head
    assert tiny.same(again.model.variables, first.model.variables)


def test_a_journal_of_other_data_is_not_believed(tmp_path):
    Journal(tmp_path, "a").put("head_0", np.ones(3))
    assert Journal(tmp_path, "a").get("head_0")["values"].tolist() == [1.0, 1.0, 1.0]
    assert Journal(tmp_path, "b").get("head_0") is None
    assert Journal(None, "a").get("head_0") is None


def test_the_winners_score_is_reported_without_its_optimism():
    """Of many candidates that only guess, the best looks good; corrected it is back at chance."""
    rng = np.random.default_rng(0)
    naive, corrected = [], []
    for _ in range(40):
        right = rng.integers(0, 2, (40, 12)).astype(float)
        naive.append(right.mean(0).max())
        corrected.append(corrected_winner(right, larger_is_better=True, resamples=200).value)
    error = np.std(corrected, ddof=1) / np.sqrt(len(corrected))
    assert np.mean(naive) > 0.58
    assert abs(np.mean(corrected) - 0.5) < 3 * error + 0.01


def test_costs_follow_the_network():
    model = tiny.model()
    costs = segment_costs(model)
    assert len(costs) == len(model.network.segments)
    assert costs[1] > costs[0] > costs[-1] > 0
    assert border_by_cost(model, 1.0) == "stem"
    assert border_by_cost(model, 0.0) == "head"


@pytest.mark.parametrize("text", ["", "ten", "-5m", "0s", "5 days"])
def test_a_budget_that_is_no_time_is_a_sentence(text):
    with pytest.raises(ConfigError, match="expected a time such as 90s"):
        seconds_of(text)


def test_a_clock_gives_up_but_for_its_reserve():
    assert list(Clock(None).while_time(range(3))) == [0, 1, 2]
    with pytest.raises(OutOfTimeError):
        list(Clock(10.0).while_time(range(3), reserve=11.0))


def test_a_regression_takes_the_head():
    pictures, _ = tiny.pictures()
    brightness = pictures.mean((1, 2), dtype=np.float32)[:, None]
    source = dataclasses.replace(from_arrays(pictures), targets=brightness, labels=("brightness",))
    config = dataclasses.replace(FinetuneConfig(strategy="auto"), training=Training())
    model = tiny.model().with_head(["brightness"], task="regression")
    decision = auto.search(Work(source), model, config)
    assert decision.evidence["chosen"] == "head"
