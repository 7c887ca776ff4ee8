"""A directory may be called anything: what is saved there is read back; what cannot be is refused before training."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import flaxtl
from flaxtl import checkpoint, paths
from flaxtl.checkpoint import RunCheckpoints, orbax_io
from flaxtl.checkpoint.aliases import is_plain, plain
from flaxtl.cli import main
from flaxtl.errors import CheckpointError, ConfigError
from flaxtl.strategies import jobs

NAMES = [
    "a[1]",
    "a*b?",
    "a\\b",
    "a{b}$HOME",
    "100%#é",
    "a b\nc",
    "~tilde/x~",
    "-x",
    "ü日本",
    "x" * 240,
    "gs:",
    "s3:/bucket",
    "file:",
    "a'b\"c",
    "sub/relative/",
    "..x",
    " lead",
    "tab\there",
]
if sys.platform == "linux":
    NAMES.append(os.fsdecode(b"latin-\xfc"))  # a name that is no UTF-8


@pytest.fixture(params=NAMES, ids=lambda name: ascii(name)[:20])
def name(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return request.param


def test_a_tree_is_read_back_to_the_bit(name):
    tree = {"w": np.arange(6.0).reshape(2, 3), "s": {"n": np.int32(3)}}
    checkpoint.save(name, tree, metadata={"epochs": 2})
    checkpoint.save(name, tree, overwrite=True)
    assert tiny.same(checkpoint.load(name), tree)
    assert len(checkpoint.describe(name).leaves) == 2
    assert [p.name for p in Path(name).parent.iterdir()] == [Path(name).name]


def test_the_states_of_a_run_are_kept_and_found_again(name):
    states = RunCheckpoints(name)
    for step in (1, 2, 3):
        states.save(step, {"w": np.full(3, float(step))}, {"at": step}, metric=-step)
    states.save(3, {"w": np.full(3, 9.0)}, {"at": 3})
    states.close()
    again = RunCheckpoints(name)
    step, tree, metadata, notes = again.restore_latest({"w": np.zeros(3)})
    assert (step, tree["w"].tolist(), metadata, notes) == (3, [9.0] * 3, {"at": 3}, ())
    assert again.steps() == [1, 2, 3]  # the best besides the last two
    again.close()


@pytest.mark.parametrize(
    "name", ["a[1]", *(pytest.param(n, marks=pytest.mark.slow) for n in ("a\\b{2}", "gs:", "-x y"))]
)
def test_a_model_a_run_data_and_a_cache_may_be_anywhere(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = Path(name)
    tiny.model().save(place / "base")
    tiny.folder(place / "photos", per_class=3)
    data, base, run = (f"./{name}/{part}" for part in ("photos", "base", "run"))
    words = ["finetune", data, "--from", base, f"--out={run}", "--cache", f"./{name}/cache", "--strategy", "lpft"]
    words += ["--epochs", "2", "--batch-size", "4", "--test", data]
    assert main(words) == 0
    states = sorted(p.name for p in (place / "run" / "checkpoints" / "phase_2").iterdir())
    assert main([*words, "--resume"]) == 0
    assert sorted(p.name for p in (place / "run" / "checkpoints" / "phase_2").iterdir()) == states
    for more in (["predict", f"{run}/model", data], ["evaluate", f"{run}/model", data], ["inspect", run]):
        assert main(more) == 0, more
    told = [line for line in capsys.readouterr().err.splitlines() if "are among the training examples" not in line]
    assert not [line for line in told if line.startswith("note:")]


@pytest.mark.parametrize("out", ["x" * 300, "deep/" * 900, "null\0byte"])
def test_a_place_that_cannot_be_is_refused_before_training(out, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "execute", None)  # nothing is trained
    with pytest.raises(ConfigError) as raised:
        flaxtl.finetune(tiny.model(), tiny.source(), out=out)
    assert len(str(raised.value)) < 400
    assert list(tmp_path.iterdir()) == []


def test_links_lead_to_where_things_are_kept(tmp_path):
    real = tmp_path / "real"
    tiny.model().save(real / "model")
    (tmp_path / "link").symlink_to(real)
    assert tiny.same(flaxtl.Model.load(tmp_path / "link" / "model").variables, tiny.model().variables)
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    for more in ({}, {"overwrite": True}):
        flaxtl.finetune(tiny.model(), tiny.source(), out=str(tmp_path / "out"), **more)
    assert (tmp_path / "out").is_symlink()
    assert flaxtl.load(tmp_path / "elsewhere").card.labels == tiny.LABELS
    (tmp_path / "saved").symlink_to(real / "model")
    tiny.model(seed=1).save(tmp_path / "saved", overwrite=True)
    assert (tmp_path / "saved").is_symlink()
    assert tiny.same(flaxtl.Model.load(real / "model").variables, tiny.model(seed=1).variables)


def test_an_interrupted_save_of_an_odd_name_is_found(tmp_path):
    for name in ("a[1]", "x" * 250):
        place = tmp_path / name
        checkpoint.save(place, {"w": np.ones(2)})
        beside = checkpoint.files._beside(place, "replaced")
        shutil.move(place, tmp_path / f"{beside}12345678")
        with pytest.raises(CheckpointError, match="An interrupted save moved what was there"):
            checkpoint.load(place)


def test_a_plain_path_needs_no_link(tmp_path):
    with plain(Path("/runs/a-1")) as same:
        assert same == Path("/runs/a-1")
    odd = tmp_path / "a[1]"
    odd.mkdir()
    with plain(odd) as link:
        assert is_plain(link)
        assert link.resolve() == odd.resolve()
    assert not link.exists()


def test_an_error_tells_of_the_directory_and_not_of_the_link(tmp_path):
    place = tmp_path / "a[1]"
    checkpoint.save(place, {"w": np.arange(100.0)})
    for file in [f for f in place.rglob("*") if f.parent.name == "d"]:
        os.truncate(file, 5)
    with pytest.raises(CheckpointError) as raised:
        checkpoint.load(place)
    assert str(place) in str(raised.value)
    assert "flaxtl-link" not in str(raised.value)
    assert not list(Path(tempfile.gettempdir()).glob("flaxtl-link-*/directory/a"))


# Read back at once


def spoiling(write):
    def written(place, *rest):
        write(place, *rest)
        for file in [f for f in place.rglob("*") if f.parent.name == "d"]:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 0x10
            file.write_bytes(content)

    return written


@pytest.mark.parametrize("kind", ["eager", "lazy"])
def test_what_cannot_be_read_back_does_not_count_as_saved(kind, tmp_path, monkeypatch):
    place = tmp_path / "model"
    tree = {"params": {"w": np.arange(1000.0)}}
    checkpoint.save(place, tree)
    name = "write" if kind == "eager" else "write_lazily"
    monkeypatch.setattr(orbax_io, name, spoiling(getattr(orbax_io, name)))
    leaf = paths.Leaf("params", ("w",))
    structs = {leaf: jax.ShapeDtypeStruct((1000,), "float32")}
    saves = {
        "eager": lambda: checkpoint.save(place, {"params": {"w": np.zeros(1000)}}, overwrite=True),
        "lazy": lambda: checkpoint.save_lazily(place, structs, lambda _: np.ones(1000, np.float32), overwrite=True),
    }
    with pytest.raises(CheckpointError, match=r"could not be written: what was written cannot be read back .*damaged"):
        saves[kind]()
    assert tiny.same(checkpoint.load(place), tree)  # what was there before is unchanged
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_run_whose_model_cannot_be_read_back_says_so_and_fails(tmp_path, monkeypatch, capsys):
    tiny.model().save(tmp_path / "base")
    tiny.folder(tmp_path / "photos", per_class=2)
    monkeypatch.setattr(orbax_io, "write", spoiling(orbax_io.write))
    words = ["finetune", tmp_path / "photos", "--from", tmp_path / "base", "--out", tmp_path / "run"]
    assert main([str(w) for w in words]) == 2
    said = capsys.readouterr()
    assert "model saved" not in said.out
    assert "could not be written: what was written cannot be read back" in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "model").exists()


def test_every_leaf_of_any_dtype_is_read_back_by_itself(tmp_path, monkeypatch):
    read, tree = (
        [],
        {
            "half": jax.numpy.ones((3, 5), "bfloat16"),
            "whole": np.arange(7, dtype=np.int8),
            "flag": np.array([True, False]),
            "number": np.float64(2.5),
            "key": jax.random.key(3),
            "empty": np.zeros((0, 4), np.float32),
            "deep": {"a[b] c": {"0": np.zeros(100, np.float32)}},
        },
    )
    real = orbax_io.read_singly
    monkeypatch.setattr(
        orbax_io, "read_singly", lambda *given: (read.append(found[0]) or found for found in real(*given))
    )
    checkpoint.save(tmp_path / "t", tree)
    assert sorted(read) == [("deep", "a[b] c", "0"), ("flag",), ("half",), ("key",), ("number",), ("whole",)]
    assert tiny.same(checkpoint.load(tmp_path / "t")["deep"], tree["deep"])
