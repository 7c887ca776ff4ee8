"""The reference side, which needs torch: builds a case's module, fills it, and records what it says."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from parity import Case, values


def run(case: Case) -> dict[str, Any]:
    """Returns {'tensors': [[name, shape, dtype], …], 'config': dict, 'outputs': {name: array}}."""
    import timm
    import torch
    import transformers
    from torch import nn

    torch.manual_seed(0)
    scope = {"timm": timm, "torch": torch, "transformers": transformers, "nn": nn, "np": np}
    with torch.no_grad():
        model = eval(case.build, scope).eval()
        model, tensors = _published(model) if case.published else (model, _fill(model))
        given = {k: values.inputs(f"{case.name} {k}", v) for k, v in case.inputs.items()}
        hooks: dict[str, Any] = {}
        for name in {*case.blocks, *_hooked(case)}:
            model.get_submodule(name).register_forward_hook(_keep(hooks, name))
        y = (
            model(**{k: _torch(v) for k, v in given.items()}, **case.call)
            if len(given) > 1 or _by_name(case)
            else model(_torch(next(iter(given.values()))))
        )
        found = {f"block/{segment}": _array(hooks[name]) for name, segment in case.blocks.items()}
        for output, code in case.outputs.items():
            found[output] = _array(eval(code, {**scope, "y": y, "hooks": hooks, "model": model}))
        config = eval(case.config, {**scope, "model": model})
    return {"tensors": tensors, "config": json.loads(json.dumps(config, default=str)), "outputs": found}


def _by_name(case: Case) -> bool:
    return "timm.create_model" not in case.build and "nn." not in case.build


def _hooked(case: Case) -> set[str]:
    """Returns the modules that the outputs' code looks up in `hooks`."""
    import re

    return {name for code in case.outputs.values() for name in re.findall(r"hooks\[['\"]([^'\"]+)['\"]\]", code)}


def _keep(hooks: dict[str, Any], name: str) -> Any:
    def hook(module: Any, args: Any, output: Any) -> None:
        hooks[name] = output[0] if isinstance(output, tuple) else output

    return hook


def _fill(model: Any) -> list[list[Any]]:
    import torch

    seen: set[int] = set()
    listed = []
    for name, tensor in model.state_dict(keep_vars=False).items():
        if tensor.data_ptr() in seen and tensor.numel() > 0:
            continue  # a tied tensor, which published files hold once
        seen.add(tensor.data_ptr())
        if tensor.dtype == torch.float32:
            tensor.copy_(torch.from_numpy(values.weight(name, tuple(tensor.shape))))
        listed.append([name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")])
    return listed


def _published(model: Any) -> tuple[Any, list[list[Any]]]:
    """Returns the model as read from a file of drawn weights, and that file's tensors."""
    from safetensors.numpy import load_file, save_file

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        file = Path(folder) / "model.safetensors"
        shapes = {name: array.shape for name, array in sorted(load_file(file).items())}
        save_file({n: values.weight(n, s) for n, s in shapes.items()}, file, metadata={"format": "pt"})
        read = type(model).from_pretrained(folder, attn_implementation="eager").eval()
    return read, [[name, list(shape), "float32"] for name, shape in shapes.items()]


def _torch(array: np.ndarray) -> Any:
    import torch

    if array.ndim == 4:
        array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    return torch.from_numpy(array.astype(np.int64) if array.dtype == np.int32 else array)


def _array(value: Any) -> np.ndarray:
    array = value.detach().numpy().astype(np.float32)
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array
