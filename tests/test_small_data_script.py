"""The small-data benchmark: its draws, its keys and resuming, its figures, and its page from made-up results."""

import dataclasses
import gzip
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from flaxtl import metrics

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from small_data import manifests, measuring, plans, running, sets, tables  # noqa: E402


@pytest.fixture
def flowers(tmp_path):
    """A folder like that of the flowers: 60 files in each of two classes; contents do not matter to draws."""
    for name in ("daisy", "rose"):
        folder = tmp_path / "data" / "flowers" / "images" / name
        folder.mkdir(parents=True)
        for i in range(60):
            (folder / f"{i:02}.jpg").write_bytes(b"")
    return sets.make_manifest("flowers", tmp_path / "data", draws=3)


def test_draws_are_nested_balanced_and_apart_from_the_test_part(flowers):
    for draw in range(3):
        smaller = set()
        for shots in (1, 5, 10, 50):
            train, test = flowers.draw(shots, draw)
            assert np.bincount(flowers.targets_of(train)).tolist() == [shots, shots]
            assert np.bincount(flowers.targets_of(test)).tolist() == [10, 10]
            assert smaller <= set(train)
            assert not set(train) & set(test)
            smaller = set(train)
    assert set(flowers.draw(5, 0)[0]) != set(flowers.draw(5, 1)[0])


def test_a_manifest_says_after_reading_what_it_said_before(flowers, tmp_path):
    flowers.write(tmp_path / "manifest.json")
    again = manifests.Manifest.read(tmp_path / "manifest.json")
    assert again == flowers
    assert again.read_items()[0] == Path(flowers.root) / "images/daisy/00.jpg"


def test_each_draw_of_spoken_digits_leaves_out_another_speaker(tmp_path):
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for digit in range(2):
        for speaker in ("ann", "bob", "cleo"):
            for take in range(10):
                (folder / f"{digit}_{speaker}_{take}.wav").write_bytes(b"")
    manifest = sets.make_manifest("fsdd", tmp_path, draws=3)
    heard = []
    for draw in range(3):
        train, test = ({manifest.items[i].split("_")[1] for i in part} for part in manifest.draw(5, draw))
        assert not train & test
        heard += test
    assert sorted(heard) == ["ann", "bob", "cleo"]


def test_tables_and_idx_files_are_read_row_by_row(tmp_path):
    (tmp_path / "train.csv").write_text('text,category\n"one,\ntwo",a\nthree,b\n')
    texts = manifests.Manifest("banking77", "text", str(tmp_path), [["train", 1], ["train", 0]], [1, 0], ["a", "b"], {})
    assert texts.read_items() == ["three", "one,\ntwo"]
    pictures = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    header = bytes([0, 0, 8, 3]) + np.array([2, 3, 4], ">u4").tobytes()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pictures.tobytes()))
    idx = manifests.Manifest("fashion_mnist", "image", str(tmp_path), [["t10k", 1]], [0], ["a"], {})
    assert np.array_equal(idx.read_items()[0], pictures[1])


@pytest.mark.shared
@pytest.mark.parametrize(("name", "classes", "tested"), [("banking77_10", 10, 400), ("esc10_folds123", 10, 80)])
def test_real_sets_have_their_parts(shared, name, classes, tested):
    manifest = sets.make_manifest(name, shared / "data", draws=2)
    train, test = manifest.draw(5, 1)
    assert (len(manifest.labels), len(test)) == (classes, tested)
    assert np.bincount(manifest.targets_of(train)).tolist() == [5] * classes
    assert not {str(manifest.items[i]) for i in train} & {str(manifest.items[i]) for i in test}


def test_figures_are_those_of_flaxtl():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(200, 4)) * 2, rng.integers(0, 4, 200)
    found = measuring.figures(measuring.softmax(logits), targets)
    ours = metrics.evaluate(logits, targets, list("abcd"))
    for name in ("accuracy", "log_loss", "ece"):
        assert found[name] == pytest.approx(getattr(ours, name).value, rel=1e-6), name


def test_rows_of_a_clip_are_averaged():
    assert measuring.mean_by_example(np.array([[1.0], [3.0], [5.0]]), np.array([1, 1, 0])).tolist() == [[5.0], [2.0]]


def test_the_peak_is_that_of_a_job_alone():
    if measuring.peak_mb() is None:
        pytest.skip("this system does not tell a process's peak memory")
    held = np.ones(40_000_000)
    before = measuring.peak_mb()
    del held
    measuring.forget_peak()
    assert measuring.peak_mb() < before - 200


def test_a_job_is_another_one_with_other_settings_or_other_examples(flowers):
    def job(manifest, settings):
        return plans.Job.of(manifest, 5, 0, "full", settings)

    key = job(flowers, {"epochs": 2}).key
    moved = dataclasses.replace(flowers, root="elsewhere")
    relabelled = dataclasses.replace(flowers, targets=[1 - t for t in flowers.targets])
    assert job(moved, {"epochs": 2}).key == key
    assert len({key, job(flowers, {"epochs": 3}).key, job(relabelled, {"epochs": 2}).key}) == 3


def test_the_plan_holds_what_is_asked_for(flowers):
    jobs = plans.jobs_of(flowers, ["head", "fastai", "setfit"], draws=2, epochs=1)
    assert {job.method for job in jobs} == {"head", "fastai"}  # SetFit is for texts
    assert {job.shots for job in jobs if job.method == "head"} == {1, 5, 10, 50}
    assert {job.shots for job in jobs if job.method == "fastai"} == {5, 10}  # 50 a class is left out for its cost
    assert {job.settings["epochs"] for job in jobs if job.method == "fastai"} == {1}
    asked = plans.jobs_of(flowers, ["fastai"], shots=[50], draws=1)
    assert [(job.shots, job.draw) for job in asked] == [(50, 0)]
    assert len({job.key for job in jobs}) == len(jobs)


def test_every_set_plans_what_it_has_settings_for_and_shots_that_it_has():
    assert set(plans.PLAN) == set(sets.SETS)
    for name, plan in plans.PLAN.items():
        assert set(plan) == set(plans.SETTINGS[sets.SETS[name].modality]) <= set(plans.METHODS)
        assert {shots for draws in plan.values() for shots in draws} <= set(sets.SETS[name].shots)
    assert set(plans.METHODS) == set(tables.NAMES)


def line(method, draw, accuracy, **more):
    base = {"set": "flowers", "shots": 5, "settings": {}, "key": f"{method}/{draw}", "log_loss": 1.0, "ece": 0.1}
    cost = {"seconds": 2.0, "cpu_seconds": 3.0, "peak_mb": 100.0, "versions": {"numpy": "2"}, "commit": "c"}
    return {**base, **cost, "method": method, "draw": draw, "accuracy": accuracy, **more}


def test_costs_are_those_of_other_draws_once_there_are_any(flowers):
    [job] = plans.jobs_of(flowers, ["head"], shots=[5], draws=1)
    assert plans.expected(job, flowers, [line("head", 1, 0.5), line("head", 2, 0.5, cpu_seconds=9.0)]) == 6.0
    assert plans.expected(job, flowers, []) > 0


def bench(tmp_path):
    results = tmp_path / "results" / "small.jsonl"
    return running.Bench(tmp_path / "data", tmp_path / "weights", tmp_path, results)


def use_worker(monkeypatch, tmp_path, script):
    """Puts a small program in the workers' place: it is given the batch, and runs as they do."""
    package = tmp_path / "stand_in" / "small_data"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "ours.py").write_text("import json, sys\nbatch = json.load(open(sys.argv[1]))\n" + script)
    monkeypatch.setattr(running, "SCRIPTS", package.parent)


def printing(count):
    figures = {k: v for k, v in line("head", 0, 0.5).items() if k in ("accuracy", "log_loss", "ece", "seconds")}
    return f"for job in batch['jobs'][:{count}]:\n    print(json.dumps({{**job, **{figures!r}}}), flush=True)\n"


def test_what_is_done_is_not_done_again_and_a_failed_worker_loses_nothing(flowers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flowers.write(tmp_path / "manifest.json")
    jobs = plans.jobs_of(flowers, ["head"], shots=[5], draws=3)
    use_worker(monkeypatch, tmp_path, printing(1) + "sys.exit(3)\n")
    with pytest.raises(running.Failed, match="ended with 3"):
        bench(tmp_path).run(tmp_path / "manifest.json", jobs, "abc")
    assert [entry["draw"] for entry in bench(tmp_path).done()] == [0]
    with bench(tmp_path).results.open("a") as file:
        file.write('{"key": "cut sho')
    (tmp_path / "stand_in/small_data/ours.py").write_text(
        "import json, sys\nbatch = json.load(open(sys.argv[1]))\n" + printing(3)
    )
    bench(tmp_path).run(tmp_path / "manifest.json", jobs, "abc")
    entries = [json.loads(text) for text in bench(tmp_path).results.read_text().splitlines() if text.endswith("}")]
    assert [(entry["draw"], entry["commit"]) for entry in entries] == [(0, "abc"), (1, "abc"), (2, "abc")]
    assert {entry["key"] for entry in bench(tmp_path).done()} == {job.key for job in jobs}


def test_peers_without_an_interpreter_are_refused_by_name(flowers, tmp_path):
    flowers.write(tmp_path / "manifest.json")
    with pytest.raises(running.Failed, match="--torch-python"):
        bench(tmp_path).run(tmp_path / "manifest.json", plans.jobs_of(flowers, ["fastai"], draws=1), "abc")


def test_differences_are_paired_by_draw():
    one = {0: line("auto", 0, 0.8), 1: line("auto", 1, 0.6), 5: line("auto", 5, 0.1)}
    other = {0: line("head", 0, 0.7), 1: line("head", 1, 0.6), 6: line("head", 6, 0.9)}
    mean, error, draws = tables.paired(one, other)
    assert (mean, error, draws) == (pytest.approx(5.0), pytest.approx(5.0), 2)
    assert math.isnan(tables.paired({0: one[0]}, other)[1])
    assert tables.paired(one, {})[2] == 0


def test_regret_is_against_the_best_fixed_method_on_shared_draws():
    methods = {
        "auto": {0: line("auto", 0, 0.80), 1: line("auto", 1, 0.60)},
        "head": {0: line("head", 0, 0.80), 1: line("head", 1, 0.58)},
        "fastai": {1: line("fastai", 1, 0.63)},  # 3 points better where auto was measured too
    }
    name, difference, _, draws = tables.regret(methods)
    assert (name, difference, draws) == ("fastai", pytest.approx(3.0), 1)
    assert tables.regret({"head": methods["head"]}) is None


def test_the_page_shows_means_spreads_and_what_auto_chose():
    lines = [
        *(line("auto", d, a, evidence=[{"kind": "auto", "chosen": "cut"}]) for d, a in enumerate((0.7, 0.8))),
        *(line("sklearn", d, a, feature_seconds=4.0) for d, a in enumerate((0.6, 0.8))),
    ]
    text = tables.page(lines, ["python run.py"])
    assert "| **flaxtl auto** | 75.0 ± 7.1 | 1.000 | 0.100 | 2 |" in text
    assert "2.0 cached + 4.0" in text
    assert "| flowers | 5 | 75.0 ± 7.1 | +5.0 ± 5.0 (2) |" in text
    assert "cut 2" in text
    assert "over 1 cases: -5.00 points" in text
    assert "No job has finished" in tables.page([], ["python run.py"])


@pytest.mark.parity
@pytest.mark.shared
def test_the_networks_in_pytorch_say_what_was_recorded(shared):
    torch = pytest.importorskip("torch")
    from small_data.torch_networks import network

    def body(name, given):
        with torch.inference_mode():
            return network(shared / "weights" / name, 2).eval().body(given).numpy()

    def recorded(name):
        return np.load(shared / "weights" / name / "reference.npz")

    pictures = recorded("mobilenet_v2_imagenet")
    scaled = (pictures["images_uint8_nhwc"] / 255.0 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    given = torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(body("mobilenet_v2_imagenet", given), pictures["pooled_features"], atol=1e-4)
    texts = recorded("minilm_l6_v2")
    given = {name: torch.from_numpy(texts[name]).long() for name in ("input_ids", "attention_mask")}
    np.testing.assert_allclose(body("minilm_l6_v2", given), texts["embeddings_fp32_weights"], atol=1e-3)
    sounds = recorded("yamnet_audioset")
    given = torch.from_numpy(sounds["log_mel_patch"])[..., None]
    np.testing.assert_allclose(body("yamnet_audioset", given), sounds["embedding"], atol=1e-4)


@pytest.mark.parity
def test_one_cycle_rises_to_its_peak_and_falls_to_nothing():
    pytest.importorskip("torch")
    from small_data.torch_recipes import one_cycle

    rates, momenta = zip(*(one_cycle(step, 100, 1.0, 25.0, 0.3) for step in range(101)))
    assert (rates[0], rates[30], rates[100]) == (pytest.approx(0.04), pytest.approx(1.0), pytest.approx(1e-5))
    assert (momenta[0], momenta[30], momenta[100]) == (pytest.approx(0.95), pytest.approx(0.85), pytest.approx(0.95))
    assert list(rates[:31]) == sorted(rates[:31])
    assert list(rates[30:]) == sorted(rates[30:], reverse=True)


@pytest.mark.parity
def test_pairs_are_alike_exactly_where_classes_are():
    pytest.importorskip("torch")
    from small_data.torch_recipes import pairs_of

    targets = np.array([0, 0, 1, 1, 2])  # the last has none of its class
    pairs = pairs_of(targets, 3, 1000, np.random.default_rng(0))
    assert len(pairs) == 4 * 6 + 3
    assert all(a != b and (targets[a] == targets[b]) == bool(alike) for a, b, alike in pairs)
    assert len(pairs_of(targets, 3, 10, np.random.default_rng(0))) == 10
