"""Each architecture of the closed lists, built by timm with few blocks and saved as timm saves it, beside ours."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.weights import Tensor, Weights
from parity import values
from parity.ours import relative


def is_vit(name: str) -> bool:
    """Says whether an architecture is a vision transformer."""
    return name.startswith(("vit_", "deit", "eva_", "flexivit", "test_vit"))


def few_blocks(name: str) -> dict[str, Any]:
    """Returns arguments of `timm.create_model` that make a network cheap and leave its kind as it is."""
    if is_vit(name):
        patch = next((n for n in (14, 32, 8) if f"patch{n}" in name), 16)
        return {"depth": 2, "img_size": 2 * patch}
    if "resnet" in name:
        return {"layers": (1, 2, 1, 1)}
    return {"depths": (1, 2, 1, 1)} if "convnext" in name else {}


def _as_timm_takes(argument: str, value: Any) -> Any:
    """Returns what timm's ResNets build with in place of what their config.json says: only classes will do."""
    import timm
    import torch

    return {"avg": torch.nn.AvgPool2d, "blur": timm.layers.BlurPool2d}[value] if argument == "aa_layer" else value


def published(name: str, **arguments: Any) -> tuple[Any, Weights]:
    """Returns timm's module with drawn weights, and what timm would publish of it."""
    import timm
    import torch
    from timm.models._hub import save_config_for_hf

    with torch.no_grad():
        model = timm.create_model(name, num_classes=5, **{k: _as_timm_takes(k, v) for k, v in arguments.items()}).eval()
        for key, tensor in model.state_dict().items():
            if tensor.dtype == torch.float32:
                tensor.copy_(torch.from_numpy(values.weight(key, tuple(tensor.shape))))
    with tempfile.TemporaryDirectory() as folder:
        save_config_for_hf(model, f"{folder}/config.json", model_args=arguments)
        config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    return model, Weights({n: Tensor.of(t.numpy()) for n, t in model.state_dict().items()}, config)


def error(name: str, side: int = 0, **arguments: Any) -> float:
    """Returns the relative error of our logits of an architecture.

    Args:
        name: timm's.
        side: pixels; by default what its config.json says.
        arguments: of `timm.create_model`.
    """
    import torch

    model, weights = published(name, **arguments)
    ready = plan_conversion(weights).read()
    size = (side, side) if side else ready.card.input.size
    x = values.inputs(name, ("normal", (1, *size, ready.card.input.channels)))
    network = ready.network
    run = jax.jit(lambda v, x: network.forward(v, x, 0, len(network.segments))[0])
    with torch.no_grad():
        wanted = model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    return relative(np.asarray(run(ready.variables, x)), wanted)
