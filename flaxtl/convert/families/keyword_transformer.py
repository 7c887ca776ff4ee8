"""The keyword transformer of Arm's repository, as float32 tensors in Flax's layout."""

from __future__ import annotations

import dataclasses

import numpy as np

from flaxtl.card import Audio, NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of, require_names_alone
from flaxtl.convert.mapping import Operation, Rule, ignored
from flaxtl.convert.weights import Weights, count_numbered
from flaxtl.data.frontends import Mfcc, hann, mel_filters
from flaxtl.errors import CheckpointError
from flaxtl.nets.keyword_transformer import VARIANTS, Config

HEAD_WIDTH = 64  # features of one head, in every published member
SIDE_BY_SIDE = Operation(
    "concatenate the outputs",
    lambda arrays: np.concatenate(list(arrays), axis=-1),
    lambda leaf, n: np.split(leaf, n, axis=-1),
)


def recognise(weights: Weights) -> Recognised | None:
    """Says which keyword transformer weights are, by the names and shapes of their tensors."""
    if not {"class_emb", "pos_emb", "proj/kernel", "block0/attn/query/kernel"} <= set(weights):
        return None
    require_names_alone(weights)
    _, positions, width = weights["pos_emb"].shape
    config = Config(
        width=width,
        depth=count_numbered((n.replace("/", ".") for n in weights), "block"),
        heads=_heads(weights, width),
        hidden=weights["block0/mlp/fc1/kernel"].shape[-1],
        frames=positions - 1,
    )
    mfcc = Mfcc(coefficients=weights["proj/kernel"].shape[0])
    _check_front_end(weights, mfcc)
    window = (mfcc.frame + (config.frames - 1) * mfcc.hop) / mfcc.sample_rate
    settings = {f.name: getattr(mfcc, f.name) for f in dataclasses.fields(mfcc) if f.name != "sample_rate"}
    audio = Audio(mfcc.sample_rate, window, window, front_end=Mfcc.name, settings=settings)
    outputs = (weights.shape("head/kernel") or (0,))[-1]
    spec = NetworkSpec("keyword_transformer", dataclasses.asdict(config))
    return Recognised(spec, audio, outputs, labels_of(weights, outputs))


def _heads(weights: Weights, width: int) -> int:
    """The source keeps what scores are multiplied by, which is 1 / √(features of a head)."""
    scale = weights.tensors.get("attn_scale")
    head_width = HEAD_WIDTH if scale is None else round(float(scale.read().ravel()[0]) ** -2)
    return max(width // head_width, 1)


def _check_front_end(weights: Weights, mfcc: Mfcc) -> None:
    """The card's front end is computed from settings; constants that a source brings must be the same."""
    turns = 2 * np.pi * np.outer(np.arange(mfcc.fft // 2 + 1), np.arange(mfcc.frame)) / mfcc.fft
    expected = {
        "window": hann(mfcc.frame, periodic=True),
        "dft_re": np.cos(turns),
        "dft_im": -np.sin(turns),
        "mel": mel_filters(mfcc.bands, mfcc.fft, mfcc.sample_rate, mfcc.low, mfcc.high).T,
        "log_floor": np.full(1, mfcc.floor),
        "dct": mfcc.cosines().T,
        "norm_sub": np.zeros(1),
        "norm_mul": np.ones(mfcc.coefficients),
    }
    for name, wanted in expected.items():
        tensor = weights.tensors.get(f"features/{name}")
        if tensor is None:
            continue
        found = tensor.read()
        if name in ("dft_re", "dft_im"):  # bins above the highest band are left out
            wanted = wanted[: len(found)]
        elif name == "mel":
            wanted = wanted[:, : found.shape[-1]]
        if found.shape != wanted.shape or np.abs(found - wanted).max() > 1e-6:
            raise CheckpointError(
                f"The constants features/{name} are not those of the MFCC that the keyword transformer was published "
                f"with ({mfcc.bands} bands from {mfcc.low:g} to {mfcc.high:g} Hz, {mfcc.coefficients} coefficients), "
                "which is the one front end of this kind that flaxtl computes."
            )


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of a keyword transformer."""
    block, ours = "block{i}", "backbone/blocks_{i}"
    table = [
        ignored("features/*", "constants of the front end, which the card names and flaxtl computes; checked equal"),
        ignored("attn_scale", "follows from the features of a head"),
        Rule("class_emb", "backbone/stem/class_token"),
        Rule("pos_emb", "backbone/stem/position"),
        *_layer("proj", "backbone/stem/projection"),
        Rule(
            tuple(f"{block}/attn/{part}/kernel" for part in ("query", "key", "value")),
            f"{ours}/attention/qkv/kernel",
            SIDE_BY_SIDE,
        ),
        *_layer(f"{block}/attn/out", f"{ours}/attention/out"),
    ]
    for part in ("fc1", "fc2"):
        table += _layer(f"{block}/mlp/{part}", f"{ours}/mlp/{part}")
    for part in ("norm1", "norm2"):
        table += [Rule(f"{block}/{part}/{leaf}", f"{ours}/{part}/{leaf}") for leaf in ("scale", "bias")]
    return table + (_layer("head", "head") if "head/kernel" in weights else [])


def _layer(source: str, target: str) -> list[Rule]:
    return [Rule(f"{source}/{part}", f"{target}/{part}") for part in ("kernel", "bias")]


FAMILY = Family("keyword_transformer", tuple(VARIANTS), recognise, rules)
