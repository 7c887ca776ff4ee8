"""Pickles that were made to run something do not, in either of torch's forms."""

import base64
import os
import pickle
import struct
import subprocess
import zipfile

import numpy as np
import pytest
import torch_files
from torch_files import Call, Name, Persistent, body, pickled

from flaxtl.convert.readers import pickled as reader
from flaxtl.convert.readers import read_weights
from flaxtl.errors import CheckpointError

ONES = np.ones(3, np.float32)


class _Runs:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.told = (function, arguments)

    def __reduce__(self):
        return self.told


def real_payloads(mark):
    """What attackers write: pickles of Python's own pickler that would leave a file behind."""
    code = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system": _Runs(os.system, f"touch {mark}"),
        "builtins.eval": _Runs(eval, code),
        "builtins.exec": _Runs(exec, code),
        "subprocess.Popen": _Runs(subprocess.Popen, ["touch", str(mark)]),
        "builtins.getattr": _Runs(getattr, _Runs(__import__, "os"), "system"),
        "pickle.loads": _Runs(pickle.loads, pickle.dumps(_Runs(os.system, f"touch {mark}"))),
        "builtins.map": {"state_dict": {"w": [_Runs(map, _Runs(eval, "print"), [1])]}},
    }


def forms(tmp_path, content):
    """Writes a pickle into each form that could carry it."""
    torch_files.write_zip(tmp_path / "x.pth", content, {"0": ONES})
    torch_files.write_zip(tmp_path / "deflated.pt", content, {"0": ONES}, compression=zipfile.ZIP_DEFLATED)
    torch_files.write_legacy(tmp_path / "x.th", content, {"0": ONES})
    (tmp_path / "bare.pth").write_bytes(content)
    return [tmp_path / name for name in ("x.pth", "deflated.pt", "x.th", "bare.pth")]


@pytest.mark.parametrize("name", real_payloads("x"))
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_payloads_do_not_run(tmp_path, name, protocol):
    mark = tmp_path / "mark"
    content = pickle.dumps({"w": real_payloads(mark)[name]}, protocol)
    first = {"os.system": "posix.system", "builtins.getattr": "getattr|__import__|bytearray"}.get(name, "")
    for file in forms(tmp_path, content):
        with pytest.raises(CheckpointError, match=r"refused|damaged") as raised:
            read_weights(file)
        assert "nothing of it was run" in str(raised.value) or protocol == 0
        assert not first or protocol == 0 or any(word in str(raised.value) for word in first.split("|"))
        assert not mark.exists()


def test_payloads_would_run_if_they_were_loaded(tmp_path):
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(real_payloads(mark)["os.system"]))
    assert mark.exists()


EVAL = Name("builtins", "eval")
RAW = {
    "a global that is only named": (pickled({"w": EVAL}), r"names builtins\.eval"),
    "a global after the tensors": (pickled({"w": torch_files.tensor("0", ONES), "x": EVAL}), r"builtins\.eval"),
    "a call within a tensor": (
        pickled({"w": Call(Name("torch._utils", "_rebuild_tensor_v2"), (Call(EVAL, ("1",)), 0, (1,), (1,)))}),
        r"builtins\.eval",
    ),
    "INST": (b"(S'touch x'\nios\nsystem\n.", r"os\.system"),
    "INST of what is known": (b"(icollections\nOrderedDict\n.", "instruction INST"),
    "OBJ": (b"\x80\x02(" + body(EVAL) + body("1") + b"o.", r"builtins\.eval"),
    "OBJ of what is known": (b"\x80\x02(" + body(Name("collections", "OrderedDict")) + b"o.", "instruction OBJ"),
    "STACK_GLOBAL": (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.", r"os\.system"),
    "a dotted name": (b"\x80\x04\x8c\x05torch\x8c\x10_utils.os.system\x93.", r"torch\._utils\.os\.system"),
    "a registered extension": (b"\x80\x02\x82\x01.", "instruction EXT1"),
    "a buffer from outside": (b"\x80\x05\x97.", "instruction NEXT_BUFFER"),
    "a call of a text": (b"\x80\x02" + body("x") + body(()) + b"R.", "calls what is no function"),
    "a call of a storage type": (
        b"\x80\x02" + body(Name("torch", "FloatStorage")) + b")R.",
        "calls what is no function",
    ),
    "attributes of a list": (b"\x80\x02]" + body({"__class__": 1}) + b"b.", "given to what has none"),
    "attributes of a storage type": (
        b"\x80\x02" + body(Name("torch", "FloatStorage")) + b"}b.",
        "given to what has none",
    ),
    "a persistent id of text": (pickled({"w": Persistent("os.system")}), "no storage of numbers"),
    "a persistent id of protocol 0": (b"Pos.system\n.", "no storage of numbers"),
    "a module with its source": (pickled(Persistent(("module", "Net", "net.py", "import os"))), "whole pickled module"),
    "a storage of no known type": (
        pickled({"w": Persistent(("storage", "FloatStorage", "0", "cpu", 3))}),
        "not described as PyTorch does",
    ),
    "a storage of impossible size": (
        pickled({"w": Persistent(("storage", Name("torch", "FloatStorage"), "0", "cpu", -3))}),
        "impossible size",
    ),
    "a whole module": (
        pickled({"model": Call(Name("__main__", "Net"), ({"_parameters": {}, "_modules": {}},))}),
        r"whole pickled module \(__main__\.Net\).*save its state dict",
    ),
    "a whole module of torch": (pickled(Name("torch.nn.modules.linear", "Linear")), "whole pickled module"),
    "quantised tensors": (pickled(Name("torch._utils", "_rebuild_qtensor")), "Dequantise them"),
    "no end": (b"\x80\x02}", "pickle"),
    "an empty stack": (b"\x80\x020.", "pickle cannot be read"),
    "a missing mark": (b"\x80\x02u.", "pickle cannot be read"),
    "an unknown place in memory": (b"\x80\x02h\x09.", "pickle cannot be read"),
    "a key that is a tuple": (b"\x80\x02})" + b"\x85" * 5 + b"Ns.", "neither text nor number"),
    "a text longer than the file": (b"\x80\x02X" + struct.pack("<I", 2**31) + b"abc.", "pickle cannot be read"),
}


@pytest.mark.parametrize("name", RAW)
def test_instructions_that_no_honest_file_has(tmp_path, name):
    content, said = RAW[name]
    for file in forms(tmp_path, content)[:3]:
        with pytest.raises(CheckpointError, match=said):
            read_weights(file)


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 1},
        {"shape": (4,)},
        {"shape": (2,), "strides": (3,)},
        {"shape": (-3,), "strides": (1,)},
        {"shape": (3,), "strides": (1, 1)},
        {"shape": (2,), "strides": (-1,)},
        {"shape": ("3",), "strides": (1,)},
        {"shape": (2**31 - 1, 2**31 - 1, 2**31 - 1), "strides": (2**31 - 1, 1, 1)},
    ],
)
def test_a_tensor_reaches_no_bytes_beyond_its_storage(tmp_path, change):
    state = {"w": torch_files.tensor("0", ONES, **change)}
    torch_files.write_zip(tmp_path / "x.pth", state, {"0": ONES})
    with pytest.raises(CheckpointError, match="pickle cannot be read"):
        read_weights(tmp_path / "x.pth")


def test_a_storage_that_is_shorter_than_it_says(tmp_path):
    state = {"w": torch_files.tensor("0", ONES)}
    torch_files.write_zip(tmp_path / "x.pth", state, {"0": ONES[:2]})
    torch_files.write_zip(tmp_path / "y.pth", state, {"1": ONES})
    torch_files.write_legacy(tmp_path / "x.th", state, {"0": ONES[:2]})
    torch_files.write_legacy(tmp_path / "y.th", state, {"1": ONES})
    for name in ("x.pth", "y.pth", "x.th", "y.th"):
        with pytest.raises(CheckpointError, match=r"not all there|belongs to no tensor"):
            read_weights(tmp_path / name)


def test_a_deeply_nested_pickle_does_not_overflow_the_stack(tmp_path):
    deep = b"\x80\x02)" + b"\x85" * 200_000 + b"."
    torch_files.write_zip(tmp_path / "x.pth", deep, {})
    with pytest.raises(CheckpointError, match="no tensors by name"):
        read_weights(tmp_path / "x.pth")


def test_attributes_of_a_state_dict_are_dropped(tmp_path):
    ordered = body(Call(Name("collections", "OrderedDict"), ()))
    inside = body("w") + body(torch_files.tensor("0", ONES)) + b"s" + body({"items": "x", "_metadata": {}}) + b"b"
    torch_files.write_zip(tmp_path / "x.pth", b"\x80\x02" + ordered + inside + b".", {"0": ONES})
    assert np.array_equal(read_weights(tmp_path / "x.pth")["w"].read(), ONES)


def test_the_reader_resolves_no_name_of_python():
    """Whatever the table of names gives, it is one of the reader's own functions or a dtype."""
    assert all(f.__module__ == reader.__name__ for f in reader._CALLABLE)
    assert all(isinstance(v, np.dtype) for v in reader._VALUES.values())


def test_pickled_arrays_in_npz_are_not_opened(tmp_path):
    mark = tmp_path / "mark"
    np.savez(tmp_path / "x.npz", a=np.array([_Runs(os.system, f"touch {mark}")], object), b=np.ones(1))
    with pytest.raises(CheckpointError, match=r"'a' of .* is a pickled Python object"):
        read_weights(tmp_path / "x.npz")
    np.save(tmp_path / "x.npy", np.array([_Runs(os.system, f"touch {mark}")], object), allow_pickle=True)
    with pytest.raises(CheckpointError, match="Save named arrays"):
        read_weights(tmp_path / "x.npy")
    assert not mark.exists()


def test_a_pickle_of_another_program(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"w": [1.0, 2.0]}))
    with pytest.raises(CheckpointError, match=r"torch\.save did not write"):
        read_weights(tmp_path / "x.pkl")
    (tmp_path / "x.pth").write_bytes(base64.b64encode(b"not at all"))
    with pytest.raises(CheckpointError, match="pickle cannot be read"):
        read_weights(tmp_path / "x.pth")
