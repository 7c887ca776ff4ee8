"""Runs side by side: the table, the paired test, and what is said where there is none."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from flaxtl import metrics, report
from flaxtl.cli import main
from flaxtl.errors import DataError
from flaxtl.report.compare import mcnemar

LABELS = ("no", "yes")


def run(place, right, *, strategy="head", keys=None, kept=True, tested=True):
    """A finished run of which `right` says for each test example whether it was predicted rightly."""
    place.mkdir(parents=True)
    y = np.arange(len(right)) % 2
    p = np.where((np.eye(2)[y] > 0) == np.asarray(right)[:, None], 0.8, 0.2)
    test = metrics.evaluate(p, y, LABELS, resamples=20).to_dict() if tested else None
    result = {"strategy": strategy, "examples": 50, "seconds": 1.5, "test": test}
    (place / "result.json").write_text(json.dumps(result))
    if kept:
        report.keep_predictions(place, keys or [f"{i}.png" for i in range(len(right))], y, p, LABELS)
    return place


def test_kept_predictions_are_read_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(3), 7), np.arange(7) % 3
    keys, labels = [f'a "quoted", key {i}' for i in range(7)], ("ä", "b;c", "d,e")
    report.keep_predictions(tmp_path, keys, y, p, labels)
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
    assert "a is 35.0% more accurate on the same 40 examples" in found.summary()
    assert "more than chance" in found.summary()
    assert found.rows[0].accuracy == pytest.approx(37 / 40)
    assert found.rows[0].accuracy_low < 37 / 40 < found.rows[0].accuracy_high
    assert json.loads(json.dumps(found.to_dict()))["pairs"][0]["only_first"] == 15
    # The order of the examples does not matter.
    kept = report.read_predictions(b)
    report.keep_predictions(
        b, [kept.keys[i] for i in order], kept.targets[order], kept.probabilities[order], kept.labels
    )
    assert report.compare([a, b]).pairs == found.pairs


def test_a_small_difference_may_be_chance_and_none_is_none(tmp_path):
    right = np.ones(20, bool)
    other = right.copy()
    other[0] = False
    runs = [run(tmp_path / name, r) for name, r in (("a", right), ("b", other), ("c", right))]
    said = report.compare(runs).summary()
    assert "this may be chance" in said
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
    assert "a and b cannot be tested against each other: they were not measured on the same" in found.summary()
    assert "no predictions on test data in c and d." in found.summary()
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
