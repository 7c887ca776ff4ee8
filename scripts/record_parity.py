"""Records what the reference implementations say of the tiny parity cases; needs the [parity] extra.

python scripts/record_parity.py            # all tiny cases
python scripts/record_parity.py resnet18   # those whose names begin so
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import parity
from parity import reference


def main() -> None:
    """Writes a fixture for each tiny case that the arguments name."""
    parity.FIXTURES.mkdir(parents=True, exist_ok=True)
    for case in parity.cases():
        if case.full or (sys.argv[1:] and not case.name.startswith(tuple(sys.argv[1:]))):
            continue
        found = reference.run(case)
        about = json.dumps({"tensors": found["tensors"], "config": found["config"]})
        file = parity.FIXTURES / f"{case.name}.npz"
        np.savez_compressed(file, about=np.array(about), **found["outputs"])
        print(f"{case.name}: {len(found['tensors'])} tensors, {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
