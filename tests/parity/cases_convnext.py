"""ConvNeXt, versions 1 and 2: timm's and transformers' layouts."""

from parity import Case

BLOCKS = {"stem": "stem", "stages.0.blocks.1": "blocks_1", "stages.1.blocks.0": "blocks_2", "stages.3": "blocks_4"}
OUTPUTS = {"logits": "y", "features": "hooks['head.flatten']"}


def _tiny(name: str, architecture: str, extra: str = "", last: str = "head.flatten", **model_args: object) -> Case:
    build = (
        "timm.models.convnext.ConvNeXt(depths=(2, 1, 1, 1), dims=(8, 12, 16, 24), num_classes=5, ls_init_value="
        f"{None if 'v2' in name else 1.0}, use_grn={'v2' in name}, norm_eps=1e-6, {extra})"
    )
    config = f"{{'architecture': '{architecture}', 'pretrained_cfg': dict(input_size=(3, 70, 45))"
    config += f", 'model_args': {model_args}}}" if model_args else "}"
    outputs = {"logits": "y", "features": f"hooks['{last}']"}
    return Case(name, build, {"x": ("normal", (2, 70, 45, 3))}, outputs, BLOCKS, config)


def _transformers(name: str, kind: str) -> Case:
    settings = "depths=[2, 1, 1, 1], hidden_sizes=[8, 12, 16, 24], image_size=64, num_labels=5"
    build = f"transformers.{kind}ForImageClassification(transformers.{kind}Config({settings}))"
    prefix = kind.lower()
    blocks = {
        f"{prefix}.embeddings": "stem",
        f"{prefix}.encoder.stages.1": "blocks_2",
        f"{prefix}.encoder.stages.3": "blocks_4",
    }
    outputs = {"logits": "y.logits", "features": f"hooks['{prefix}.layernorm']"}
    inputs = {"pixel_values": ("normal", (2, 64, 64, 3))}
    return Case(name, build, inputs, outputs, blocks, "model.config.to_dict()")


def _full(name: str, size: int = 224) -> Case:
    shape = {"x": ("normal", (1, size, size, 3))}
    config = f"{{'architecture': '{name}', 'pretrained_cfg': dict(input_size=(3, {size}, {size}))}}"
    return Case(f"{name}_full", f"timm.create_model('{name}')", shape, OUTPUTS, config=config, full=True)


CASES = [
    _tiny("convnext", "convnext_tiny"),
    _tiny("convnext_conv_mlp", "convnext_atto", "conv_mlp=True"),
    _tiny("convnext_overlap", "convnext_atto_ols", "stem_type='overlap_tiered', conv_mlp=True"),
    _tiny("convnext_norm_first", "convnext_tiny_hnf", "head_norm_first=True", "head.global_pool"),
    _tiny("convnext_relu", "convnext_tiny", "act_layer='relu'", act_layer="relu", norm_eps=1e-6),
    _tiny("convnextv2", "convnextv2_tiny"),
    _tiny("convnextv2_conv_mlp", "convnextv2_atto", "conv_mlp=True"),
    _transformers("convnext_transformers", "ConvNext"),
    _transformers("convnextv2_transformers", "ConvNextV2"),
    *(_full(n) for n in ("convnext_atto", "convnext_tiny", "convnext_base", "convnextv2_atto", "convnextv2_tiny")),
]
