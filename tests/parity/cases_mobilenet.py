"""Inverted-residual networks: MobileNetV2, MobileNetV3 and EfficientNet of timm, and torchvision's layouts."""

from parity import Case

_DECODE = "timm.models._efficientnet_builder.decode_arch_def"
_VISION = "__import__('torchvision').models"
V2 = ["ds_r1_k3_s1_c8", "ir_r2_k3_s2_e3_c8", "ir_r1_k3_s2_e3_c16"]
B0 = ["ds_r1_k3_s1_e1_c8_se0.25", "ir_r2_k3_s2_e3_c8_se0.25", "ir_r2_k5_s2_e3_c16_se0.25"]


def _config(name: str, size: tuple[int, int]) -> str:
    return f"{{'architecture': '{name}', 'pretrained_cfg': dict(input_size=(3, {size[0]}, {size[1]}))}}"


def _outputs(last: str) -> dict[str, str]:
    return {"logits": "y", "features": f"hooks['{last}'].flatten(1)"}


def _tiny(name: str, architecture: str, stages: list[str], activation: str, extra: str = "") -> Case:
    build = (
        f"timm.models.efficientnet.EfficientNet({_DECODE}({[[s] for s in stages]}), num_classes=5, num_features=24, "
        f"stem_size=8, act_layer=nn.{activation}, {extra})"
    )
    blocks = {"bn1": "stem", "blocks.0.0": "blocks_0", "blocks.1.1": "blocks_2", "bn2": "top"}
    return Case(
        name,
        build,
        {"x": ("normal", (2, 41, 34, 3))},
        _outputs("global_pool"),
        blocks,
        _config(architecture, (41, 34)),
    )


def _v3(name: str, architecture: str, size: tuple[int, int], blocks: dict[str, str]) -> Case:
    build = f"timm.create_model('{architecture}', num_classes=5)"
    return Case(name, build, {"x": ("normal", (1, *size, 3))}, _outputs("act2"), blocks, _config(architecture, size))


def _full(name: str, last: str = "global_pool", size: int = 224) -> Case:
    shape = {"x": ("normal", (1, size, size, 3))}
    config = _config(name, (size, size))
    return Case(f"{name}_full", f"timm.create_model('{name}')", shape, _outputs(last), config=config, full=True)


def _vision(name: str, last: str, blocks: dict[str, str], size: int = 65, build: str = "") -> Case:
    code = build or f"{_VISION}.{name}(width_mult=0.1, num_classes=5)"
    return Case(f"torchvision_{name}", code, {"x": ("normal", (2, size, size, 3))}, _outputs(last), blocks)


_TF = "pad_type='same', norm_layer=__import__('functools').partial(nn.BatchNorm2d, eps=1e-3)"
_CONFIGS = ", ".join(
    f"{_VISION}.efficientnet.MBConvConfig{line}"
    for line in ((1, 3, 1, 8, 8, 1), (3, 3, 2, 8, 8, 2), (3, 5, 2, 8, 16, 1))
)
_EFFICIENT = f"{_VISION}.EfficientNet([{_CONFIGS}], dropout=0.0, num_classes=5)"

CASES = [
    _tiny("mobilenetv2", "mobilenetv2_100", V2, "ReLU6"),
    _tiny("efficientnet", "efficientnet_b0", B0, "SiLU"),
    _tiny("efficientnet_tf", "tf_efficientnet_b0", B0, "SiLU", _TF),
    _tiny("efficientnet_lite", "efficientnet_lite0", [s.replace("_se0.25", "") for s in B0], "ReLU6"),
    _v3("mobilenetv3_small", "mobilenetv3_small_050", (65, 48), {"blocks.0.0": "blocks_0", "blocks.2.1": "blocks_4"}),
    _v3("mobilenetv3_tf", "tf_mobilenetv3_large_075", (48, 65), {"blocks.2.0": "blocks_3", "blocks.5.2": "blocks_14"}),
    _vision("mobilenet_v2", "classifier.0", {"features.1": "blocks_0", "features.4": "blocks_3"}),
    _vision("mobilenet_v3_small", "classifier.1", {"features.1": "blocks_0", "features.12": "top"}),
    _vision(
        "efficientnet",
        "avgpool",
        {"features.1.0": "blocks_0", "features.2.1": "blocks_2", "features.3.0": "blocks_3"},
        build=_EFFICIENT,
    ),
    *(_full(n) for n in ("mobilenetv2_035", "mobilenetv2_100", "mobilenetv2_110d", "mobilenetv2_140")),
    *(_full(n) for n in ("efficientnet_b0", "efficientnet_b4", "efficientnet_lite0", "tf_efficientnet_b1")),
    *(_full(n, "act2") for n in ("mobilenetv3_large_100", "mobilenetv3_small_100", "tf_mobilenetv3_small_075")),
]
