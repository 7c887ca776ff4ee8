"""`strategy="auto"`: the head is solved, dearer strategies are tried where more may be had, what is worth it is kept.

All strategies are judged by the same folds, each example by models that did not see it, and by their calibrated
log-loss; they race, so that none takes time that is clearly behind. Strategies within one standard error of the best
are tied, the error being that of their difference on the same examples; ties go by `TIES`. What is kept is trained
again on all labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxtl import data, metrics
from flaxtl.card import Conformal
from flaxtl.config import FinetuneConfig
from flaxtl.model import Model
from flaxtl.probe.attach import features_of
from flaxtl.probe.curve import LearningCurve, learning_curve
from flaxtl.probe.names import ClassNames, names_to_learn, solve_with_names
from flaxtl.probe.search import solve_head
from flaxtl.strategies.borders import border_by_cost, segment_costs, segment_named
from flaxtl.strategies.clock import Clock, seconds_of
from flaxtl.strategies.phases import Phase, phases_of
from flaxtl.strategies.racing import Entry, alone, race
from flaxtl.strategies.trials import Journal, Judge, Trial, paired
from flaxtl.strategies.work import OutOfFold, Work

# The name of a cut further down, with a new head.
DEEP = "deep_cut"
# Above the cut lies this share of a forward pass: enough to adapt, and a small part of the price of everything.
CUT_SHARE = 0.2
# The same of a cut with a new head, for data that ask for other features: on three draws of ten sign
# language digits a class it came within 1.1 ± 1.5 points of training everything (MobileNetV2; settings chosen on two).
# Of sound it is not tried: judged on three known speakers it won, and of the fourth it knew 6 to 16 points less than a
# cut from the solved head, on each of five draws of spoken digits.
DEEP_SHARE = 0.45
# A class needs so many examples before anything but the head is tried: folds must leave two to learn from.
FEWEST = 3
# Held-out accuracy above which nothing can be gained that so few examples could show.
CEILING = 0.995
# Whom ties go to, by modality. A few dozen held-out examples cannot tell a gain of three points from none. On pictures
# three quarters of the way to the cut gained 0.3 to 6.4 points over the head in each of twelve draws of flowers and
# sign language digits at 5 and 10 a class (MobileNetV2; settings chosen on these), and the whole way 7 to 8 on spoken
# digits of unseen speakers, 0 on environmental sounds (ten draws each); of texts the cheapest goes first.
# Of the two cuts the one with the lower loss stands for both: the further one gains more from the labels that a fold
# goes without, and where it is not called for it loses by far.
TIES = dict.fromkeys(("image", "audio"), ("cut", DEEP, "head", "lpft"))
_CHEAPEST_FIRST = ("head", "cut", DEEP, "contrastive", "lpft")
# The part of the way from solved head to trained model that is taken unless another is better by a standard error.
USUAL_SHARE = 0.75
# Training sees about so many examples in all; of the few there are, each often.
_SEEN = 2000
_DECISION = "decision"
# The learning curve is left out where fewer than so many times a fold's seconds are left.
_SPARE = 2.0


@dataclasses.dataclass(frozen=True)
class Decision:
    """The outcome of a search.

    Attributes:
        phases: to run on all labels.
        temperature: that out-of-fold predictions ask for; None leaves it to the phases.
        conformal: what prediction sets need, from the same predictions.
        evidence: the record of it, for the result and the report.
        out_of_fold: the chosen candidate's predictions; None where nothing could be held out.
    """

    phases: tuple[Phase, ...]
    temperature: float | None
    conformal: Conformal | None
    evidence: dict[str, Any]
    out_of_fold: OutOfFold | None = None

    def calibrated(self, model: Model) -> Model:
        """Returns the trained model with the temperature and the sets that out-of-fold predictions ask for."""
        if self.temperature is None:
            return model
        # What a solved head said in the trials was divided by its own temperature before.
        own = model.card.head.temperature if self.phases[-1].kind == "solve" else 1.0
        card = model.card.with_head(temperature=own * self.temperature, conformal=self.conformal)
        return dataclasses.replace(model, card=card)


def search(work: Work, model: Model, config: FinetuneConfig) -> Decision:
    """Decides from the data how a model is to be trained.

    Args:
        work: the data and the seed; with a run directory, what was tried is kept there and not tried again.
        model: with a head of the right number of outputs.
        config: the settings; its budget is heeded, the final training included.
    """
    clock = Clock(None if config.budget is None else seconds_of(config.budget))
    head = phases_of(dataclasses.replace(config, strategy="head"))
    source = work.train
    folds = _folds(source, work.seed)
    if model.card.head.task != "classification":
        return _unjudged(head, "auto compares strategies for one class an example; here the head is solved.", clock)
    counts = np.bincount(source.targets, minlength=len(source.labels))
    if not folds or np.sum(counts >= 2) * 2 < np.sum(counts > 0):
        why = "Most classes have one example, so none can be held out to judge by: the safest choice is the head alone."
        return _unjudged(head, why, clock)
    folder = None if work.run is None else work.run.path / "search"
    judge = Judge(work, model, folds, clock, Journal(folder, work.fingerprint()))
    kept = judge.journal.get(_DECISION)
    if kept is not None:  # a run that goes on must not decide anew: it holds states of what was chosen
        return _again(kept, judge, head, config)
    trials = judge_all(judge, head, config)
    if not trials[0].known.any():
        why = "The budget was spent before the head could be judged on held-out examples, so it alone is solved."
        return _unjudged(head, why, clock)
    place = chosen(trials, source)
    # What is left must do for the final run too, which takes about as long as a fold's.
    wanted = sum(trials[i].seconds / trials[i].known.mean() / len(folds) for i in {0, place})
    curve = _curve(work, model, config.training.class_names) if clock.left > _SPARE * wanted else None
    return _kept(_decided(work, trials, place, curve, clock), judge)


def _kept(decision: Decision, judge: Judge) -> Decision:
    conformal = None if decision.conformal is None else dataclasses.asdict(decision.conformal)
    about = {"temperature": decision.temperature, "conformal": conformal, "evidence": decision.evidence}
    logits = np.zeros(0) if decision.out_of_fold is None else decision.out_of_fold.logits
    judge.journal.put(_DECISION, logits, share=decision.phases[-1].training.wise, **about)
    return decision


def _again(kept: dict[str, Any], judge: Judge, head: tuple[Phase, ...], config: FinetuneConfig) -> Decision:
    name = kept["evidence"]["chosen"]
    phases = head if name == "head" else dict(_dearer(judge, config, segment_costs(judge.model)))[name]
    if name != "head" and kept["share"] is not None:
        phases = _part_of_the_way(phases, kept["share"])
    conformal = None if kept["conformal"] is None else Conformal(**kept["conformal"])
    out_of_fold = None if kept["values"].ndim != 2 else _out_of_fold(kept["values"], kept["evidence"])
    return Decision(phases, kept["temperature"], conformal, kept["evidence"], out_of_fold)


def _out_of_fold(logits: np.ndarray, evidence: Mapping[str, Any]) -> OutOfFold:
    what = "head" if evidence["chosen"] == "head" else f"{evidence['chosen']} model"
    caveat = (
        "The temperature was fitted to these out-of-fold predictions, so calibration looks slightly better than it is."
    )
    if sum(row["tried"] for row in evidence["candidates"]) > 1:
        caveat = (
            "The strategy and the temperature were chosen with these out-of-fold predictions, so figures that are not "
            "corrected for it are slightly optimistic."
        )
    return OutOfFold(logits, f"each example predicted by a {what} that did not see it", caveat)


def _part_of_the_way(phases: tuple[Phase, ...], share: float) -> tuple[Phase, ...]:
    training = dataclasses.replace(phases[-1].training, wise=share)
    return (*phases[:-1], dataclasses.replace(phases[-1], training=training))


def judge_all(judge: Judge, head: tuple[Phase, ...], config: FinetuneConfig) -> list[Trial]:
    """Tries the head, and what may be better in a race against each other and the head."""
    trial = alone(judge, Entry("head", head))
    if not trial.known.any():
        return [trial]
    reason = _nothing_more(judge, trial)
    if reason:
        empty = np.full_like(trial.logits, np.nan)
        rest = [Trial(name, (), 1.0, empty, 1.0, 0.0, None, reason) for name in tried(judge.work)]
        return [trial, *rest]
    costs = segment_costs(judge.model)
    entries = [
        # What is below a twentieth of the network is not what the time goes to.
        Entry(name, phases, max(_share_above(judge.model, phases, costs), 0.05))
        for name, phases in _dearer(judge, config, costs)
    ]
    return [trial, *race(judge, entries, [trial])]


def _share_above(model: Model, phases: tuple[Phase, ...], costs: Sequence[float]) -> float:
    start = min(segment_named(model.network, phase.start) for phase in phases if phase.kind == "train")
    # Early parts work on large maps, whose gradients cost more than their operations say.
    return sum(costs[start:]) / sum(costs) * (2.0 if start == 0 else 1.0)


def _folds(source: data.Source, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    if source.targets.ndim != 1:
        return []
    found = data.folds(source.targets, 4 if len(source) < 40 else 3, 1, seed, source.groups)
    # The race may have to judge by the first one alone.
    return sorted(found, key=lambda fold: -len(fold[1]))


def tried(work: Work) -> tuple[str, ...]:
    """Returns what is tried beyond the head, from the cheapest to the dearest: strategies, and `DEEP`."""
    if work.train.modality == "audio":
        return ("cut", "lpft")
    if work.train.modality != "text":
        return ("cut", DEEP, "lpft")
    whole = work.engine.microbatch is None  # batches are compared as a whole
    return ("cut", "contrastive", "lpft") if whole else ("cut", "lpft")


def _dearer(judge: Judge, config: FinetuneConfig, costs: Sequence[float]) -> list[tuple[str, tuple[Phase, ...]]]:
    """Returns the strategies beyond the head, with the settings that small data asks for."""
    examples = len(judge.work.train)
    training = config.training
    if training.epochs is None:
        training = dataclasses.replace(training, epochs=float(np.clip(_SEEN / examples, 4, 80)))
    shared = dataclasses.replace(config, cut=border_by_cost(judge.model, CUT_SHARE, costs), cut_head="solved")
    trained = dataclasses.replace(shared, training=training)
    deep = dataclasses.replace(trained, cut=border_by_cost(judge.model, DEEP_SHARE, costs), cut_head="new")
    settings = {
        "cut": dataclasses.replace(trained, strategy="cut"),
        DEEP: dataclasses.replace(deep, strategy="cut"),
        "contrastive": dataclasses.replace(shared, strategy="contrastive"),
        "lpft": dataclasses.replace(trained, strategy="lpft"),
    }
    return [(name, phases_of(settings[name])) for name in tried(judge.work)]


def _nothing_more(judge: Judge, head: Trial) -> str:
    """Says why nothing beyond the head is worth a try, or nothing where it is."""
    source = judge.work.train
    counts = np.bincount(source.targets, minlength=len(source.labels))
    usual = int(np.median(counts[counts > 0]))
    if usual < FEWEST:
        return f"{usual} examples a class are too few to train more than the head and judge it"
    accuracy, _ = paired(head.correct(source.targets), source)
    if accuracy >= CEILING:
        return f"the head alone is right on {accuracy:.1%} of held-out examples, so there is nothing to gain"
    return ""


def chosen(trials: Sequence[Trial], source: data.Source) -> int:
    """Returns the number of the trial to keep; see `TIES` and `USUAL_SHARE`."""
    eligible = [i for i, trial in enumerate(trials) if trial.eligible]
    losses = {i: trials[i].losses(source.targets) for i in eligible}

    def mean(i: int) -> float:
        return paired(losses[i], source)[0]

    def tied(i: int, best: int) -> bool:
        worse, error = paired(losses[i] - losses[best], source)
        return i == best or worse <= error

    stand = {}
    for name in dict.fromkeys(trials[i].name for i in eligible):
        shares = [i for i in eligible if trials[i].name == name]
        best = min(shares, key=mean)
        usual = min(shares, key=lambda i: abs(trials[i].share - USUAL_SHARE))
        stand[name] = usual if tied(usual, best) else best
    # Strategies are compared where all of them were judged.
    there = np.all([trials[i].known for i in stand.values()], axis=0)
    losses = {i: trials[i].on(there, source).losses(source.targets) for i in stand.values()}
    if {"cut", DEEP} <= set(stand):
        del stand[max("cut", DEEP, key=lambda name: mean(stand[name]))]
    best = min(stand.values(), key=mean)
    order = [*TIES.get(source.modality, _CHEAPEST_FIRST), *stand]
    return next(stand[name] for name in order if name in stand and tied(stand[name], best))


def _decided(work: Work, trials: list[Trial], place: int, curve: LearningCurve | None, clock: Clock) -> Decision:
    source, winner = work.train, trials[place]
    phases = winner.phases
    if winner.share < 1.0:
        phases = _part_of_the_way(phases, winner.share)
    evidence: dict[str, Any] = {
        "kind": "auto",
        "chosen": winner.name,
        "chosen_label": winner.label,
        "why": _why(trials, place, source),
        "possible": True,
        "candidates": [_row(trial, source) for trial in trials],
        "learning_curve": None if curve is None else curve.to_dict(),
        "corrected": _corrected(trials, source),
        "budget_seconds": None if clock.budget == float("inf") else clock.budget,
        "seconds": round(clock.spent, 1),
    }
    out_of_fold = _out_of_fold(winner.logits.astype(np.float64) / winner.temperature, evidence)
    if winner.name == "head":  # solving it on everything calibrates it too
        return Decision(phases, None, None, evidence, out_of_fold)
    conformal, evidence["conformal"] = metrics.fit_conformal(winner.probabilities, source.targets)
    return Decision(phases, winner.temperature, conformal, evidence, out_of_fold)


def _unjudged(head: tuple[Phase, ...], why: str, clock: Clock) -> Decision:
    evidence = {
        "kind": "auto",
        "chosen": "head",
        "chosen_label": "head",
        "why": why,
        "possible": False,
        "candidates": [],
        "learning_curve": None,
        "corrected": None,
        "budget_seconds": None if clock.budget == float("inf") else clock.budget,
        "seconds": round(clock.spent, 1),
    }
    return Decision(head, None, None, evidence)


def _curve(work: Work, model: Model, class_names: ClassNames) -> LearningCurve:
    source, features = work.train, features_of(model, work.train, work.store)
    named, names = names_to_learn(source, class_names), None
    groups = None if source.groups is None else list(source.groups)
    if named is None:
        head = solve_head(features, source.targets, len(source.labels), seed=work.seed, groups=groups)
    else:
        names = features_of(model, named, work.store)
        head, helped, _ = solve_with_names(
            features, source.targets, names, class_names=class_names, groups=groups, seed=work.seed
        )
        names = names if helped else None
    return learning_curve(features, source, scaling=head.scaling, strength=head.strength, names=names, seed=work.seed)


def _corrected(trials: Sequence[Trial], source: data.Source) -> dict[str, Any] | None:
    # Who fell behind on the first fold is known on that one alone.
    tried = [trial for trial in trials if trial.eligible]
    if len(tried) < 2:  # nothing was chosen
        return None
    correct = np.stack([trial.correct(source.targets) for trial in tried], axis=1)
    figure = metrics.corrected_winner(correct, larger_is_better=True, groups=source.groups, weights=source.weights)
    if np.isnan(figure.value):
        return None
    method = "bootstrap bias-corrected cross-validation over all that could be chosen, each with its own nested choices"
    return {"accuracy": figure.value, "low": figure.low, "high": figure.high, "method": method}


def _row(trial: Trial, source: data.Source) -> dict[str, Any]:
    row: dict[str, Any] = {"name": trial.name, "share": trial.share, "label": trial.label}
    row["tried"] = bool(trial.known.any())
    loss, loss_se = paired(trial.losses(source.targets), source)
    accuracy, accuracy_se = paired(trial.correct(source.targets), source)
    figures = {"accuracy": accuracy, "accuracy_se": accuracy_se, "loss": loss, "loss_se": loss_se}
    row |= {name: value if np.isfinite(value) else None for name, value in figures.items()}
    memory = None if trial.memory is None else round(trial.memory / 1e6)
    return {**row, "seconds": round(trial.seconds, 1), "memory_mb": memory, "note": trial.note}


def _why(trials: Sequence[Trial], place: int, source: data.Source) -> str:
    winner, tried = trials[place], [trial for trial in trials if trial.known.any()]
    if {trial.name for trial in tried} == {"head"}:
        return _untried(trials)
    others = [trial for trial in tried if trial.name != winner.name]
    late = [trial for trial in others if trial.state == "late"]
    rivals = [trial for trial in others if trial.eligible] or [trial for trial in others if trial not in late]
    said = [_against(winner, [_gain(winner, trial, source) for trial in rivals], source)] if rivals else []
    missed = _missed([_gain(winner, trial, source) for trial in late])
    if not said and not missed:  # nobody else could be chosen, and nobody looked better
        names = ", ".join(dict.fromkeys(trial.name for trial in late))
        said = [f"{winner.name} is the only candidate that could be finished in time, and {names} looked no better."]
    return " ".join(filter(None, (*said, missed)))


def _untried(trials: Sequence[Trial]) -> str:
    """Says why there is nothing but the head, each reason with the candidates that it holds for."""
    reasons: dict[str, list[str]] = {}
    for trial in trials:
        if trial.name != "head" and trial.name not in reasons.setdefault(trial.note, []):
            reasons[trial.note].append(trial.name)
    if not reasons:
        return "there is no other candidate."
    listed = (f"{', '.join(names)} ({note or 'no reason is known'})" for note, names in reasons.items())
    return f"nothing else was tried to the end: {'; '.join(listed)}."


def _missed(gains: Sequence[tuple[float, float, Trial]]) -> str:
    """Says what looked better than the winner, but could not be trained in the time that was left."""
    gain, error, trial = min(gains, key=lambda found: found[0], default=(0.0, 0.0, None))
    if trial is None or gain >= 0:
        return ""
    return (
        f"{trial.name} looked better (held-out log-loss {gain:+.3f} ± {error:.3f}), but too little time was left to "
        "train it: a larger `budget` decides."
    )


def _gain(winner: Trial, rival: Trial, source: data.Source) -> tuple[float, float, Trial]:
    """Returns by how much a rival's log-loss is above the winner's where both are known, the error, and the rival."""
    there = winner.known & rival.known
    theirs, ours = (trial.on(there, source).losses(source.targets) for trial in (rival, winner))
    return (*paired(theirs - ours, source), rival)


def _against(winner: Trial, gains: Sequence[tuple[float, float, Trial]], source: data.Source) -> str:
    gain, error, rival = min(gains, key=lambda found: found[0])
    name, reason = winner.name, "which is cheaper"
    if name == DEEP:  # which is no strategy's name
        name += f" (`strategy='cut', cut={winner.phases[-1].start!r}, cut_head='new'`)"
    if gain > error:
        return f"{name} has the lowest held-out log-loss, {gain:.3f} ± {error:.3f} below that of {rival.name}."
    if {winner.name, rival.name} == {"cut", DEEP}:
        reason = "the better one of two cuts"
    elif source.modality in TIES and winner.name in ("cut", DEEP):
        of = {"image": "pictures", "audio": "sounds"}[source.modality]
        reason = f"since a cut is usually better on {of}, at little extra cost"
    return (
        f"{name} and {rival.name} are within one standard error (held-out log-loss of {winner.name} "
        f"{-gain:+.3f} ± {error:.3f} against it); ties go to {winner.name}, {reason}."
    )
