"""Writes what torch.save writes, without torch, by hand; and pickles that no honest program writes."""

import dataclasses
import io
import struct
import zipfile

import numpy as np

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


@dataclasses.dataclass(frozen=True)
class Name:
    """A global: module and name."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True)
class Call:
    """A function's name and its arguments."""

    function: Name
    arguments: tuple


@dataclasses.dataclass(frozen=True)
class Attributes:
    """An object of a class, with attributes by name."""

    kind: Name
    values: dict


@dataclasses.dataclass(frozen=True)
class Persistent:
    """A persistent id."""

    told: object


def body(value):
    """Returns the instructions that build a value, of protocol 2."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(body, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(body, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(body(k) + body(v) for k, v in value.items()) + b"u"
    if isinstance(value, Name):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return body(value.function) + body(value.arguments) + b"R"
    if isinstance(value, Attributes):
        return body(value.kind) + b")\x81" + body(value.values) + b"b"
    assert isinstance(value, Persistent)
    return body(value.told) + b"Q"


def pickled(value):
    """Returns a whole pickle."""
    return b"\x80\x02" + body(value) + b"."


def tensor(key, array, *, view=None, offset=0, shape=None, strides=None):
    """Returns a tensor of a state dict, whose numbers lie in the storage `key`."""
    kind = STORAGES[array.dtype.name]
    told = ("storage", Name("torch", kind), key, "cpu", array.size, *(() if view is None else view))
    shape = array.shape if shape is None else shape
    strides = tuple(s // array.itemsize for s in array.strides) if strides is None else strides
    arguments = (
        Persistent(told),
        offset,
        tuple(shape),
        tuple(strides),
        False,
        Call(Name("collections", "OrderedDict"), ()),
    )
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), arguments)


def write_zip(file, value, storages, *, order="little", compression=zipfile.ZIP_STORED, root="archive"):
    """Writes the zip form: a value with tensors, and their storages by key."""
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", value if isinstance(value, bytes) else pickled(value))
        archive.writestr(f"{root}/byteorder", order)
        for key, array in storages.items():
            archive.writestr(f"{root}/data/{key}", np.ascontiguousarray(array).tobytes())


def write_state(file, arrays, wrap=lambda state: state, **options):
    """Writes arrays as a state dict in the zip form."""
    state = {name: tensor(str(i), array) for i, (name, array) in enumerate(arrays.items())}
    storages = {str(i): array for i, array in enumerate(arrays.values())}
    write_zip(file, wrap(state), storages, **options)


def write_legacy(file, value, storages):
    """Writes the legacy form."""
    out = io.BytesIO()
    magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    out.write(magic + pickled(1001) + pickled({"little_endian": True}))
    out.write((value if isinstance(value, bytes) else pickled(value)) + pickled(list(storages)))
    for array in storages.values():
        out.write(struct.pack("<q", array.size) + np.ascontiguousarray(array).tobytes())
    file.write_bytes(out.getvalue())
