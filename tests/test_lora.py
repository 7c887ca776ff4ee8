"""LoRA: nothing is changed at first, few numbers are trained, and what is saved is an ordinary network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import flaxtl
from flaxtl import freeze, nets, paths
from flaxtl.card import Card, Head, Image, NetworkSpec
from flaxtl.errors import ConfigError, PathError
from flaxtl.model import Model
from flaxtl.nets import lora
from flaxtl.strategies.adapters import merged, with_adapters
from flaxtl.strategies.chains import trained_labels
from flaxtl.strategies.phases import Phase
from flaxtl.train import init_state, optim
from flaxtl.training_settings import Lora, Optimizer

STEPS = {"strategy": "lora", "epochs": 8, "batch_size": 8}
VIT = {"grid": (2, 2), "patch": (4, 4), "width": 16, "depth": 2, "heads": 2, "hidden": 32}


def vision_transformer():
    spec = NetworkSpec("vit", VIT)
    network = nets.build(spec, 3)
    card = Card(Image((8, 8), 1), spec, (Head(labels=tiny.LABELS),))
    return Model(network, network.init(0, np.zeros((1, 8, 8, 1), np.float32)), card)


def convnext():
    spec = NetworkSpec("convnext", {"depths": (1, 1), "widths": (8, 16)})
    network = nets.build(spec, 3)
    card = Card(Image((32, 32), 3), spec, (Head(labels=tiny.LABELS),))
    return Model(network, network.init(0, np.zeros((1, 32, 32, 3), np.float32)), card)


def test_fresh_adapters_change_nothing_to_the_bit():
    base = vision_transformer()
    model = with_adapters(base, Lora(lora_rank=2))
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    for start, stop in ((0, None), (0, 2)):
        one, _ = jax.jit(lambda v, x, a=start, b=stop: base.network.forward(v, x, a, b))(base.variables, x)
        two, _ = jax.jit(lambda v, x, a=start, b=stop: model.network.forward(v, x, a, b))(model.variables, x)
        assert tiny.same(one, two)


def test_the_usual_kernels_of_a_transformer_are_its_dense_ones():
    model = vision_transformer()
    found = lora.adapted(model.network, model.params)
    parts = {
        f"backbone/blocks_{i}/{name}/kernel"
        for i in (0, 1)
        for name in ("attention/qkv", "attention/out", "mlp/fc1", "mlp/fc2")
    }
    assert set(found) == parts


def test_the_usual_kernels_of_a_convolutional_network_are_its_pointwise_ones():
    model = convnext()
    found = lora.adapted(model.network, model.params)
    assert found
    assert all("depthwise" not in path and "stem" not in path for path in found)


def test_where_there_are_no_pointwise_kernels_every_convolution_is_adapted():
    model = tiny.model()
    assert set(lora.adapted(model.network, model.params)) == {
        "backbone/blocks_0/conv1/kernel",
        "backbone/blocks_0/conv2/kernel",
    }


@functools.cache
def trained(**settings):
    return flaxtl.finetune(tiny.model(), tiny.source(), **STEPS, **settings)


def test_what_comes_out_is_an_ordinary_network_and_only_adapted_kernels_and_the_head_moved():
    model = trained().model
    assert type(model.network) is type(tiny.model().network)
    before = tiny.model().with_head(tiny.LABELS)
    assert tiny.changed(before.variables, model.variables) == {
        "params:backbone/blocks_0/conv1/kernel",
        "params:backbone/blocks_0/conv2/kernel",
        "params:head/kernel",
        "params:head/bias",
    }
    assert flaxtl.evaluate(model, tiny.source(8, seed=1)).accuracy.value > 0.6
    assert any("adapters of 2 kernels merged" in note for note in model.notes)


def test_what_was_added_has_the_rank_that_was_asked_for():
    moved = trained(lora_rank=1).model.params["backbone"]["blocks_0"]["conv1"]["kernel"]
    before = tiny.model().params["backbone"]["blocks_0"]["conv1"]["kernel"]
    singular = np.linalg.svd((moved - before).reshape(-1, moved.shape[-1]), compute_uv=False)
    assert singular[0] > 1e-3
    assert singular[1] < 1e-3 * singular[0]


def test_a_saved_model_has_its_head_and_says_the_same(tmp_path):
    result = flaxtl.finetune(tiny.model(), tiny.source(), out=tmp_path / "r", **STEPS)
    found = flaxtl.load(tmp_path / "r")
    assert tiny.same(found.variables, result.model.variables)
    inputs = tiny.pictures(seed=5)[0]
    assert tiny.same(found.predict(inputs).probabilities, result.model.predict(inputs).probabilities)
    assert found.card.labels == tiny.LABELS


def test_merging_changes_what_is_said_by_rounding_alone():
    model = with_adapters(vision_transformer(), Lora(lora_rank=3, lora_alpha=6.0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: a + rng.normal(0, 0.1, a.shape).astype(a.dtype), model.params)
    model = model.with_variables({"params": params})
    inputs = tiny.pictures()[0]
    np.testing.assert_allclose(merged(model).logits(inputs), model.logits(inputs), rtol=1e-5, atol=1e-5)


def test_the_optimizer_state_is_as_small_as_the_adapters():
    base = vision_transformer()

    def moments(phase, model):
        labels = trained_labels(phase, model)
        state = init_state(model.params, optim.build(Optimizer(), labels, 1), labels)
        assert {leaf.keys[0] for leaf, label in paths.leaves(labels) if label != freeze.FROZEN} <= {
            *("lora", "head", "backbone"),
        }
        return sum(a.size for a in jax.tree.leaves(state.opt_state) if a.ndim)

    model = with_adapters(base, Lora(lora_rank=1))
    small = moments(Phase("train", trainable=(), lora=Lora(lora_rank=1)), model)
    adapters = sum(a.size for a in jax.tree.leaves((model.params["lora"], model.params["head"])))
    assert small == 2 * adapters
    assert small < 0.2 * moments(Phase("train"), base)


def test_adapters_lie_where_their_kernels_do():
    model = with_adapters(vision_transformer(), Lora())
    assert model.network.segment_of("lora/backbone/blocks_1/mlp/fc1/kernel/a") == model.network.segment_of(
        "backbone/blocks_1/mlp/fc1/kernel"
    )
    above = with_adapters(vision_transformer(), Lora(), start=2)
    assert set(above.params["lora"]["backbone"]) == {"blocks_1"}


def test_a_rank_that_a_kernel_cannot_have_is_reduced():
    model = with_adapters(tiny.model(), Lora(lora_rank=500))
    pair = model.params["lora"]["backbone"]["blocks_0"]["conv1"]["kernel"]
    assert (pair["a"].shape, pair["b"].shape) == ((72, 8), (8, 8))


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(PathError, match="matches none"):
        flaxtl.finetune(tiny.model(), tiny.source(), **STEPS, lora_patterns=("backbone/blocks_9/**",))
    with pytest.raises(ConfigError, match="no kernels for LoRA"):
        flaxtl.finetune(tiny.model(), tiny.source(), **STEPS, lora_patterns=("backbone/stem/bn1/**",))
    with pytest.raises(ConfigError, match="`lora_rank` is 0"):
        flaxtl.finetune(tiny.model(), tiny.source(), **STEPS, lora_rank=0)
    taken = tiny.model()
    taken = taken.with_variables({**taken.variables, "params": {**taken.params, "lora": {"w": jnp.ones(1)}}})
    with pytest.raises(ConfigError, match="a part called 'lora'"):
        with_adapters(taken, Lora())
