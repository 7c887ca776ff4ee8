"""Sound networks: sizes, cuts, padding that changes nothing, and the names and constants of their sources."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from parity import ours, values

from flaxtl import nets, paths
from flaxtl.card import NetworkSpec
from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.families import keyword_transformer as kwt_weights
from flaxtl.convert.families import wav2vec2 as wav2vec2_weights
from flaxtl.convert.mapping import resolve
from flaxtl.convert.weights import Tensor, Weights
from flaxtl.data.frontends import Mfcc, hann
from flaxtl.errors import CheckpointError, ConfigError
from flaxtl.nets.wav2vec2 import Config as Wav2Vec2Config

WAVE = {
    "conv_widths": (8, 12), "conv_sizes": (4, 3), "conv_strides": (2, 2), "width": 16, "depth": 2, "heads": 2,
    "hidden": 24, "position_size": 6, "position_groups": 4, "projector": 8,
}  # fmt: skip
SMALL = {
    "yamnet": ({"stem_width": 8, "widths": (8, 8, 12, 12), "strides": (1, 1, 2, 1)}, (2, 21, 16, 1)),
    "keyword_transformer": ({"width": 16, "depth": 2, "heads": 2, "hidden": 24, "frames": 7}, (2, 7, 5)),
    "wav2vec2": (WAVE, (2, 90)),
    "ast": ({"bands": 9, "frames": 11, "patch": 4, "band_stride": 3, "frame_stride": 2, "width": 16, "depth": 2,
             "heads": 2, "hidden": 24}, (2, 11, 9)),
    "whisper": ({"bands": 6, "positions": 8, "width": 16, "depth": 2, "heads": 2, "hidden": 24}, (2, 14, 6)),
}  # fmt: skip


def made(family, seed=0, **changes):
    settings, shape = SMALL[family]
    net = nets.build(NetworkSpec(family, {**settings, **changes}), 3)
    x = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    variables = net.init(1, x)
    head = variables["params"]["head"]
    head["kernel"] = values.weight("head", head["kernel"].shape)
    return net, variables, x


def run(net, variables, x, start=0, stop=None):
    return jax.jit(lambda v, x: net.forward(v, x, start, stop)[0])(variables, x)


def count(family, variant, x, outputs=0):
    net = nets.build(NetworkSpec(family, nets.named_settings(family, variant)), outputs)
    tree = net.abstract(jax.ShapeDtypeStruct(x, jnp.float32))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree["params"]))


@pytest.mark.parametrize(
    ("family", "variant", "x", "outputs", "parameters"),
    [  # the published safetensors files of the first two; the others as transformers counts the bare models
        ("keyword_transformer", "kwt1", (1, 98, 40), 12, 607_308),
        ("yamnet", "yamnet", (1, 96, 64, 1), 521, 3_729_481),
        ("wav2vec2", "wav2vec2-base", (1, 4000), 0, 94_370_944),
        ("wav2vec2", "hubert-large-ll60k", (1, 4000), 0, 315_437_696),
        ("ast", "ast-audioset", (1, 1024, 128), 527, 86_594_063),
        ("whisper", "whisper-tiny", (1, 3000, 80), 0, 8_208_384 + 4 * 384),
    ],
)
def test_parameter_counts(family, variant, x, outputs, parameters):
    assert count(family, variant, x, outputs) == parameters


@pytest.mark.parametrize("family", SMALL)
def test_every_segment_but_the_means_owns_parameters(family):
    net, variables, _ = made(family)
    owners = {net.segment_of(leaf.path) for leaf, _ in paths.leaves(variables)}
    assert owners >= {0, 1, 2, net.border}


@pytest.mark.parametrize("family", ["yamnet", "keyword_transformer"])  # the others' segments are in the parity cases
def test_segments_compose(family):
    net, variables, x = made(family)
    whole = run(net, variables, x)
    assert whole.shape == (2, 3)
    below = x
    for cut in range(len(net.segments)):
        below = run(net, variables, below, cut, cut + 1)
    np.testing.assert_allclose(below, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["yamnet", "wav2vec2"])
def test_scanned_rematerialised_and_bfloat16_say_the_same(family):
    net, variables, x = made(family)
    whole = run(net, variables, x)
    changed = dataclasses.replace(net, execution=dataclasses.replace(net.execution, scan=True, remat=True))
    np.testing.assert_allclose(run(changed, variables, x), whole, rtol=1e-4, atol=1e-6)
    half = dataclasses.replace(net, execution=dataclasses.replace(net.execution, dtype="bfloat16"))
    np.testing.assert_allclose(run(half, variables, x), whole, rtol=0.1, atol=0.05 * np.abs(whole).max())


@pytest.mark.parametrize(
    "form", [{}, {"conv_norm": "layer", "pre_norm": True, "conv_bias": True, "weighted_sum": True}]
)
def test_a_clip_filled_up_with_zeros_gives_what_it_gives_alone(form):
    net, variables, x = made("wav2vec2", depth=1, **form)
    mask = np.arange(90) < np.array([[61], [12]])
    padded = run(net, variables, {"x": np.where(mask, x, 0.0), "mask": mask.astype(np.int32)})
    for row, length in enumerate((61, 12)):
        alone = run(net, variables, x[row : row + 1, :length])
        np.testing.assert_allclose(padded[row], alone[0], rtol=1e-4, atol=1e-5)


def test_a_silent_and_a_very_short_clip_give_finite_numbers_and_gradients():
    net, variables, x = made("wav2vec2")
    given = {"x": jnp.zeros_like(x), "mask": jnp.zeros(x.shape, jnp.int32).at[:, :2].set(1)}
    total = jax.jit(jax.value_and_grad(lambda x: net.forward(variables, {**given, "x": x})[0].sum()))
    y, slope = total(given["x"])
    assert np.isfinite(y)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("family", "shape", "words"),
    [
        ("keyword_transformer", (1, 9, 5), "takes 7 frames; found 9"),
        ("ast", (1, 9, 9), "11 frames of 9 mel bands; found 9 of 9"),
        ("whisper", (1, 18, 6), "up to 16 frames; found 18"),
    ],
)
def test_another_length_is_refused_with_a_sentence(family, shape, words):
    net, variables, _ = made(family)
    with pytest.raises(ConfigError, match=words):
        net.forward(variables, np.zeros(shape, np.float32))


@pytest.mark.parametrize(("family", "name"), [(f, "kwt") for f in SMALL])
def test_unknown_variants_are_named(family, name):
    with pytest.raises(ConfigError, match="'kwt'"):
        nets.named_settings(family, name)


def named(weights, changes):
    """Returns weights under older names."""
    tensors = {}
    for name, tensor in weights.items():
        for new, old in changes:
            name = name.replace(new, old)
        tensors[name] = tensor
    return dataclasses.replace(weights, tensors=tensors)


def recorded(name):
    with np.load(parity.FIXTURES / f"{name}.npz") as file:
        about = json.loads(str(file["about"]))
    return ours.weights_of(about["tensors"], about["config"])


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("wav2vec2_layer", [("parametrizations.weight.original0", "weight_g"),
                            ("parametrizations.weight.original1", "weight_v")]),
        ("ast_classifier", [(".layers.", ".encoder.layer."), ("attention.q_proj", "attention.attention.query"),
                            ("attention.k_proj", "attention.attention.key"),
                            ("attention.v_proj", "attention.attention.value"),
                            ("attention.o_proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"),
                            ("mlp.fc2", "output.dense")]),
        ("whisper_model", [("encoder.", "model.encoder."), ("decoder.", "model.decoder.")]),
    ],
)  # fmt: skip
def test_older_names_make_the_same_leaves(case, changes):
    new = recorded(case)
    one, two = (dict(plan_conversion(w).arrays()) for w in (new, named(new, changes)))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[leaf], two[leaf]) for leaf in one)


@pytest.mark.parametrize("setting", ["add_adapter", "conv_pos_batch_norm"])
def test_variants_without_a_network_are_refused(setting):
    with pytest.raises(CheckpointError, match=f"says {setting}=True, where flaxtl computes no"):
        wav2vec2_weights.recognise(Weights({}, {"model_type": "hubert", setting: True}))


def kwt(**constants):
    shapes = {"class_emb": (1, 1, 64), "pos_emb": (1, 99, 64), "proj/kernel": (40, 64),
              "block0/attn/query/kernel": (64, 64), "block0/mlp/fc1/kernel": (64, 256)}  # fmt: skip
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return Weights({n: Tensor.of(a) for n, a in {**tensors, **constants}.items()})


def test_constants_of_another_front_end_are_refused_not_ignored():
    window = hann(480, periodic=True)
    found = kwt_weights.recognise(kwt(**{"features/window": window}))
    assert found.network.config["heads"] == 1
    assert found.input.window == 1.0
    assert found.input.settings["coefficients"] == Mfcc.coefficients
    with pytest.raises(CheckpointError, match="features/window"):
        kwt_weights.recognise(kwt(**{"features/window": hann(480, periodic=False)}))
    with pytest.raises(CheckpointError, match="features/norm_sub"):
        kwt_weights.recognise(kwt(**{"features/norm_sub": np.ones(1, np.float32)}))


def test_what_pretraining_and_decoding_need_is_ignored_with_a_reason():
    weights = recorded("wav2vec2_layer")
    extra = {n: Tensor.of(values.weight(n, (3, 4))) for n in ("lm_head.weight", "quantizer.codevectors")}
    whole = dataclasses.replace(weights, tensors={**weights.tensors, **extra})
    config = Wav2Vec2Config(**wav2vec2_weights.recognise(whole).network.config)
    reasons = {s.sources[0]: s.why for s in resolve(wav2vec2_weights.rules(config, whole), whole) if s.target is None}
    assert set(extra) <= set(reasons)
    assert all(reasons.values())
