"""Records what the reference implementations say of the tiny parity cases; needs the [parity] extra.

python scripts/record_parity.py                 # all tiny networks
python scripts/record_parity.py resnet18        # those whose names begin so
python scripts/record_parity.py preprocessing   # pixels, tokens and waveforms of the references' processors
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import parity
from parity import preprocessing_audio, preprocessing_image, preprocessing_text, reference


def record_preprocessing() -> None:
    """Writes what the references' processors make of pictures, texts and clips, every few values of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, module in (("pixels", preprocessing_image), ("waveforms", preprocessing_audio)):
            found = {}
            for case in module.CASES:
                if not getattr(case, "full", False):
                    made = module.theirs(case, folder / case.name)
                    found |= {module.key(case, k): np.float32(module.thinned(v)) for k, v in made.items()}
            np.savez_compressed(preprocessing_text.FIXTURES / f"{kind}.npz", **found)
        tokens = {c.name: preprocessing_text.theirs(c, folder / c.name) for c in preprocessing_text.cases()}
    text = json.dumps(tokens, separators=(",", ":"))
    (preprocessing_text.FIXTURES / "tokens.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Writes a fixture for each tiny case that the arguments name."""
    if sys.argv[1:] == ["preprocessing"]:
        return record_preprocessing()
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
