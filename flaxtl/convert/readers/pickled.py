"""Pickles of PyTorch as data: a machine that knows tensors, plain containers, and nothing else.

A pickle is a program. Python's own reader runs whatever functions it names; this one has no functions to run: a name is
one of the few below, or the file is refused by that name before anything after it is looked at.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flaxtl.convert.readers.slices import cut_off
from flaxtl.convert.readers.torch_tensors import BYTES, DTYPES, STORAGES, Storage, StridedTensor
from flaxtl.errors import CheckpointError

# Modules whose functions no file of weights has a use for.
_DANGEROUS = (
    *("os", "posix", "nt", "sys", "subprocess", "builtins", "__builtin__", "shutil", "socket", "runpy", "pty"),
    *(
        "importlib",
        "ctypes",
        "pickle",
        "code",
        "webbrowser",
        "http",
        "urllib",
        "asyncio",
        "multiprocessing",
        "commands",
    ),
)
_HOSTILE = ". It may have been made to run commands on your machine; nothing of it was run. Do not open it elsewhere."
_TENSORS_ALONE = (
    "; nothing of it was run. Save the tensors alone, as safetensors or in PyTorch with "
    "torch.save(model.state_dict(), 'weights.pth')."
)
_MARK = object()
_KEYS = (str, int, float, bytes, type(None))


class Ordered(dict):
    """What an OrderedDict of the file becomes; attributes that it had, such as _metadata, are dropped."""

    __slots__ = ()


class Attributes(dict):
    """What an object that only holds settings becomes: its attributes by name."""

    __slots__ = ()


def _attributes(*_: Any) -> Attributes:
    return Attributes()


def _path(*parts: Any) -> str:
    return "/".join(str(part) for part in parts)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StridedTensor:
    return StridedTensor(storage, storage.dtype, offset, shape, strides)


def _typed_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Any:
    return StridedTensor(storage, np.dtype(dtype), offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, StridedTensor):
        raise ValueError("a parameter is no tensor")
    return data


def _ordered(pairs: Any = ()) -> Ordered:
    found = Ordered()
    for key, value in pairs:
        _put(found, key, value)
    return found


def _set(items: Any = ()) -> list[Any]:
    return list(items)


def _size(items: Any = ()) -> tuple[Any, ...]:
    return tuple(items)


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch", "Size"): _size,
    ("collections", "OrderedDict"): _ordered,
    # Arguments of a training program, which lie beside the tensors in its checkpoints.
    ("argparse", "Namespace"): _attributes,
    ("types", "SimpleNamespace"): _attributes,
    ("lightning_fabric.utilities.data", "AttributeDict"): _attributes,
    ("lightning.fabric.utilities.data", "AttributeDict"): _attributes,
    ("pytorch_lightning.utilities.parsing", "AttributeDict"): _attributes,
    **{("pathlib", f"{kind}Path"): _path for kind in ("Posix", "Windows", "PurePosix", "PureWindows")},
    ("torch", "device"): _path,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("builtins", "frozenset"): _set,
    ("__builtin__", "frozenset"): _set,
}
_CALLABLE = frozenset(_FUNCTIONS.values())
_VALUES: dict[tuple[str, str], np.dtype[Any]] = {
    **{("torch", name): dtype for name, dtype in {**STORAGES, **DTYPES}.items()},
    ("torch.storage", "UntypedStorage"): BYTES,
    ("torch", "UntypedStorage"): BYTES,
}


def _put(target: Any, key: Any, value: Any) -> None:
    # A tuple nested deep enough would overflow the stack when it is hashed.
    if not isinstance(target, dict) or not isinstance(key, _KEYS):
        raise ValueError("a dictionary's key is neither text nor number")
    target[key] = value


class _Machine:
    """Goes through one pickle's instructions."""

    def __init__(self, path: Path, whole_module: Callable[[], bool]) -> None:
        self.path = path
        self.whole_module = whole_module
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _LITERALS:
                self.stack.append(argument)
            elif name == "STOP":
                return self.stack.pop()
            elif name in _KNOWN:
                getattr(self, f"do_{name.lower()}")(argument)
            else:
                self.unknown(name)
        raise ValueError("it has no end")

    def unknown(self, name: Any) -> None:
        raise CheckpointError(
            f"{self.path} is refused: its pickle has the instruction {name}, which no file of tensors needs."
        )

    def since_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                found = self.stack[place + 1 :]
                del self.stack[place:]
                return found
        raise ValueError("a mark is missing")

    def do_proto(self, _: Any) -> None:
        """The versions differ only in their instructions."""

    do_frame = do_proto

    # Containers.
    def do_mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def do_pop(self, _: Any) -> None:
        self.stack.pop()

    def do_pop_mark(self, _: Any) -> None:
        self.since_mark()

    def do_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.since_mark()))

    def _tuple(self, length: int) -> None:
        found = tuple(self.stack[-length:])
        if len(found) != length:
            raise ValueError("a tuple is incomplete")
        self.stack[-length:] = [found]

    def do_tuple1(self, _: Any) -> None:
        self._tuple(1)

    def do_tuple2(self, _: Any) -> None:
        self._tuple(2)

    def do_tuple3(self, _: Any) -> None:
        self._tuple(3)

    def do_list(self, _: Any) -> None:
        self.stack.append(self.since_mark())

    def do_frozenset(self, _: Any) -> None:
        self.stack.append(self.since_mark())

    def do_dict(self, _: Any) -> None:
        items = self.since_mark()
        self.stack.append({})
        self._set_items(items)

    def do_append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def do_appends(self, _: Any) -> None:
        self._extend(self.since_mark())

    do_additems = do_appends

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("something is appended to what is no list")
        self.stack[-1].extend(items)

    def do_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def do_setitems(self, _: Any) -> None:
        self._set_items(self.since_mark())

    def _set_items(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            _put(self.stack[-1], key, value)

    # Memory.
    def do_put(self, place: Any) -> None:
        self.memo[place] = self.stack[-1]

    do_binput = do_long_binput = do_put

    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_get(self, place: Any) -> None:
        self.stack.append(self.memo[place])

    do_binget = do_long_binget = do_get

    # What stands for something outside the pickle.
    def do_global(self, argument: str) -> None:
        self.stack.append(self.named(*argument.split(" ", 1)))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self.named(str(module), str(name)))

    def do_inst(self, argument: str) -> None:
        self.named(*argument.split(" ", 1))
        self.unknown("INST")

    def do_reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple) or not callable(function) or function not in _CALLABLE:
            raise ValueError("it calls what is no function")
        self.stack.append(function(*arguments))

    do_newobj = do_reduce

    def do_build(self, _: Any) -> None:
        attributes = self.stack.pop()  # of what is on the stack
        if isinstance(self.stack[-1], Attributes) and isinstance(attributes, dict):
            self.stack[-1].update((k, v) for k, v in attributes.items() if isinstance(k, str))
            return
        if not isinstance(self.stack[-1], (Ordered, StridedTensor)):
            raise ValueError("attributes are given to what has none")

    def do_binpersid(self, _: Any) -> None:
        self.stack.append(self.storage(self.stack.pop()))

    def do_persid(self, argument: Any) -> None:
        self.stack.append(self.storage(argument))

    def storage(self, told: Any) -> Storage:
        """Returns the storage that a persistent id tells of."""
        if isinstance(told, tuple) and told and told[0] == "module":
            raise CheckpointError(whole(self.path, "a module with its source code"))
        if not isinstance(told, tuple) or len(told) not in (5, 6) or told[0] != "storage":
            raise CheckpointError(
                f"{self.path} is refused: it refers to something outside itself that is no storage of numbers "
                f"({str(told)[:60]!r})."
            )
        _, dtype, key, _, count, *view = told
        if view and view[0] is not None:
            _, offset, count = view[0]
            return Storage(key, dtype, count, offset)
        return Storage(key, dtype, count)

    def named(self, module: str, name: str) -> Any:
        """Returns what a name stands for, or refuses it."""
        known = _FUNCTIONS.get((module, name)) or _VALUES.get((module, name))
        if known is not None:
            return known
        full = f"{module}.{name}"
        if module.startswith(("torch.nn.", "torch.jit", "torch.fx")) or self.whole_module():
            raise CheckpointError(whole(self.path, full))
        if "_rebuild_q" in name or name.startswith(("QInt", "QUInt")) or name in ("qint8", "quint8", "qint32"):
            raise CheckpointError(
                f"{self.path} holds quantised tensors ({full}), which are not supported. Dequantise them first "
                "(tensor.dequantize() in PyTorch) and save the state dict."
            )
        hostile = module.split(".")[0] in _DANGEROUS
        raise CheckpointError(
            f"{self.path} is refused: its pickle names {full}, and a file of tensors needs no such thing"
            f"{_HOSTILE if hostile else _TENSORS_ALONE}"
        )


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)
_KNOWN = frozenset(n.removeprefix("do_").upper() for n in vars(_Machine) if n.startswith("do_"))


def whole(path: Path, what: str) -> str:
    """Returns the sentence about a file that holds a module and not its tensors."""
    return (
        f"{path} holds a whole pickled module ({what}) and not only its tensors; opening it would run its code, so it "
        "is refused. Where the code is at hand, save its state dict: torch.save(model.state_dict(), 'weights.pth')."
    )


def load(stream: BinaryIO, path: Path) -> Any:
    """Reads one pickle from a stream, which is left behind it.

    Args:
        stream: seekable, at the pickle's first byte.
        path: what messages call the file.

    Returns:
        Plain containers, numbers and texts; tensors as `StridedTensor`.

    Raises:
        CheckpointError: the pickle names anything but tensors and containers, or is damaged.

    Example:
        >>> import io, pickle
        >>> load(io.BytesIO(pickle.dumps({'epoch': 3}, protocol=2)), Path('a.pth'))
        {'epoch': 3}
    """
    start = stream.tell()

    def whole_module() -> bool:
        here = stream.tell()
        stream.seek(start)
        text = stream.read(1 << 24)
        stream.seek(here)
        return b"_parameters" in text and b"_modules" in text

    try:
        return _Machine(path, whole_module).run(stream)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, ArithmeticError) as error:
        raise cut_off(path, f"its pickle cannot be read ({error or type(error).__name__})") from error
