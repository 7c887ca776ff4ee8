"""Every form in which weights are published opens, tensor by tensor; damaged and foreign files get a sentence."""

import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch_files
from flax import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import save_file

from flaxtl import checkpoint
from flaxtl.convert.readers import read_weights
from flaxtl.convert.readers.torch_file import unwrapped
from flaxtl.errors import CheckpointError

RECORDED = Path(__file__).parent / "fixtures" / "torch"
ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.array([0.5, -1], np.float16),
    "count": np.array(7, np.int64),
}


def same(weights, arrays):
    assert set(weights) == set(arrays)
    for name, array in arrays.items():
        read = weights[name].read()
        assert weights[name].shape == read.shape == array.shape, name
        assert weights[name].dtype == read.dtype == array.dtype, name
        assert read.tobytes() == array.tobytes(), name


def write_safetensors(file, tensors, *, change=None, cut=0):
    """Writes a file by hand: tensors are (kind, shape, bytes)."""
    header, blob = {}, b""
    for name, (kind, shape, content) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(blob), len(blob) + len(content)]}
        blob += content
    if change:
        change(header)
    text = json.dumps(header).encode()
    whole = struct.pack("<Q", len(text)) + text + blob
    file.write_bytes(whole[: len(whole) - cut])
    return file


def test_safetensors_come_back_as_they_were_saved(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    weights = read_weights(tmp_path / "model.safetensors")
    same(weights, ARRAYS)
    assert weights.origin["source"] == "model.safetensors"
    assert len(weights.origin["sha256"]["model.safetensors"]) == 64


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda n: n != "__metadata__" and n.isprintable()),
        arrays_of.arrays(
            st.sampled_from([np.float32, np.float16, np.int64, np.uint8, np.bool_]),
            arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_safetensors_of_any_names_shapes_and_dtypes(tmp_path_factory, arrays):
    file = tmp_path_factory.mktemp("any") / "x.safetensors"
    save_file({n: np.ascontiguousarray(a).reshape(a.shape) for n, a in arrays.items()}, file)
    same(read_weights(file), arrays)


def test_safetensors_of_kinds_that_numpy_does_not_have(tmp_path):
    wide = np.array([1.5, -2.0, 0.0], np.float32)
    halves = wide.astype(ml_dtypes.bfloat16)
    bytes_ = wide.astype(ml_dtypes.float8_e4m3fn)
    file = write_safetensors(
        tmp_path / "x.safetensors", {"b": ("BF16", [3], halves.tobytes()), "f": ("F8_E4M3", [3], bytes_.tobytes())}
    )
    weights = read_weights(file)
    assert [weights[n].dtype.name for n in "bf"] == ["bfloat16", "float8_e4m3fn"]
    assert all(np.array_equal(weights[n].read().astype(np.float32), wide) for n in "bf")


def _set(name, key, value):
    return lambda header: header[name].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "cut", "said"),
    [
        (None, 3, "take 8 bytes and 5 follow"),
        (_set("a", "data_offsets", [0, 400]), 0, "takes 400 bytes"),
        (_set("a", "data_offsets", [4, 8]), 0, "leave a hole"),
        (_set("b", "data_offsets", [0, 4]), 0, "overlap"),
        (_set("a", "shape", [-1]), 0, "does not say where"),
        (_set("a", "shape", [2]), 0, "takes 4 bytes"),
        (_set("a", "shape", "1"), 0, "does not say where"),
        (_set("a", "dtype", "I3"), 0, "of the kind 'I3'"),
        (lambda header: header.__setitem__("a", 3), 0, "does not say where"),
    ],
)
def test_a_safetensors_file_that_is_not_what_it_says(tmp_path, change, cut, said):
    numbers = {"a": ("F32", [1], bytes(4)), "b": ("F32", [1], bytes(4))}
    with pytest.raises(CheckpointError, match=said):
        read_weights(write_safetensors(tmp_path / "x.safetensors", numbers, change=change, cut=cut))


@pytest.mark.parametrize(
    "content",
    [b"\x01", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 9) + b'{"a": 1,}', struct.pack("<Q", 2) + b"[]"],
)
def test_a_header_that_cannot_be_read(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or was cut off"):
        read_weights(tmp_path / "x.safetensors")


def test_a_name_that_occurs_twice(tmp_path):
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    text = f'{{"a":{entry},"a":{entry}}}'.encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with pytest.raises(CheckpointError, match="occurs twice"):
        read_weights(tmp_path / "x.safetensors")


def sharded(folder, ending="safetensors", stem="model"):
    parts = [{"a.weight": ARRAYS["a.weight"]}, {n: ARRAYS[n] for n in ("a.bias", "count")}]
    table = {}
    for number, part in enumerate(parts, 1):
        file = folder / f"{stem}-0000{number}-of-00002.{ending}"
        save_file(part, file) if ending == "safetensors" else torch_files.write_state(file, part)
        table |= dict.fromkeys(part, file.name)
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))


@pytest.mark.parametrize(("ending", "stem"), [("safetensors", "model"), ("bin", "pytorch_model")])
def test_parts_are_read_by_their_index(tmp_path, ending, stem):
    sharded(tmp_path, ending, stem)
    for place in (tmp_path, tmp_path / f"{stem}.{ending}.index.json", tmp_path / f"{stem}-00002-of-00002.{ending}"):
        weights = read_weights(place)
        same(weights, ARRAYS)
        assert len(weights.origin["sha256"]) == 2


def test_an_index_that_names_an_absent_part(tmp_path):
    sharded(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names model-00002-of-00002\.safetensors, which is not beside it"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"a": "../model.safetensors"}, r"names \.\./model\.safetensors"),
        ({"zzz": "model-00001-of-00002.safetensors"}, "zzz would be in the files beside it"),
        ([1], "has no weight_map"),
    ],
)
def test_an_index_that_cannot_be_followed(tmp_path, table, said):
    sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    with pytest.raises(CheckpointError, match=said):
        read_weights(tmp_path)


@pytest.mark.parametrize("name", ["tensors.pth", "tensors.th"])
def test_what_torch_itself_wrote(name):
    weights = read_weights(RECORDED / name)
    with np.load(RECORDED / "tensors.npz") as file:
        wanted = {n: file[n] for n in file.files}
    wanted["bfloat"] = wanted["bfloat"].astype(ml_dtypes.bfloat16)
    same(weights, wanted)
    assert weights.notes[0].startswith("The tensors lie under 'state_dict'")


def test_files_of_torch_open_without_torch():
    code = f"""
import sys
sys.modules["torch"] = None
from flaxtl.convert.readers import read_weights
print(read_weights({str(RECORDED / "tensors.pth")!r})["whole"].read().shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(4, 6)"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_files_written_by_hand(tmp_path, compression):
    torch_files.write_state(tmp_path / "x.pth", ARRAYS, compression=compression)
    same(read_weights(tmp_path / "x.pth"), ARRAYS)


def test_numbers_of_the_other_byte_order(tmp_path):
    swapped = {"a": np.arange(3, dtype=">f4")}
    torch_files.write_state(tmp_path / "x.pth", swapped, order="big")
    same(read_weights(tmp_path / "x.pth"), {"a": np.arange(3, dtype=np.float32)})


def test_views_of_one_storage(tmp_path):
    base = np.arange(24, dtype=np.float32)
    state = {
        "turned": torch_files.tensor("0", base, shape=(6, 4), strides=(1, 6)),
        "part": torch_files.tensor("0", base, offset=5, shape=(2, 3), strides=(7, 2)),
        "one": torch_files.tensor("0", base, offset=23, shape=(), strides=()),
        "none": torch_files.tensor("0", base, offset=24, shape=(0, 2), strides=(2, 1)),
    }
    wanted = {
        "turned": base.reshape(4, 6).T,
        "part": np.array([[5, 7, 9], [12, 14, 16]], np.float32),
        "one": base[23],
        "none": np.zeros((0, 2), np.float32),
    }
    torch_files.write_zip(tmp_path / "x.pth", state, {"0": base})
    same(read_weights(tmp_path / "x.pth"), {n: np.asarray(a) for n, a in wanted.items()})
    torch_files.write_legacy(tmp_path / "x.th", state, {"0": base})
    same(read_weights(tmp_path / "x.th"), {n: np.asarray(a) for n, a in wanted.items()})


def test_a_legacy_storage_that_is_part_of_another(tmp_path):
    base = np.arange(10, dtype=np.float32)
    state = {"a": torch_files.tensor("0", base, view=(("1", 4, 3),), shape=(3,), strides=(1,))}
    torch_files.write_legacy(tmp_path / "x.th", state, {"0": base})
    same(read_weights(tmp_path / "x.th"), {"a": base[4:7]})


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda s: {"model": s}, "The tensors lie under 'model'."),
        (lambda s: {"epoch": 1, "state_dict": s, "optimizer": {"lr": 0.1}}, "beside it there are epoch, optimizer"),
        (lambda s: {"model": s, "model_ema": s}, "lie under 'model_ema'; beside it there are model."),
        (lambda s: {"model_state": {"state_dict": s}}, "lie under 'model_state'"),
        (lambda s: {"my_net": s, "args": None}, "lie under 'my_net'"),
    ],
)
def test_dictionaries_around_the_tensors(tmp_path, wrap, note):
    torch_files.write_state(tmp_path / "x.pth", ARRAYS, wrap)
    weights = read_weights(tmp_path / "x.pth")
    same(weights, ARRAYS)
    assert note in weights.notes[0]


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda s: {"generator": s, "critic": s}, "several dictionaries of tensors, 'generator', 'critic'"),
        (lambda s: s["a.weight"], "one tensor without a name"),
        (lambda s: list(s.values()), "no tensors by name"),
        (lambda s: {"epoch": 3}, "no tensors by name"),
    ],
)
def test_no_telling_which_tensors_are_meant(tmp_path, wrap, said):
    torch_files.write_state(tmp_path / "x.pth", ARRAYS, wrap)
    with pytest.raises(CheckpointError, match=said):
        read_weights(tmp_path / "x.pth")


def test_unwrapping_ends():
    nested: dict = {}
    nested["model"] = nested
    with pytest.raises(CheckpointError, match="no tensors by name"):
        unwrapped(nested, Path("x.pth"))


def test_a_changed_byte_in_a_zip_is_noticed(tmp_path):
    numbers = {"a": np.arange(1000, dtype=np.float32)}
    torch_files.write_state(tmp_path / "x.pth", numbers)
    content = bytearray((tmp_path / "x.pth").read_bytes())
    content[content.index(numbers["a"].tobytes()) + 2000] ^= 1
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="does not have the checksum"):
        read_weights(tmp_path / "x.pth")["a"].read()


@pytest.mark.parametrize("name", ["tensors.pth", "tensors.th", "tensors.npz"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_files_that_were_cut_off(tmp_path, name, share):
    content = (RECORDED / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="damaged or was cut off"):
        read_weights(tmp_path / name)


def test_npz_is_read_array_by_array(tmp_path):
    np.savez(tmp_path / "x.npz", **{"Transformer/norm/scale": np.ones(3, np.float32), "n": np.array(2)})
    same(read_weights(tmp_path / "x.npz"), {"Transformer/norm/scale": np.ones(3, np.float32), "n": np.array(2)})


def test_bfloat16_in_npz_is_two_bytes_of_no_kind(tmp_path):
    halves = np.array([1.5, -2], ml_dtypes.bfloat16)
    np.savez(tmp_path / "x.npz", a=halves.view("V2"))
    same(read_weights(tmp_path / "x.npz"), {"a": halves})


def test_flax_msgpack_is_named_by_its_keys(tmp_path):
    tree = {"encoder": {"kernel": np.ones((2, 2), np.float32), "half": np.ones(2, ml_dtypes.bfloat16)}, "step": 3}
    (tmp_path / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(tree))
    weights = read_weights(tmp_path)
    same(weights, {"encoder/kernel": tree["encoder"]["kernel"], "encoder/half": tree["encoder"]["half"]})
    (tmp_path / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(tree)[:-9])
    with pytest.raises(CheckpointError, match="flax"):
        read_weights(tmp_path)


def test_an_orbax_tree_is_named_by_its_keys(tmp_path):
    tree = {"params": {"w": np.ones(3, np.float32)}, "batch_stats": {"m": np.zeros(2, np.float32)}}
    checkpoint.save(tmp_path / "tree", tree)
    weights = read_weights(tmp_path / "tree")
    same(weights, {"params/w": tree["params"]["w"], "batch_stats/m": tree["batch_stats"]["m"]})
    checkpoint.save(tmp_path / "tree", {"params": {"w": np.zeros(3, np.float32)}}, overwrite=True)
    assert read_weights(tmp_path / "tree").origin != weights.origin


def test_keras_files_need_h5py(tmp_path, monkeypatch):
    (tmp_path / "x.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(CheckpointError, match=r"needs the package h5py. Install it: pip install 'flaxtl\[h5\]'"):
        read_weights(tmp_path / "x.weights.h5")


def test_keras_files_are_named_by_their_places(tmp_path):
    h5py = pytest.importorskip("h5py")
    kernel = np.ones((2, 3), np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["model_weights/conv1/conv1/kernel:0"] = kernel
        file["optimizer_weights/m:0"] = kernel
        file["link"] = h5py.ExternalLink("other.h5", "/x")
    same(read_weights(tmp_path / "x.h5"), {"conv1/conv1/kernel": kernel})
    (tmp_path / "x.h5").write_bytes((tmp_path / "x.h5").read_bytes()[:900])
    with pytest.raises(CheckpointError, match="damaged or was cut off"):
        read_weights(tmp_path / "x.h5")


def test_a_keras_data_set_in_another_file_is_not_opened(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(16))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)])
    with pytest.raises(CheckpointError, match="lies in another file"):
        read_weights(tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.safetensors", b"", "is empty"),
        ("x.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
        ("x.bin", b"<!DOCTYPE html><html>", "is a web page"),
        ("x.bin", b"GGUF" + bytes(60), "GGUF file of quantised weights"),
        ("x.bin", bytes(4) + b"TFL3" + bytes(60), "TensorFlow Lite"),
        ("x.npy", b"\x93NUMPY" + bytes(60), "Save named arrays"),
        ("x.onnx", bytes(60), "no kind of file that flaxtl reads weights from"),
        ("x.pth", b"PK\x05\x06" + bytes(18), "without data.pkl"),
    ],
)
def test_foreign_files_get_a_sentence(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        read_weights(tmp_path / name)


def test_torchscript_is_a_program(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/net.py"):
            archive.writestr(f"x/{name}", b"")
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_weights(tmp_path / "x.pt")


def test_a_folder_is_searched_in_a_fixed_order(tmp_path):
    with pytest.raises(CheckpointError, match=f"nothing at {tmp_path / 'absent'}"):
        read_weights(tmp_path / "absent")
    with pytest.raises(
        CheckpointError, match=r"no card\.json, as .* has, and no weights that flaxtl reads, but nothing at all"
    ):
        read_weights(tmp_path)
    np.savez(tmp_path / "reference.npz", x=np.ones(1))
    torch_files.write_state(tmp_path / "pytorch_model.bin", ARRAYS)
    assert read_weights(tmp_path).origin["source"] == "pytorch_model.bin"
    save_file(ARRAYS, tmp_path / "open_clip.safetensors")
    save_file(ARRAYS, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"several files of weights, open_clip.safetensors, other.safetensors"):
        read_weights(tmp_path)
    save_file(ARRAYS, tmp_path / "model.safetensors")
    assert read_weights(tmp_path).origin["source"] == "model.safetensors"


def test_what_lies_beside_the_weights_comes_with_them(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"a": 1}')
    assert set(read_weights(tmp_path).files) == set()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "preprocessor_config.json").write_text('{"size": 3}')
    weights = read_weights(tmp_path)
    assert set(weights.files) == {"config.json", "preprocessor_config.json", "1_Pooling/config.json"}
    assert (weights.config, weights.preprocessor) == ({"model_type": "bert"}, {"size": 3})
    for wrong in ("{", "[1]"):
        (tmp_path / "config.json").write_text(wrong)
        with pytest.raises(CheckpointError, match=r"config\.json is damaged or was cut off"):
            read_weights(tmp_path)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("kwt1_speech_commands", 171),
        ("minilm_l6_v2", 104),
        ("mobilenet_v2_imagenet", 314),
        ("resnet20_cifar10", 97),
        ("resnet56_cifar10", 277),
        ("yamnet_audioset", 56),
    ],
)
def test_real_files_open(shared, name, count):
    weights = read_weights(shared / "weights" / name)
    assert len(weights) == count
    for tensor in weights.values():
        array = tensor.read()
        assert (array.shape, array.dtype) == (tensor.shape, tensor.dtype)
        assert np.isfinite(array).all()


def sentence_encoder_of(root, network, pooling="1_Pooling"):
    """A folder of sentence-transformers whose network and pooling lie in folders that modules.json names."""
    modules = [{"path": network, "type": "st.Transformer"}, {"path": pooling, "type": "st.Pooling"}]
    (root / network).mkdir(parents=True)
    (root / pooling).mkdir(parents=True)
    (root / "modules.json").write_text(json.dumps(modules))
    (root / pooling / "config.json").write_text('{"pooling_mode": "cls"}')
    (root / network / "config.json").write_text('{"model_type": "bert"}')
    save_file({"a": np.zeros(2, np.float32)}, root / network / "model.safetensors")
    return root


@pytest.mark.parametrize("network", ["0_Transformer", "0_BERT", ""])
@pytest.mark.parametrize("pooling", ["1_Pooling", "parts/pool"])
def test_a_sentence_encoder_is_read_with_its_modules_wherever_its_network_lies(tmp_path, network, pooling):
    root = sentence_encoder_of(tmp_path / "encoder", network, pooling)
    for place in (root, root / network, root / network / "model.safetensors"):
        weights = read_weights(place)
        assert weights.config == {"model_type": "bert"}
        assert {"modules.json", f"{pooling}/config.json"} <= set(weights.files)


@pytest.mark.parametrize("text", ["[", '{"a": 1}', '[1, {"path": "../other"}, {"path": null}, {"path": "/"}]'])
def test_modules_that_are_no_list_of_folders_beside_weights_lead_nowhere(tmp_path, text):
    root = sentence_encoder_of(tmp_path / "encoder", "")
    (tmp_path / "other").mkdir()
    (root / "modules.json").write_text(text)
    assert not any("other" in name for name in read_weights(root).files)
