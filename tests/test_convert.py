"""Published weights become model directories leaf by leaf, and go back to the bit; what does not fit is told."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import parity
import pytest
import torch_files
from parity import ours
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from flaxtl import checkpoint, paths
from flaxtl.checkpoint import orbax_io
from flaxtl.cli import main
from flaxtl.convert import load, mapping
from flaxtl.convert.converting import EXTRAS, convert, is_finite, plan_conversion
from flaxtl.convert.export import export
from flaxtl.convert.loading import embedded
from flaxtl.convert.readers import read_weights
from flaxtl.errors import CheckpointError
from flaxtl.model import Model

CONFIG = {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 64, 64]}}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def tensors():
    """The tensors of a tiny residual network, as timm names them."""
    with np.load(parity.FIXTURES / "resnet_basic.npz") as file:
        listed = json.loads(str(file["about"]))["tensors"]
    return {name: tensor.read() for name, tensor in ours.weights_of(listed, {}).items()}


def published(folder, tensors, config=CONFIG):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def source(tmp_path, tensors):
    return published(tmp_path / "source", tensors)


def flat(model):
    return {leaf.name: np.asarray(a) for leaf, a in paths.leaves(model.variables)}


def test_what_is_written_is_what_a_conversion_in_memory_gives(source, tmp_path):
    done = convert(source, tmp_path / "model")
    written, held = flat(Model.load(tmp_path / "model")), flat(plan_conversion(read_weights(source)).read())
    assert written.keys() == held.keys()
    assert all(written[n].tobytes() == held[n].tobytes() for n in held)
    described = checkpoint.describe(tmp_path / "model")
    assert described.checksums.keys() == described.leaves.keys()
    assert done.summary().startswith(f"resnet: {len(read_weights(source))} tensors became {len(held)} leaves")


def test_the_card_says_where_the_weights_came_from(source, tmp_path):
    convert(source, tmp_path / "model")
    told = Model.load(tmp_path / "model").card.provenance["converted"]
    assert told["source"] == "model.safetensors"
    assert told["sha256"] == read_weights(source).origin["sha256"]
    assert told["converter"].startswith("flaxtl ")
    assert told["family"] == "resnet"
    assert told["tensors"]["conv1.weight"] == "float32 64x3x7x7"


@pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_the_way_back_is_to_the_bit_under_the_source_names(tmp_path, tensors, prefix, dtype):
    given = {prefix + n: a.astype(dtype) if a.dtype == np.float32 else a for n, a in tensors.items()}
    torch_like = {n: a.view(np.uint16) if a.dtype == ml_dtypes.bfloat16 else a for n, a in given.items()}
    folder = published(tmp_path / "source", torch_like)
    if dtype is ml_dtypes.bfloat16:  # the package's own writer has no word for it
        content = (folder / "model.safetensors").read_bytes().replace(b'"U16"', b'"BF16"')
        length = int.from_bytes(content[:8], "little") + content.count(b'"BF16"')
        (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + content[8:])
    convert(folder, tmp_path / "model")
    done = export(tmp_path / "model", tmp_path / "back.safetensors")
    back = read_weights(tmp_path / "back.safetensors")
    assert done.tensors == len(given)
    assert done.notes == ()
    assert set(back) == set(given)
    for name, array in given.items():
        read = back[name].read()
        assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes()), name


def test_what_was_exported_opens_elsewhere(source, tmp_path, tensors):
    convert(source, tmp_path / "model")
    export(tmp_path / "model", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == tensors.keys()
    assert all(back[n].tobytes() == tensors[n].tobytes() for n in tensors)


def test_a_trained_head_goes_back_with_its_own_shape(source, tmp_path):
    convert(source, tmp_path / "model")
    Model.load(tmp_path / "model").with_head(["cat", "dog"], init="lecun_normal").save(tmp_path / "trained")
    done = export(tmp_path / "trained", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert back["fc.weight"].shape == (2, 48)
    assert back["fc.weight"].any()
    assert [note for note in done.notes if "fc.weight [2, 48]" not in note] == []


@pytest.mark.parametrize("temperature", [2.0, 0.3])
@pytest.mark.parametrize("bare", [False, True], ids=["with a head", "without"])
def test_an_exported_head_has_the_temperature_folded_in_and_says_so(bare, temperature, tmp_path, tensors):
    given = {n: a for n, a in tensors.items() if not (bare and n.startswith("fc."))}
    convert(published(tmp_path / "source", given), tmp_path / "model")
    model = Model.load(tmp_path / "model").with_head(["cat", "dog"], init="lecun_normal")
    model = dataclasses.replace(model, card=model.card.with_head(temperature=temperature))
    model.save(tmp_path / "trained")
    done = export(tmp_path / "trained", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    kernel = back["head/kernel"] if bare else back["fc.weight"].T
    assert np.array_equal(kernel, model.with_temperature_in_head().params["head"]["kernel"])
    assert f"temperature {temperature:g} is folded" in done.summary()
    assert done.same_logits
    with safe_open(tmp_path / "back.safetensors", "np") as file:
        assert json.loads(file.metadata()["flaxtl_notes"]) == list(done.notes)


@pytest.mark.parametrize(("normalise", "words"), [("rms", "root mean square"), ("root", "signed square root")])
def test_an_export_whose_logits_would_be_others_warns_in_its_output_and_in_the_file(source, tmp_path, normalise, words):
    convert(source, tmp_path / "model")
    model = Model.load(tmp_path / "model").with_head(["cat", "dog"], init="lecun_normal")
    dataclasses.replace(model, card=model.card.with_head(normalise=normalise)).save(tmp_path / "trained")
    done = export(tmp_path / "trained", tmp_path / "back.safetensors")
    assert not done.to_dict()["same_logits"]
    assert re.search(rf"Warning: .* other logits than the model.*{words}", done.summary())
    with safe_open(tmp_path / "back.safetensors", "np") as file:
        assert file.metadata()["flaxtl_same_logits"] == "false"
        assert words in file.metadata()["flaxtl_notes"]


def test_a_source_without_a_head_gets_ours_named(tmp_path, tensors):
    bare = {n: a for n, a in tensors.items() if not n.startswith("fc.")}
    convert(published(tmp_path / "source", bare), tmp_path / "model")
    export(tmp_path / "model", tmp_path / "same.safetensors")
    assert load_file(tmp_path / "same.safetensors").keys() == bare.keys()
    Model.load(tmp_path / "model").with_head(["cat", "dog"]).save(tmp_path / "trained")
    done = export(tmp_path / "trained", tmp_path / "back.safetensors")
    assert load_file(tmp_path / "back.safetensors").keys() - bare.keys() == {"head/kernel", "head/bias"}
    assert "no output layer" in done.notes[0]


def test_an_export_needs_a_conversion_and_a_free_place(source, tmp_path):
    with pytest.raises(CheckpointError, match="was not converted from published weights"):
        export(embedded("flaxtl:characters"), tmp_path / "x.safetensors")
    convert(source, tmp_path / "model")
    export(tmp_path / "model", tmp_path / "back.safetensors")
    with pytest.raises(CheckpointError, match="already exists"):
        export(tmp_path / "model", tmp_path / "back.safetensors")
    with pytest.raises(CheckpointError, match="could not be written"):
        export(tmp_path / "model", tmp_path / "absent" / "back.safetensors")
    (tmp_path / "model" / EXTRAS).unlink()
    done = export(tmp_path / "model", tmp_path / "back.safetensors", overwrite=True)
    assert "Left out, as nothing at inference reads them: bn1.num_batches_tracked" in done.notes[0]
    assert [f.name for f in tmp_path.glob(".*")] == []


def test_a_state_dict_of_torch_converts_alike(source, tmp_path, tensors):
    torch_files.write_state(tmp_path / "net.pth", tensors, lambda s: {"epoch": 1, "state_dict": s})
    convert(tmp_path / "net.pth", tmp_path / "from_pth")
    convert(source, tmp_path / "from_safetensors")
    one, other = flat(Model.load(tmp_path / "from_pth")), flat(Model.load(tmp_path / "from_safetensors"))
    assert all(one[n].tobytes() == other[n].tobytes() for n in other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("layer2.0.bn1.bias"), r"look like the family 'resnet'(.|\n)*layer2\.0\.bn1\.bias"),
        (lambda t: t.pop("conv1.weight"), r"look like the family 'resnet'(.|\n)*conv1\.weight"),
        (lambda t: t.update(extra=np.ones(2, np.float32)), r"Left over \(1\): extra"),
        (lambda t: t.update({"bn1.weight": np.ones(7, np.float32)}), r"bn1.weight \[7\] becomes \[7\]"),
        (lambda t: t.update({"bn1.bias": np.full(64, np.nan, np.float32)}), r"bn1\.bias holds NaN or infinity"),
        (lambda t: t.update({"fc.weight": np.ones((5, 48), np.int8)}), r"1 of the tensors are int8 \(fc\.weight\)"),
        (lambda t: t.update({"fc.bias": np.ones(5, np.int32)}), "fc.bias is int32, which is not supported"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, tensors, change, said):
    changed = dict(tensors)
    change(changed)
    with pytest.raises(CheckpointError, match=said):
        convert(published(tmp_path / "source", changed), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert [f.name for f in tmp_path.iterdir()] == ["source"]


def test_fp8_is_named(tmp_path, tensors):
    given = {**tensors, "fc.weight": np.ones((5, 48), np.uint8)}
    folder = published(tmp_path / "source", given)
    content = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little") + 5
    changed = content[8:].replace(b'"U8"', b'"F8_E4M3"')
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + changed)
    with pytest.raises(
        CheckpointError, match=r"float8_e4m3fn \(fc\.weight\): quantised weights are not supported unless"
    ):
        convert(folder, tmp_path / "model")


def test_unknown_weights_get_the_nearest_names(tmp_path):
    folder = published(tmp_path / "a", {"w": np.ones(2, np.float32)}, {"architecture": "resnet19"})
    with pytest.raises(CheckpointError, match=r"does not know the architecture 'resnet19'\. Did you mean 'resnet1"):
        convert(folder, tmp_path / "model")
    save_file({"w": np.ones(2, np.float32)}, tmp_path / "lone.safetensors")
    with pytest.raises(CheckpointError, match=r"of no family that flaxtl knows.*begin with w"):
        convert(tmp_path / "lone.safetensors", tmp_path / "model")


def test_a_text_network_without_its_tokenizer(tmp_path):
    with np.load(parity.FIXTURES / "bert_classifier.npz") as file:
        about = json.loads(str(file["about"]))
    given = {n: t.read() for n, t in ours.weights_of(about["tensors"], {}).items()}
    folder = published(tmp_path / "source", given, about["config"])
    with pytest.raises(CheckpointError, match=r"its tokenizer is missing: there is no tokenizer\.json"):
        convert(folder, tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json holds no tokenizer's model"):
        convert(folder, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\n")
    convert(folder, tmp_path / "model")
    written = json.loads((tmp_path / "model" / "tokenizer.json").read_text(encoding="utf-8"))
    assert written["model"]["vocab"]["cat"] == 5


def test_a_place_that_is_taken_is_left_alone(source, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("x")
    with pytest.raises(CheckpointError, match="already exists"):
        convert(source, tmp_path / "model")
    assert (tmp_path / "model" / "mine").read_text() == "x"
    convert(source, tmp_path / "model", overwrite=True)
    assert Model.load(tmp_path / "model")


def test_lazy_leaves_are_made_one_after_the_other(tmp_path):
    """At any time those that are made and not yet written are no larger than the largest."""
    struct = {n: np.zeros(n, np.float32) for n in (3, 200, 50, 100, 1)}
    order = []

    def make(leaf):
        order.append(int(leaf.path))
        return struct[int(leaf.path)] + 1

    leaves = {paths.Leaf("params", (str(n),)): orbax_io.jax.ShapeDtypeStruct((n,), "float32") for n in struct}
    leaves[paths.Leaf("params", ("0",))] = orbax_io.jax.ShapeDtypeStruct((0, 2), "float32")
    struct[0] = np.zeros((0, 2), np.float32)
    checkpoint.save_lazily(tmp_path / "x", leaves, make, metadata={"a": 1})
    assert sorted(order) == [0, 1, 3, 50, 100, 200]
    assert checkpoint.describe(tmp_path / "x").metadata == {"a": 1}
    read = checkpoint.load(tmp_path / "x")["params"]
    assert all(np.array_equal(read[str(n)], struct[n] + 1) for n in struct)


def test_a_leaf_that_cannot_be_made_leaves_nothing(tmp_path):
    def make(leaf):
        raise CheckpointError("no such tensor")

    leaves = {paths.Leaf("params", ("w",)): orbax_io.jax.ShapeDtypeStruct((2,), "float32")}
    with pytest.raises(CheckpointError, match="no such tensor"):
        checkpoint.save_lazily(tmp_path / "x", leaves, make)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", [(1, 0), (0, 1), (2, 3, 1, 0), (2, 1, 0), (0,), ()])
@pytest.mark.parametrize("size", [3, 300_000])
def test_a_copy_in_order_is_numpys(order, size):
    shape = {0: (), 1: (size,), 2: (size // 3, 3), 3: (size // 3, 3, 1), 4: (size // 6 + 1, 3, 2, 1)}[len(order)]
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float16).transpose(order)
    made = mapping.contiguous(array, np.float32)
    assert (made.shape, made.dtype, made.flags.c_contiguous) == (array.shape, np.float32, True)
    assert np.array_equal(made, array.astype(np.float32))


@pytest.mark.parametrize("values", [[1.0, 2.0], [], [np.nan, 1], [np.inf], [-np.inf, 3]])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_finite_is_what_numpy_says(values, dtype):
    array = np.array(values, dtype)
    assert is_finite(array) == bool(np.isfinite(array.astype(np.float32)).all())


def test_loading_a_file_converts_it_once(source, monkeypatch, tmp_path):
    first = load(source / "model.safetensors")
    kept = list((Path(orbax_io.os.environ["XDG_CACHE_HOME"]) / "flaxtl" / "converted").iterdir())
    assert len(kept) == 1
    import flaxtl.convert.loading as loading

    with monkeypatch.context() as patch:
        patch.setattr(loading, "plan_conversion", None)
        again = load(source)
    assert all(flat(first)[n].tobytes() == a.tobytes() for n, a in flat(again).items())
    # A damaged copy is noticed and made anew.
    for file in (kept[0] / "checkpoint").rglob("d/*"):
        file.write_bytes(bytes(file.stat().st_size))
    assert any("made anew" in note for note in load(source).notes)
    assert all(flat(first)[n].tobytes() == a.tobytes() for n, a in flat(load(source)).items())
    # Other settings beside the same tensors are another model.
    (source / "config.json").write_text(json.dumps({**CONFIG, "pretrained_cfg": {"input_size": [3, 32, 32]}}))
    assert load(source).card.input.size == (32, 32)


def test_loading_without_a_cache_that_can_be_written(source, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    model = load(source)
    assert any("was not kept in the cache" in note for note in model.notes)
    assert flat(model).keys() == flat(plan_conversion(read_weights(source)).read()).keys()


def test_urls_are_copied_first(source, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for file in source.iterdir():
        memory.pipe_file(f"/bucket/net/{file.name}", file.read_bytes())
    memory.pipe_file("/bucket/net/onnx/model.onnx", b"x" * 100)
    try:
        model = load("memory://bucket/net")
        assert model.card.provenance["converted"]["source"] == "memory://bucket/net"
        assert model.card.input.size == (64, 64)
        assert load("memory://bucket/net/model.safetensors").card.network == model.card.network
        model.save(tmp_path / "saved")
        for file in (tmp_path / "saved").rglob("*"):
            if file.is_file():
                memory.pipe_file(f"/bucket/own/{file.relative_to(tmp_path / 'saved').as_posix()}", file.read_bytes())
        assert flat(load("memory://bucket/own")).keys() == flat(model).keys()
        with pytest.raises(CheckpointError, match="nothing at memory://bucket/absent"):
            load("memory://bucket/absent")
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/x.safetensors", "needs the package s3fs to be read. Install it: pip install s3fs"),
        ("nothing://bucket/x", "cannot be read here"),
    ],
)
def test_urls_without_their_driver(url, said, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(CheckpointError, match=said):
        load(url)


def test_the_command_line_converts_explains_and_goes_back(source, tmp_path, capsys, tensors):
    out = tmp_path / "model"
    assert main(["convert", str(source), "--explain"]) == 0
    said = capsys.readouterr().out
    assert "OIHW → HWIO" in said
    assert "backbone/blocks_0/conv1/kernel" in said
    assert "counts batches" in said
    assert main(["convert", str(source), str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["family"], told["tensors"]) == ("resnet", len(tensors))
    assert told["leaves"] + len(told["not_needed"]) == len(tensors)
    assert main(["convert", str(source), str(out), "--explain", "--json", "--overwrite"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {n for row in told["table"] for n in row["sources"]} == set(tensors)
    assert main(["convert", str(out), str(tmp_path / "back.safetensors"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tensors"] == len(tensors)
    assert main(["inspect", str(out)]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "The source is missing"),
        (["SOURCE"], "The place to write to is missing"),
        (["SOURCE", "x.safetensors"], "a conversion writes a directory"),
        (["MODEL", "other"], "is a model of flaxtl already"),
        (["ABSENT", "other"], "There is nothing at"),
    ],
)
def test_the_command_line_says_what_is_wrong(source, tmp_path, capsys, words, said):
    convert(source, tmp_path / "model")
    places = {"SOURCE": source, "MODEL": tmp_path / "model", "ABSENT": tmp_path / "absent"}
    assert main(["convert", *(str(places.get(w, tmp_path / w)) for w in words)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


MEMORY = """
import sys
import numpy as np
from flaxtl.convert.converting import convert
convert(sys.argv[1], sys.argv[2])
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
def test_memory_stays_near_the_largest_tensor(tmp_path):
    """A file of 200 MB, of which no tensor is larger than 17 MB, in less than 2 × 17 + 300 MB."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
    try:
        from benchmark_convert import write_vit
    finally:
        sys.path.pop(0)
    file, largest = write_vit(tmp_path / "big", 200_000_000)
    command = [sys.executable, "-c", MEMORY, str(file), str(tmp_path / "model")]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024
    assert file.stat().st_size > 190e6
    assert peak <= 2 * largest + 300e6, f"{peak:,} bytes at most in memory; the largest tensor has {largest:,}"
