"""The embedded network and the demonstration on digits."""

import json

import numpy as np
import pytest

import flaxtl
from flaxtl.cli import main
from flaxtl.convert.loading import EMBEDDED


def test_the_embedded_network_is_small_and_says_where_it_came_from():
    folder = EMBEDDED["characters"]
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) <= 3 * 2**20
    model = flaxtl.load("flaxtl:characters")
    origin = model.card.provenance["pretrained"]
    assert origin["licence"].startswith("MIT")
    assert "flaxtl pretrain" in origin["command"]
    assert origin["seed"] == 0
    assert origin["validation"]["accuracy"] > 0.9
    assert len(model.card.labels) == 242


@pytest.mark.slow
def test_fifty_digits_teach_a_head_more_than_pixels_do():
    digits = flaxtl.data.digits()
    chosen, rest = flaxtl.data.few_shot(digits, 5, seed=0)
    result = flaxtl.finetune("flaxtl:characters", digits.subset(chosen), test=digits.subset(rest), strategy="head")
    assert result.metrics.accuracy.value > 0.9
    assert result.metrics.accuracy.low < result.metrics.accuracy.value < result.metrics.accuracy.high


@pytest.mark.slow
def test_the_demo_reports_every_method_and_saves_a_model_that_predicts(tmp_path, capsys):
    assert main(["demo", "--draws", "1", "--out", str(tmp_path / "demo"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    results = {r["method"]: r for r in report["results"]}
    assert list(results) == ["head", "full", "scratch", "pixels"]
    assert all(r["n_draws"] == 1 and r["std"] == 0.0 for r in results.values())
    assert max(results["head"]["mean"], results["full"]["mean"]) > results["pixels"]["mean"] + 0.03
    model = flaxtl.load(report["model"])
    digits = flaxtl.data.digits()
    right = np.array(model.predict(digits).classes) == np.array(digits.labels)[digits.targets]
    assert right.mean() > 0.9
