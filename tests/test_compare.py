"""Runs side by side: the table, the paired test, and what is said where there is none."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import binomtest

from flaxtl import report
from flaxtl.cli import main
from flaxtl.data import Source
from flaxtl.errors import DataError
from flaxtl.report.compare import mcnemar
from flaxtl.report.held_out import FIELDS

LABELS = ("no", "yes")


def held_out(keys, targets, probabilities, labels=LABELS, kind="test"):
    """Predictions as a run has them; the probabilities come back from their logarithms."""
    source = Source.of("array", np.arange(len(keys)), [labels[t] for t in targets], labels=labels, keys=keys)
    return report.HeldOut.of(kind, source, np.log(probabilities))


def run(place, right, *, strategy="head", keys=None, kept=True, tested=True, kinds=("test",)):
    """A finished run of which `right` says for each test example whether it was predicted rightly."""
    place.mkdir(parents=True)
    y = np.arange(len(right)) % 2
    p = np.where((np.eye(2)[y] > 0) == np.asarray(right)[:, None], 0.8, 0.2)
    keys = keys or [f"{i}.png" for i in range(len(right))]
    found = [held_out(keys, y, p, kind=kind) for kind in kinds if tested]
    result = {"strategy": strategy, "examples": 50, "seconds": 1.5, "test": None}
    result |= {FIELDS[one.kind]: one.to_dict() for one in found}
    (place / "result.json").write_text(json.dumps(result))
    for one in found if kept else ():
        report.save_predictions(place, one)
    return place


def test_kept_predictions_are_read_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(3), 7), np.arange(7) % 3
    keys, labels = [f'a "quoted", key {i}' for i in range(7)], ("ä", "b;c", "d,e")
    report.save_predictions(tmp_path, held_out(keys, y, p, labels))
    found = report.read_predictions(tmp_path)
    assert (found.keys, found.labels) == (tuple(keys), labels)
    np.testing.assert_array_equal(found.targets, y)
    np.testing.assert_allclose(found.probabilities, p, rtol=1e-8)
    np.testing.assert_array_equal(found.right, p.argmax(1) == y)
    (tmp_path / "predictions.csv").write_text("path,target,a\n1,2,3\n")
    with pytest.raises(DataError, match="its columns are path"):
        report.read_predictions(tmp_path)
    (tmp_path / "predictions.csv").write_text("key,target,a\nx,b,0.5\n")
    with pytest.raises(DataError, match="not a table of predictions"):
        report.read_predictions(tmp_path)


def test_mcnemar_is_the_sign_test_of_those_that_differ():
    for a, b in ((0, 6), (3, 12), (7, 7), (20, 1)):
        assert mcnemar(a, b) == pytest.approx(binomtest(a, a + b).pvalue)
    assert mcnemar(0, 0) == 1.0


def test_runs_on_the_same_examples_are_tested_pair_by_pair(tmp_path):
    first = np.ones(40, bool)
    first[:3] = False
    second = first.copy()
    second[5:20] = False
    second[0] = True
    order = np.random.default_rng(0).permutation(40)
    a, b = run(tmp_path / "a", first), run(tmp_path / "b", second, strategy="lpft")
    found = report.compare([a, b])
    pair = found.pairs[0]
    assert (pair.examples, pair.only_first, pair.only_second) == (40, 15, 1)
    assert pair.p_value == pytest.approx(mcnemar(1, 15))
    assert "a is 35.0 points more accurate on the same 40 examples of the test data" in found.summary()
    assert ", significant at the 5% level" in found.summary()
    assert found.rows[0].accuracy == pytest.approx(37 / 40)
    assert found.rows[0].low < 37 / 40 < found.rows[0].high
    assert json.loads(json.dumps(found.to_dict()))["pairs"][0]["only_first"] == 15
    # The order of the examples does not matter.
    kept = report.read_predictions(b)
    report.save_predictions(b, held_out([kept.keys[i] for i in order], kept.targets[order], kept.probabilities[order]))
    assert report.compare([a, b]).pairs == found.pairs


def test_a_small_difference_may_be_chance_and_none_is_none(tmp_path):
    right = np.ones(20, bool)
    other = right.copy()
    other[0] = False
    runs = [run(tmp_path / name, r) for name, r in (("a", right), ("b", other), ("c", right))]
    said = report.compare(runs).summary()
    assert "not significant at the 5% level" in said
    assert "a and c are equally accurate" in said
    assert "of 3, one in twenty" in said


def test_runs_that_cannot_be_tested_are_named(tmp_path):
    right = np.ones(10, bool)
    a = run(tmp_path / "a", right)
    elsewhere = run(tmp_path / "b", right, keys=[f"other{i}" for i in range(10)])
    without = run(tmp_path / "c", right, kept=False)
    unmeasured = run(tmp_path / "d", right, kept=False, tested=False)
    relabelled = run(tmp_path / "e", right, keys=[f"{i + 1}.png" for i in range(10)])
    found = report.compare([a, elsewhere, without, unmeasured, relabelled])
    assert not found.pairs
    assert "a and b cannot be tested against each other: they were not evaluated on the same" in found.summary()
    assert "no class predictions on held-out examples in c and d." in found.summary()
    assert "a and e cannot" in found.summary()
    assert "not measured" in found.summary().splitlines()[4]


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [run(tmp_path / parent / "run", np.ones(10, bool)) for parent in "ab"]
    assert [row.run for row in report.compare(runs).rows] == list(map(str, runs))


def test_the_command(tmp_path, capsys):
    a, b = (str(run(tmp_path / name, np.ones(10, bool))) for name in "ab")
    assert main(["compare", a, b]) == 0
    assert "strategy" in capsys.readouterr().out
    assert main(["compare", a, b, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2
    assert main(["compare", a]) == 2
    assert "flaxtl compare runs/head runs/lpft" in capsys.readouterr().err
    assert main(["compare", a, str(tmp_path / "none")]) == 2
    assert "Expected the directory of a finished run" in capsys.readouterr().err
    (tmp_path / "b" / "result.json").write_text("{}")
    assert main(["compare", a, b]) == 2
    assert "Run it again" in capsys.readouterr().err


def test_runs_are_compared_on_the_same_kind_of_held_out_examples(tmp_path):
    right = np.ones(30, bool)
    worse = right.copy()
    worse[:9] = False
    both = run(tmp_path / "both", right, kinds=("test", "cross-validation"))
    folds = run(tmp_path / "folds", worse, kinds=("cross-validation",))
    tested = run(tmp_path / "tested", worse)
    found = report.compare([both, folds, tested])
    assert [(p.first, p.second, p.held_out) for p in found.pairs] == [
        ("both", "folds", "cross-validation"),
        ("both", "tested", "test"),
    ]
    assert [row.held_out for row in found.rows] == ["test", "cross-validation", "test"]
    said = found.summary()
    assert "both is 30.0 points more accurate on the same 30 examples of cross-validation on the training data" in said
    assert "the predictions of folds are on cross-validation on the training data, those of tested on the test" in said
    assert "of different kinds (cross-validation, test)" in said
    assert "p-values are approximate" in said
    assert "cross-validation (30)" in said.splitlines()[2]
    assert "approximate" not in report.compare([both, tested]).summary()


@pytest.mark.parametrize("kind", ["cross-validation", "validation"])
def test_runs_without_test_data_are_compared_too(tmp_path, kind):
    right = np.arange(20) > 3
    runs = [run(tmp_path / name, r, kinds=(kind,)) for name, r in (("a", right), ("b", ~right))]
    found = report.compare(runs)
    assert [row.held_out for row in found.rows] == [kind, kind]
    assert found.rows[0].baseline == 0.5
    [pair] = found.pairs
    assert (pair.held_out, pair.only_first, pair.only_second) == (kind, 16, 4)
    assert "a is 60.0 points more accurate" in str(pair)
    assert not (tmp_path / "a" / "predictions.csv").exists()


@pytest.mark.parametrize(("task", "figure"), [("regression", "r2"), ("multilabel", "exact")])
def test_runs_of_other_tasks_are_listed_by_their_own_figure(tmp_path, task, figure):
    for name in "ab":
        (tmp_path / name).mkdir()
        source = Source.of("array", np.arange(6), keys=list("uvwxyz"))
        targets = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] * 2, np.float32)
        source = dataclasses.replace(source, targets=targets, labels=("p", "q"), task=task)
        one = report.HeldOut.of("test", source, targets - 0.4)
        report.save_predictions(tmp_path / name, one)
        result = {"strategy": "head", "examples": 6, "seconds": 1.0, "test": one.to_dict()}
        (tmp_path / name / "result.json").write_text(json.dumps(result))
    found = report.compare([tmp_path / "a", tmp_path / "b"])
    assert [row.figure for row in found.rows] == [figure] * 2
    assert found.rows[0].accuracy is None
    assert found.rows[0].baseline is not None
    assert "no class predictions on held-out examples in a and b" in found.summary()
    assert json.loads(json.dumps(found.to_dict()))["rows"][0]["value"] == found.rows[0].value
