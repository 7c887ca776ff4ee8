"""Sound as transformers' feature extractors prepare it: cases, the reference side, ours."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from frontend_cases import clip

import parity
from parity import ours as networks

# Samples of the clips: shorter than a frame of 25 ms is long, odd, a second, more than any window here.
LENGTHS = (700, 4001, 16000, 33333)


@dataclasses.dataclass(frozen=True)
class Sound:
    """A feature extractor's file, and what network it lies beside.

    Attributes:
        name: of the case.
        network: the recorded parity case whose weights it lies beside.
        config: what its config.json says otherwise.
        settings: preprocessor_config.json.
        place: the file that holds the settings.
        lengths: samples of the clips that are prepared.
    """

    name: str
    network: str
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    place: str = "preprocessor_config.json"
    lengths: tuple[int, ...] = LENGTHS


def _cases() -> list[Sound]:
    wave = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1, "padding_side": "right"}
    wave |= {"padding_value": 0.0, "return_attention_mask": True, "sampling_rate": 16000}
    ast = {"feature_extractor_type": "ASTFeatureExtractor", "num_mel_bins": 13, "max_length": 15}
    ast |= {"mean": -4.2677393, "std": 4.5689974, "sampling_rate": 16000, "feature_size": 1}
    whisper = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 8, "n_fft": 400}
    whisper |= {"chunk_length": 1, "processor_class": "WhisperProcessor", "return_attention_mask": False}
    whisper |= {"n_samples": 16000, "nb_max_frames": 100, "padding_value": 0.0, "sampling_rate": 16000}
    second = {"max_source_positions": 50}
    return [
        Sound("wav2vec2", "wav2vec2_group", {}, {**wave, "do_normalize": True}),
        Sound("wav2vec2_as_it_is", "wav2vec2_layer", {}, {**wave, "do_normalize": False}),
        Sound("hubert_without_mask", "hubert_layer", {}, {**wave, "return_attention_mask": False}),
        Sound("ast", "ast_classifier", {}, ast),
        Sound("ast_as_it_is", "ast_bare", {}, {**ast, "do_normalize": False}),
        Sound("ast_other_mean", "ast_classifier", {}, {**ast, "mean": -6.8, "std": 5.5}),
        Sound("whisper", "whisper_model", second, whisper),
        Sound("whisper_hop", "whisper_model", {"max_source_positions": 40}, {**whisper, "hop_length": 200}),
        Sound(
            "whisper_nested",
            "whisper_classifier",
            second,
            whisper,
            "processor_config.json, feature_extractor",
        ),
    ]


CASES = _cases()


def key(case: Sound, length: int) -> str:
    """Returns what a fixture calls what is made of a clip."""
    return f"{case.name} {length}"


def thinned(values: np.ndarray) -> np.ndarray:
    """Returns every 16th sample of a waveform, every third frame of a spectrogram."""
    return values[::16] if values.ndim == 1 else values[::3]


def wave(length: int) -> np.ndarray:
    """Returns a clip of so many samples at 16 kHz."""
    return np.resize(clip("long"), length)


def _about(case: Sound) -> tuple[list[Any], dict[str, Any]]:
    with np.load(parity.FIXTURES / f"{case.network}.npz") as file:
        about = json.loads(str(file["about"]))
    return about["tensors"], {**about["config"], **case.config}


def write(case: Sound, folder: Path) -> None:
    """Writes the settings and the config.json beside them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_about(case)[1]), encoding="utf-8")
    file, _, part = case.place.partition(", ")
    held = {part: dict(case.settings)} if part else dict(case.settings)
    (folder / file).write_text(json.dumps(held), encoding="utf-8")


def theirs(case: Sound, folder: Path) -> dict[int, np.ndarray]:
    """Returns what the reference makes of each clip: samples, or [frames, bands]."""
    import transformers

    write(case, folder)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    found = {}
    for length in case.lengths:
        y = extractor(wave(length), sampling_rate=16000)
        values = np.asarray(y[next(k for k in ("input_values", "input_features") if k in y)][0])
        found[length] = values.T if "input_features" in y else values
    return found


def ours(case: Sound, folder: Path) -> dict[int, np.ndarray]:
    """Returns what we make of each clip: of one longer than a window, of the first."""
    from flaxtl.convert.converting import recognise
    from flaxtl.data.audio import AudioPreprocess

    write(case, folder)
    tensors, config = _about(case)
    named = {} if ", " in case.place else dict(case.settings)
    weights = networks.weights_of(tensors, config, named)
    weights = dataclasses.replace(weights, files={f.name: f for f in folder.iterdir()})
    found, _, _ = recognise(weights)
    pre = AudioPreprocess.of(found.input)  # type: ignore[arg-type]
    made = {}
    for length in case.lengths:
        row = pre.rows(wave(length))[0]
        y = pre.device({k: np.asarray(v)[None] for k, v in row.items()})
        values = np.asarray(y["x"] if isinstance(y, dict) else y)[0]
        made[length] = values[:length] if values.ndim == 1 else values
    return made
