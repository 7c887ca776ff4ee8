"""Strategies end to end on a tiny network: what each trains, what it leaves alone, and which step it keeps."""

import dataclasses
import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import linen as nn
from flax import nnx

import flaxtl
from flaxtl import checkpoint, data, nets, paths
from flaxtl.card import Array, Card, Head, Image, NetworkSpec
from flaxtl.config import FinetuneConfig, StrategyName, Training
from flaxtl.errors import CardError, ConfigError, DataError, PathError, TrainingError
from flaxtl.model import Model
from flaxtl.nets.adapt import LinenModule, NnxModule
from flaxtl.run_settings import Parallel
from flaxtl.strategies import STRATEGIES, phases_of
from flaxtl.strategies.chains import cadence
from flaxtl.strategies.work import Work
from flaxtl.train.loop import Cadence, Standing, run_steps

STEPS = {"epochs": 8, "batch_size": 8, "learning_rate": 0.02, "save_every": 100}
# Half of this small network has no parameters but the head's.
CONTRAST = {"contrast_from": "blocks_0"}


def names(model, pattern="**"):
    return {leaf.name for leaf in paths.matching(pattern, model.variables)}


def wide(model):
    """The model with a head for the three classes, to compare trees with."""
    return model.with_head(tiny.LABELS)


@pytest.fixture(scope="module")
def results():
    """Each strategy once, on 12 pictures in batches of 8."""
    test = tiny.source(per_class=8, seed=1)
    steps = STEPS | CONTRAST
    return {s: flaxtl.finetune(tiny.model(), tiny.source(), strategy=s, test=test, **steps) for s in STRATEGIES}


def test_head_changes_the_head_and_nothing_else(results):
    model = results["head"].model
    assert tiny.changed(wide(tiny.model()).variables, model.variables) == {"params:head/kernel", "params:head/bias"}
    assert [e["kind"] for e in results["head"].evidence] == ["solve"]


@pytest.mark.parametrize("strategy", ["full", "lpft"])
def test_full_and_lpft_train_every_parameter_and_no_statistic(strategy, results):
    model = results[strategy].model
    moved = tiny.changed(wide(tiny.model()).variables, model.variables)
    assert moved == names(model, "params:**")
    assert [e["kind"] for e in results[strategy].evidence] == ["train"] if strategy == "full" else ["solve", "train"]


def test_scratch_keeps_nothing_of_the_pretrained_network(results):
    model = results["scratch"].model
    assert tiny.changed(wide(tiny.model()).variables, model.variables) == names(model)
    assert "pretrained" not in model.card.provenance
    assert "pretrained" in results["full"].model.card.provenance


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_learns_and_says_what_it_did(strategy, results):
    result = results[strategy]
    assert result.metrics.accuracy.value > (0.45 if strategy == "scratch" else 0.6)  # chance is a third
    assert result.metrics.examples == 24
    assert result.model.card.labels == tiny.LABELS
    assert result.model.card.provenance["finetuned"] == {"strategy": strategy, "examples": 12, "seed": 0}
    assert json.loads(json.dumps(result.to_dict()))["test"]["accuracy"]["value"] == result.metrics.accuracy.value
    assert strategy in result.summary()
    assert "on the test data" in result.summary()


def test_the_given_model_is_left_as_it_was(results):
    model = tiny.model()
    flaxtl.finetune(model, tiny.source(), strategy="full", **STEPS)
    assert tiny.same(model.variables, tiny.model().variables)


def test_the_same_seed_gives_the_same_bits_and_another_another(results):
    again = flaxtl.finetune(tiny.model(), tiny.source(), strategy="lpft", **STEPS)
    assert tiny.same(again.model.variables, results["lpft"].model.variables)
    other = flaxtl.finetune(tiny.model(), tiny.source(), strategy="lpft", seed=1, **STEPS)
    assert not tiny.same(other.model.variables, results["lpft"].model.variables)


def test_lpft_starts_from_the_probabilities_of_the_solved_head(results):
    # A step of a rate that cannot be seen leaves what the solved head says, temperature and all.
    still = flaxtl.finetune(tiny.model(), tiny.source(), strategy="lpft", epochs=1, batch_size=12, learning_rate=1e-12)
    inputs = tiny.pictures(seed=3)[0]
    assert results["head"].model.card.head.temperature != 1.0
    np.testing.assert_allclose(
        still.model.predict(inputs).probabilities,
        results["head"].model.predict(inputs).probabilities,
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_example_a_class_in_a_batch_that_is_larger(strategy):
    result = flaxtl.finetune(
        tiny.model(), tiny.source(), strategy=strategy, examples_per_class=1, epochs=2, batch_size=64
    )
    assert result.examples == 3
    assert np.isfinite(result.model.predict(tiny.pictures()[0]).probabilities).all()


# What is trained


def test_what_no_pattern_names_is_frozen_to_the_bit_with_its_statistics():
    settings = {**STEPS, "ema": 0.9, "weight_decay": 0.1, "statistics": "batch"}
    trained = ("backbone/blocks_0/bn2/**",)
    result = flaxtl.finetune(tiny.model(), tiny.source(), strategy="full", trainable=trained, **settings)
    assert tiny.changed(wide(tiny.model()).variables, result.model.variables) == {
        *("params:head/kernel", "params:head/bias"),
        *("params:backbone/blocks_0/bn2/scale", "params:backbone/blocks_0/bn2/bias"),
        *("batch_stats:backbone/blocks_0/bn2/mean", "batch_stats:backbone/blocks_0/bn2/var"),
    }


def test_batch_statistics_move_when_asked():
    result = flaxtl.finetune(tiny.model(), tiny.source(), strategy="full", statistics="batch", **STEPS)
    assert tiny.changed(wide(tiny.model()).variables, result.model.variables) == names(result.model)


def test_the_moving_average_is_what_is_kept(tmp_path):
    # The decays of the first steps are (1 + t) / (10 + t): 0.1 and 2/11.
    settings = {"epochs": 2, "batch_size": 12, "learning_rate": 0.02, "save_every": 1, "warmup": 0.0}
    result = flaxtl.finetune(tiny.model(), tiny.source(), strategy="full", ema=0.999, out=tmp_path / "r", **settings)
    states = tmp_path / "r" / "checkpoints" / "phase_1"
    one, two = (checkpoint.load(states / step)["params"] for step in ("1", "2"))
    average = jax.tree.map(
        lambda a, b, c: 2 / 11 * (0.1 * a + 0.9 * b) + 9 / 11 * c, wide(tiny.model()).params, one, two
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), average, result.model.params)
    assert not tiny.same(result.model.params, two)


@pytest.mark.parametrize("strategy", ["head", "full"])
def test_what_is_said_of_examples_of_weight_zero_changes_nothing(strategy):
    inputs, targets = tiny.pictures(per_class=2)
    weights = np.repeat([1.0, 0.0], len(targets))

    def trained(other, weights):
        both = np.concatenate([targets, (targets + other) % 3])
        source = data.from_arrays(np.concatenate([inputs, inputs]), both, labels=tiny.LABELS, weights=weights)
        return flaxtl.finetune(tiny.model(), source, strategy=strategy, epochs=2).model.params

    assert tiny.same(trained(1, weights), trained(2, weights))
    assert not tiny.same(trained(1, weights), trained(2, None))


# Which step is kept, and when training stops


def drive(figures, patience=None, save_every=1):
    """Runs the loop with a step that counts and an evaluation that returns the given figures."""
    saved = []
    standing = Standing()
    ahead = iter(figures)
    state = run_steps(
        0,
        lambda state, batch: (state + 1, {"loss": jnp.float32(1.0), "grad_norm": jnp.float32(1.0)}),
        [{"weight": np.ones(1)}] * 100,
        Cadence(len(figures) * save_every, save_every, patience),
        standing,
        evaluate=lambda state: ((figure := next(ahead)), {"figure": figure}),
        save=lambda state, standing, figure: saved.append((state, dataclasses.replace(standing), figure)),
        log=lambda entry: None,
        report=lambda step, text: None,
    )
    return state, standing, saved


def test_patience_counts_evaluations_without_a_better_one():
    state, standing, saved = drive([0.1, 0.5, 0.5, 0.4, 0.9, 0.9], patience=2, save_every=3)
    assert (state, standing.best, standing.best_step, standing.stale) == (12, 0.5, 6, 2)
    assert [figure for _, _, figure in saved] == [0.1, 0.5, 0.5, 0.4]
    assert [at.best_step for _, at, _ in saved] == [3, 6, 6, 6]
    assert drive([0.1, 0.5, 0.5, 0.4, 0.9, 0.9])[0] == 6


@pytest.mark.parametrize("kept_on_disk", [True, False])
def test_the_best_step_is_what_comes_out(kept_on_disk, tmp_path):
    """Validation data whose classes are swapped: the more is learnt, the worse, so the first evaluation is best."""
    inputs, targets = tiny.pictures()
    swapped = data.from_arrays(inputs, (targets + 1) % 3, labels=tiny.LABELS)
    splits = data.Splits(tiny.source(), validation=swapped)
    settings = {
        "epochs": 12,
        "batch_size": 12,
        "learning_rate": 0.02,
        "head_rate": 1.0,
        "warmup": 0.0,
        "monitor": "loss",
        "save_every": 2,
    }
    out = tmp_path / "run" if kept_on_disk else None
    result = flaxtl.finetune(tiny.model(), splits, strategy="full", out=out, patience=3, **settings)
    found = result.evidence[-1]
    assert (found["best_step"], found["steps"], found["monitor"]) == (2, 8, "loss")
    assert found["best"] == pytest.approx(np.log(3), abs=0.3)  # hardly anything is learnt by then
    if kept_on_disk:
        states = tmp_path / "run" / "checkpoints" / "phase_1"
        assert sorted(int(p.name) for p in states.iterdir()) == [2, 6, 8]  # the best and the last two
        assert tiny.same(checkpoint.load(states / "2")["params"], result.model.params)
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        losses = [line["validation_loss"] for line in lines if "validation_loss" in line]
        assert len(losses) == 4
        assert losses[0] == min(losses) == found["best"]


def test_validation_is_held_out_of_training_and_calibrates():
    result = flaxtl.finetune(tiny.model(), tiny.source(8), strategy="full", validation=0.25, **STEPS)
    assert result.examples == 18
    assert "best_step" in result.evidence[-1]
    assert result.model.card.head.temperature != 1.0


def test_how_many_steps_a_phase_takes():
    def steps(examples, **settings):
        phase = dataclasses.replace(phases_of(FinetuneConfig(strategy="full"))[0], training=Training(**settings))
        return cadence(phase, examples).steps

    assert steps(10, epochs=3, batch_size=4) == 9
    assert steps(10, epochs=3, batch_size=64) == 3
    assert steps(10, epochs=0.01) == 1
    assert steps(10, epochs=2.5, batch_size=5) == 5


def test_training_that_is_no_longer_finite_stops_with_a_sentence():
    with pytest.raises(TrainingError, match=r"(became|came into).* step \d+"):
        flaxtl.finetune(tiny.model(), tiny.source(), strategy="full", learning_rate=1e30, epochs=5)


# A user's own modules


class Linen(nn.Module):
    outputs: int = 2

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = x.reshape(x.shape[0], -1)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(8, name="body")(x))
        x = nn.Dropout(0.1, deterministic=not train)(nn.relu(x))
        return nn.Dense(self.outputs, name="top")(x)


class Nnx(nnx.Module):
    def __init__(self, outputs, inputs, rngs):
        self.body = nnx.Linear(inputs, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.top = nnx.Linear(8, outputs, rngs=rngs)

    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        return self.top(self.drop(nnx.relu(self.norm(self.body(x)))))


def own_model(kind, entry):
    size = 64 if entry == "image" else 5
    if kind == "linen":
        network = LinenModule(Linen(), head="top", rebuild=Linen)
    else:
        build = lambda outputs: Nnx(outputs, size, nnx.Rngs(0))  # noqa: E731
        network = NnxModule(build(2), head="top", rebuild=build)
    shape = Image((8, 8), 1, (0.5,), (0.25,)) if entry == "image" else Array((5,), mean=(1.0,), std=(2.0,))
    card = Card(input=shape, heads=(Head(path="top", labels=("x", "y")),))
    sample = np.zeros((1, 8, 8, 1) if entry == "image" else (1, 5), np.float32)
    return Model(network, network.init(0, sample), card)


def own_data(entry):
    if entry == "image":
        return tiny.source()
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), 4)
    inputs = rng.normal(size=(12, 5)) + 3 * np.eye(5)[targets]
    return data.from_arrays(inputs, targets, labels=tiny.LABELS, modality="array")


@pytest.mark.parametrize("strategy", ["head", "full", "lpft"])
@pytest.mark.parametrize(("kind", "entry"), [("linen", "array"), ("nnx", "image")])
def test_a_users_own_module_goes_through_every_strategy(kind, entry, strategy, tmp_path):
    model, source = own_model(kind, entry), own_data(entry)
    result = flaxtl.finetune(model, source, strategy=strategy, out=tmp_path / "r", statistics="batch", **STEPS)
    moved = tiny.changed(model.with_head(tiny.LABELS).variables, result.model.variables)
    assert moved == (names(result.model, "top/**") if strategy == "head" else names(result.model))
    assert flaxtl.evaluate(result.model, source).accuracy.value > 0.6
    found = flaxtl.load(tmp_path / "r", network=result.model.network)
    inputs = [np.asarray(raw) for raw in source.raw]
    assert tiny.same(found.predict(inputs).probabilities, result.model.predict(inputs).probabilities)


def test_a_module_that_cannot_be_rebuilt_is_refused_before_anything_is_written(tmp_path):
    model = own_model("linen", "array")
    model = dataclasses.replace(model, network=LinenModule(Linen(), head="top"))
    with pytest.raises(ConfigError, match="fixed output layer 'top', but 3 outputs"):
        flaxtl.finetune(model, own_data("array"), out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_cut_with_a_new_head_solves_none_and_leaves_what_lies_below():
    model = tiny.model()
    result = flaxtl.finetune(model, tiny.source(), strategy="cut", cut="blocks_0", cut_head="new", cache="off", **STEPS)
    assert [found["kind"] for found in result.evidence] == ["train"]
    moved = tiny.changed(model.with_head(tiny.LABELS).variables, result.model.variables)
    assert moved == {n for n in names(result.model) if n.startswith(("params:backbone/blocks_0/", "params:head/"))}
    (solved,) = (p for p in phases_of(FinetuneConfig(strategy="cut", cut="blocks_0")) if p.kind == "train")
    (new,) = phases_of(FinetuneConfig(strategy="cut", cut="blocks_0", cut_head="new"))
    assert new.start == solved.start == "blocks_0"
    assert new.optimizer.learning_rate > solved.optimizer.learning_rate


# What is refused, before anything is written


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"trainable": ("backbone/blocks_7/**",)}, PathError, r"matches none of .*Did you mean 'backbone/blocks_0"),
        ({"batch_size": 0}, ConfigError, "`batch_size` is 0"),
        ({"epochs": 0.0}, ConfigError, "`epochs` is 0.0; expected a number above 0"),
        ({"learning_rate": float("nan")}, ConfigError, "`learning_rate` is nan"),
        ({"ema": 1.0}, ConfigError, "`ema` is 1.0"),
        ({"patience": 0}, ConfigError, "`patience` is 0"),
        ({"save_every": 0}, ConfigError, "`save_every` is 0"),
        ({"clip_norm": -1.0}, ConfigError, "`clip_norm`"),
        ({"warmup": 2.0}, ConfigError, "`warmup`"),
        ({"label_smoothing": 1.0}, ConfigError, "`label_smoothing`"),
        ({"seed": -1}, ConfigError, "`seed` is -1"),
        ({"validation": 1.0}, ConfigError, "`validation` is 1.0"),
        ({"validation": 0.1}, DataError, "too few to hold out 10%"),
        ({"examples_per_class": 0}, ConfigError, "`examples_per_class` is 0"),
        ({"size": 0}, ConfigError, "`size` is 0"),
        ({"strategy": "magic"}, ConfigError, "'magic'; expected one of"),
        ({"learning_rat": 1.0}, ConfigError, "Did you mean `learning_rate`"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_impossible_settings_are_refused(settings, kind, words, tmp_path):
    with pytest.raises(kind, match=words):
        flaxtl.finetune(tiny.model(), tiny.source(), **{"strategy": "full", "out": tmp_path / "r", **settings})
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (data.Source.of("text", ["a", "b"], ["x", "y"]), CardError, "holds text, but .* pictures"),
        (data.from_arrays(np.zeros((3, 8, 8))), DataError, "3 of 3 examples have no label"),
        (data.from_arrays(np.zeros((3, 8, 8)), ["a"] * 3), DataError, "holds the one class 'a'; expected at least two"),
        (data.from_arrays(np.zeros((2, 8, 8, 5)), ["a", "b"]), DataError, "5 channels"),
        (np.zeros((3, 8, 8)), DataError, "an array of shape \\(3, 8, 8\\).*from_arrays"),
    ],
)
def test_data_that_cannot_be_learnt_from_is_refused(wrong, kind, words, tmp_path):
    with pytest.raises(kind, match=words):
        flaxtl.finetune(tiny.model(), wrong, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_validation_and_test_classes_must_be_known():
    strange = data.from_arrays(tiny.pictures()[0], np.repeat(["2", "10", "z"], 4))
    for splits in (data.Splits(tiny.source(), validation=strange), data.Splits(tiny.source(), test=strange)):
        with pytest.raises(DataError, match="classes z, which are not among"):
            flaxtl.finetune(tiny.model(), splits)


# Pretraining


def test_pretraining_leaves_a_model_that_says_where_it_came_from(tmp_path):
    result = flaxtl.pretrain(
        tiny.source(per_class=8),
        out=tmp_path / "r",
        settings={"depths": [1], "widths": [8], "stem": "cifar"},
        size=8,
        channels=1,
        licence="CC0",
        epochs=10,
        batch_size=9,
        learning_rate=0.02,
        validation=0.25,
    )
    said = result.model.card.provenance["pretrained"]
    assert (said["licence"], said["examples"], said["classes"], said["seed"]) == ("CC0", 18, 3, 0)
    assert said["validation"] == {"accuracy": result.evidence[-1]["best"]}
    found = flaxtl.load(tmp_path / "r")
    assert found.card.provenance["pretrained"] == said
    assert flaxtl.finetune(found, tiny.source()).model.card.provenance["pretrained"] == said
    assert flaxtl.evaluate(found, tiny.source(per_class=8)).accuracy.value > 0.6


def test_other_data_has_another_fingerprint():
    plain = Work(tiny.source()).fingerprint()
    relabelled = dataclasses.replace(tiny.source(), targets=tiny.source().targets[::-1].copy())
    others = [Work(relabelled), Work(tiny.source(), tiny.source()), Work(tiny.source().subset(range(11)))]
    assert plain == Work(tiny.source()).fingerprint()
    assert len({plain, *(work.fingerprint() for work in others)}) == 4


def test_a_vision_transformer_takes_pictures_of_another_size():
    config = {"grid": (2, 2), "patch": (8, 8), "width": 16, "depth": 1, "heads": 2, "hidden": 32}
    spec = NetworkSpec("vit", config)
    network = nets.build(spec, 2)
    card = Card(Image((16, 16), 1), spec, (Head(labels=("x", "y")),))
    model = Model(network, network.init(0, np.zeros((1, 16, 16, 1), np.float32)), card)
    result = flaxtl.finetune(model, tiny.source(), strategy="head", size=32)
    assert result.model.card.input.size == (32, 32)
    assert result.model.params["backbone"]["stem"]["position"].shape == (1, 17, 16)
    assert any("32×32" in note for note in result.model.notes)
    assert len(result.model.predict(tiny.source())) == len(tiny.source())


# Several devices


HERE = Path(__file__).parent


def on_devices(file, network, devices, *words, of=1):
    """Runs every strategy on so many devices `of` so many processes, and returns what came out by strategy and path."""
    flags = f"--xla_force_host_platform_device_count={devices // of} --xla_backend_optimization_level=0"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, HERE / "strategies_on_eight_devices.py", network, *words, file]
    if of > 1:
        launcher = HERE.parent / "scripts" / "launch_local.py"
        command = [sys.executable, launcher, of, "--devices", devices // of, "--", *command]
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(np.load(file))
    assert found.pop("devices").tolist() == [devices, devices // of]
    return found


# Words of the script, and how many processes.
WAYS = {
    "jit": ((8, "jit"), 1),
    "pmap": ((8, "pmap"), 1),
    "fsdp": ((8, "fsdp"), 1),
    "jit, two processes": ((8, "jit"), 2),
    "fsdp, two processes": ((8, "fsdp"), 2),
    "accumulated": ((2, "jit", "--microbatch", 2), 1),
}
# All ways with all networks take some twelve minutes of two cores, so the slow tests take some of them.
EVERYTHING = pytest.mark.exhaustive
SOME = [pytest.mark.slow, EVERYTHING]


def others(network, way):
    """Returns the strategies that are not the same that way: a part of a batch has statistics of its own, and a
    contrast compares a whole batch."""
    if way != "accumulated":
        return set()
    return {"contrastive", "scratch"} if network == "resnet" else {"contrastive"}


@pytest.mark.parametrize(
    ("network", "ways"),
    [
        pytest.param("resnet", ("pmap", "fsdp, two processes", "accumulated"), marks=SOME),
        pytest.param("resnet", ("jit", "fsdp", "jit, two processes"), marks=EVERYTHING),
        *(pytest.param(network, ("fsdp",), marks=SOME) for network in ("vit", "bert")),
        *(
            pytest.param(
                network, ("jit", "pmap", "jit, two processes", "fsdp, two processes", "accumulated"), marks=EVERYTHING
            )
            for network in ("vit", "bert")
        ),
    ],
)
def test_every_strategy_on_many_devices_gives_what_one_gives(tmp_path, network, ways):
    expected = on_devices(tmp_path / "one.npz", network, 1, "jit")
    assert {key.split(":")[0] for key in expected} == set(typing.get_args(StrategyName))
    assert {words[1] for words, _ in WAYS.values()} == set(typing.get_args(Parallel))
    for number, way in enumerate(ways):
        words, of = WAYS[way]
        found, skipped = on_devices(tmp_path / f"{number}.npz", network, *words, of=of), others(network, way)
        compared = {key for key in expected if key.split(":")[0] not in skipped}
        assert compared <= set(found)
        for key in compared:
            # A solved head is as near its optimum as single precision tells, not to the last digit of small weights.
            near = 5e-5 * max(1.0, np.abs(expected[key]).max())
            np.testing.assert_allclose(found[key], expected[key], rtol=0.0, atol=near, err_msg=f"{way}, {key}")
