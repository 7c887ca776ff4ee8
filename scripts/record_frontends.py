"""Records what the source implementations' front ends make of test clips; needs the [parity] extra.

python scripts/record_frontends.py              # transformers' feature extractors
python scripts/record_frontends.py tensorflow   # YAMNet's, which needs tensorflow in place of transformers
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from frontend_cases import CLIPS, FIXTURES, clip


def transformers_outputs() -> dict[str, np.ndarray]:
    """Returns the outputs of transformers' feature extractors by case."""
    import transformers

    found = {}
    for name in CLIPS:
        wave = clip(name)
        ast = transformers.ASTFeatureExtractor(max_length=60, num_mel_bins=40)
        found[f"ast {name}"] = ast(wave, sampling_rate=16000)["input_values"][0]
        plain = transformers.ASTFeatureExtractor(max_length=60, do_normalize=False)
        found[f"ast_plain {name}"] = plain(wave, sampling_rate=16000)["input_values"][0][::4]
        for bands in (80, 128):
            whisper = transformers.WhisperFeatureExtractor(feature_size=bands, chunk_length=1)
            found[f"whisper{bands} {name}"] = whisper(wave, sampling_rate=16000)["input_features"][0].T[::4]
        whisper = transformers.WhisperFeatureExtractor()
        found[f"whisper_30s {name}"] = whisper(wave, sampling_rate=16000)["input_features"][0].T[::100]
        wav2vec2 = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
        settings: dict[str, Any] = {"padding": "max_length", "max_length": 16000, "truncation": True}
        y = wav2vec2(wave, sampling_rate=16000, **settings)
        found[f"wav2vec2 {name}"] = y["input_values"][0][::16]
        found[f"wav2vec2_mask {name}"] = y["attention_mask"][0][::16]
    return {k: np.asarray(v, np.float32) for k, v in found.items()}


def tensorflow_outputs() -> dict[str, np.ndarray]:
    """Returns YAMNet's log-mel as tensorflow/models (research/audioset/yamnet/features.py) computes it by tf.signal."""
    import tensorflow as tf

    mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16000, 125.0, 7500.0)
    found = {}
    for name in CLIPS:
        wave = np.zeros(15600, np.float32)
        samples = clip(name)[:15600]
        wave[: len(samples)] = samples
        magnitude = tf.abs(tf.signal.stft(wave, 400, 160, 512))
        found[f"yamnet {name}"] = np.asarray(tf.math.log(tf.matmul(magnitude, mel) + 0.001), np.float32)
    return found


def main() -> None:
    """Writes the fixture of the implementation that is asked for."""
    source = sys.argv[1] if len(sys.argv) > 1 else "transformers"
    found = tensorflow_outputs() if source == "tensorflow" else transformers_outputs()
    file = FIXTURES / f"{source}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **found)
    print(f"{file.name}: {len(found)} outputs, {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
