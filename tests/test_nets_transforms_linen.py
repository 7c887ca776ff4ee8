"""Linen modules made of lifted transforms train as they do in Flax itself, under the one policy of `Mode`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from flaxtl.errors import ConfigError
from flaxtl.nets.adapt import LinenModule
from flaxtl.nets.mode import Mode

ROWS, WIDTH = 32, 16
X = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
ONES = np.ones((ROWS, WIDTH), np.float32)


def mode(step=0, index=None, **changes):
    index = jnp.arange(ROWS) if index is None else index
    return Mode(rng=jax.random.key(step), example_index=index, **changes)


def net_of(body, **settings):
    """A network whose features are what a body, function(module, x), makes of its input."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False):
            return nn.Dense(2, name="head")(body(self, x, train))

    return LinenModule(Net(), head="head", **settings)


def features(net, x, mode, variables=None):
    variables = net.init(0, x) if variables is None else variables
    return net.forward(variables, x, 0, 1, mode)[0]


class Drop(nn.Module):
    collection: str = "dropout"

    @nn.compact
    def __call__(self, x, _=None):
        return nn.Dropout(0.5, deterministic=False, rng_collection=self.collection)(x), None


def scanned(split, collection="dropout"):
    scan = nn.scan(Drop, variable_axes={}, split_rngs={collection: split}, length=6)
    return lambda module, x, train: scan(collection, name="blocks")(x, None)[0]


@pytest.mark.parametrize(("split", "survive"), [(True, 0.5**6), (False, 0.5)])
@pytest.mark.parametrize("collection", ["dropout", "noise"])
def test_a_scan_drops_other_units_in_each_layer_if_its_keys_are_split(split, survive, collection):
    found = features(net_of(scanned(split, collection)), ONES, mode())
    assert abs(float((found != 0).mean()) - survive) < 0.06


def test_a_scan_without_dropout_among_its_streams_is_the_error_that_flax_raises():
    scan = nn.scan(Drop, variable_axes={}, split_rngs={}, length=6)
    with pytest.raises(Exception, match='needs PRNG for "dropout"'):
        features(net_of(lambda m, x, t: scan(name="blocks")(x, None)[0]), ONES, mode())


def remat_decorated():
    class Block(nn.Module):
        @nn.remat
        @nn.compact
        def __call__(self, x):
            return nn.Dropout(0.5, deterministic=True)(x)

    return lambda module, x, train: Block()(x)


def looped(module, x, train):
    def body(block, carry):
        number, x = carry
        return number + 1, nn.Dropout(0.5, deterministic=False, parent=block)(x)

    def condition(block, carry):
        return carry[0] < 3

    start = (jnp.zeros((), jnp.int32), x)
    return nn.while_loop(condition, body, module, start, split_rngs={"dropout": True})[1]


BODIES = {
    "remat": lambda m, x, t: nn.remat(Drop)()(x)[0],
    "remat of the layer": lambda m, x, t: nn.remat(nn.Dropout)(0.5, deterministic=False)(x),
    "remat of a method": remat_decorated(),
    "jit": lambda m, x, t: nn.jit(Drop)()(x)[0],
    "jit of the layer": lambda m, x, t: nn.jit(nn.Dropout)(0.5, deterministic=False)(x),
    "scan": scanned(True),
    "remat_scan": lambda m, x, t: nn.remat_scan(Drop2, lengths=(2, 2))()(x),
    "while_loop": looped,
    "sequential": lambda m, x, t: nn.Sequential([lambda x: x + 1, nn.Dropout(0.5, deterministic=False)])(x),
    "flattened rows": lambda m, x, t: nn.Dropout(0.5, deterministic=False)(x.reshape(-1, 4)).reshape(x.shape),
    "vmap over heads": lambda m, x, t: nn.vmap(
        Drop, in_axes=(1, None), out_axes=1, variable_axes={}, split_rngs={"dropout": True}
    )()(x.reshape(-1, 4, 4), None)[0].reshape(x.shape),
    "switch": lambda m, x, t: nn.cond(
        jnp.sum(x) > -1e9, lambda m, x: nn.Dropout(0.5, deterministic=False, parent=m)(x), lambda m, x: x, m, x
    ),
}


class Drop2(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=False)(x)


@pytest.mark.parametrize("name", BODIES)
def test_dropout_in_a_transform_depends_on_key_and_example_and_not_on_the_row(name):
    net = net_of(BODIES[name])
    a = features(net, ONES, mode(1))
    turned = jnp.arange(ROWS)[::-1]
    assert 0.003 < float((a != 0).mean()) < 0.98
    assert np.array_equal(a, features(net, ONES, mode(1, turned))[::-1])
    assert np.array_equal(a, jax.jit(lambda i: features(net, ONES, mode(1, i)))(jnp.arange(ROWS)))
    assert not np.array_equal(a, features(net, ONES, mode(2)))
    assert np.array_equal(features(net, ONES, Mode()), features(net, ONES, Mode()))
    half = features(net, ONES[: ROWS // 2], mode(1, jnp.arange(ROWS // 2)))
    assert np.array_equal(a[: ROWS // 2], half)


def test_a_vmap_over_examples_draws_by_row_as_flax_does():
    def body(module, x, train):
        each = nn.vmap(Drop, in_axes=(0, None), out_axes=0, variable_axes={}, split_rngs={"dropout": True})
        return each()(x, None)[0]

    found = features(net_of(body), ONES, mode(1)) != 0
    assert 0.3 < float(found.mean()) < 0.7
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found, features(net_of(body), ONES, mode(2)) != 0)


def test_broadcast_axes_share_their_mask_and_a_key_that_is_given_is_taken():
    def shared(axes):
        def body(module, x, train):
            return nn.Dropout(0.5, broadcast_dims=axes, deterministic=False)(x)

        return features(net_of(body), ONES, mode()) != 0

    assert bool((shared((0,)) == shared((0,))[:1]).all())
    assert bool((shared((-1,)) == shared((-1,))[:, :1]).all())
    given = net_of(lambda m, x, t: nn.Dropout(0.5, deterministic=False)(x, rng=jax.random.key(3)))
    assert np.array_equal(features(given, ONES, mode(1)), features(given, ONES, mode(2)))


# Batch statistics


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return nn.BatchNorm(use_running_average=True, momentum=0.9, name="bn")(nn.Dense(WIDTH)(x)), None


class Norm1(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Norm()(x)[0]


LIFTED = {"variable_axes": {"params": 0, "batch_stats": 0}, "split_rngs": {"params": True}}
NORMS = {
    "plain": (lambda m, x: Norm(name="b")(x)[0], "b/bn"),
    "remat": (lambda m, x: nn.remat(Norm)(name="b")(x)[0], "b/bn"),
    "jit": (lambda m, x: nn.jit(Norm)(name="b")(x)[0], "b/bn"),
    "scan": (lambda m, x: nn.scan(Norm, length=3, **LIFTED)(name="b")(x, None)[0], "b/bn"),
    "remat of the layer": (lambda m, x: nn.remat(nn.BatchNorm)(use_running_average=True, name="bn")(x), "bn"),
    "vmap of the layer": (
        lambda m, x: nn.vmap(nn.BatchNorm, in_axes=1, out_axes=1, **LIFTED)(use_running_average=True, name="bn")(
            x.reshape(-1, 2, WIDTH // 2)
        ).reshape(x.shape),
        "bn",
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_batch_statistics_in_a_transform_are_updated_where_they_are_live_and_padding_does_not_count(name):
    body, path = NORMS[name]
    net = net_of(lambda m, x, t: body(m, x))
    variables = net.init(0, X)
    live = frozenset({path})
    _, still = net.forward(variables, X, mode=mode())
    assert jax.tree.all(jax.tree.map(np.array_equal, still["batch_stats"], variables["batch_stats"]))
    y, moved = net.forward(variables, X, mode=mode(live=live))
    assert not any(jax.tree.leaves(jax.tree.map(np.array_equal, moved["batch_stats"], variables["batch_stats"])))
    padded = np.concatenate([X, np.full((8, WIDTH), 1e4, np.float32)])
    weight = jnp.array([1.0] * ROWS + [0.0] * 8)
    z, filled = net.forward(variables, padded, mode=mode(index=jnp.arange(ROWS + 8), live=live, weight=weight))
    np.testing.assert_allclose(z[:ROWS], y, rtol=1e-3, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), filled, moved)


def test_live_statistics_in_a_scan_are_those_of_flax_itself():
    scan = nn.scan(
        type(
            "Own",
            (Norm,),
            {
                "__call__": nn.compact(
                    lambda self, x, _=None: (
                        nn.BatchNorm(use_running_average=False, momentum=0.9, name="bn")(nn.Dense(WIDTH)(x)),
                        None,
                    )
                )
            },
        ),
        length=3,
        **LIFTED,
    )

    class Flax(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="head")(scan(name="b")(x, None)[0])

    net = net_of(lambda m, x, t: NORMS["scan"][0](m, x))
    variables = net.init(0, X)
    expected, updated = Flax().apply(variables, X, mutable=["batch_stats"])
    found, state = net.forward(variables, X, mode=Mode(live=frozenset({"b/bn"})))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state, dict(updated))


def test_a_users_own_subclass_of_batch_norm_runs_and_follows_the_policy():
    class Twice(nn.BatchNorm):
        @nn.compact
        def __call__(self, x, **settings):
            return 2 * super().__call__(x, **settings)

    net = net_of(lambda m, x, t: Twice(use_running_average=True, name="bn")(x))
    plain = net_of(lambda m, x, t: nn.BatchNorm(use_running_average=True, name="bn")(x))
    variables = net.init(0, X)
    live = Mode(live=frozenset({"bn"}))
    np.testing.assert_allclose(features(net, X, live, variables), 2 * features(plain, X, live, variables), rtol=1e-6)


def test_a_compiled_module_does_not_keep_the_mode_of_an_earlier_pass():
    net = net_of(lambda m, x, t: nn.jit(Drop)()(nn.jit(Norm)(name="b")(x)[0])[0])
    variables = net.init(0, X)
    for step in range(2):
        for changes in ({}, {"live": frozenset({"b/bn"}), "weight": jnp.ones(ROWS)}):
            inner = features(net, X, mode(step, **changes), variables)
            outer = jax.jit(lambda index, c=changes, s=step: features(net, X, mode(s, index, **c), variables))(
                jnp.arange(ROWS)
            )
            np.testing.assert_allclose(inner, outer, rtol=1e-5, atol=1e-6)


# Other random streams, other collections


@pytest.mark.parametrize(
    "draw",
    [
        lambda m, x, t: x + jax.random.normal(m.make_rng("noise"), x.shape) if t else x,
        lambda m, x, t: x + jax.random.normal(m.make_rng(), x.shape) if t else x,
        lambda m, x, t: nn.Dropout(0.5, rng_collection="noise", deterministic=False)(x),
    ],
)
def test_a_stream_of_any_name_differs_from_step_to_step(draw):
    net = net_of(draw)
    a, b, again = (features(net, ONES, mode(step)) for step in (0, 1, 0))
    assert np.array_equal(a, again)
    assert not np.array_equal(a, b)
    assert np.array_equal(features(net, ONES, Mode()), ONES)
    other_rows = features(net, ONES, mode(0, jnp.arange(ROWS) + ROWS))
    assert not np.array_equal(a, other_rows)


def test_streams_in_a_scan_are_split_as_the_module_says():
    class Noise(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x, jax.random.normal(self.make_rng("noise"), ())

    def body(module, x, train):
        if not train:
            return x
        scan = nn.scan(Noise, variable_axes={}, split_rngs={"noise": True}, length=4)
        return x + jnp.pad(scan(name="b")(x, None)[1], (0, WIDTH - 4))

    found = features(net_of(body), 0 * ONES, mode())
    assert len(set(np.asarray(found[0, :4]).tolist())) == 4


def test_a_stream_that_is_only_asked_for_is_named():
    def body(module, x, train):
        return x + jax.random.normal(module.make_rng("noise"), x.shape) if module.has_rng("noise") else x

    assert np.array_equal(features(net_of(body), ONES, mode()), ONES)
    assert not np.array_equal(features(net_of(body, streams=("noise",)), ONES, mode()), ONES)


def test_a_module_that_draws_in_evaluation_is_told_so():
    net = net_of(lambda m, x, t: x + jax.random.normal(m.make_rng("noise"), x.shape))
    with pytest.raises(ConfigError, match="draws from the random stream 'noise' in a pass that has no key"):
        features(net, ONES, Mode())


class Count(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        count = self.variable("counts", "n", lambda: jnp.zeros((), jnp.int32))
        if train and not self.is_initializing():
            count.value += 1
        self.sow("intermediates", "x", x)
        return x


def test_other_collections_are_written_in_training_and_nowhere_else():
    net = net_of(lambda m, x, t: Count(name="c")(x, t))
    variables = net.init(0, X)
    variables.pop("intermediates", None)
    for found, wanted in ((Mode(), 0), (mode(), 1), (Mode(live=frozenset({"bn"})), 1)):
        _, state = net.forward(variables, X, mode=found)
        assert int(state["counts"]["c"]["n"]) == wanted
        assert set(state) == {"counts"}


class OwnNorm(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        mean = self.variable("batch_stats", "mean", jnp.zeros, WIDTH)
        if train and not self.is_initializing():
            mean.value = x.mean(0)
        return x - mean.value


def test_a_users_own_normalisation_layer_keeps_its_statistics_unless_it_is_live():
    net = net_of(lambda m, x, t: OwnNorm(name="own")(x, t))
    variables = net.init(0, X)
    for live, moved in ((frozenset(), False), (frozenset({"own"}), True)):
        _, state = net.forward(variables, X, mode=mode(live=live))
        assert bool(np.asarray(state["batch_stats"]["own"]["mean"]).any()) == moved


# Ways of writing a module


class Setup(nn.Module):
    def setup(self):
        self.bn = nn.BatchNorm(use_running_average=False)
        self.drop = nn.Dropout(0.5)
        self.shared = nn.Dense(WIDTH)
        self.head = nn.Dense(2)

    def __call__(self, x, deterministic: bool):
        x = self.shared(self.drop(self.bn(self.shared(x)), deterministic=deterministic))
        return self.head(self.drop(x, deterministic=deterministic))


class Shared(nn.Module):
    def setup(self):
        self.inner = Setup()
        nn.share_scope(self, self.inner)

    def __call__(self, x, is_training: bool):
        return self.inner(x, deterministic=not is_training)


class Whole(nn.Module):
    wrap: str

    @nn.compact
    def __call__(self, x, train: bool = False):
        block = {"remat": nn.remat, "jit": nn.jit}[self.wrap](Setup, static_argnums=2)
        return block(name="net")(x, not train)


@pytest.mark.parametrize(
    ("module", "head", "norm"),
    [
        (Setup(), "head", "bn"),
        (Shared(), "head", "bn"),
        (
            nn.Sequential([nn.Dense(8), nn.BatchNorm(True), nn.Dropout(0.5, deterministic=True), nn.Dense(2)]),
            "layers_3",
            "layers_1",
        ),
        (Whole("remat"), "net/head", "net/bn"),
        (Whole("jit"), "net/head", "net/bn"),
    ],
    ids=["setup", "share_scope", "sequential", "remat of the whole", "jit of the whole"],
)
def test_a_module_of_any_style_has_features_that_compose_with_its_head(module, head, norm):
    net = LinenModule(module, head=head)
    variables = net.init(0, X)
    for found in (Mode(), mode(1), mode(1, live=frozenset({norm}))):
        for _ in range(2):  # the second time out of nn.jit's cache, where there is one
            whole, state = net.forward(variables, X, mode=found)
            inner, _ = net.forward(variables, X, 0, 1, found)
            assert inner.shape[-1] in (8, WIDTH)
            np.testing.assert_allclose(net.forward(variables, inner, 1)[0], whole, rtol=1e-5, atol=1e-5)
        same = jax.tree.map(np.array_equal, state["batch_stats"], variables["batch_stats"])
        assert all(jax.tree.leaves(same)) == (not found.live)
    grads = jax.grad(lambda p: net.forward({**variables, "params": p}, X, mode=mode(1))[0].sum())(variables["params"])
    assert np.isfinite(jax.tree.leaves(grads)[0]).all()


def test_a_head_that_is_repeated_is_refused():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            head = nn.scan(Step, variable_broadcast="params", split_rngs={"params": False}, length=2)
            return head(name="b")(x, None)[0]

    class Step(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.Dense(WIDTH, name="head")(x), None

    net = LinenModule(Net(), head="b/head")
    variables = net.init(0, X)
    with pytest.raises(ConfigError, match=r"called inside a transform that repeats it|called 'b/head' 0 times"):
        net.forward(variables, X)
