"""Vision transformers from every naming, in other sizes, and what is refused."""

import dataclasses
import json
import re
from functools import partial

import jax
import numpy as np
import parity
import pytest
from parity import ours, values

from flaxtl import nets, paths
from flaxtl.card import Image, NetworkSpec
from flaxtl.convert import mapping
from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.families import timm_names
from flaxtl.convert.families import vit as family
from flaxtl.convert.weights import Tensor, Weights
from flaxtl.errors import CheckpointError, ConfigError
from flaxtl.nets import vit

TINY = vit.Config((4, 6), (8, 8), 24, 2, 3, 40)


def _fixture(name):
    with np.load(parity.FIXTURES / f"{name}.npz") as file:
        about = json.loads(str(file["about"]))
    return ours.weights_of(about["tensors"], about["config"])


def _params(config, seed=0, size=None, outputs=0):
    network = vit_network(config, outputs)
    return network, network.init(seed, np.zeros((1, *(size or config.size), 3), np.float32))


def vit_network(config, outputs=0):
    from flaxtl.nets.network import Classifier, LinenNetwork

    return LinenNetwork(Classifier(vit.backbone(config), outputs))


def _features(config, variables, x):
    network = vit_network(config)
    return np.asarray(jax.jit(lambda v, x: network.forward(v, x, 0, network.border)[0])(variables, x))


def _as_npz(weights, heads, numbers=(1, 2, 3), position="Transformer/posembed_input/pos_embedding"):
    """A timm ViT under the names and in the layouts of Google's repositories, written down independently."""
    attention, norm, feed = numbers
    made = {}
    for name, tensor in weights.items():
        array = tensor.read()
        block = re.fullmatch(r"blocks\.(\d)\.(.*)\.(weight|bias)", name)
        if block is None:
            continue
        number, layer, kind = block.groups()
        base = f"Transformer/encoderblock_{number}"
        mha = f"{base}/MultiHeadDotProductAttention_{attention}"
        if layer.startswith("norm"):
            made[f"{base}/LayerNorm_{0 if layer == 'norm1' else norm}/{'scale' if kind == 'weight' else kind}"] = array
        elif layer == "attn.qkv":
            for part, piece in zip(("query", "key", "value"), np.split(array, 3)):
                shape = (-1, heads, piece.shape[0] // heads) if kind == "weight" else (heads, -1)
                made[f"{mha}/{part}/{'kernel' if kind == 'weight' else kind}"] = piece.T.reshape(shape)
        elif layer == "attn.proj":
            made[f"{mha}/out/{'kernel' if kind == 'weight' else kind}"] = (
                array.T.reshape(heads, -1, array.shape[0]) if kind == "weight" else array
            )
        else:
            dense = f"{base}/MlpBlock_{feed}/Dense_{int(layer[-1]) - 1}"
            made[f"{dense}/{'kernel' if kind == 'weight' else kind}"] = array.T if kind == "weight" else array
    read = {n: t.read() for n, t in weights.items()}
    made |= {
        "cls": read["cls_token"],
        position: read["pos_embed"],
        "embedding/kernel": read["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": read["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": read["norm.weight"],
        "Transformer/encoder_norm/bias": read["norm.bias"],
        "head/kernel": read["head.weight"].T,
        "head/bias": read["head.bias"],
    }
    return made


def _timm_weights(size=(32, 32), width=24, hidden=40, heads=3, outputs=5, depth=2, **config):
    """The tensors of a tiny timm ViT, drawn by their names."""
    tokens = 1 + size[0] * size[1] // 64
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, tokens, width),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    shapes |= {"patch_embed.proj.weight": (width, 3, 8, 8), "patch_embed.proj.bias": (width,)}
    shapes |= {"head.weight": (outputs, width), "head.bias": (outputs,)}
    layers = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    layers |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    for i in range(depth):
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.weight": (width,), f"blocks.{i}.{norm}.bias": (width,)}
        for layer, shape in layers.items():
            shapes |= {f"blocks.{i}.{layer}.weight": shape, f"blocks.{i}.{layer}.bias": shape[:1]}
    arguments = {"num_heads": heads, "img_size": list(size), **config}
    settings = {"architecture": "vit_tiny_patch16_224", "model_args": arguments}
    single = np.dtype(np.float32)
    return Weights({n: Tensor(s, single, partial(values.weight, n, s)) for n, s in shapes.items()}, settings)


def _of(arrays, **about):
    return Weights({n: Tensor.of(a) for n, a in arrays.items()}, **about)


def _same(a, b):
    first, second = dict(paths.leaves(a)), dict(paths.leaves(b))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[leaf], second[leaf]) for leaf in first)


@pytest.mark.parametrize("prefix", ["", "opt/target/", "params/"])
@pytest.mark.parametrize(
    ("numbers", "position"), [((1, 2, 3), "Transformer/posembed_input/pos_embedding"), ((0, 1, 0), "pos_embedding")]
)
def test_npz_names_give_the_same_tree_as_timm_names_and_lead_back(prefix, numbers, position):
    weights = _timm_weights(act_layer="gelu_tanh")
    wanted = plan_conversion(weights)
    arrays = {f"{prefix}{n}": a for n, a in _as_npz(weights, 3, numbers, position).items()}
    found = plan_conversion(_of(arrays))
    assert found.model.card.network == wanted.model.card.network
    assert found.model.card.input.size == (32, 32)
    _same(found.read().variables, wanted.read().variables)
    back = mapping.invert(found.steps, found.read().variables)
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[n], arrays[n]) for n in arrays)


def test_a_hidden_layer_before_the_pretraining_classes_is_left_out_with_them():
    arrays = _as_npz(_timm_weights(), 3)
    arrays |= {"pre_logits/kernel": np.zeros((24, 24), np.float32), "pre_logits/bias": np.zeros(24, np.float32)}
    found = plan_conversion(_of(arrays))
    assert found.family.name == "vit"
    assert "head" not in found.read().variables["params"]
    assert "(not needed: the pretraining's own hidden layer" in found.explain()


def test_the_tree_of_a_flax_class_gives_the_same_as_the_published_torch_file():
    weights = _fixture("vit_hf_vit")
    arrays = {}
    for name, tensor in weights.items():
        array = tensor.read()
        if name.endswith("projection.weight"):
            name, array = name.replace(".weight", ".kernel"), array.transpose(2, 3, 1, 0)
        elif "layernorm" in name:
            name = name.replace(".weight", ".scale")
        elif name.endswith(".weight"):
            name, array = name.replace(".weight", ".kernel"), array.T
        arrays[name.replace(".", "/")] = array
    found = plan_conversion(_of(arrays, config=weights.config))
    wanted = plan_conversion(weights)
    assert found.model.card.network == wanted.model.card.network
    _same(found.read().variables, wanted.read().variables)
    back = mapping.invert(found.steps, found.read().variables)
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[n], arrays[n]) for n in arrays)


def test_of_a_checkpoint_with_two_towers_the_image_tower_is_taken_and_the_rest_named():
    image = _fixture("vit_hf_clip")
    arrays = {f"vision_model.{n}": t.read() for n, t in image.items()}
    arrays |= {"text_model.embeddings.token_embedding.weight": np.zeros((9, 8), np.float32)}
    arrays |= {"text_projection.weight": np.zeros((4, 8), np.float32), "logit_scale": np.zeros((), np.float32)}
    arrays |= {"visual_projection.weight": np.zeros((4, 24), np.float32)}
    arrays |= {"vision_model.embeddings.position_ids": np.arange(17)[None]}
    config = {"model_type": "clip", "text_config": {"hidden_size": 8}, "vision_config": image.config}
    found = plan_conversion(_of(arrays, config=config))
    _same(found.read().variables, plan_conversion(image).read().variables)
    table = found.explain()
    for reason in ("the text tower, which no picture enters", "the features are what enters it", "scales the likeness"):
        assert reason in table


def test_the_two_heads_of_deit_are_one_and_come_back():
    weights = _fixture("vit_distilled")
    conversion = plan_conversion(weights)
    variables = conversion.read().variables
    assert variables["params"]["head"]["kernel"].shape == (48, 5)
    back = mapping.invert(conversion.steps, variables)
    for name in ("head.weight", "head_dist.weight"):
        assert np.array_equal(back[name], weights[name].read())
    mean = (weights["head.bias"].read() + weights["head_dist.bias"].read()) / 2
    np.testing.assert_allclose(back["head.bias"], mean, rtol=1e-6)
    assert np.array_equal(back["head.bias"], back["head_dist.bias"])


def test_dinov2_features_are_the_class_token_or_that_and_the_mean_of_the_patches():
    _, variables = _params(TINY)
    x = np.random.default_rng(0).normal(size=(2, 32, 48, 3)).astype(np.float32)
    both = _features(dataclasses.replace(TINY, pooling="token_average"), variables, x)
    token = _features(TINY, variables, x)
    mean = _features(dataclasses.replace(TINY, pooling="average"), variables, x)
    np.testing.assert_allclose(both, np.concatenate([token, mean], -1), atol=1e-5)


@pytest.mark.parametrize("size", [(32, 48), (37, 50)])
def test_patches_by_product_are_those_by_convolution_and_what_is_left_over_is_not_seen(size):
    module = vit.PatchEmbedding((8, 8), 24)
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(8, 8, 3, 24)).astype(np.float32)
    product = jax.jit(module._product)(x, kernel)
    assert product.shape == (2, 24, 24)
    np.testing.assert_allclose(product, jax.jit(module._convolution)(x, kernel), atol=1e-4)


def test_a_picture_of_another_size_is_refused_and_the_network_can_be_fitted_to_it():
    network, variables = _params(TINY)
    x = np.random.default_rng(0).normal(size=(2, 40, 40, 3)).astype(np.float32)
    with pytest.raises(ConfigError, match=r"pictures of 32×48 pixels \(4×6 patches\); found 40×40"):
        network.forward(variables, x)
    config, params, notes = vit.resize(TINY, variables["params"], (32, 48), (40, 40))
    assert notes == ("positions 4×6 → 5×5 by antialiased bicubic, 1 other token kept",)
    assert _features(config, {"params": params}, x).shape == (2, 24)
    spec = NetworkSpec("vit", dataclasses.asdict(TINY))
    changed, _, said = nets.resized(spec, variables["params"], (32, 48), (40, 40))
    assert (nets.family_config("vit", changed.config), said) == (config, notes)
    same, kept, none = vit.resize(TINY, variables["params"], (32, 48), (32, 48))
    assert (same, none) == (TINY, ())
    _same({"params": kept}, {"params": variables["params"]})
    with pytest.raises(
        ConfigError, match=r"patches of 8×8 pixels; 44×40 is no multiple of that. Take 40 or 48 by 40\."
    ):
        vit.resize(TINY, variables["params"], (32, 48), (44, 40))


def test_patches_of_another_size_say_the_same_of_a_resized_picture():
    """FlexiViT: with every patch resized by the bilinear matrix, the tokens are the old ones."""
    from flaxtl import surgery

    _, variables = _params(TINY)
    x = np.random.default_rng(0).normal(size=(1, 32, 48, 3)).astype(np.float32)
    config, params, notes = vit.resize(TINY, variables["params"], (32, 48), (48, 72), patch=(12, 12))
    assert len(notes) == 1
    matrix = surgery.resize_matrix(8, 12, "bilinear")
    patches = x.reshape(1, 4, 8, 6, 8, 3)
    larger = np.einsum("ri,cj,bhiwjk->bhrwck", matrix, matrix, patches).reshape(1, 48, 72, 3).astype(np.float32)
    np.testing.assert_allclose(_features(config, {"params": params}, larger), _features(TINY, variables, x), atol=1e-4)


def test_blocks_run_scanned_rematerialised_and_in_bfloat16():
    from flaxtl.nets.running import Execution

    network, variables = _params(TINY)
    x = np.random.default_rng(0).normal(size=(2, 32, 48, 3)).astype(np.float32)
    ways = (Execution(), Execution(scan=True, remat=True), Execution("bfloat16"))
    run = jax.jit(lambda v, x: [dataclasses.replace(network, execution=e).forward(v, x)[0] for e in ways])
    plain, scanned, half = run(variables, x)
    np.testing.assert_allclose(scanned, plain, atol=1e-5)
    assert 0 < np.abs(np.asarray(half) - plain).max() < 0.1


def test_without_config_json_the_heads_are_told_by_a_published_size():
    weights = _timm_weights((112, 112), 192, 768, depth=12)
    found = family.recognise(dataclasses.replace(weights, config={}))
    assert vit.Config(**found.network.config) == dataclasses.replace(vit.variant("deit_tiny_patch16_224"), patch=(8, 8))
    assert found.input.size == (112, 112)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architecture": "vit_base_patch16_xp_224"}, "blocks of another kind"),
        (
            {"model_args": {"num_heads": 3, "global_pool": "avgmax"}},
            "global_pool='avgmax', where flaxtl computes",
        ),
        ({"model_args": {"num_heads": 3, "act_layer": "mish"}}, "act_layer='mish', where flaxtl computes 'gelu'"),
        ({}, "do not say its number of heads"),
    ],
)
def test_what_is_not_built_is_refused_in_a_sentence(changed, said):
    weights = _timm_weights()
    config = {**weights.config, **changed} if changed else {}
    with pytest.raises(CheckpointError, match=re.escape(said)):
        plan_conversion(dataclasses.replace(weights, config=config))


def test_stacked_blocks_and_transformers_names_without_config_are_refused():
    arrays = _as_npz(_timm_weights(), 3)
    stacked = {re.sub(r"encoderblock_\d", "encoderblock", n): a for n, a in arrays.items()}
    with pytest.raises(CheckpointError, match="blocks are stacked to one"):
        plan_conversion(_of(stacked))
    with pytest.raises(CheckpointError, match=r"Put its config\.json beside them"):
        plan_conversion(dataclasses.replace(_fixture("vit_hf_vit"), config={}))


def test_the_card_takes_what_the_preprocessor_says_and_the_labels():
    weights = _fixture("vit_hf_vit")
    config = {**weights.config, "id2label": {"0": "ant", "1": "bee", "2": "cow"}}
    settings = {"size": {"height": 32, "width": 48}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    card = plan_conversion(dataclasses.replace(weights, config=config, preprocessor=settings)).model.card
    half = (0.5,) * 3
    assert card.input == Image((32, 48), 3, half, half, "bilinear", fit="squash")
    assert card.labels == ("ant", "bee", "cow")


@pytest.mark.parity
def test_npz_as_timm_reads_it_says_the_same(tmp_path):
    import timm
    import torch

    weights = _timm_weights()
    arrays = _as_npz(weights, 3)
    np.savez(tmp_path / "vit.npz", **arrays)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, mlp_ratio=40 / 24, num_classes=5,
        act_layer="gelu_tanh",
    )  # fmt: skip
    timm.models.vision_transformer._load_weights(model, str(tmp_path / "vit.npz"))
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = model.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    read = plan_conversion(_of(arrays)).read()
    assert ours.relative(np.asarray(read.network.forward(read.variables, x)[0]), wanted) < 1e-5


@pytest.mark.parity
def test_every_vit_of_timm_is_recognised_rightly_or_refused():
    import timm
    import torch
    from timm.models.vision_transformer import Block, VisionTransformer

    from flaxtl.nets.transformer import ACTIVATIONS

    names = [n for m in ("vision_transformer", "deit") for n in timm.list_models(module=m)]
    recognised = 0
    for name in names:
        with torch.device("meta"):
            model = timm.create_model(name)
        tensors = {
            n: Tensor(tuple(t.shape), np.dtype(np.float32), lambda: np.zeros(0)) for n, t in model.state_dict().items()
        }
        config = {"architecture": name, "global_pool": model.global_pool}
        config["pretrained_cfg"] = {"input_size": [3, *model.patch_embed.img_size]}
        weights = Weights(tensors, config)
        if not family.vit_timm.is_named_so(weights):
            continue
        try:
            found = family.vit_timm.recognise(weights)
        except CheckpointError:
            assert name not in timm_names.expanded(timm_names.VIT)
            continue
        assert isinstance(model, VisionTransformer), name
        got, block = vit.Config(**found.network.config), model.blocks[0]
        assert type(block) is Block, name
        norm = next(m for n, m in model.named_modules() if n == "blocks.0.norm1")
        assert (got.heads, got.epsilon, got.depth) == (block.attn.num_heads, norm.eps, len(model.blocks)), name
        assert got.grid == tuple(model.patch_embed.grid_size), name
        assert got.prefix == model.num_prefix_tokens, name
        assert got.pool_prefix == model.pool_include_prefix, name
        x = torch.linspace(-3, 3, 50)
        act = type(block.mlp.act)() if not got.gated else torch.nn.SiLU()
        np.testing.assert_allclose(ACTIVATIONS[got.activation](x.numpy()), act(x).numpy(), atol=1e-6, err_msg=name)
        recognised += 1
    assert recognised > 100


@pytest.mark.parity
@pytest.mark.parametrize(
    ("old", "new", "prefix"), [((14, 14), (24, 24), 1), ((37, 37), (16, 16), 5), ((5, 8), (8, 5), 0)]
)
def test_resized_positions_and_patches_are_those_of_timm(old, new, prefix):
    import torch
    from timm.layers import resample_abs_pos_embed, resample_patch_embed

    from flaxtl import surgery

    position = np.random.default_rng(0).normal(size=(1, prefix + old[0] * old[1], 8)).astype(np.float32)
    theirs = resample_abs_pos_embed(torch.from_numpy(position), list(new), list(old), prefix).numpy()
    np.testing.assert_allclose(surgery.resize_positions(position, old, new, prefix=prefix)[0], theirs, atol=1e-5)
    kernel = np.random.default_rng(0).normal(size=(8, 3, 14, 14)).astype(np.float32)
    for how in ("bilinear", "bicubic"):
        theirs = resample_patch_embed(torch.from_numpy(kernel), [16, 12], how).numpy()
        found = surgery.resize_patches(kernel.transpose(2, 3, 1, 0), (16, 12), how)[0]
        assert ours.relative(found.transpose(3, 2, 0, 1), theirs) < 1e-5
