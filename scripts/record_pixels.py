"""Records what timm's transforms make of test pictures; needs the [parity] extra and torchvision.

python scripts/record_pixels.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from parity import preprocessing_timm as timm
from parity.preprocessing_image import key, thinned


def main() -> None:
    """Writes the pixels of the small cases, thinned out."""
    found = {}
    for case in timm.CASES:
        if not case.full:
            found |= {key(case, name): thinned(pixels) for name, pixels in timm.theirs(case).items()}
    timm.FIXTURE.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(timm.FIXTURE, **{name: pixels.astype(np.float32) for name, pixels in found.items()})
    print(f"{len(found)} pictures, {timm.FIXTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
