"""Records what torch.save writes, in its zip and its legacy form, with the arrays that it should be read as.

Needs the [parity] extra: python scripts/record_torch_files.py
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "torch"


def main() -> None:
    """Writes tensors.pth, tensors.th and tensors.npz."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    tensors = _tensors()
    value = {"epoch": 3, "best": 0.5, "state_dict": tensors, "names": ["a", "b"], "size": torch.Size([1, 2])}
    torch.save(value, FOLDER / "tensors.pth")
    torch.save(value, FOLDER / "tensors.th", _use_new_zipfile_serialization=False)
    arrays = {
        n: t.detach().float().numpy() if t.dtype == torch.bfloat16 else t.detach().numpy() for n, t in tensors.items()
    }
    np.savez_compressed(FOLDER / "tensors.npz", **arrays)


def _tensors() -> OrderedDict[str, Any]:
    base = torch.randn(4, 6)
    found: OrderedDict[str, Any] = OrderedDict(
        whole=base,
        transposed=base.T,
        part=base[1:3, ::2],
        expanded=torch.arange(3.0).expand(2, 3),
        half=base.half(),
        bfloat=base.bfloat16(),
        double=base[0].double(),
        counts=torch.arange(5),
        small=torch.arange(5, dtype=torch.int8),
        mask=torch.tensor([True, False]),
        scalar=torch.tensor(7),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(base[:2].clone()),
    )
    found._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return found


if __name__ == "__main__":
    main()
