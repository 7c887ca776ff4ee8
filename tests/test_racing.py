"""In a race nobody takes time that is clearly behind, the dear ones get their chance, and the budget is kept."""

import dataclasses

import numpy as np
import pytest
import tiny

from flaxtl import data
from flaxtl.data import Source
from flaxtl.strategies import auto, racing
from flaxtl.strategies.phases import Phase
from flaxtl.strategies.racing import Entry, alone, race
from flaxtl.strategies.trials import Journal, Judge
from flaxtl.strategies.work import Work

STEPS = (Phase("train"),)


class Time:
    """A clock that runs only while a strategy is tried."""

    def __init__(self, budget=float("inf")):
        self.budget, self.now = budget, 0.0

    def perf_counter(self):
        return self.now

    @property
    def left(self):
        return self.budget - self.now


class Told(Judge):
    """A judge who is told how sure of the truth a strategy is, and how long a fold of it takes."""

    def held_out(self, name, phases, fold):
        source, test = self.work.train, self.folds[fold][1]
        self.tried.append((name, fold))
        taken = self.seconds[name]
        self.clock.now += taken[fold] if isinstance(taken, tuple) else taken
        noise = np.random.default_rng([fold, *name.encode()]).normal(size=(len(test), 3))
        return (self.sure[name] * np.eye(3)[source.targets[test]] + noise)[None].astype(np.float32)


def _judge(monkeypatch, sure, seconds, per_class=30, budget=float("inf"), groups=None):
    targets = np.arange(3 * per_class) % 3
    names = [tiny.LABELS[t] for t in targets]
    source = Source.of("image", np.arange(len(names)), names, labels=tiny.LABELS, groups=groups)
    clock = Time(budget)
    monkeypatch.setattr(racing, "time", clock)
    folds = data.folds(source.targets, 3, 1, 0, source.groups)
    judge = Told(Work(source), None, folds, clock, Journal(None, ""))
    for name, value in {"sure": sure, "seconds": seconds, "tried": []}.items():
        object.__setattr__(judge, name, value)
    return judge


def _run(judge, names=("cut", "deep_cut", "lpft")):
    head = alone(judge, Entry("head", (Phase("solve"),)))
    trials = race(judge, [Entry(name, STEPS, judge.seconds[name]) for name in names], [head])
    return head, {trial.name: trial for trial in trials}


def _folds_of(judge, name):
    return [fold for who, fold in judge.tried if who == name]


LEVEL = {"head": 2.0, "cut": 2.0, "deep_cut": 2.0, "lpft": 2.0}
SECONDS = {"head": 1.0, "cut": 10.0, "deep_cut": 25.0, "lpft": 60.0}


def test_those_who_are_level_are_tried_on_every_fold_the_cheap_before_the_dear(monkeypatch):
    # The same noise for all makes them level exactly.
    monkeypatch.setattr(Told, "held_out", _same(Told.held_out))
    judge = _judge(monkeypatch, LEVEL, SECONDS)
    _, found = _run(judge)
    assert judge.tried[3:] == [(name, fold) for fold in range(3) for name in ("cut", "deep_cut", "lpft")]
    assert all(trial.eligible and trial.known.all() and not trial.note for trial in found.values())


def _same(real):
    def said(self, name, phases, fold):
        values = real(self, name, phases, fold)
        noise = np.random.default_rng(fold).normal(size=values.shape)
        return (self.sure[name] * np.eye(3)[self.work.train.targets[self.folds[fold][1]]] + noise).astype(np.float32)

    return said


def test_who_is_clearly_behind_takes_no_more_time(monkeypatch):
    judge = _judge(monkeypatch, {**LEVEL, "cut": 4.0, "deep_cut": 0.0, "lpft": 4.0}, SECONDS)
    _, found = _run(judge)
    assert _folds_of(judge, "deep_cut") == [0]
    assert found["deep_cut"].state == "behind"
    assert "on 1 of 3 folds: given up: log-loss" in found["deep_cut"].note
    assert _folds_of(judge, "cut") == [0, 1, 2]


def test_a_cheap_one_stops_when_a_dear_one_leaves_it_behind(monkeypatch):
    judge = _judge(monkeypatch, {**LEVEL, "deep_cut": 8.0, "lpft": 0.0}, SECONDS)
    _, found = _run(judge)
    assert _folds_of(judge, "cut") == [0]
    assert found["cut"].note.endswith("above that of deep_cut")
    assert _folds_of(judge, "deep_cut") == [0, 1, 2]
    assert auto.chosen([_run(judge)[0], *found.values()], judge.work.train) == 2


def test_a_few_examples_leave_nobody_behind(monkeypatch):
    judge = _judge(monkeypatch, {**LEVEL, "cut": 8.0, "deep_cut": 0.0}, SECONDS, per_class=5)
    _run(judge, ("cut", "deep_cut"))
    # Of 15 examples 5 are held out in a fold, so it takes all three to know.
    assert _folds_of(judge, "deep_cut") == [0, 1, 2]


def test_a_dear_one_is_not_begun_where_too_few_folds_of_it_fit_to_judge_it_by(monkeypatch):
    monkeypatch.setattr(Told, "held_out", _same(Told.held_out))
    # With 5 examples in a fold it takes two, and the final run: 87.5 s; with 30 it takes one.
    for per_class, begun in ((5, False), (30, True)):
        judge = _judge(monkeypatch, LEVEL, SECONDS, per_class=per_class, budget=90.0)
        _, found = _run(judge, ("cut", "deep_cut"))
        assert bool(_folds_of(judge, "deep_cut")) == begun
        assert found["deep_cut"].known.any() == begun


def test_a_few_groups_leave_nobody_behind(monkeypatch):
    groups = [str(i // 10) for i in range(90)]
    judge = _judge(monkeypatch, {**LEVEL, "cut": 8.0, "deep_cut": 0.0}, SECONDS, groups=groups)
    _, found = _run(judge, ("cut", "deep_cut"))
    assert _folds_of(judge, "deep_cut") == [0, 1, 2]
    assert found["deep_cut"].eligible


def test_a_short_budget_lets_the_dear_one_compete_on_one_fold_and_keeps_time_to_train_it_if_it_leads(monkeypatch):
    judge = _judge(monkeypatch, {**LEVEL, "deep_cut": 3.0}, SECONDS, budget=86.0)
    _, found = _run(judge)
    # The head takes 3 s, a fold of each cut 10 and 25; 48 are left, 37.5 of them for the deep cut's final run.
    assert judge.tried[3:] == [("cut", 0), ("deep_cut", 0), ("cut", 1)]
    assert judge.clock.left >= 37.5
    assert found["deep_cut"].eligible
    assert "on 1 of 3 folds: another fold and the final run would take about 62 s" in found["deep_cut"].note
    assert not found["lpft"].known.any()
    assert found["lpft"].label == "lpft"
    assert "1 fold and the final run" in found["lpft"].note


def test_no_time_is_kept_to_train_who_does_not_lead(monkeypatch):
    judge = _judge(monkeypatch, {**LEVEL, "deep_cut": 2.5}, SECONDS, budget=86.0)
    _, found = _run(judge)
    assert judge.tried[3:] == [("cut", 0), ("deep_cut", 0), ("cut", 1), ("cut", 2)]
    assert found["cut"].eligible
    assert found["deep_cut"].state == "late"


def test_a_fold_that_took_a_little_longer_than_thought_does_not_cost_the_race(monkeypatch):
    judge = _judge(monkeypatch, LEVEL, {**SECONDS, "cut": (10.0, 14.0, 0.0)}, budget=44.0)
    head = alone(judge, Entry("head", (Phase("solve"),)))
    (cut,) = race(judge, [Entry("cut", STEPS)], [head])
    # 17 s are left, and going by both folds the final run takes 18.
    assert judge.clock.left == 17.0
    assert cut.eligible


def test_who_leaves_another_behind_and_is_late_himself_no_longer_stands_in_its_way(monkeypatch):
    judge = _judge(monkeypatch, {**LEVEL, "deep_cut": 8.0, "lpft": 0.0}, SECONDS, budget=120.0)
    head = alone(judge, Entry("head", (Phase("solve"),)))
    # lpft was taken for as dear as the deep cut, and takes the time that was left for training that.
    cut, deep, _ = race(
        judge, [Entry("cut", STEPS, 10.0), Entry("deep_cut", STEPS, 25.0), Entry("lpft", STEPS, 25.0)], [head]
    )
    assert judge.tried[3:] == [("cut", 0), ("deep_cut", 0), ("lpft", 0)]
    assert cut.note.endswith("above that of deep_cut")
    assert (cut.state, deep.state) == ("eligible", "late")


def test_no_time_is_kept_for_a_leader_who_is_late(monkeypatch):
    seconds = {**SECONDS, "deep_cut": 30.0}
    judge = _judge(monkeypatch, {**LEVEL, "deep_cut": 3.0, "lpft": 0.0}, seconds, budget=130.0)
    head = alone(judge, Entry("head", (Phase("solve"),)))
    # lpft was taken for as dear as the deep cut; 27 s are left after it, and training the deep cut takes 45.
    entries = [Entry("cut", STEPS, 10.0), Entry("deep_cut", STEPS, 30.0), Entry("lpft", STEPS, 30.0)]
    cut, deep, _ = race(judge, entries, [head])
    assert deep.state == "late"
    assert _folds_of(judge, "cut") == [0, 1]
    assert cut.eligible


def test_what_cannot_be_trained_in_time_is_not_chosen(monkeypatch):
    judge = _judge(monkeypatch, {**LEVEL, "deep_cut": 8.0}, {**SECONDS, "deep_cut": 40.0}, budget=80.0)
    # It was taken for as dear as the cut, and is not.
    entries = [Entry("cut", STEPS, 1.0), Entry("deep_cut", STEPS, 1.0)]
    head = alone(judge, Entry("head", (Phase("solve"),)))
    cut, deep = race(judge, entries, [head])
    assert deep.state == "late"
    assert "its final run would take about 60 s" in deep.note
    assert cut.eligible
    trials = [head, cut, deep]
    place = auto.chosen(trials, judge.work.train)
    assert place in (0, 1)
    assert "deep_cut looked better (held-out log-loss -" in auto._why(trials, place, judge.work.train)
    worse = dataclasses.replace(deep, logits=np.where(np.isnan(deep.logits), np.nan, 0.0).astype(np.float32))
    assert "looked better" not in auto._why([head, cut, worse], place, judge.work.train)


def test_strategies_are_compared_where_all_were_judged():
    """Who was judged on the easy half alone is not better for it."""
    targets = np.arange(60) % 3
    names = [tiny.LABELS[t] for t in targets]
    source = Source.of("image", np.arange(60), names, labels=tiny.LABELS)
    easy = np.arange(60) < 30
    rng = np.random.default_rng(0)
    said = np.where(easy[:, None], 6.0, 0.5) * np.eye(3)[targets] + rng.normal(size=(60, 3))
    worse = said - 2.0 * np.eye(3)[targets]
    whole = racing.Trial("lpft", (), 1.0, said.astype(np.float32), 1.0, 1.0, None)
    half = racing.Trial("head", (), 1.0, np.where(easy[:, None], worse, np.nan).astype(np.float32), 1.0, 1.0, None)
    assert np.nanmean(half.losses(targets)) < np.nanmean(whole.losses(targets))
    assert auto.chosen([half, whole], source) == 1


def test_the_head_may_be_chosen_whatever_time_is_left(monkeypatch):
    judge = _judge(monkeypatch, LEVEL, {**SECONDS, "head": 30.0}, budget=70.0)
    head = alone(judge, Entry("head", (Phase("solve"),)))
    assert len(_folds_of(judge, "head")) == 1
    assert judge.clock.left < 60.0
    assert head.eligible


@pytest.mark.parametrize("state", ["behind", "late"])
def test_only_the_eligible_are_chosen(state):
    targets = np.arange(30) % 3
    source = Source.of("image", np.arange(30), [tiny.LABELS[t] for t in targets], labels=tiny.LABELS)
    head = racing.Trial("head", (), 1.0, np.zeros((30, 3), np.float32), 1.0, 1.0, None)
    better = racing.Trial("cut", (), 1.0, 5 * np.eye(3, dtype=np.float32)[targets], 1.0, 1.0, None)
    assert auto.chosen([head, better], source) == 1
    assert auto.chosen([head, dataclasses.replace(better, state=state)], source) == 0
