"""Checkpoints of Flax programs load by a plain plan, names are mapped as told, and advice can be followed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import tiny
from flax import linen as nn
from flax import nnx
from flax.training import train_state

from flaxtl import checkpoint, freeze
from flaxtl.errors import CheckpointError, ConfigError, PathError
from flaxtl.nets import lora
from flaxtl.nets.adapt import LinenModule, NnxModule

X = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.bn = nnx.Linear(8, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(nnx.relu(self.bn(self.linear(x))))


class Plain(nnx.Module):
    def __init__(self, rngs):
        self.block, self.head = Block(rngs), nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.block(x))


class Listed(nnx.Module):
    def __init__(self, rngs):
        self.rngs, self.count = rngs, nnx.Variable(jnp.zeros((), jnp.int32))
        self.blocks = nnx.List([Block(rngs) for _ in range(11)])
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Stacked(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.split_rngs(splits=3)(nnx.vmap(Block, in_axes=(0,), out_axes=0))(rngs)
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        scan = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.head(scan(x, self.blocks))


def used(kind):
    """A module whose statistics are not those of a fresh one."""
    module = kind(nnx.Rngs(3, noise=4))
    module.train()
    module(X)
    module.eval()
    return module


def standard(place, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(place, tree)
    return place


WAYS = {
    "state": lambda m: nnx.state(m),
    "pure": lambda m: nnx.to_pure_dict(nnx.state(m)),
    "split": lambda m: nnx.split(m)[1],
    "model and optimizer": lambda m: {
        "model": nnx.state(m),
        "optimizer": nnx.state(nnx.Optimizer(m, optax.adam(1e-3), wrt=nnx.Param)),
    },
    "as the params of a training state": lambda m: {"params": nnx.to_pure_dict(nnx.state(m)), "step": 3},
    "without random states": lambda m: nnx.state(m, nnx.Not(nnx.RngState)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Plain, Listed, Stacked])
def test_the_state_of_an_nnx_module_loads_by_a_plain_plan(kind, way, tmp_path):
    theirs = used(kind)
    place = standard(tmp_path / "c", WAYS[way](theirs))
    net = NnxModule(kind(nnx.Rngs(0)), head="head")
    made = checkpoint.plan(place, like=net.abstract(None))
    variables, _ = checkpoint.restore(made)
    np.testing.assert_allclose(net.forward(variables, X)[0], theirs(X), rtol=1e-5, atol=1e-6)
    ignored = {e.source.keys[-1] for e in made.entries if e.action == "ignored"}
    assert ignored <= {"key", "count"}


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="bn")(nn.Dense(8, name="body")(x))
        return nn.Dense(2, name="head")(x)


class State(train_state.TrainState):
    batch_stats: dict


def linen_states():
    variables = Linen().init(jax.random.key(1), X)
    variables = {**variables, "batch_stats": {"bn": {"mean": jnp.ones(8), "var": jnp.full(8, 2.0)}}}
    params, stats = variables["params"], variables["batch_stats"]
    state = State.create(apply_fn=Linen().apply, params=params, tx=optax.adam(1e-3), batch_stats=stats)
    whole = train_state.TrainState.create(apply_fn=None, params=variables, tx=optax.sgd(0.1, momentum=0.9))
    trees = {
        "training state": state,
        "training state with another stream": {**vars(state), "dropout_rng": jax.random.key(0)},
        "variables as params": whole,
        "wrapped": {"model": variables, "epoch": 3},
        "params twice": {"params": {"params": params}, "batch_stats": stats},
        "all under params": {"params": variables},
    }
    return variables, trees


@pytest.mark.parametrize("name", linen_states()[1])
def test_a_training_state_of_linen_loads_by_a_plain_plan(name, tmp_path):
    variables, trees = linen_states()
    tree = trees[name]
    if isinstance(tree, dict):
        tree = {k: v for k, v in tree.items() if k not in ("apply_fn", "tx")}
    place = standard(tmp_path / "c", tree)
    net = LinenModule(Linen(), head="head")
    found, _ = checkpoint.restore(checkpoint.plan(place, like=net.abstract(X)))
    jax.tree.map(np.testing.assert_array_equal, found, dict(variables))


def test_parameters_that_lie_twice_under_params_alone_load(tmp_path):
    params = {"head": {"kernel": np.ones((8, 2), np.float32)}}
    place = standard(tmp_path / "c", {"params": {"params": params}})
    for like in (params, {"params": params}):
        found, _ = checkpoint.restore(checkpoint.plan(place, like=like))
        jax.tree.map(np.testing.assert_array_equal, found, like)


# Renaming


def save(tmp_path, names):
    tree = {}
    for number, name in enumerate(names):
        node = tree
        *folders, last = name.split("/")
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = np.full(2, number, np.float32)
    checkpoint.save(tmp_path / "c", tree)
    return tmp_path / "c"


def nested(names):
    tree = {}
    for name in names:
        node = tree
        *folders, last = name.split("/")
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = np.zeros(2, np.float32)
    return tree


@pytest.mark.parametrize(
    ("stored", "wanted", "rename"),
    [
        (["a/w", "b/w"], ["x/w", "b/w"], {"a": "x"}),
        (["a/w", "b/w"], ["x/w", "y/w"], [("a", "x"), ("b", "y")]),
        (["a/w", "b/w"], ["x/w", "y/w"], [["a/**", "x/**"], ["b/**", "y"]]),
        (["m/layer_1/w", "m/layer_10/w"], ["blocks_1/w", "blocks_10/w"], {"m/layer_*": "blocks_*"}),
        (["m/1/a/w", "m/2/b/w"], ["n/1_a/w", "n/2_b/w"], {"m/*/*": "n/*_*"}),
        (["m/a/kernel", "n/kernel"], ["m/a/weight", "n/weight"], {"**/kernel": "**/weight"}),
        (["m/a/bn/scale", "bn/scale"], ["m/a/norm/scale", "norm/scale"], {"**/bn": "**/norm"}),
        (["model/a/w"], ["a/w"], {"model": ""}),
        (["model/a/w"], ["a/w"], {"model/**": "**"}),
        (["a/w"], ["model/a/w"], {"": "model"}),
        (["a.b/w"], ["c.b/w"], {"a.*": "c.*"}),
        (
            ["params/bn/mean", "params/w"],
            ["batch_stats/bn/mean", "params/w"],
            {"params:bn/mean": "batch_stats:bn/mean"},
        ),
        (
            ["params/bn/moving_mean", "params/w"],
            ["batch_stats/bn/mean", "params/w"],
            {"bn/moving_*": "batch_stats:bn/*"},
        ),
        (["params/a/bn/mean", "params/a/bn/scale"], ["batch_stats/b/bn/mean", "params/b/bn/scale"], {"a": "b"}),
        (["params/w", "stats/w"], ["params/w", "batch_stats/v"], {"stats:w": "batch_stats:v"}),
    ],
)
def test_names_are_renamed_by_prefix_pattern_and_collection(stored, wanted, rename, tmp_path):
    place = save(tmp_path, stored)
    found, _ = checkpoint.restore(checkpoint.plan(place, like=nested(wanted), rename=rename))
    expected = nested(wanted)
    for number, name in enumerate(wanted):
        node = expected
        *folders, last = name.split("/")
        for folder in folders:
            node = node[folder]
        node[last] = np.full(2, number, np.float32)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        ({"a/*": "b"}, "other wildcards on the right"),
        ({"a/*": "b/**"}, "other wildcards on the right"),
        ("a", "rename holds 'a'; expected a mapping"),
        ([("a", "b", "c")], "expected a mapping"),
        ({"a": 3}, "expected a mapping"),
        ({"a/w": ""}, "leaves params:a/w without a name"),
        ({"batch_stats:a": "b"}, "fits no leaf.*Did you mean 'params:a'"),
        ({"aa": "b"}, "fits no leaf.*Did you mean 'a'"),
    ],
)
def test_a_rename_that_cannot_be_is_refused(rename, words, tmp_path):
    place = save(tmp_path, ["a/w", "c/w"])
    with pytest.raises(CheckpointError, match=words):
        checkpoint.plan(place, like=nested(["a/w", "c/w"]), rename=rename)


def test_the_rename_that_an_error_proposes_works(tmp_path):
    place = save(tmp_path, ["params/stem/conv/w", "params/head/w"])
    like = nested(["params/body/conv/w", "params/head/w"])
    with pytest.raises(CheckpointError, match=r"Perhaps rename=\{'stem': 'body'\}\."):
        checkpoint.plan(place, like=like)
    assert checkpoint.plan(place, like=like, rename={"stem": "body"}).count("renamed") == 1


# Zeros


SHAPES = {
    "body": {"kernel": (4, 6), "bias": (6,)},
    "norm": {"scale": (6,), "bias": (6,)},
    "head": {"kernel": (6, 3), "bias": (3,)},
}


def shaped(shapes):
    return jax.tree.map(lambda s: np.ones(s, np.float32), shapes, is_leaf=lambda s: isinstance(s, tuple))


def restored(tmp_path, shapes, reinit, stored=None, **settings):
    checkpoint.save(tmp_path / "c", shaped(stored or shapes), overwrite=True)
    return checkpoint.restore(checkpoint.plan(tmp_path / "c", like=shaped(shapes), reinit=reinit), **settings)


@pytest.mark.parametrize(
    ("reinit", "shapes", "stored"),
    [
        ("head/**", SHAPES, None),
        (["head/kernel", "head/bias"], SHAPES, None),
        ("last/**", {**SHAPES, "last": {"w": (6, 5)}}, None),  # nothing takes five numbers
        ("z/**", {"a": {"w": (4, 6)}, "z": {"w": (6, 4)}}, {"a": {"w": (4, 6)}, "z": {"w": (6, 9)}}),
        ("classifier_2/**", {"a": {"w": (4, 4)}, "classifier_2": {"w": (4, 4)}}, None),
        ("top/dense/**", {"a": {"w": (4, 4)}, "top": {"dense": {"w": (4, 4)}}}, None),
        (["head_a/**", "head_b/**"], {"a": {"w": (4, 4)}, "head_a": {"w": (4, 4)}, "head_b": {"w": (4, 4)}}, None),
        ("fc/**", {"a": {"w": (4, 4)}, "fc": {"kernel": (1, 1, 4, 4), "bias": (4,)}}, None),
    ],
)
def test_without_init_an_output_layer_becomes_zeros_and_the_report_says_so(reinit, shapes, stored, tmp_path):
    tree, report = restored(tmp_path, shapes, reinit, stored)
    fresh = sum(e.action == "reinitialised" for e in report.plan.entries)
    assert f"{fresh} re-initialised as zeros" in str(report)
    assert sum(not a.any() for a in jax.tree.leaves(tree)) == fresh
    _, report = restored(tmp_path, shapes, reinit, stored, init=shaped(shapes))
    assert f"{fresh} re-initialised:" in str(report)


@pytest.mark.parametrize(
    ("reinit", "named"),
    [
        ("body/**", "params:body/bias, params:body/kernel"),
        ("norm/**", "params:norm/bias, params:norm/scale"),
        (["norm/**", "head/**"], "params:norm/bias, params:norm/scale"),
        ("**", "params:body/bias, params:body/kernel"),
        ("**/bias", "params:body/bias"),
    ],
)
def test_without_init_other_layers_are_refused(reinit, named, tmp_path):
    with pytest.raises(CheckpointError, match=f"not an output layer's: {named}.*Pass init=.*narrower"):
        restored(tmp_path, SHAPES, reinit)
    tree, _ = restored(tmp_path, SHAPES, reinit, init=shaped(SHAPES))
    assert jax.tree.leaves(tree)[0].any()


def test_a_head_of_two_layers_cannot_learn_from_zeros(tmp_path):
    shapes = {"body": {"w": (4, 6)}, "head": {"a": {"w": (6, 6)}, "b": {"w": (6, 3)}}}
    with pytest.raises(CheckpointError, match=r"params:head/a/w"):
        restored(tmp_path, shapes, "head/**")


# Advice


@pytest.mark.parametrize(
    ("ask", "advice"),
    [
        (lambda tree, place: checkpoint.plan(place, like=tree, reinit="head"), "'head/**'"),
        (lambda tree, place: checkpoint.plan(place, like=tree, ignore="head"), "'head/**'"),
        (lambda tree, place: checkpoint.load(place, keep="kernel"), "'**/kernel'"),
        (lambda tree, place: checkpoint.plan(place, like=tree, resize={"body": np.resize}), "'body/**'"),
        (lambda tree, place: freeze.labels(tree, trainable=["head"]), "'head/**'"),
        (lambda tree, place: freeze.labels(tree, rules=[("norm", "a"), ("**", "b")]), "'norm/**'"),
        (lambda tree, place: lora.adapted(LinenModule(Linen(), "head"), tree, ["body"]), "'body/**'"),
    ],
)
def test_a_suggestion_is_never_what_just_failed(ask, advice, tmp_path):
    tree = shaped(SHAPES)
    checkpoint.save(tmp_path / "c", tree)
    with pytest.raises((CheckpointError, PathError)) as caught:
        ask(tree, tmp_path / "c")
    assert f"Did you mean {advice}" in str(caught.value)


def test_lora_patterns_that_match_no_kernel_are_told_which_there_are():
    with pytest.raises(ConfigError, match=r"no kernels .*match \('head/kernel'\).* are body/kernel"):
        lora.adapted(LinenModule(Linen(), "head"), shaped(SHAPES), ["head/kernel"])


def test_any_orbax_program_reads_the_folders_that_are_named(tmp_path):
    tree, model = shaped(SHAPES), tiny.model()
    checkpoint.save(tmp_path / "c", tree)
    model.save(tmp_path / "model")
    for kind in (ocp.StandardCheckpointer, ocp.PyTreeCheckpointer):
        with kind() as checkpointer:
            found = checkpointer.restore(tmp_path / "c" / "state")
            whole = checkpointer.restore(tmp_path / "model" / "checkpoint" / "state")
        assert tiny.same(jax.tree.map(np.asarray, whole), jax.tree.map(np.asarray, model.variables))
        jax.tree.map(np.testing.assert_array_equal, found, tree)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(tmp_path / "c" / "state", jax.tree.map(jnp.zeros_like, tree))
    jax.tree.map(np.testing.assert_array_equal, found, tree)
