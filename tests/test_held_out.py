"""What a result says of examples that its model did not see: out of fold, on validation data, or in one sentence."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import tiny
from sklearn.metrics import accuracy_score

import flaxtl
from flaxtl.data import from_arrays
from flaxtl.probe.attach import solve_and_attach
from flaxtl.report import compare, read_predictions
from flaxtl.strategies import auto
from flaxtl.strategies.measuring import class_notes
from flaxtl.strategies.trials import Trial

STEPS = {"epochs": 2, "batch_size": 8, "learning_rate": 0.02, "cache": "off"}


def test_a_head_leaves_its_out_of_fold_predictions(tmp_path):
    source = tiny.source(per_class=6)
    result = flaxtl.finetune(tiny.model(), source, strategy="head", out=tmp_path / "run", cache="off")
    found = result.out_of_fold
    assert (found.kind, len(found.source), found.source.keys) == ("cross-validation", 18, source.keys)
    p = found.probabilities
    np.testing.assert_allclose(p.sum(1), 1.0)
    assert found.metrics.accuracy.value == pytest.approx(accuracy_score(source.targets, p.argmax(1)))
    assert found.metrics.accuracy.low < found.metrics.accuracy.value
    assert result.metrics is None
    first = result.summary().splitlines()[1]
    assert first.startswith(f"accuracy {found.metrics.accuracy.percent()} on 18 examples, from cross-validation on the")
    assert "each example predicted by a head that did not see it; always answering '2': 33.3%" in first
    saved = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert saved["test"] is None
    assert saved["out_of_fold"]["accuracy"]["value"] == found.metrics.accuracy.value
    assert saved["out_of_fold"]["majority"]["accuracy"] == pytest.approx(1 / 3)
    assert not (tmp_path / "run" / "predictions.csv").exists()
    kept = read_predictions(tmp_path / "run", "cross-validation")
    np.testing.assert_allclose(kept.probabilities, p, rtol=1e-6)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("<small> cross-validation on the training data</small>") == 5
    assert compare([tmp_path / "run", tmp_path / "run"]).rows[0].held_out == "cross-validation"


def test_out_of_fold_predictions_are_those_of_cross_validation():
    source = tiny.source(per_class=5)
    solved = solve_and_attach(tiny.model().with_head(tiny.LABELS), source)
    folds = solved.record["cross_validation"]
    right = (solved.out_of_fold.argmax(1) == source.targets).mean()
    assert right == pytest.approx(folds["rows"][folds["chosen"]]["accuracy"], abs=0.15)
    assert solved.out_of_fold.shape == (15, 3)


def test_labels_that_are_noise_are_not_known_out_of_fold():
    """Were these the finished model's predictions of what it was trained on, most of the noise would be right."""
    pictures, _ = tiny.pictures(per_class=10)
    noise = np.random.default_rng(0).permutation(np.repeat(np.arange(3), 10))
    source = from_arrays(pictures, noise, labels=tiny.LABELS)
    solved = solve_and_attach(tiny.model().with_head(tiny.LABELS), source)
    assert (solved.out_of_fold.argmax(1) == noise).mean() < 0.62


@pytest.mark.parametrize("more", [{"views": 2, "augment": "standard"}, {"feature_noise": 0.1}])
def test_augmented_copies_are_no_examples(more):
    result = flaxtl.finetune(tiny.model(), tiny.source(per_class=4), strategy="head", cache="off", **more)
    assert len(result.out_of_fold.source) == 12


def test_with_test_data_these_are_in_front_and_the_rest_is_explained(tmp_path):
    result = flaxtl.finetune(
        tiny.model(), tiny.source(per_class=5), test=tiny.source(per_class=4, seed=1), strategy="head",
        out=tmp_path / "run", cache="off",
    )  # fmt: skip
    lines = result.summary().splitlines()
    assert lines[1].startswith(f"accuracy {result.metrics.accuracy.percent()} on 12 examples, on the test data; always")
    assert f"{result.out_of_fold.metrics.accuracy.percent()}: accuracy from cross-validation" in result.summary()
    assert (tmp_path / "run" / "predictions.csv").exists()
    assert (tmp_path / "run" / "out_of_fold.csv").exists()


@pytest.mark.parametrize("strategy", ["full", "lpft", "head"])
def test_a_validation_part_is_evaluated_and_marked(strategy, tmp_path):
    more = STEPS if strategy != "head" else {"cache": "off"}
    result = flaxtl.finetune(
        tiny.model(), tiny.source(per_class=8), strategy=strategy, validation=0.25, out=tmp_path / "run", **more
    )
    assert len(result.validation.source) == 6
    assert (result.out_of_fold is None) == (strategy != "head")
    said = result.summary()
    if strategy == "head":
        assert f"{result.validation.metrics.accuracy.percent()}: accuracy on the validation data" in said
        assert not result.validation.caveat
    else:
        assert "on 6 examples, on the validation data; set aside from training" in said.splitlines()[1]
        assert "The best step and the temperature were chosen on the validation data" in said
    assert (tmp_path / "run" / "validation.csv").exists()
    assert "<small> the validation data</small>" in (tmp_path / "run" / "report.html").read_text() or strategy == "head"


@pytest.mark.parametrize("strategy", ["full", "lpft"])
def test_where_nothing_was_held_out_one_sentence_says_so(strategy, tmp_path):
    result = flaxtl.finetune(tiny.model(), tiny.source(per_class=4), strategy=strategy, out=tmp_path / "run", **STEPS)
    assert not result.held_out
    said = result.summary()
    assert "Nothing was held out, so how good the model is has not been measured." in said
    assert "Nothing was held out" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    # What cross-validation said of the head before training is not what is said of the model.
    assert ("before the layers below it were trained" in said) == (strategy == "lpft")


def test_auto_has_the_chosen_candidates_predictions(monkeypatch):
    monkeypatch.setattr(auto, "CEILING", 0.0)
    result = flaxtl.finetune(tiny.model(), tiny.source(per_class=6), strategy="auto", cache="off")
    found, record = result.out_of_fold, result.evidence[0]
    row = next(r for r in record["candidates"] if r["label"] == record["chosen_label"])
    assert found.metrics.accuracy.value == pytest.approx(row["accuracy"])
    assert found.metrics.log_loss.value == pytest.approx(row["loss"], rel=1e-4)
    assert "corrected" not in result.summary()  # of one candidate
    assert "The temperature was fitted to these out-of-fold predictions" in result.summary()
    assert "auto chose head: nothing else was tried to the end: cut, deep_cut, lpft (the head alone is right" in (
        result.summary()
    )


@pytest.mark.slow
def test_the_best_of_several_candidates_is_corrected(monkeypatch):
    monkeypatch.setattr(auto, "CEILING", 2.0)
    result = flaxtl.finetune(tiny.model(), tiny.source(per_class=6), strategy="auto", epochs=2.0, cache="off")
    assert result.evidence[0]["corrected"] is not None
    assert "corrected for choosing the best candidate" in result.summary().splitlines()[1]
    assert "before that correction" in result.summary()
    assert "The strategy and the temperature were chosen with" in result.summary()


def numbers(task, n=24, seed=0):
    """Pictures whose brightness decides about a price far from 0, or about labels of which one is rare."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 255, (n, 8, 8)).astype(np.uint8)
    pictures = (pictures * np.linspace(0.2, 1.0, n)[:, None, None]).astype(np.uint8)
    bright = pictures.mean((1, 2)) / 255.0
    targets = np.stack([100.0 + 50.0 * bright, 1e4 * bright], 1)
    if task == "multilabel":
        targets = np.stack([bright > 0.3, np.arange(n) % 8 == 0], 1)
    source = from_arrays(pictures)
    return dataclasses.replace(source, targets=targets.astype(np.float32), labels=("price", "size"), task=task)


def test_a_regression_has_out_of_fold_numbers_in_their_own_unit(tmp_path):
    result = flaxtl.finetune(tiny.model(), numbers("regression"), strategy="head", out=tmp_path / "run", cache="off")
    found = result.out_of_fold
    assert found.metrics.r2.value > 0.3
    assert np.abs(found.outputs[:, 0].mean() - np.asarray(found.source.targets)[:, 0].mean()) < 10.0
    said = result.summary()
    assert "accuracy" not in said
    assert said.splitlines()[1].startswith("R² 0.")
    assert "predicting the mean: R² 0.000, mean absolute error" in said.splitlines()[1]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Predicted against true: price" in page
    assert "accuracy" not in page.partition("How to use it")[0]
    with (tmp_path / "run" / "out_of_fold.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["key", "target:price", "target:size", "price", "size"]
    assert float(rows[1][3]) == pytest.approx(found.outputs[0, 0])
    assert read_predictions(tmp_path / "run", "cross-validation") is None


def test_several_labels_stand_beside_an_answer_without_labels(tmp_path):
    result = flaxtl.finetune(tiny.model(), numbers("multilabel"), strategy="head", out=tmp_path / "run", cache="off")
    first = result.summary().splitlines()[1]
    assert first.startswith("exact match ")
    assert "never answering any label: exact match" in first
    assert "Label by label" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def uneven(sizes):
    """Noise that says nothing of its class: the best answer is the most frequent one."""
    targets = np.repeat(np.arange(len(sizes)), sizes)
    pictures = np.random.default_rng(0).integers(0, 255, (len(targets), 8, 8)).astype(np.uint8)
    return from_arrays(pictures, targets, labels=tiny.LABELS[: len(sizes)])


@pytest.mark.parametrize("sizes", [(14, 3, 3), (12, 2)])
def test_unequal_classes_are_noted(sizes):
    result = flaxtl.finetune(tiny.model(), uneven(sizes), strategy="head", cache="off")
    [note] = [note for note in result.notes if note.startswith("Unequal classes")]
    assert f"2 has {sizes[0]} examples" in note
    assert f"10 ({sizes[1]})" in note
    assert note in result.to_dict()["notes"]


def test_a_model_of_one_answer_is_noted_with_what_to_do():
    train = tiny.source(per_class=4)
    logits = np.tile([3.0, 0.0, 0.0], (12, 1))
    one = flaxtl.report.HeldOut.of("cross-validation", train, logits)
    [note] = class_notes(train, [one, None], "none")
    assert note.startswith("In cross-validation: predicts only 1 of 3 classes: 2.")
    assert "`class_weight='auto'`" in note
    [note] = class_notes(train, [dataclasses.replace(one, kind="test")], "auto")
    assert note.startswith("On the test data: predicts only 1 of 3 classes: 2.")
    assert "class_weight" not in note  # which it has
    right = flaxtl.report.HeldOut.of("test", train, 3.0 * np.eye(3)[train.targets])
    assert not class_notes(train, [right], "none")


@pytest.mark.parametrize("state", ["late", "behind"])
def test_auto_always_says_why(state):
    """The only candidate that can be chosen is not without a reason."""
    source = tiny.source(per_class=5)
    logits = 2.0 * np.eye(3)[source.targets] + np.random.default_rng(0).normal(size=(15, 3))
    head = Trial("head", (), 1.0, logits.astype(np.float32), 1.0, 1.0, None)
    worse = dataclasses.replace(head, name="cut", logits=-head.logits, state=state)
    for trials in ([head, worse], [head], [head, dataclasses.replace(worse, logits=np.full_like(head.logits, np.nan))]):
        why = auto._why(trials, 0, source)
        assert why.endswith(".")
        assert len(why) > 20
    assert "nan" not in auto._why([head, worse], 0, source)


def test_candidates_of_interpolation_are_no_depths():
    trial = Trial("lpft", (), 0.5, np.zeros((2, 2), np.float32), 1.0, 1.0, None)
    assert trial.label == "lpft, alpha 0.5"
    assert dataclasses.replace(trial, share=0.25, name="cut").label == "cut, alpha 0.25"
    assert dataclasses.replace(trial, share=1.0).label == "lpft"
