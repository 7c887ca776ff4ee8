"""Inverted-residual networks: MobileNetV2, MobileNetV3 and EfficientNet of timm, and torchvision's layouts."""

from parity import Case

_DECODE = "timm.models._efficientnet_builder.decode_arch_def"
V2 = ["ds_r1_k3_s1_c8", "ir_r2_k3_s2_e3_c8", "ir_r1_k3_s2_e3_c16"]
B0 = ["ds_r1_k3_s1_e1_c8_se0.25", "ir_r2_k3_s2_e3_c8_se0.25", "ir_r2_k5_s2_e3_c16_se0.25"]


def _config(name: str, size: tuple[int, int], **model_args: object) -> str:
    config = f"{{'architecture': '{name}', 'pretrained_cfg': dict(input_size=(3, {size[0]}, {size[1]}))"
    return config + (f", 'model_args': {model_args}}}" if model_args else "}")


def _outputs(last: str) -> dict[str, str]:
    return {"logits": "y", "features": f"hooks['{last}'].flatten(1)"}


def _tiny(
    name: str, architecture: str, stages: list[str], activation: str, extra: str = "", **model_args: object
) -> Case:
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
        _config(architecture, (41, 34), **model_args),
    )


def _v3(name: str, architecture: str, stages: list[str], extra: str = "") -> Case:
    build = (
        f"timm.models.mobilenetv3.MobileNetV3({_DECODE}({[[s] for s in stages]}), num_classes=5, num_features=24, "
        "stem_size=8, act_layer=nn.Hardswish, se_layer=__import__('functools').partial("
        "timm.models.mobilenetv3.SqueezeExcite, gate_layer='hard_sigmoid', force_act_layer=nn.ReLU), " + extra + ")"
    )
    blocks = {"bn1": "stem", "blocks.1.1": "blocks_2", "blocks.2.0": "blocks_3", f"blocks.{len(stages) - 1}": "top"}
    size = (65, 48)
    config = _config(architecture, size)
    return Case(name, build, {"x": ("normal", (2, *size, 3))}, _outputs("act2"), blocks, config)


def _full(name: str, last: str = "global_pool", size: int = 224) -> Case:
    shape = {"x": ("normal", (1, size, size, 3))}
    config = _config(name, (size, size))
    return Case(f"{name}_full", f"timm.create_model('{name}')", shape, _outputs(last), config=config, full=True)


def _vision(name: str, build: str, last: str, blocks: dict[str, str]) -> Case:
    code = build.replace("vision.", "__import__('torchvision').models.")
    return Case(f"torchvision_{name}", code, {"x": ("normal", (2, 49, 38, 3))}, _outputs(last), blocks)


def _lines(kind: str, *lines: tuple[object, ...]) -> str:
    return "[" + ", ".join(f"vision.{kind}{line}" for line in lines) + "]"


_TF = "pad_type='same', norm_layer=__import__('functools').partial(nn.BatchNorm2d, eps=1e-3)"
LARGE = ["ds_r1_k3_s1_c8_nre", "ir_r2_k3_s2_e3_c8_nre", "ir_r1_k5_s2_e3_c16_se0.25_nre", "ir_r1_k3_s2_e2.5_c16"]
SMALL = ["ds_r1_k3_s2_c8_se0.25_nre", "ir_r2_k3_s2_e3_c8_nre", "ir_r1_k5_s2_e2.5_c16_se0.25"]
TOP = "cn_r1_k1_s1_c32"
# torchvision's blocks do not say their stage, so the tiny ones have the stages' true depths.
_EFFICIENT = _lines("efficientnet.MBConvConfig", (1, 3, 1, 8, 8, 1), (3, 3, 2, 8, 8, 2), (3, 5, 2, 8, 16, 1))
_V3_SMALL = _lines(
    "mobilenetv3.InvertedResidualConfig",
    (8, 3, 8, 8, True, "RE", 2, 1, 1.0),
    (8, 3, 24, 16, False, "RE", 2, 1, 1.0),
    (16, 3, 24, 16, False, "RE", 1, 1, 1.0),
    (16, 5, 32, 24, True, "HS", 2, 1, 1.0),
)

CASES = [
    _tiny("mobilenetv2", "mobilenetv2_100", V2, "ReLU6"),
    _tiny("efficientnet", "efficientnet_b0", B0, "SiLU"),
    _tiny("efficientnet_tf", "tf_efficientnet_b0", B0, "SiLU", _TF),
    _tiny("efficientnet_same", "efficientnet_b0", B0, "SiLU", _TF, pad_type="same", bn_eps=1e-3),
    _tiny("efficientnet_lite", "efficientnet_lite0", [s.replace("_se0.25", "") for s in B0], "ReLU6"),
    _v3("mobilenetv3_small", "mobilenetv3_small_100", [*SMALL, TOP]),
    _v3("mobilenetv3_tf", "tf_mobilenetv3_large_100", [*LARGE, TOP], _TF),
    _vision(
        "mobilenet_v2",
        "vision.MobileNetV2(5, 0.25, [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]])",
        "classifier.0",
        {"features.1": "blocks_0", "features.4": "blocks_3"},
    ),
    _vision(
        "mobilenet_v3_small",
        f"vision.MobileNetV3({_V3_SMALL}, 24, num_classes=5)",
        "classifier.1",
        {"features.1": "blocks_0", "features.4": "blocks_3", "features.5": "top"},
    ),
    _vision(
        "efficientnet",
        f"vision.EfficientNet({_EFFICIENT}, dropout=0.0, num_classes=5, last_channel=32)",
        "avgpool",
        {"features.1.0": "blocks_0", "features.2.1": "blocks_2", "features.3.0": "blocks_3"},
    ),
    *(_full(n) for n in ("mobilenetv2_035", "mobilenetv2_100", "mobilenetv2_110d", "mobilenetv2_140")),
    *(_full(n) for n in ("efficientnet_b0", "efficientnet_b4", "efficientnet_lite0", "tf_efficientnet_b1")),
    *(_full(n, "act2") for n in ("mobilenetv3_large_100", "mobilenetv3_small_100", "tf_mobilenetv3_small_075")),
]
