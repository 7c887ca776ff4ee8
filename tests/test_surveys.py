"""Heads at every depth, learning curves, and networks side by side."""

import json

import numpy as np
import pytest
import tiny
import tiny_text

from flaxtl.activations import Store
from flaxtl.cli import main
from flaxtl.data import Source
from flaxtl.errors import CardError, DataError
from flaxtl.probe.curve import learning_curve
from flaxtl.probe.depth import probe_depths
from flaxtl.probe.ranking import leave_one_out_neighbours, logme
from flaxtl.probe_settings import ProbeConfig, RankConfig
from flaxtl.strategies.surveys import probe, rank


def _blobs(n, apart, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.normal(size=(n, 6)) + apart * np.eye(6)[y]
    return x.astype(np.float32), Source.of("array", x, [tiny.LABELS[t] for t in y], labels=tiny.LABELS)


def test_each_depth_is_the_mean_over_places_of_what_leaves_it():
    model, source = tiny.model(), tiny.source()
    found = probe_depths(model, source)
    assert [depth.segment for depth in found.depths] == list(model.network.segments[:-1])
    for number, depth in enumerate(found.depths, start=1):
        values, _ = model.outputs(source, stop=number)
        pooled = values.mean((1, 2)) if values.ndim == 4 else values
        assert depth.features == pooled.shape[1]
    assert found.proposed in model.network.segments


def test_depths_of_texts_leave_padding_out(tmp_path):
    model = tiny_text.text_model(tiny_text.write_tokenizer(tmp_path), ("no", "yes"))
    texts, names = tiny_text.sentences(24)
    found = probe_depths(model, Source.of("text", texts, names))
    assert len(found.depths) == model.network.border
    assert all(0.0 <= depth.accuracy <= 1.0 for depth in found.depths)


def test_depths_are_kept(tmp_path, monkeypatch):
    store, model, source = Store(tmp_path), tiny.model(), tiny.source()
    first = probe_depths(model, source, store=store)
    monkeypatch.setattr("flaxtl.probe.depth._computed", lambda *_: pytest.fail("computed again"))
    assert probe_depths(model, source, store=store) == first


def test_one_example_a_class_has_no_evidence_and_says_so():
    found = probe_depths(tiny.model(), tiny.source(per_class=1))
    assert all(depth.accuracy is None for depth in found.depths)
    assert "no evidence" in found.why
    assert "no cross-validation" in found.summary()


def test_one_class_cannot_be_probed():
    with pytest.raises(DataError, match="two classes"):
        probe_depths(tiny.model(), tiny.source(classes=1))


def test_a_curve_rises_with_examples_and_foretells_no_fall():
    features, source = _blobs(240, 1.2)
    curve = learning_curve(features, source, scaling="standard", strength=0.1)
    assert list(curve.examples) == sorted(curve.examples)
    assert curve.accuracy[-1] > curve.accuracy[0] + 0.1
    examples, accuracy, low, high = curve.foretold
    assert examples == 480
    assert low <= accuracy <= high
    assert accuracy >= curve.accuracy[-1] - 1e-9


@pytest.mark.slow
def test_what_a_curve_foretells_comes_true():
    features, source = _blobs(800, 1.5)
    half = source.subset(range(400))
    _, _, low, high = learning_curve(features[:400], half, scaling="standard", strength=0.1).foretold
    curve = learning_curve(features, source, scaling="standard", strength=0.1)
    assert low - 0.03 <= curve.accuracy[-1] <= high + 0.03


def test_noise_has_a_flat_curve():
    features, source = _blobs(120, 0.0)
    curve = learning_curve(features, source, scaling="standard", strength=0.1)
    assert abs(curve.accuracy[-1] - 1 / 3) < 0.12


def test_a_curve_of_few_examples_foretells_nothing():
    features, source = _blobs(6, 1.0)
    assert learning_curve(features, source, scaling="unit", strength=0.1).foretold is None


def test_neighbours_leave_the_example_and_its_group_out():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(10, 8)), 2, axis=0)  # each twice
    y = np.repeat(rng.permutation(np.arange(10) % 2), 2)
    groups = [str(i // 2) for i in range(20)]
    assert leave_one_out_neighbours(x, y, k=1) == 1.0
    assert leave_one_out_neighbours(x, y, groups, k=1) < 0.9


def test_logme_is_the_evidence_of_the_best_precisions():
    """The fixed point is a maximum: no other pair of precisions on a grid has more evidence."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 4)), np.arange(30) % 2
    x[:, 0] += y

    def evidence(target, alpha, beta):
        n, d = x.shape
        a = alpha * np.eye(d) + beta * x.T @ x
        m = beta * np.linalg.solve(a, x.T @ target)
        fit = beta / 2 * np.square(target - x @ m).sum() + alpha / 2 * m @ m
        return (n * np.log(beta) + d * np.log(alpha) - n * np.log(2 * np.pi) - np.linalg.slogdet(a)[1]) / 2 - fit

    grid = np.exp(np.linspace(-4, 12, 80))
    best = [max(evidence((y == label).astype(float), a, b) for a in grid for b in grid) / 30 for label in (0, 1)]
    assert logme(x, y, iterations=100) == pytest.approx(np.mean(best), abs=2e-3)


def test_the_network_whose_features_tell_the_classes_apart_ranks_first():
    source = tiny.source(per_class=6)
    blind = tiny.model()
    params = {**blind.params, "backbone": {k: _zeroed(v) for k, v in blind.params["backbone"].items()}}
    found = rank(
        [blind.with_variables({**blind.variables, "params": params}), tiny.model()], source, RankConfig(cache="off")
    )
    assert [row.name for row in found.rows] == ["model 2", "model 1"]
    assert found.rows[0].neighbours > found.rows[1].neighbours
    assert "LogME" in found.summary()


def _zeroed(tree):
    return {k: _zeroed(v) if isinstance(v, dict) else np.zeros_like(v) for k, v in tree.items()}


def test_networks_of_another_modality_are_refused(tmp_path):
    text = tiny_text.text_model(tiny_text.write_tokenizer(tmp_path))
    with pytest.raises(CardError):
        rank([tiny.model(), text], tiny.source(), RankConfig(cache="off"))


def test_probe_and_rank_from_the_command_line(tmp_path, capsys):
    folder = tiny.folder(tmp_path / "photos", per_class=5)
    tiny.model().save(tmp_path / "a")
    tiny.model(seed=1).save(tmp_path / "b")
    plot = tmp_path / "depth.png"
    pytest.importorskip("matplotlib")
    assert (
        main(["probe", str(folder), "--from", str(tmp_path / "a"), "--out", str(plot), "--cache", "off", "--json"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == "probe"
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert main(["rank", str(folder), str(tmp_path / "a"), str(tmp_path / "b"), "--cache", "off"]) == 0
    assert "neighbours" in capsys.readouterr().out


def test_probe_refuses_what_it_cannot_use(tmp_path, capsys):
    assert main(["probe"]) == 2
    assert "flaxtl probe photos/" in capsys.readouterr().err
    assert main(["rank", str(tiny.folder(tmp_path / "photos"))]) == 2


def test_a_probe_of_pictures_by_a_users_python():
    found = probe(tiny.model(), tiny.source(), ProbeConfig(cache="off"))
    assert json.dumps(found.to_dict())
    assert found.summary().count("\n") == len(found.depths) + 1
