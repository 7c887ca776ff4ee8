"""Vision transformers: timm's, and transformers' ViT, DeiT, DINOv2, CLIP and SigLIP."""

import dataclasses

from parity import Case

BLOCKS = {"blocks.0": "blocks_0", "blocks.1": "blocks_1"}
POOLED = {"logits": "y", "features": "hooks['fc_norm']"}
DISTILLED = "torch.cat([hooks['norm'][:, 0], hooks['norm'][:, 1]], dim=-1)"
EPS = "norm_layer=__import__('functools').partial(timm.layers.LayerNorm, eps=1e-5)"


def _timm(name: str, architecture: str, arguments: str, size=(32, 48), outputs=None, **model_args) -> Case:
    """A tiny network whose config.json names a published architecture and the arguments that differ from it."""
    made = f"img_size={size}, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5"
    kind = "deit.VisionTransformerDistilled" if "distilled" in name else "vision_transformer.VisionTransformer"
    build = f"timm.models.{kind}({made}, {arguments})"
    settings = {"img_size": size, "num_heads": 3, **model_args}
    config = f"{{'architecture': '{architecture}', 'global_pool': model.global_pool, 'model_args': {settings}}}"
    inputs = {"x": ("normal", (2, *size, 3))}
    return Case(f"vit_{name}", build, inputs, outputs or POOLED, BLOCKS, config)


def _full(name: str, side: int = 224, outputs=None) -> Case:
    config = "{'architecture': '%s', 'global_pool': model.global_pool, 'pretrained_cfg': dict(input_size=(3, %d, %d))}"
    inputs = {"x": ("normal", (1, side, side, 3))}
    build = f"timm.create_model('{name}')"
    return Case(f"{name}_full", build, inputs, outputs or POOLED, BLOCKS, config % (name, side, side), full=True)


def _hf(name: str, kind: str, config: str, outputs=None, blocks="", size=(32, 48), full=False, **settings) -> Case:
    """A network of transformers, with the names and the config.json that save_pretrained writes."""
    side = size[0] if size[0] == size[1] else size  # CLIP's knows squares alone
    tiny = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": side, "patch_size": 8}
    given = settings if full else {**tiny, **settings}
    build = f"transformers.{kind}(transformers.{config}(**{given!r}))"
    inputs = {"pixel_values": ("normal", (1 if full else 2, *size, 3))}
    return Case(
        f"vit_hf_{name}",
        build,
        inputs,
        outputs or {"features": "y.pooler_output"},
        {f"{blocks}.{i}": f"blocks_{i}" for i in (0, 1)},
        "model.config.to_dict()",
        full=full,
        published=True,
    )


def _resized(name: str, case: Case, size: tuple[int, int]) -> Case:
    """A network whose preprocessor makes pictures of another size than it was trained for: positions are fitted."""
    settings = {"size": {"height": size[0], "width": size[1]}, "image_processor_type": "ViTImageProcessor"}
    inputs = {"pixel_values": ("normal", (1 if case.full else 2, *size, 3))}
    always = "Dinov2" in case.build
    return dataclasses.replace(
        case,
        name=f"vit_hf_{name}",
        inputs=inputs,
        preprocessor=settings,
        call={} if always else {"interpolate_pos_encoding": True},
    )


CLS = "y.last_hidden_state[:, 0]"
MLP = {"intermediate_size": 40}
CASES = [
    _timm("token", "vit_small_patch8_224", "mlp_ratio=3"),
    _timm("distilled", "deit_tiny_distilled_patch16_224", "", outputs={"logits": "y", "features": DISTILLED}),
    _timm("average", "vit_base_patch16_gap_224", "class_token=False, global_pool='avg', fc_norm=False, qkv_bias=False"),
    _timm("average_fc_norm", "eva_large_patch14_196", "global_pool='avg'", (24, 40)),
    _timm("deit3", "deit3_small_patch16_224", "no_embed_class=True, init_values=0.1"),
    _timm("registers", "vit_small_patch14_reg4_dinov2", "init_values=0.1, reg_tokens=4, no_embed_class=True"),
    _timm("clip", "vit_base_patch16_clip_quickgelu_224", f"pre_norm=True, act_layer='quick_gelu', {EPS}"),
    _timm("siglip", "vit_base_patch32_siglip_256", "class_token=False, global_pool='map', act_layer='gelu_tanh'"),
    _timm(
        "map_prefix",
        "vit_so150m_patch16_reg4_map_256",
        "class_token=False, reg_tokens=2, global_pool='map', pool_include_prefix=True",
        pool_include_prefix=True,
    ),
    _timm(
        "swiglu",
        "vit_giant_patch14_dinov2",
        "init_values=0.1, mlp_ratio=4, mlp_layer=timm.layers.SwiGLUPacked, act_layer=nn.SiLU",
    ),
    _hf("vit", "ViTForImageClassification", "ViTConfig", {"logits": "y.logits"}, "vit.layers", **MLP, num_labels=3),
    _hf("vit_model", "ViTModel", "ViTConfig", {"features": CLS}, "layers", size=(40, 24), **MLP, qkv_bias=False),
    _hf(
        "deit",
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        {"logits": "y.logits"},
        "deit.layers",
        **MLP,
        num_labels=3,
    ),
    _hf(
        "dinov2",
        "Dinov2ForImageClassification",
        "Dinov2Config",
        {"logits": "y.logits"},
        "dinov2.encoder.layer",
        (32, 32),
        num_labels=3,
    ),
    _hf("dinov2_swiglu", "Dinov2Model", "Dinov2Config", None, "encoder.layer", (32, 32), use_swiglu_ffn=True),
    _hf("dinov2_registers", "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", None, "encoder.layer", (32, 32)),
    _hf("clip", "CLIPVisionModel", "CLIPVisionConfig", None, "encoder.layers", (32, 32), **MLP),
    _hf("siglip", "SiglipVisionModel", "SiglipVisionConfig", None, "encoder.layers", (32, 32), **MLP),
    _full("vit_tiny_patch16_224"),
    _full("vit_base_patch16_224"),
    _full("vit_base_patch32_224"),
    _full("deit_small_patch16_224"),
    _full("deit_base_distilled_patch16_224", outputs={"logits": "y", "features": DISTILLED}),
    _full("vit_small_patch14_dinov2", 518),
    _full("vit_small_patch14_reg4_dinov2", 518),
    _full("vit_base_patch16_clip_224"),
    _full("vit_base_patch16_siglip_224"),
    _hf("vit_full", "ViTForImageClassification", "ViTConfig", {"logits": "y.logits"}, "vit.layers", (224, 224), True),
    _hf("clip_full", "CLIPVisionModel", "CLIPVisionConfig", None, "encoder.layers", (224, 224), True),
    _hf("siglip_full", "SiglipVisionModel", "SiglipVisionConfig", None, "encoder.layers", (224, 224), True),
    _hf("dinov2_full", "Dinov2Model", "Dinov2Config", None, "encoder.layer", (224, 224), True, patch_size=14),
]
_BY_NAME = {case.name.removeprefix("vit_hf_"): case for case in CASES}
CASES += [
    _resized("dinov2_smaller", _BY_NAME["dinov2"], (24, 24)),
    _resized("dinov2_wider", _BY_NAME["dinov2"], (24, 56)),
    _resized("dinov2_registers_smaller", _BY_NAME["dinov2_registers"], (16, 24)),
    _resized("vit_larger", _hf("v", "ViTModel", "ViTConfig", {"features": CLS}, "layers", (24, 24), **MLP), (40, 32)),
    _resized("clip_larger", _BY_NAME["clip"], (48, 48)),
    _resized("siglip_smaller", _BY_NAME["siglip"], (24, 24)),
    _resized(
        "dinov2_518_at_224_full",
        _hf("d", "Dinov2Model", "Dinov2Config", None, "encoder.layer", (518, 518), True, patch_size=14, image_size=518),
        (224, 224),
    ),
]
