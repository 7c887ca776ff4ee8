"""A model as an ordinary Linen or NNX module says what the model says, and comes back; the guides run as they stand."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import tiny_text
from flax import linen as nn
from flax import nnx
from scipy.special import softmax

from flaxtl import nets
from flaxtl.card import Array, Audio, Card, Head, NetworkSpec
from flaxtl.data import Source
from flaxtl.errors import ConfigError
from flaxtl.model import Model
from flaxtl.nets.adapt import LinenModule, NnxModule

DOCS = Path(__file__).parent.parent


class Linen(nn.Module):
    outputs: int = 2

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="bn")(nn.Dense(6, name="body")(x))
        return nn.Dense(self.outputs, name="head")(nn.Dropout(0.5, deterministic=not train)(x))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.body, self.bn = nnx.Linear(5, 6, rngs=rngs), nnx.BatchNorm(6, rngs=rngs)
        self.drop, self.head = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(self.bn(self.body(x))))


def own(network):
    card = Card(Array((5,), mean=(0.5,), std=(2.0,)), heads=(Head(labels=("n", "y")),))
    x = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    return Model(network, network.init(0, x), card), x


def sound():
    spec = NetworkSpec("resnet", {"depths": [1], "widths": [8], "stem": "cifar"})
    network = nets.build(spec, 2)
    front = Audio(8000, 0.1, 0.1, front_end="log_mel", settings={"bands": 8})
    model = Model(network, {}, Card(front, spec, (Head(labels=("n", "y")),)))
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=n).astype(np.float32) for n in (800, 500, 700)]
    return model.with_variables(network.init(0, model.sample())), Source.of("audio", clips)


def case(kind, tmp_path):
    if kind == "pictures":
        return tiny.model(), tiny.pictures()[0]
    if kind == "texts":
        model = tiny_text.text_model(tiny_text.write_tokenizer(tmp_path), ("n", "y"))
        return model, Source.of("text", tiny_text.sentences(6)[0])
    if kind == "sounds":
        return sound()
    return own(LinenModule(Linen(), "head") if kind == "linen" else NnxModule(Nnx(nnx.Rngs(0)), "head"))


def with_drawn_head(model, **changes):
    rng = np.random.default_rng(1)
    head = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), model.params["head"])
    model = model.with_variables({**model.variables, "params": {**model.params, "head": head}})
    return dataclasses.replace(model, card=model.card.with_head(**changes))


KINDS = ("pictures", "texts", "sounds", "linen", "nnx")


@pytest.mark.parametrize("normalise", ["none", "rms", "root"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_modules_say_what_the_model_says(kind, normalise, tmp_path):
    model, data = case(kind, tmp_path)
    model = with_drawn_head(model, normalise=normalise, temperature=2.5)
    wanted = model.logits(data)
    rows, index = model.preprocess(data)
    assert index.tolist() == list(range(len(wanted)))
    module, variables = model.as_linen()
    close = {"rtol": 1e-5, "atol": 2e-6 * np.abs(wanted).max()}
    np.testing.assert_allclose(module.apply(variables, rows), wanted, **close)
    np.testing.assert_allclose(model.as_nnx()(rows), wanted, **close)
    for found in (model.as_linen(temperature=True)[0].apply(variables, rows), model.as_nnx(temperature=True)(rows)):
        np.testing.assert_allclose(softmax(found, -1), model.predict(data).probabilities, rtol=1e-4, atol=1e-6)
    features = module.apply(variables, rows, method="features")
    np.testing.assert_allclose(features, model.features(data), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(module.apply(variables, features, method="head"), wanted, rtol=1e-4, atol=1e-5)
    if kind in ("pictures", "sounds"):  # the network's own module normalises too
        x = model.pipeline.preprocess.device(rows)
        np.testing.assert_allclose(model.network.module.apply(variables, x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows_are", ["probabilities", "features"])
def test_the_windows_of_a_long_clip_are_put_together_as_the_model_does(rows_are):
    model, _ = sound()
    model = with_drawn_head(model, normalise="rms", rows=rows_are)
    rng = np.random.default_rng(0)
    data = Source.of("audio", [rng.normal(size=n).astype(np.float32) for n in (2400, 500, 1700)])
    rows, index = model.preprocess(data)
    assert len(rows["waveform"]) > 3
    module, variables = model.as_linen()
    if rows_are == "probabilities":
        found = model.by_example(np.asarray(module.apply(variables, rows)), index)
    else:
        features = np.asarray(module.apply(variables, rows, method="features"))
        means = np.stack([features[index == i].mean(0) for i in range(3)])
        found = module.apply(variables, means, method="head")
    np.testing.assert_allclose(found, model.logits(data), rtol=1e-4, atol=1e-5)


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.mark.parametrize("kind", ["pictures", "linen", "nnx"])
def test_training_a_linen_module_draws_and_updates_what_it_is_told_to(kind, tmp_path):
    model, data = case(kind, tmp_path)
    model = with_drawn_head(model)
    rows, _ = model.preprocess(data)
    module, variables = model.as_linen()
    rngs = {"dropout": jax.random.key(0)}
    y, updated = module.apply(variables, rows, train=True, rngs=rngs, mutable=["batch_stats"])
    assert set(updated) == {"batch_stats"}
    assert not same(updated["batch_stats"], variables["batch_stats"])
    still, kept = module.apply(variables, rows, train=True, live=(), rngs=rngs, mutable=["batch_stats"])
    assert same(kept["batch_stats"], variables["batch_stats"])
    np.testing.assert_array_equal(still, module.apply(variables, rows, train=True, rngs=rngs))
    other = module.apply(variables, rows, train=True, rngs={"dropout": jax.random.key(1)})
    assert np.array_equal(still, other) == (kind == "pictures")  # whose network has no dropout
    if kind == "pictures":
        module.apply(variables, rows, train=True, mutable=["batch_stats"])
    else:
        with pytest.raises(ConfigError, match="has no key"):
            module.apply(variables, rows, train=True, mutable=["batch_stats"])
    assert not np.array_equal(y, still)


def test_a_linen_module_is_a_part_of_a_larger_one(tmp_path):
    model, x = case("linen", tmp_path)
    inner, variables = model.as_linen()

    class Larger(nn.Module):
        inner: nn.Module

        def __call__(self, x, train=False):
            return 2 * self.inner(x, train)

    larger = Larger(inner)
    shape = jax.tree.map(np.shape, larger.init(jax.random.key(0), x))
    assert shape["params"]["inner"] == jax.tree.map(np.shape, variables["params"])
    nested = {name: {"inner": tree} for name, tree in variables.items()}
    np.testing.assert_allclose(larger.apply(nested, x), 2 * inner.apply(variables, x), rtol=1e-6)
    _, updated = larger.apply(nested, x, True, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"])
    assert not same(updated["batch_stats"], nested["batch_stats"])


@pytest.mark.parametrize("kind", ["pictures", "linen", "nnx"])
def test_an_nnx_module_trains_as_nnx_modules_do_and_comes_back(kind, tmp_path):
    model, data = case(kind, tmp_path)
    model = with_drawn_head(model)
    rows, index = model.preprocess(data)
    targets = jnp.asarray(index % 2)
    module = model.as_nnx(rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(module, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(module, optimizer):
        def loss(module):
            return optax.softmax_cross_entropy_with_integer_labels(module(rows), targets).mean()

        value, gradient = nnx.value_and_grad(loss)(module)
        optimizer.update(module, gradient)
        return value

    module.train()
    losses = [float(step(module, optimizer)) for _ in range(3)]
    assert len(set(losses)) == 3
    module.eval()
    trained = model.with_variables(jax.device_get(module.variables()))
    assert not same(trained.variables["batch_stats"], model.variables["batch_stats"])
    np.testing.assert_allclose(module(rows), trained.logits(data), rtol=1e-5, atol=1e-5)
    assert set(nnx.to_pure_dict(nnx.state(module, nnx.Param))) == {"params"}
    untrained = model.as_nnx()
    if kind != "pictures":
        with pytest.raises(ConfigError, match="has no key"):
            untrained(rows, train=True)


# The guides


def blocks(file):
    return re.findall(r"```python\n(.*?)```", (DOCS / file).read_text(encoding="utf-8"), re.DOTALL)


def test_the_guide_to_a_loop_of_ones_own_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.folder(tmp_path / "photos")
    tiny.model().save(tmp_path / "resnet")
    code = "\n".join(blocks("docs/guides/own_loop.md"))
    assert code.count("hf:timm/resnet18.a1_in1k") == 1
    names = {}
    exec(compile(code.replace("hf:timm/resnet18.a1_in1k", "resnet"), "own_loop.md", "exec"), names)
    assert "loss" in capsys.readouterr().out
    np.testing.assert_allclose(names["logits"], names["model"].logits(names["data"]), rtol=1e-5, atol=1e-5)
    saved, model = Model.load(tmp_path / "my_model"), names["model"]
    assert tiny.changed(model.params, saved.params) >= {"params:head/kernel"}
    assert not any("stem" in name for name in tiny.changed(model.variables, saved.variables))
    assert any(name.startswith("batch_stats:") for name in tiny.changed(model.variables, saved.variables))


def test_the_readmes_section_on_a_loop_of_ones_own_runs_as_it_stands(tmp_path, monkeypatch):
    from flaxtl import checkpoint

    class MyNetwork(nn.Module):
        classes: int

        @nn.compact
        def __call__(self, x):
            return nn.Dense(self.classes, name="head")(nn.relu(nn.Dense(4, name="blocks_11")(x)))

    monkeypatch.chdir(tmp_path)
    images = np.ones((6, 3), np.float32)
    checkpoint.save(tmp_path / "checkpoints" / "vit", MyNetwork(9).init(jax.random.key(0), images))
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Your own training loop") : text.index("## Where to read on")]
    code = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    batch = {"inputs": images, "target": np.zeros(6, np.int32), "weight": np.ones(6, np.float32)}
    model, data = tiny.model(), tiny.pictures()[0]
    names = {"MyNetwork": MyNetwork, "images": images, "batches": [batch, batch], "model": model, "data": data}
    exec(compile(code, "README.md", "exec"), names)
    assert int(names["state"].step) == 2
    np.testing.assert_allclose(names["logits"], model.logits(data), rtol=1e-5, atol=1e-5)
