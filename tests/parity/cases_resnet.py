"""Residual networks: timm's, with the D variant, and the CIFAR form with option A shortcuts."""

from parity import Case

# timm names of the stages' blocks → our consecutive numbers.
BLOCKS = {f"layer{stage}.0": f"blocks_{stage - 1}" for stage in (1, 2, 3, 4)}
OUTPUTS = {"logits": "y", "features": "hooks['global_pool']"}
BASIC = "block=timm.models.resnet.BasicBlock"
CONFIG = "{'architecture': 'resnet18', 'pretrained_cfg': dict(input_size=(3, 64, 64))}"


def _tiny(name: str, arguments: str, architecture: str = "resnet18", **model_args: object) -> Case:
    config = f"{{'architecture': '{architecture}', 'pretrained_cfg': dict(input_size=(3, 64, 64))"
    config += f", 'model_args': {model_args}}}" if model_args else "}"
    build = f"timm.models.resnet.ResNet(layers=(1, 1, 1, 1), num_classes=5, channels=(16, 24, 32, 48), {arguments})"
    return Case(name, build, {"x": ("normal", (2, 64, 64 if "average" in name else 48, 3))}, OUTPUTS, BLOCKS, config)


def _full(name: str) -> Case:
    size = {"x": ("normal", (2, 224, 224, 3))}
    return Case(f"{name}_full", f"timm.create_model('{name}')", size, OUTPUTS, config=CONFIG, full=True)


def _cifar() -> Case:
    build = "__import__('parity.cifar_resnet', fromlist=['network']).network(torch, (8, 16, 32), 5)"
    blocks = {f"module.layer{i + 1}.0": f"blocks_{i}" for i in range(3)}
    return Case("resnet_cifar", build, {"x": ("normal", (2, 33, 30, 3))}, {"logits": "y"}, blocks)


CASES = [
    _tiny("resnet_basic", "block=timm.models.resnet.BasicBlock"),
    _tiny("resnet_bottleneck", "block=timm.models.resnet.Bottleneck"),
    _tiny(
        "resnet_d",
        "block=timm.models.resnet.Bottleneck, stem_type='deep', stem_width=8, avg_down=True",
    ),
    _tiny("resnet_c", "block=timm.models.resnet.Bottleneck, stem_type='deep', stem_width=8", "resnet50c"),
    _tiny("resnet_t", f"{BASIC}, stem_type='deep_tiered', stem_width=16, avg_down=True", "resnet10t"),
    _tiny(
        "resnet_average",
        f"{BASIC}, aa_layer=nn.AvgPool2d, stem_type='deep', stem_width=8, avg_down=True",
        "resnetaa34d",
    ),
    _tiny("resnet_average_bottleneck", "block=timm.models.resnet.Bottleneck, aa_layer=nn.AvgPool2d", "resnetaa50"),
    _tiny("resnet_blur", f"{BASIC}, aa_layer=timm.layers.BlurPool2d", "resnetblur18"),
    _tiny(
        "resnet_blur_bottleneck", "block=timm.models.resnet.Bottleneck, aa_layer=timm.layers.BlurPool2d", "resnetblur50"
    ),
    _tiny("resnet_silu", f"{BASIC}, act_layer='silu'", act_layer="silu"),
    _cifar(),
    *(_full(n) for n in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")),
    *(_full(n) for n in ("resnet18d", "resnet26d", "resnet50d", "resnet101d")),
]
