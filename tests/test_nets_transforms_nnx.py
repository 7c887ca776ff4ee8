"""NNX modules made of NNX's transforms train as they do in Flax itself, under the one policy of `Mode`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from flaxtl import paths
from flaxtl.errors import ConfigError
from flaxtl.nets.adapt import NnxModule
from flaxtl.nets.mode import Mode

ROWS, WIDTH = 16, 8
X = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
ONES = np.ones((ROWS, WIDTH), np.float32)


def mode(step=0, index=None, **changes):
    index = jnp.arange(ROWS) if index is None else index
    return Mode(rng=jax.random.key(step), example_index=index, **changes)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.bn = nnx.BatchNorm(WIDTH, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return self.bn(self.linear(x))


class Dropping(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(x)


def stack(kind, layers=3):
    @nnx.split_rngs(splits=layers)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make(rngs):
        return kind(rngs)

    return make


def through(x, layers):
    return nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, layers)


CALLS = {
    "plain": lambda block, x: block(x),
    "remat": lambda block, x: nnx.remat(lambda m, x: m(x))(block, x),
    "jit": lambda block, x: nnx.jit(lambda m, x: m(x))(block, x),
    "scan": lambda layers, x: through(x, layers),
    "remat in scan": lambda layers, x: nnx.scan(
        nnx.remat(lambda x, layer: layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry
    )(x, layers),
    "cond": lambda block, x: nnx.cond(jnp.sum(x) > -1e9, lambda m, x: m(x), lambda m, x: x, block, x),
}


class Net(nnx.Module):
    def __init__(self, kind, call, rngs):
        self.block = stack(kind)(rngs) if "scan" in call else kind(rngs)
        self.head, self.call = nnx.Linear(WIDTH, 2, rngs=rngs), call

    def __call__(self, x):
        return self.head(CALLS[self.call](self.block, x))


def network(kind, call, seed=0):
    return NnxModule(Net(kind, call, nnx.Rngs(seed)), head="head")


def features(net, x, mode):
    return net.forward(net.variables(), x, 0, 1, mode)[0]


@pytest.mark.parametrize("call", CALLS)
def test_live_statistics_are_those_of_flax_itself_and_padding_does_not_count(call):
    net = network(Block, call)
    own = Net(Block, call, nnx.Rngs(0))
    own.train()
    expected = own(X)
    live = frozenset({"block/bn"})
    for run in (lambda v: net.forward(v, X, mode=mode(live=live)),) * 2:
        for wrap in (lambda f: f, jax.jit):
            found, state = wrap(run)(net.variables())
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
            for key in ("mean", "var"):
                stats = state["batch_stats"]["block"]["bn"][key]
                np.testing.assert_allclose(stats, getattr(own.block.bn, key)[...], rtol=1e-4, atol=1e-6)
    padded = np.concatenate([X, np.full((8, WIDTH), 1e4, np.float32)])
    weight = jnp.array([1.0] * ROWS + [0.0] * 8)
    _, filled = net.forward(net.variables(), padded, mode=Mode(live=live, weight=weight))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), filled, state)
    _, still = net.forward(net.variables(), X, mode=mode())
    assert jax.tree.all(jax.tree.map(np.array_equal, still["batch_stats"], net.variables()["batch_stats"]))


@pytest.mark.parametrize("call", CALLS)
def test_dropout_depends_on_key_layer_and_example_and_not_on_the_row(call):
    net = network(Dropping, call)
    a = features(net, ONES, mode(1))
    expected = 0.5**3 if "scan" in call else 0.5
    assert abs(float((a != 0).mean()) - expected) < 0.12
    assert np.array_equal(a, features(net, ONES, mode(1, jnp.arange(ROWS)[::-1]))[::-1])
    assert np.array_equal(a, jax.jit(lambda i: features(net, ONES, mode(1, i)))(jnp.arange(ROWS)))
    assert not np.array_equal(a, features(net, ONES, mode(2)))
    assert np.array_equal(features(net, ONES, Mode()), ONES)


def test_two_dropout_layers_and_two_calls_of_one_have_masks_of_their_own():
    class Two(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
            self.head = nnx.Linear(3 * WIDTH, 2, rngs=rngs)

        def __call__(self, x):
            return self.head(jnp.concatenate([self.a(x), self.a(x), self.b(x)], -1))

    found = np.split(np.asarray(features(NnxModule(Two(nnx.Rngs(0)), "head"), ONES, mode())), 3, -1)
    assert not any(np.array_equal(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("given", [None, "stream", "rngs", "key"])
def test_a_dropout_layer_takes_its_key_from_where_it_is_told_to(given):
    class Given(nnx.Module):
        def __init__(self, rngs):
            self.drop, self.rngs = nnx.Dropout(0.5), rngs
            self.head = nnx.Linear(WIDTH, 2, rngs=rngs)

        def __call__(self, x):
            source = {"stream": self.rngs.dropout, "rngs": self.rngs, "key": jax.random.key(3), None: None}[given]
            return self.head(self.drop(x, rngs=source))

    net = NnxModule(Given(nnx.Rngs(0, dropout=1)), "head")
    a, b = features(net, ONES, mode(0)), features(net, ONES, mode(1))
    assert 0.3 < float((a != 0).mean()) < 0.7
    assert np.array_equal(a, b) == (given == "key")


class Noise(nnx.Module):
    def __init__(self, rngs, stream="noise", wrap=None):
        self.rngs, self.stream, self.wrap, self.deterministic = rngs, stream, wrap, False
        self.head = nnx.Linear(WIDTH, 2, rngs=rngs)

    def noisy(self, x):
        return x + jax.random.normal(self.rngs[self.stream](), x.shape)

    def __call__(self, x):
        if self.deterministic:
            return self.head(x)
        noisy = self.wrap(Noise.noisy) if self.wrap else Noise.noisy
        return self.head(noisy(self, x))


@pytest.mark.parametrize("wrap", [None, nnx.remat, nnx.jit])
@pytest.mark.parametrize("stream", ["noise", "default", "params", "unnamed"])
def test_a_stream_of_any_name_differs_from_step_to_step(stream, wrap):
    net = NnxModule(Noise(nnx.Rngs(0, noise=5, params=6), stream, wrap), "head")
    a, b, again = (features(net, X, mode(step)) for step in (0, 1, 0))
    assert np.array_equal(a, again)
    assert not np.array_equal(a, b)
    assert np.array_equal(features(net, X, Mode()), X)
    assert not np.array_equal(a, features(net, X, mode(0, jnp.arange(ROWS) + ROWS)))


def test_streams_that_are_split_are_split():
    class Split(nnx.Module):
        def __init__(self, rngs):
            self.rngs, self.head = rngs, nnx.Linear(WIDTH, 2, rngs=rngs)

        def __call__(self, x):
            @nnx.split_rngs(splits=ROWS)
            @nnx.vmap(in_axes=(0, 0))
            def each(rngs, row):
                return row + jax.random.normal(rngs.noise(), row.shape)

            return self.head(each(self.rngs, x))

    net = NnxModule(Split(nnx.Rngs(0, noise=1)), "head")
    a, b = features(net, ONES, mode(0)), features(net, ONES, mode(1))
    assert len(np.unique(a)) > ROWS * WIDTH - 3
    assert not np.array_equal(a, b)


class Recurrent(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.GRUCell(WIDTH, WIDTH, rngs=rngs), rngs=rngs)
        self.head = nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, x):
        hidden = self.rnn(x.reshape(x.shape[0], 2, WIDTH // 2).repeat(2, -1))
        self.sow(nnx.Intermediate, "hidden", hidden)
        return self.head(hidden[:, -1])


class Stat(nnx.Variable):
    pass


class Carrying(nnx.Module):
    """Keeps a moving mean and a count of its own, as a user's own layer might."""

    def __init__(self, rngs):
        self.mean, self.steps, self.last = Stat(jnp.zeros(WIDTH)), nnx.Variable(jnp.zeros((), int)), nnx.Cache(X[:1])
        self.head = nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, x):
        self.mean[...] = 0.5 * self.mean[...] + 0.5 * x.mean(0)
        self.steps[...] += 1
        self.last.set_value(x)  # of another shape than before
        return self.head(x - self.mean[...])


def trained(net, steps=3):
    """Trains a network by plain optax, all of a step jitted, and returns its variables and its losses."""
    variables = net.variables()
    tx = optax.sgd(0.1)

    @jax.jit
    def step(variables, key):
        def loss(params):
            y, state = net.forward(
                {**variables, "params": params}, X, mode=Mode(rng=key, example_index=jnp.arange(ROWS))
            )
            return jnp.square(y - 1.0).mean(), state

        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, _ = tx.update(grads, tx.init(variables["params"]))
        return {"params": optax.apply_updates(variables["params"], updates), **state}, value

    losses = []
    for number in range(steps):
        variables, value = step(variables, jax.random.key(number))
        losses.append(float(value))
    return variables, losses


@pytest.mark.filterwarnings("ignore:Using 'Module.sow")
def test_recurrent_modules_train_and_what_they_sow_is_no_variable():
    net = NnxModule(Recurrent(nnx.Rngs(0)), "head")
    assert set(net.variables()) == {"params"}
    _, losses = trained(net, 5)
    assert losses[-1] < losses[0]


def test_a_modules_own_state_goes_on_from_step_to_step_in_training_alone():
    module = Carrying(nnx.Rngs(0))
    net = NnxModule(module, "head")
    assert set(net.variables()) == {"params", "Stat", "cache", "Variable"}
    variables, _ = trained(net)
    np.testing.assert_allclose(variables["Stat"]["mean"], X.mean(0) * (1 - 0.5**3), rtol=1e-4, atol=1e-6)
    assert variables["cache"]["last"].shape == (1, WIDTH)
    assert not np.asarray(module.mean[...]).any()
    _, state = net.forward(variables, X)
    assert np.array_equal(state["Stat"]["mean"], variables["Stat"]["mean"])


@pytest.mark.parametrize(("word", "drops"), [("train", True), ("is_training", True), ("deterministic", False)])
def test_a_switch_of_the_modules_own_call_is_set(word, drops):
    class Switched(nnx.Module):
        def __init__(self, rngs):
            self.head = nnx.Linear(WIDTH, 2, rngs=rngs)

    def call(self, x, **switch):
        return self.head(x * 0 if switch[word] == drops else x)

    parameter = {
        "train": lambda self, x, train: call(self, x, train=train),
        "is_training": lambda self, x, is_training=None: call(self, x, is_training=is_training),
        "deterministic": lambda self, x, *, deterministic: call(self, x, deterministic=deterministic),
    }
    Switched.__call__ = parameter[word]
    net = NnxModule(Switched(nnx.Rngs(0)), "head")
    assert np.array_equal(features(net, ONES, Mode()), ONES)
    assert np.array_equal(features(net, ONES, mode()), 0 * ONES)


class Decorated(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([Block(rngs), Dropping(rngs)])
        self.outer = nnx.Sequential(nnx.Linear(WIDTH, WIDTH, rngs=rngs), nnx.relu, nnx.Linear(WIDTH, 2, rngs=rngs))


class Jitted(Decorated):
    @nnx.jit
    def __call__(self, x):
        return self.outer(self.blocks[1](self.blocks[0](x)))


class Remat(Decorated):
    @nnx.remat
    def __call__(self, x):
        return self.outer(self.blocks[1](self.blocks[0](x)))


@pytest.mark.parametrize("kind", [Jitted, Remat])
def test_a_head_inside_a_transform_has_features_that_compose(kind):
    net = NnxModule(kind(nnx.Rngs(0)), head="outer/layers/2")
    for found in (Mode(), mode(1), mode(1, live=frozenset({"blocks/0/bn"}))):
        for wrap in (lambda f: f, jax.jit):
            whole, state = wrap(lambda v, f=found: net.forward(v, X, mode=f))(net.variables())
            inner, _ = wrap(lambda v, f=found: net.forward(v, X, 0, 1, f))(net.variables())
            np.testing.assert_allclose(net.forward(net.variables(), inner, 1)[0], whole, rtol=1e-5, atol=1e-5)
            same = jax.tree.map(np.array_equal, state["batch_stats"], net.variables()["batch_stats"])
            assert all(jax.tree.leaves(same)) == (not found.live)


def test_the_module_itself_is_never_changed():
    module = Net(Block, "jit", nnx.Rngs(0))
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState))))
    net = NnxModule(module, "head")
    jax.jit(lambda v: net.forward(v, X, mode=mode(live=frozenset({"block/bn"}))))(net.variables())
    net.forward(net.variables(), X, mode=mode())
    after = nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState)))
    assert jax.tree.all(jax.tree.map(np.array_equal, before, after))
    assert type(module.block) is Block


def test_a_module_of_shapes_alone_says_its_variables():
    module = nnx.eval_shape(lambda: Net(Dropping, "plain", nnx.Rngs(0)))
    net = NnxModule(module, "head")
    assert paths.names(net.abstract(None)) == ["params:head/bias", "params:head/kernel"]
    values = NnxModule(Net(Dropping, "plain", nnx.Rngs(0)), "head").variables()
    assert net.forward(values, X, mode=mode())[0].shape == (ROWS, 2)


@pytest.mark.parametrize("head", ["outer/layers/7", "blocks/5", "outer/nothing"])
def test_a_head_that_is_not_there_is_said_to_be_missing(head):
    net = NnxModule(Remat(nnx.Rngs(0)), head=head)
    with pytest.raises(ConfigError, match="no attribute"):
        net.forward(net.variables(), X)
