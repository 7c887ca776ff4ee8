"""The page of a run: everything there is, nothing that is not, one file; and its plots."""

import base64
import dataclasses
import html.parser
import io
import itertools
import json
import re
import wave

import numpy as np
import pytest
from PIL import Image as pillow
from scipy.special import softmax

from flaxtl import metrics, report
from flaxtl.card import Card, Conformal, Head, Image, NetworkSpec
from flaxtl.data import Source, from_arrays
from flaxtl.data.audio import Clip
from flaxtl.report import plots

CV = {
    "possible": True,
    "reason": "",
    "folds": 10,
    "chosen": 1,
    "rows": [
        {"scaling": s, "strength": k, "loss": 0.5 + k, "loss_se": 0.1, "accuracy": 0.8, "accuracy_se": 0.03}
        for s in ("unit", "standard")
        for k in (0.001, 0.01, 0.1)
    ],
}
SOLVE = {"kind": "solve", "features": 64, "summary": "cross-validated loss 0.51", "temperature": 1.4, "converged": True}
NOT_TRIED = dict.fromkeys(("accuracy", "accuracy_se", "loss", "loss_se", "seconds", "memory_mb"))
AUTO = {
    "kind": "auto",
    "chosen": "lpft",
    "chosen_label": "lpft, alpha 0.5",
    "why": "LP-FT beats the head by more than its standard error.",
    "possible": True,
    "candidates": [
        {"name": "head", "share": 1.0, "label": "head", "accuracy": 0.7, "accuracy_se": 0.04, "loss": 0.9,
         "loss_se": 0.1, "seconds": 1.0, "memory_mb": 300.0, "tried": True, "note": ""},
        {"name": "lpft", "share": 1.0, "label": "lpft", "accuracy": 0.79, "accuracy_se": 0.03, "loss": 0.7,
         "loss_se": 0.1, "seconds": 9.0, "memory_mb": 900.0, "tried": True, "note": ""},
        {"name": "lpft", "share": 0.5, "label": "lpft, alpha 0.5", "accuracy": 0.8, "accuracy_se": 0.03, "loss": 0.6,
         "loss_se": 0.1, "seconds": 9.0, "memory_mb": 900.0, "tried": True, "note": "10 epochs"},
        {"name": "full", "share": 1.0, "label": "full", **NOT_TRIED, "tried": False, "note": "over the budget"},
    ],
    "learning_curve": {
        "examples": [10, 20, 40], "accuracy": [0.5, 0.6, 0.7], "accuracy_se": [0.05, 0.04, 0.03],
        "foretold": {"examples": 80, "accuracy": 0.77, "low": 0.7, "high": 0.83},
    },
    "corrected": {"accuracy": 0.78, "low": 0.71, "high": 0.85, "method": "BBC-CV"},
    "budget_seconds": 600.0,
    "seconds": 44.0,
}  # fmt: skip
PROBE = {
    "kind": "probe",
    "depths": [
        {"segment": f"blocks_{i}", "accuracy": 0.5 + 0.1 * i, "accuracy_se": 0.02, "loss": 1.0, "loss_se": 0.1,
         "features": 32}
        for i in range(3)
    ],
    "proposed": "blocks_1",
    "why": "Features stop improving there.",
}  # fmt: skip
TRAIN = {"kind": "train", "steps": 30, "best_step": 20, "monitor": "accuracy", "best": 0.9}
EVIDENCE = [AUTO, {**SOLVE, "cross_validation": CV}, PROBE, TRAIN]


def result(evidence=(), notes=(), classes=("ant", "bee", "cat")):
    return {
        "strategy": "auto", "examples": 40, "classes": list(classes), "seconds": 12.34, "evidence": list(evidence),
        "test": None, "model": None, "notes": list(notes),
    }  # fmt: skip


def measured(classes=3, n=60, seed=0, labels=None):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), y] += 1.0
    p = softmax(2 * logits, 1)
    labels = labels or ["ant", "bee", "cat"][:classes]
    return metrics.evaluate(p, y, labels, resamples=50, kind="probabilities"), p, y


def held_out(p, y, labels=("ant", "bee", "cat"), source=None, kind="test", **about):
    """Predictions as a run has them; the probabilities come back from their logarithms."""
    if source is None:
        source = Source.of("array", np.arange(len(y)), [labels[t] for t in y], labels=labels)
    return [report.HeldOut.of(kind, source, np.log(p), **about)]


def run_directory(place):
    (place / "model").mkdir()
    head = Head(labels=("ant", "bee", "cat"), conformal=Conformal(0.1, 0.8, "lac", 50))
    Card(Image((8, 8), 1), NetworkSpec("resnet", {"variant": "resnet18"}), heads=(head,)).write(place / "model")
    (place / "config.yaml").write_text("strategy: auto\nlearning_rate: 0.00123\n")
    lines = [{"phase": 1, "kind": "train", "step": s, "loss": 1 / s, "validation_loss": 2 / s} for s in range(1, 31)]
    (place / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"phase": 1, "st')
    return place


class Page(html.parser.HTMLParser):
    """What a reader sees, and every address that a browser would look up."""

    VOID = ("meta", "img", "source", "br", "link", "wbr")

    def __init__(self, text):
        super().__init__()
        self.text, self.addresses, self.headings, self.open, self.tags = "", [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "srcset", "href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open:
            self.text += data


def page_of(place, *args, **kwargs):
    return Page(report.write(place, *args, **kwargs).read_text(encoding="utf-8"))


def test_a_page_says_by_which_rule_a_penalty_was_taken(tmp_path):
    """It is the lowest loss, or what is most probable together with what is usual."""
    by_error = page_of(run_directory(tmp_path), result([{**SOLVE, "cross_validation": CV}])).text
    lowest = min(range(len(CV["rows"])), key=lambda i: CV["rows"][i]["loss"])
    by_loss = {**SOLVE, "cross_validation": {**CV, "chosen": lowest}}
    assert CV["chosen"] != lowest
    assert "together with a prior around usual penalties" in by_error
    assert "lowest loss is chosen" not in by_error
    assert "lowest loss is chosen" in report.write(tmp_path, result([by_loss])).read_text(encoding="utf-8")


def test_a_page_has_everything_that_the_run_found(tmp_path):
    _, p, y = measured()
    m = held_out(p, y)[0].metrics
    pictures = np.random.default_rng(0).integers(0, 255, (60, 8, 8)).astype(np.uint8)
    source = from_arrays(pictures, y, labels=m.labels)
    page = page_of(
        run_directory(tmp_path),
        result(EVIDENCE, ["2 files <b>were</b> skipped."]),
        held_out(p, y, source=source),
    )
    assert page.headings == [
        "Other figures of this run", "How good it is", "Class by class", "Which classes are confused",
        "Most confident errors", "Calibration",
        "Prediction sets", "How it was trained", "Candidates of the search", "Learning curve",
        "The head's l2 penalty", "Accuracy by depth", "Loss while training", "How to use it", "The model's card",
        "The settings",
    ]  # fmt: skip
    for said in (
        f"{m.accuracy.value:.1%}", "auto chose lpft, alpha 0.5: LP-FT beats the head by more than its standard error.",
        "78.0% [71.0%, 85.0%] (BBC-CV)", "on 60 examples, on the test data", "For comparison, always answering",
        "44 of the 600 seconds", "cross-validated log-loss 0.510 ± 0.100, accuracy 80.0% ± 3.0", "temperature of 1.40",
        "step 20 of 30 was best (accuracy 90.0%",
        "over the budget", "77.0% [70.0%, 83.0%]", "2 files <b>were</b> skipped.", "learning_rate: 0.00123",
        f"flaxtl predict {tmp_path / 'model'} new.jpg", "resnet (resnet18)", "blocks_2", "0.01 (chosen)",
        f"from {m.ece_band[0]:.3f} to {m.ece_band[1]:.3f} that perfectly calibrated",
        "calibrated to hold the true class in at least 90%",
    ):  # fmt: skip
        assert said in page.text, said
    mistakes = metrics.most_confident_mistakes(p, y, source.keys, 12)
    assert page.text.count(", labelled") == len(mistakes) > 0
    shown = [a for a in page.addresses if a.startswith("data:image/jpeg")]
    assert len(shown) == len(mistakes)
    # One file: nothing is fetched and nothing runs.
    assert all(a.startswith("data:") for a in page.addresses)
    assert "script" not in page.tags
    assert "http" not in re.sub(r"data:[^\"]*", "", (tmp_path / "report.html").read_text())


def test_a_page_of_a_run_that_left_nothing_still_says_so(tmp_path):
    page = page_of(tmp_path, result())
    assert page.headings == ["How it was trained"]
    assert "Nothing was held out, so how good the model is has not been measured." in page.text
    page = page_of(tmp_path, result([{**SOLVE, "cross_validation": {"possible": False, "reason": "one each"}}]))
    assert page.headings == ["How it was trained"]
    assert "no cross-validation: one each." in page.text
    page = page_of(tmp_path, result([{"kind": "train", "steps": 5}, {"kind": "new"}]))
    assert "trained for 5 steps; the last step was kept." in page.text


def test_without_a_test_set_the_page_is_made_of_out_of_fold_predictions(tmp_path):
    m, p, y = measured()
    by, caveat = "each example predicted by a head that did not see it", "The l2 penalty was chosen with these."
    folds = held_out(p, y, kind="cross-validation", predicted_by=by, caveat=caveat)
    evidence = [{**SOLVE, "cross_validation": CV}]
    page = page_of(run_directory(tmp_path), result(evidence), folds)
    assert "on 60 examples, from cross-validation on the training data; each example predicted by a head" in page.text
    assert caveat in page.text
    # Each section of predictions is marked. Prediction sets were made of the same predictions, which prove nothing.
    marked = ["How good it is", "Class by class", "Which classes are confused", "Most confident errors", "Calibration"]
    assert [h for h in page.headings if h in marked] == marked
    assert page.tags.count("small") - page.text.count(", labelled") == len(marked)
    assert "Prediction sets" not in page.headings
    # One accuracy is in front, and the other is explained.
    assert f"{m.accuracy.value:.1%}" in page.text
    assert "80.0% ± 3.0 (mean ± standard error): accuracy of the head over all" in page.text


def test_test_data_come_before_out_of_fold_predictions_which_are_explained(tmp_path):
    _, p, y = measured()
    _, q, z = measured(seed=1, n=30)
    both = [*held_out(p, y, kind="cross-validation", predicted_by="by heads"), *held_out(q, z)]
    page = page_of(tmp_path, result(), both)
    assert "on 30 examples, on the test data" in page.text
    other = both[0].metrics.accuracy.percent()
    assert f"{other}: accuracy from cross-validation on the training data; by heads (60 examples)." in page.text
    assert "Other figures of this run" in page.headings


def test_the_best_of_several_candidates_is_shown_without_its_optimism(tmp_path):
    m, p, y = measured()
    page = page_of(tmp_path, result([AUTO]), held_out(p, y, kind="cross-validation"))
    assert "78.0%" in page.text
    assert "[71.0%, 85.0%] on 60 examples, from cross-validation" in page.text
    assert "corrected for choosing the best candidate" in page.text
    assert f"{m.accuracy.percent()}: the chosen candidate's out-of-fold predictions before that correction" in page.text
    tested = page_of(tmp_path, result([AUTO]), held_out(p, y)).text
    assert f"{m.accuracy.value:.1%}accuracy" in re.sub(r"\s", "", tested)
    assert "78.0% [71.0%, 85.0%]: accuracy of the chosen candidate in cross-validation on the training data" in tested


def test_a_head_is_not_the_model_that_was_trained_from_it(tmp_path):
    page = page_of(tmp_path, result([{**SOLVE, "cross_validation": CV}, TRAIN]))
    assert "Nothing was held out" in page.text
    assert "80.0% ± 3.0" in page.text
    assert "before the layers below it were trained" in page.text


@pytest.mark.parametrize("kind", ["test", "cross-validation", "validation"])
@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_labels_and_numbers_have_pages_too(tmp_path, task, kind):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (30, 2)) if task == "multilabel" else rng.normal(size=(30, 2))
    z = y + rng.normal(size=(30, 2)) - 0.5 * (task == "multilabel")
    pictures = from_arrays(rng.integers(0, 255, (30, 8, 8)).astype(np.uint8))
    source = dataclasses.replace(pictures, targets=y.astype(np.float32), labels=("price", "size"), task=task)
    evidence = [{**SOLVE, "cross_validation": CV}]
    one = report.HeldOut.of(kind, source, z)
    page = page_of(run_directory(tmp_path), {**result(evidence), "task": task}, [one])
    assert len([a for a in page.addresses if a.startswith("data:image/jpeg")]) == 12 or task == "multilabel"
    if task == "regression":
        assert "accuracy" not in page.text.partition("The settings")[0].replace("validation_accuracy", "")
        assert "predicting the mean: R² 0.000, mean absolute error" in page.text
        assert "R² 0.800 ± 0.030" in page.text
        assert "Predicted against true: price" in page.headings
        assert "Largest errors" in page.headings
    else:
        assert "never answering any label: exact match" in page.text
        assert "right labels" in page.text
        assert "always no" in page.text
        assert "Most confident errors" in page.headings


@pytest.mark.parametrize("rate", [8000, 22050])
def test_sounds_can_be_played(tmp_path, rate):
    soxr = pytest.importorskip("soxr", reason="needs the [audio] extra")
    assert soxr
    _, p, y = measured()
    clip = Clip(np.sin(np.arange(2 * rate) / 20.0)[:, None].astype(np.float32), rate)
    source = Source.of("audio", [clip] * 60, [("ant", "bee", "cat")[t] for t in y], labels=("ant", "bee", "cat"))
    page = page_of(tmp_path, result(), held_out(p, y, source=source))
    players = [a for a in page.addresses if a.startswith("data:audio/wav")]
    assert len(players) == page.tags.count("audio") > 0
    with wave.open(io.BytesIO(base64.b64decode(players[0].partition(",")[2]))) as file:
        assert file.getframerate() == min(rate, 11025)
        assert file.getnframes() == pytest.approx(2 * file.getframerate(), abs=20)
        assert np.frombuffer(file.readframes(-1), "<i2").max() > 30_000


def test_examples_are_named_without_the_folders_that_all_share(tmp_path):
    _, p, y = measured()
    names = [("ant", "bee", "cat")[t] for t in y]
    keys = [f"/data/photos/{name}/{i}.jpg" for i, name in enumerate(names)]
    source = Source.of("array", np.arange(60), names, labels=("ant", "bee", "cat"), keys=keys)
    page = page_of(tmp_path, result(), held_out(p, y, source=source))
    error = metrics.most_confident_mistakes(p, y, keys, 1)[0]
    assert f"{names[error.row]}/{error.row}.jpg" in page.text
    assert "/data/photos" not in page.text


def test_of_several_shares_of_a_strategy_the_kept_one_is_told_from_the_others(tmp_path):
    page = page_of(tmp_path, result([AUTO]))
    assert page.text.count("chosen") == 1
    assert "lpft, alpha 0.5" in page.text
    assert "50%" not in page.text
    assert "interpolation coefficient" in page.text
    whole = [row for row in AUTO["candidates"] if row["share"] == 1.0]
    assert "interpolation coefficient" not in page_of(tmp_path, result([{**AUTO, "candidates": whole}])).text


def test_one_candidate_and_one_point_are_shown_too(tmp_path):
    few = {**AUTO, "candidates": AUTO["candidates"][:1], "corrected": None, "learning_curve": None}
    assert "Candidates of the search" in page_of(tmp_path, result([few])).headings
    curve = {"examples": [10], "accuracy": [0.5], "accuracy_se": [0.1], "foretold": None}
    assert "Learning curve" in page_of(tmp_path, result([{**few, "learning_curve": curve}])).headings


def test_texts_are_quoted_and_lost_pictures_left_out(tmp_path):
    m, p, y = measured()
    texts = Source.of("text", [f"text number {i} & more" for i in range(60)], [m.labels[t] for t in y])
    page = page_of(tmp_path, result(), held_out(p, y, source=texts))
    assert "& more" in page.text
    lost = Source.of("image", [tmp_path / f"{i}.png" for i in range(60)], [m.labels[t] for t in y])
    page = page_of(tmp_path, result(), held_out(p, y, source=lost))
    assert ", labelled" in page.text
    assert not [a for a in page.addresses if "jpeg" in a]


def test_perfect_predictions_have_no_mistakes(tmp_path):
    y = np.arange(30) % 2
    p = np.where(np.eye(2)[y] > 0, 0.99, 0.01)
    page = page_of(tmp_path, result(classes=("no", "yes")), held_out(p, y, ("no", "yes")))
    assert "No prediction is wrong." in page.text


def test_without_matplotlib_there_are_tables_and_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)
    _, p, y = measured()
    page = page_of(run_directory(tmp_path), result(EVIDENCE), held_out(p, y))
    assert "pip install flaxtl[report]" in page.text
    assert not page.addresses
    assert page.tags.count("table") >= 9
    assert "0.01 (chosen)" in page.text


def test_plots_are_the_same_each_time_and_have_two_colourings(tmp_path):
    a = plots.svg(plots.learning_curve(AUTO["learning_curve"]))
    assert a == plots.svg(plots.learning_curve(AUTO["learning_curve"]))
    dark = plots.on_dark(a)
    assert plots.INK in a
    assert plots.INK not in dark
    assert re.sub(r"#[0-9a-f]{6}", "", a) == re.sub(r"#[0-9a-f]{6}", "", dark)
    write = [report.write(tmp_path, result(EVIDENCE)).read_bytes() for _ in range(2)]
    assert write[0] == write[1]


@pytest.mark.parametrize("classes", [2, 10, 102])
def test_confusions_of_few_and_many_classes_fit_their_picture(classes, tmp_path):
    labels = [f"a rather long name of class {i}" for i in range(classes)]
    m, _, _ = measured(classes, 5 * classes, labels=labels)
    figure = plots.confusion(m.confusion, labels)
    plots.save(figure, tmp_path / "confusion.png")
    with pillow.open(tmp_path / "confusion.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert (pixels[[0, -1]] == 255).all()  # nothing is cut off at the edges
    assert (pixels[:, [0, -1]] == 255).all()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        boxes = [t.get_window_extent(canvas.get_renderer()) for t in axis.get_ticklabels()]
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
        assert all(len(t.get_text()) <= 22 for t in axis.get_ticklabels())


def test_every_plot_can_be_written_alone(tmp_path):
    _, p, y = measured()
    lines = [{"phase": k, "step": s, "loss": 1.0 / s} for k in (1, 2) for s in range(1, 9)]
    drawn = {
        "penalties": plots.penalties(CV),
        "curve": plots.learning_curve(AUTO["learning_curve"]),
        "depths": plots.depths(PROBE["depths"], "blocks_1"),
        "candidates": plots.candidates(AUTO["candidates"], "lpft, alpha 0.5"),
        "training": plots.training(lines),
        "numbers": plots.predicted_numbers(np.arange(9.0), np.arange(9.0) + 1.0, "price"),
        "reliability": plots.reliability(metrics.reliability(p, y)),
    }
    for name, figure in drawn.items():
        plots.save(figure, tmp_path / f"{name}.png")
        with pillow.open(tmp_path / f"{name}.png") as picture:
            assert np.ptp(np.asarray(picture.convert("L"))) > 150
        assert all(axes.get_xlabel() or len(figure.axes) > 1 for axes in figure.axes)


def test_embedded_plots_are_whole(tmp_path):
    page = page_of(tmp_path, result(EVIDENCE))
    drawn = [a for a in page.addresses if a.startswith("data:image/svg+xml")]
    assert len(drawn) == 2 * 4  # light and dark: candidates, learning curve, penalty, depth
    for address in drawn:
        assert base64.b64decode(address.partition(",")[2]).rstrip().endswith(b"</svg>")


def test_keys_that_are_no_paths_are_shown_whole(tmp_path):
    _, p, y = measured()
    texts = Source.of(
        "text", ["a text"] * 60, [("ant", "bee", "cat")[t] for t in y], keys=[f"row {i}" for i in range(60)]
    )
    page = page_of(tmp_path, result(), held_out(p, y, source=texts))
    assert f"row {metrics.most_confident_mistakes(p, y, texts.keys, 1)[0].row}" in page.text


def test_options_and_long_names_are_broken_where_they_may(tmp_path):
    labels = ("not_received_by_recipient", "b", "c")
    _, p, y = measured(labels=labels)
    page = report.write(
        tmp_path, result(notes=["Train with --class-weight auto <now>.", "Or `prior='equal'`."]), held_out(p, y, labels)
    )
    text = page.read_text(encoding="utf-8")
    assert "Train with <code>--class-weight</code> auto &lt;now&gt;." in text
    assert "Or <code>prior=&#39;equal&#39;</code>." in text
    assert "<td>not_<wbr>received_<wbr>by_<wbr>recipient</td>" in text


def test_class_names_beyond_matplotlib_s_own_font_are_drawn_without_a_warning():
    names = ["がぎ", "ไทย", "😀"]
    assert names[0] in plots.svg(plots.confusion(np.eye(3, dtype=int) * 4, names))
