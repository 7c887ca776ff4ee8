"""Clips that scripts/record_frontends.py and the tests make alike, so that a fixture need not hold them."""

from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parent / "fixtures" / "frontends"
# Name → samples at 16 kHz: longer and shorter than a window, shorter than a frame's hop allows, silent, clipped.
CLIPS = {"long": 20000, "short": 7001, "tiny": 500, "silent": 9000, "clipped": 12000}


def clip(name):
    """Returns float32 samples: a rising tone with overtones, noise in its second half."""
    n = CLIPS[name]
    if name == "silent":
        return np.zeros(n, np.float32)
    rng = np.random.default_rng(n)
    time = np.arange(n) / 16000
    tone = sum(np.sin(2 * np.pi * k * (180 * time + 900 * time**2)) / k for k in (1, 2, 5, 11))
    noise = rng.standard_normal(n) * (time > time[-1] / 2)
    wave = 0.2 * tone + 0.02 * noise + 0.01
    return np.clip(20 * wave if name == "clipped" else wave, -1, 1).astype(np.float32)
