"""Saving and loading: to the bit, verified, whole or not at all, and never a leaf unexplained."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from orbax.checkpoint import v1

from flaxtl import checkpoint, paths
from flaxtl.errors import CheckpointError, PathError

DTYPES = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "int4"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2"),
)
RNG = np.random.default_rng(0)
VARIABLES = {
    "params": {
        "backbone": {"conv": {"kernel": RNG.normal(size=(3, 3, 4)).astype(np.float32)}},
        "head": {"kernel": RNG.normal(size=(4, 7)).astype(np.float32), "bias": np.zeros(7, np.float32)},
    },
    "batch_stats": {"backbone": {"mean": np.arange(4, dtype=np.float32)}},
}


def same(a, b):
    """Whether two trees are equal to the bit, dtypes and shapes included."""

    def equal(x, y):
        x, y = np.asarray(x), np.asarray(y)
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()

    return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(jax.tree.map(equal, a, b))


def data_files(folder):
    return [f for f in Path(folder).rglob("*") if f.is_file() and f.parent.name == "d"]


def like(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), np.asarray(a).dtype), tree)


def run_python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


# Round trips


@st.composite
def arrays(draw):
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    raw = draw(st.binary(min_size=64, max_size=64)) * 8
    count = int(np.prod(shape))
    if dtype.name in ("bool", "int4"):  # not every byte is one of their values
        return (np.frombuffer(raw, np.int8)[:count] % 2).astype(dtype).reshape(shape)
    return np.frombuffer(raw, dtype, count).reshape(shape)


KEYS = st.text(st.sampled_from("ab0é/:*\\. "), min_size=1, max_size=3)
TREES = st.recursive(arrays(), lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=5)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=st.dictionaries(KEYS | st.sampled_from(["params", "state", "step"]), TREES, min_size=1, max_size=3))
def test_random_trees_come_back_to_the_bit_or_are_refused(tree, tmp_path_factory):
    place = tmp_path_factory.mktemp("t") / "c"
    joined = [".".join(keys).rstrip("/") for keys, _ in paths.items(tree)]
    storable = len(set(joined)) == len(joined) and any(a.size for a in jax.tree.leaves(tree))
    if not storable:
        with pytest.raises(CheckpointError, match=r"would be one on disk|nothing to save"):
            checkpoint.save(place, tree)
        assert not place.exists()
        return
    checkpoint.save(place, tree)
    assert same(checkpoint.load(place), tree)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_to_the_bit(dtype, tmp_path):
    values = np.array([0, 1, 1, 0, 1]).astype(dtype)
    tree = {"many": values, "one": values[1:2].reshape(()), "none": values[:0].reshape(0, 3)}
    checkpoint.save(tmp_path / "c", tree)
    assert same(checkpoint.load(tmp_path / "c"), tree)
    restored, report = checkpoint.restore(checkpoint.plan(tmp_path / "c", tree))
    assert same(restored, tree)
    assert report.verified == 3


def test_scalars_sequences_byte_order_and_random_keys(tmp_path):
    tree = {
        "int": 3,
        "float": 2.5,
        "flag": True,
        "numpy": np.float32(3),
        "list": [np.ones(2), (np.zeros(1), np.full(1, -0.0))],
        "strided": np.arange(12.0).reshape(3, 4).T[::2],
        "swapped": np.arange(3, dtype=">f4"),
        "key": jax.random.key(7, impl="rbg"),
        "raw": jax.random.PRNGKey(7),
        "none": None,
    }
    checkpoint.save(tmp_path / "c", tree)
    found = checkpoint.load(tmp_path / "c")
    assert found["int"] == 3
    assert found["flag"].dtype == np.bool_
    assert np.signbit(found["list"]["1"]["1"][0])
    assert found["swapped"].tolist() == [0, 1, 2]
    assert np.array_equal(found["strided"], tree["strided"])
    assert jax.random.key_impl(found["key"]) == jax.random.key_impl(tree["key"])
    assert np.array_equal(jax.random.bits(found["key"]), jax.random.bits(tree["key"]))
    wanted = {k: tree[k] for k in ("key", "raw")}
    restored, _ = checkpoint.restore(
        checkpoint.plan(tmp_path / "c", wanted, ignore=["list/**", "int", "f*", "n*", "s*"])
    )
    assert np.array_equal(jax.random.key_data(restored["key"]), jax.random.key_data(tree["key"]))


def test_metadata_comes_back_and_must_be_json(tmp_path):
    checkpoint.save(tmp_path / "c", {"w": np.ones(1)}, metadata={"epochs": 3, "names": ["é", None]})
    assert checkpoint.describe(tmp_path / "c").metadata == {"epochs": 3, "names": ["é", None]}
    with pytest.raises(CheckpointError, match="JSON"):
        checkpoint.save(tmp_path / "d", {"w": np.ones(1)}, metadata={"w": np.ones(1)})
    with pytest.raises(CheckpointError, match="'flaxtl'"):
        checkpoint.save(tmp_path / "d", {"w": np.ones(1)}, metadata={"flaxtl": 1})


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"a.b": np.ones(1), "a": {"b": np.zeros(1)}}, "would be one on disk"),
        ({"a": np.ones(1), "a/": np.zeros(1)}, "would be one on disk"),
        ({"a": "text"}, "'a' is a str"),
        ({"a": np.array(["x"])}, "'a' is a ndarray"),
        ({"a": np.zeros(2, "uint4")}, "'a' has the dtype uint4"),
        ({"a": None}, "nothing to save"),
        ({}, "nothing to save"),
        ({"\ud800": np.ones(1)}, "no valid text"),
        ({1: np.ones(1), "b": np.ones(1)}, "cannot be walked"),
        (np.ones(3), "no name"),
    ],
)
def test_trees_that_orbax_would_lose_are_refused(tree, words, tmp_path):
    with pytest.raises(CheckpointError, match=words):
        checkpoint.save(tmp_path / "c", tree)
    assert not list(tmp_path.iterdir())


# Damage


def test_a_flipped_byte_is_detected_and_the_leaf_named(tmp_path):
    tree = {f"leaf{i}": RNG.normal(size=500).astype(np.float32) for i in range(4)}
    checkpoint.save(tmp_path / "c", tree)
    files = [(f, f.read_bytes()) for f in data_files(tmp_path / "c")]
    places = [(f, content, p) for f, content in files for p in range(len(content))]
    assert len(places) > 4 * 500 * 3
    wrong = named = 0
    for number in np.linspace(0, len(places) - 1, 24).astype(int):
        file, content, place = places[number]
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        try:
            found = checkpoint.load(tmp_path / "c")
        except CheckpointError as error:
            wrong += 1
            named += any(f"{name} does not have the contents" in str(error) for name in tree)
        else:
            assert same(found, tree), f"{file} {place}: wrong numbers were let through"
        file.write_bytes(content)
    assert wrong >= 20
    assert named >= 15


def test_all_damaged_leaves_are_named(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "c", {"a": np.ones(4), "b": np.ones(4), "c": np.ones(4)})
    swapped = {"a": np.zeros(4), "b": np.ones(4), "c": np.zeros(4)}
    with ocp.PyTreeCheckpointer() as checkpointer:  # other numbers under the old checksums
        shutil.rmtree(tmp_path / "c" / "state")
        checkpointer.save(tmp_path / "c" / "state", swapped)
    os.remove(tmp_path / "c" / "state" / "_CHECKPOINT_METADATA")
    with pytest.raises(CheckpointError, match=r"damaged: a, c do not have"):
        checkpoint.load(tmp_path / "c")


def _truncate(place):
    for file in data_files(place):
        os.truncate(file, file.stat().st_size // 2)


def _delete_data(place):
    for file in data_files(place):
        file.unlink()


def _break_tree_file(place):
    (place / "state" / "_METADATA").write_text('{"tree_met')


def _break_custom_file(place):
    (place / "_CHECKPOINT_METADATA").write_text('{"item')


def _tamper(place):
    file = place / "_CHECKPOINT_METADATA"
    file.write_text(file.read_text().replace('"epochs": 3', '"epochs": 4'))


def _empty(place):
    shutil.rmtree(place)
    place.mkdir()


def _replace_by_file(place):
    shutil.rmtree(place)
    place.write_text("x")


def _replace_by_other(place):
    _empty(place)
    (place / "model.safetensors").write_bytes(b"x")


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "There is no checkpoint at"),
        (_empty, "is empty"),
        (_replace_by_file, "is a file; expected the directory"),
        (_replace_by_other, r"no Orbax checkpoint.*it holds model\.safetensors"),
        (_truncate, "damaged or incomplete"),
        (_delete_data, "damaged or incomplete"),
        (_break_tree_file, "damaged or incomplete"),
        (_break_custom_file, "_CHECKPOINT_METADATA is damaged or incomplete"),
        (_tamper, "metadata of .* is damaged"),
    ],
)
def test_every_damage_is_a_sentence_that_names_the_place(damage, words, tmp_path, capfd):
    place = tmp_path / "c"
    checkpoint.save(place, VARIABLES, metadata={"epochs": 3})
    damage(place)
    for read in (checkpoint.load, lambda p: checkpoint.restore(checkpoint.plan(p, VARIABLES))):
        with pytest.raises(CheckpointError, match=words) as caught:
            read(place)
        assert str(place) in str(caught.value)
        assert str(caught.value).endswith(".")
    assert "Traceback" not in capfd.readouterr().err


# Writing: whole or not at all


def test_an_earlier_checkpoint_is_replaced_only_when_asked(tmp_path):
    place = tmp_path / "c"
    checkpoint.save(place, {"w": np.ones(2)})
    with pytest.raises(CheckpointError, match="already exists"):
        checkpoint.save(place, {"w": np.zeros(2)})
    assert checkpoint.load(place)["w"].tolist() == [1, 1]
    checkpoint.save(place, {"w": np.zeros(2)}, overwrite=True)
    assert checkpoint.load(place)["w"].tolist() == [0, 0]
    assert [f.name for f in tmp_path.iterdir()] == ["c"]


def test_a_copy_that_an_interrupted_save_moved_aside_is_named(tmp_path):
    checkpoint.save(tmp_path / "c", {"w": np.ones(2)})
    os.rename(tmp_path / "c", tmp_path / ".c.replaced-0123")
    with pytest.raises(CheckpointError, match=r"\.c\.replaced-0123; rename it to 'c'"):
        checkpoint.load(tmp_path / "c")


def test_a_failure_in_the_block_leaves_what_was_there(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "old").write_text("old")

    def write_and_fail():
        with checkpoint.new_directory(tmp_path / "m", overwrite=True) as folder:
            (folder / "new").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with (
        pytest.raises(CheckpointError, match="could not be written: disk full"),
        checkpoint.new_directory(tmp_path / "m", overwrite=True),
    ):
        raise OSError("disk full")
    assert [str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*")] == ["m", "m/old"]


FULL_DISK = """
import resource, signal, sys
import numpy as np
from flaxtl import checkpoint
from flaxtl.errors import CheckpointError
checkpoint.save(sys.argv[1], {"w": np.ones(4)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    checkpoint.save(sys.argv[1], {"w": np.random.default_rng(0).normal(size=10**6)}, overwrite=True)
except CheckpointError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_earlier_checkpoint_whole(tmp_path):
    place = tmp_path / "c"
    done = run_python(FULL_DISK, place)
    assert done.returncode == 0, done.stderr
    assert f"{place} could not be written" in done.stdout
    assert "Traceback" not in done.stderr
    assert checkpoint.load(place)["w"].tolist() == [1, 1, 1, 1]
    assert [f.name for f in tmp_path.iterdir()] == ["c"]


KILLED = """
import sys
import numpy as np
from flaxtl import checkpoint
big = np.random.default_rng(0).normal(size=2 * 10**6)
print("ready", flush=True)
while True:
    checkpoint.save(sys.argv[1], {"w": big}, overwrite=True)
"""


@pytest.mark.parametrize("delay", [0.05, 0.17, 0.31])
def test_a_killed_save_leaves_a_whole_checkpoint(delay, tmp_path):
    place = tmp_path / "c"
    checkpoint.save(place, {"w": np.ones(4)})
    with subprocess.Popen([sys.executable, "-c", KILLED, str(place)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    whole = [place] if place.exists() else list(tmp_path.glob(".c.replaced-*"))
    assert checkpoint.load(whole[0])["w"].size in (4, 2 * 10**6)
    checkpoint.save(place, {"w": np.zeros(4)}, overwrite=True)
    assert checkpoint.load(place)["w"].tolist() == [0, 0, 0, 0]


# Describing, and checkpoints of other programs


def test_a_description_reads_no_arrays_and_says_what_there_is(tmp_path):
    checkpoint.save(tmp_path / "model" / "checkpoint", VARIABLES, metadata={"a": 1})
    (tmp_path / "model" / "card.json").write_text("{}")
    for place in (tmp_path / "model", tmp_path / "model" / "checkpoint"):
        found = checkpoint.describe(place)
        assert {leaf.name for leaf in found.leaves} == set(paths.names(VARIABLES))
        assert found.nbytes == sum(a.nbytes for a in jax.tree.leaves(VARIABLES))
        assert set(found.checksums) == set(found.leaves)
        assert "params:head/kernel" in str(found)
        assert same(checkpoint.load(place), VARIABLES)


def _manager(place, **items):
    with ocp.CheckpointManager(place) as manager:
        for step in (1, 12):
            manager.save(step, args=ocp.args.Composite(**items) if items else ocp.args.StandardSave(VARIABLES))


def _standard(place, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(place, tree)


def _pytree(place, tree):
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(place, tree)


STATE = {"step": 3, "params": VARIABLES["params"], "batch_stats": VARIABLES["batch_stats"]}
STATE["opt_state"] = [np.zeros(3), None, {"mu": VARIABLES["params"]}]


@pytest.mark.parametrize(
    ("write", "where", "note"),
    [
        (lambda p: _standard(p, VARIABLES), "", None),
        (lambda p: _pytree(p, VARIABLES), "", None),
        (lambda p: _pytree(p / "default", VARIABLES), "", None),
        (lambda p: _pytree(p / "weights", VARIABLES), "", None),
        (_manager, "", "latest, 12"),
        (_manager, "1", None),
        (
            lambda p: _manager(p, state=ocp.args.StandardSave(VARIABLES), j=ocp.args.JsonSave({})),
            "",
            "latest, 12",
        ),
        (lambda p: _manager(p, params=ocp.args.PyTreeSave(VARIABLES)), "12", None),
        (lambda p: v1.save(p, VARIABLES, custom_metadata={"a": 1}), "", None),
        (lambda p: v1.save_checkpointables(p, {"params": VARIABLES, "cfg": {"a": 1}}), "", "cfg"),
        (lambda p: _standard(p, STATE), "", "opt_state, step"),
        (lambda p: _pytree(p, {"state": STATE}), "", "under 'state'"),
        (lambda p: _pytree(p, {"model": VARIABLES, "opt_state": {"a": np.ones(2)}}), "", "under 'model'"),
        (lambda p: _pytree(p, {"params": VARIABLES, "step": 3}), "", "under 'params'"),
        (lambda p: _pytree(p, jax.tree.map(lambda a: {"value": a}, VARIABLES)), "", "NNX"),
        (lambda p: _pytree(p, {"params": VARIABLES, "step": 3, "note": "text"}), "", "note hold no array"),
    ],
)
def test_checkpoints_of_other_programs_load(write, where, note, tmp_path):
    write(tmp_path / "c")
    found = checkpoint.describe(tmp_path / "c" / where)
    assert (note is None) == (not found.notes)
    assert note is None or note in " ".join(found.notes)
    restored, report = checkpoint.restore(checkpoint.plan(tmp_path / "c" / where, like(VARIABLES)))
    assert same(restored, VARIABLES)
    assert "not verified" in str(report)
    assert same(checkpoint.load(tmp_path / "c" / where), VARIABLES)


def test_bare_parameters_stay_bare_and_a_first_module_named_model_stays(tmp_path):
    tree = {"model": {"encoder": {"w": np.ones(2)}, "out": {"w": np.zeros(3)}}}
    _pytree(tmp_path / "c", tree)
    assert same(checkpoint.load(tmp_path / "c"), tree)
    rename = [("model/encoder", "backbone")]
    made = checkpoint.plan(tmp_path / "c", {"backbone": {"w": np.ones(2)}}, rename=rename, ignore="model/out/**")
    assert [e.action for e in made.entries] == ["renamed", "ignored"]


def test_other_programs_read_what_flaxtl_wrote(tmp_path):
    checkpoint.save(tmp_path / "c", VARIABLES)
    assert same(v1.load(tmp_path / "c", VARIABLES), VARIABLES)
    with ocp.PyTreeCheckpointer() as checkpointer:
        assert same(checkpointer.restore(tmp_path / "c" / "state"), VARIABLES)


# Plans


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path / "c", VARIABLES)
    return tmp_path / "c"


def new_head(outputs=3):
    head = {"kernel": np.zeros((4, outputs), np.float32), "bias": np.zeros(outputs, np.float32)}
    return {**VARIABLES, "params": {**VARIABLES["params"], "head": head}}


def test_a_new_head_is_a_plan_that_prints(saved):
    made = checkpoint.plan(saved, like(new_head()), reinit="head/**")
    assert made.bytes_to_read == (36 + 4) * 4
    actions = {(e.target or e.source).name: e.action for e in made.entries if e.target}
    assert actions["params:head/kernel"] == "reinitialised"
    assert {e.source.name for e in made.entries if e.action == "ignored"} == {
        "params:head/bias",
        "params:head/kernel",
    }
    text = str(made)
    assert "2 loaded, 2 reinitialised, 2 ignored; 160 bytes to read" in text
    assert len(text.splitlines()) == 1 + 6 + 1
    init = {"params": {"head": {"kernel": np.ones((4, 3)), "bias": np.full(3, 2)}}}
    tree, report = checkpoint.restore(made, init=init)
    assert same(tree["params"]["backbone"], VARIABLES["params"]["backbone"])
    assert tree["params"]["head"]["kernel"].dtype == np.float32
    assert tree["params"]["head"]["bias"].tolist() == [2, 2, 2]
    assert (report.bytes_read, report.verified) == (160, 2)
    assert "2 leaves, 160 bytes read, all verified, 2 re-initialised" in str(report)
    zeros, _ = checkpoint.restore(made)
    assert not zeros["params"]["head"]["kernel"].any()
    names, _ = checkpoint.restore(made, init=lambda leaf, s: np.full(s.shape, len(leaf.keys[-1])))
    assert names["params"]["head"]["bias"].tolist() == [4, 4, 4]


def test_an_init_that_does_not_fit_is_refused(saved):
    made = checkpoint.plan(saved, like(new_head()), reinit="head/**")
    with pytest.raises(CheckpointError, match="no value for params:head/"):
        checkpoint.restore(made, init={"params": {"head": {}}})
    with pytest.raises(CheckpointError, match=r"initial value of params:head/.* expected float32"):
        checkpoint.restore(made, init=lambda leaf, s: np.zeros(9))


def test_what_does_not_fit_is_refused_with_both_lists(saved):
    other = {"params": {"stem": {"kernel": np.ones(3)}, "head": new_head()["params"]["head"]}}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.plan(saved, other)
    text = str(caught.value)
    assert "Missing in the checkpoint (1): params:stem/kernel." in text
    assert "Left over in the checkpoint (2): batch_stats:backbone/mean, params:backbone/conv/kernel." in text
    assert "params:head/kernel has the shape (4, 7) in the checkpoint and (4, 3) in the model" in text
    assert "params:head/bias has the shape (7,)" in text


def test_ignoring_must_be_said(saved):
    params = VARIABLES["params"]
    with pytest.raises(CheckpointError, match=r"Missing in the checkpoint \(0\): none(.|\n)*batch_stats:"):
        checkpoint.plan(saved, params)
    made = checkpoint.plan(saved, params, ignore="batch_stats:**")
    assert same(checkpoint.restore(made)[0], params)


def test_patterns_and_prefixes_that_match_nothing_are_errors(saved):
    with pytest.raises(CheckpointError, match=r"'hed/\*\*' matches none.*Did you mean 'head/\*\*'"):
        checkpoint.plan(saved, VARIABLES, ignore="hed/**")
    with pytest.raises(PathError, match=r"'hed/\*\*' matches none.*Did you mean 'head/\*\*'"):
        checkpoint.plan(saved, VARIABLES, reinit="hed/**")
    with pytest.raises(CheckpointError, match=r"prefix 'backbon' to rename fits no leaf.*'backbone'"):
        checkpoint.plan(saved, VARIABLES, rename=[("backbon", "trunk")])
    with pytest.raises(CheckpointError, match="matches none"):
        checkpoint.load(saved, keep="nothing/**")


def test_renaming_moves_a_prefix_in_every_collection(saved):
    wanted = {
        "params": {"trunk": VARIABLES["params"]["backbone"], "head": VARIABLES["params"]["head"]},
        "batch_stats": {"trunk": VARIABLES["batch_stats"]["backbone"]},
    }
    made = checkpoint.plan(saved, wanted, rename=[("backbone", "trunk")])
    assert made.count("renamed") == 2
    assert same(checkpoint.restore(made)[0], wanted)


def test_two_leaves_renamed_to_one_are_refused(tmp_path):
    checkpoint.save(tmp_path / "c", {"a": {"w": np.ones(2)}, "b": {"w": np.zeros(2)}})
    with pytest.raises(CheckpointError, match="would both become params:b/w"):
        checkpoint.plan(tmp_path / "c", {"b": {"w": np.ones(2)}}, rename=[("a", "b")])


def test_resizing_is_a_rule_whose_result_is_checked(saved):
    rules = [("head/*", lambda array, shape: np.resize(array, shape).astype(np.float64))]
    made = checkpoint.plan(saved, like(new_head(9)), resize=rules)
    assert made.count("resized") == 2
    assert "(4, 7) → (4, 9)" in str(made)
    tree, report = checkpoint.restore(made)
    assert tree["params"]["head"]["kernel"].shape == (4, 9)
    assert tree["params"]["head"]["kernel"].dtype == np.float32
    assert report.verified == 4
    made = checkpoint.plan(saved, like(new_head(9)), resize=[("head/*", lambda array, shape: array)])
    with pytest.raises(CheckpointError, match=r"returned the shape .*expected"):
        checkpoint.restore(made)


def test_a_dtype_differs_only_when_casting_is_asked(saved):
    half = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16), VARIABLES)
    with pytest.raises(CheckpointError, match="is float32 in the checkpoint and bfloat16 in the model"):
        checkpoint.plan(saved, half)
    made = checkpoint.plan(saved, half, cast=True)
    assert "float32 → bfloat16" in str(made)
    tree, report = checkpoint.restore(made)
    assert same(tree, jax.tree.map(lambda a: a.astype(jnp.bfloat16), VARIABLES))
    assert report.bytes_read == sum(a.nbytes for a in jax.tree.leaves(VARIABLES))
    whole = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, np.int32), VARIABLES)
    with pytest.raises(CheckpointError, match="different kinds"):
        checkpoint.plan(saved, whole, cast=True)


def test_a_cast_that_would_lose_numbers_is_refused(tmp_path):
    checkpoint.save(tmp_path / "c", {"w": np.array([1e6, np.inf], np.float32), "n": np.array([300])})
    made = checkpoint.plan(tmp_path / "c", {"w": np.ones(2, np.float16), "n": np.ones(1, int)}, cast=True)
    with pytest.raises(CheckpointError, match=r"params:w .* too large for the model's float16"):
        checkpoint.restore(made)
    made = checkpoint.plan(tmp_path / "c", {"w": np.ones(2, np.float32), "n": np.ones(1, np.int8)}, cast=True)
    with pytest.raises(CheckpointError, match=r"params:n .* too large for the model's int8"):
        checkpoint.restore(made)


def test_shardings_are_one_or_a_tree(saved):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    made = checkpoint.plan(saved, like(VARIABLES))
    for one in (sharding, jax.tree.map(lambda _: sharding, VARIABLES)):
        tree, _ = checkpoint.restore(made, sharding=one)
        assert all(isinstance(a, jax.Array) and a.sharding == sharding for a in jax.tree.leaves(tree))
        assert same(tree, VARIABLES)
    assert all(type(a) is np.ndarray for a in jax.tree.leaves(checkpoint.restore(made)[0]))


SHARDED = """
import sys
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from flaxtl import checkpoint
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
array = jax.device_put(np.arange(32.0).reshape(8, 4), NamedSharding(mesh, PartitionSpec("data")))
checkpoint.save(sys.argv[1], {"w": array})
tree, report = checkpoint.restore(
    checkpoint.plan(sys.argv[2], {"w": array}), sharding=NamedSharding(mesh, PartitionSpec(None, "data")))
assert len(tree["w"].addressable_shards) == 4 and report.verified == 1
assert np.array_equal(tree["w"], array)
"""


def test_sharded_arrays_go_from_one_number_of_devices_to_another(tmp_path):
    array = np.arange(32.0, dtype=np.float32).reshape(8, 4)
    checkpoint.save(tmp_path / "one", {"w": array})
    done = run_python(SHARDED, tmp_path / "four", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    one, four = (checkpoint.describe(tmp_path / n).checksums for n in ("one", "four"))
    assert one == four
    assert np.array_equal(checkpoint.load(tmp_path / "four")["w"], array)


def _bytes_read():
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs /proc/self/io to count what is read")
def test_the_heads_bytes_are_not_read(tmp_path):
    head = np.random.default_rng(0).normal(size=(5000, 1000)).astype(np.float64)
    backbone = np.random.default_rng(1).normal(size=10_000)
    checkpoint.save(tmp_path / "c", {"backbone": {"w": backbone}, "head": {"w": head}})
    wanted = {"backbone": {"w": backbone}, "head": {"w": np.ones((5, 1000))}}
    before = _bytes_read()
    tree, report = checkpoint.restore(checkpoint.plan(tmp_path / "c", wanted, reinit="head/**"))
    assert _bytes_read() - before < 10 * backbone.nbytes < head.nbytes // 40
    assert report.bytes_read == backbone.nbytes
    assert np.array_equal(tree["backbone"]["w"], backbone)
    before = _bytes_read()
    assert list(checkpoint.load(tmp_path / "c", keep="backbone/**")) == ["backbone"]
    assert _bytes_read() - before < 10 * backbone.nbytes
    before = _bytes_read()
    checkpoint.load(tmp_path / "c")
    assert _bytes_read() - before > head.nbytes * 0.8
