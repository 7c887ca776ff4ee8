"""What becomes of the settings of transformers' vision transformers, and their preprocessing where no file says it."""

from __future__ import annotations

from typing import Any

from flaxtl.card import Image
from flaxtl.convert.families.transformers_image import HALF, IMAGENET_MEAN, IMAGENET_STD, OPENAI_MEAN, OPENAI_STD
from flaxtl.convert.settings import READ, Setting, irrelevant, only

IMAGENET = Image((224, 224), 3, IMAGENET_MEAN, IMAGENET_STD, "bicubic", 224 / 256)
OPENAI = Image((224, 224), 3, OPENAI_MEAN, OPENAI_STD, "bicubic", 1.0)
# model type → what its preprocessing is where no file says it, and the defaults of its config.json.
TYPES: dict[str, tuple[Image, dict[str, Any]]] = {
    "vit": (Image((224, 224), 3, HALF, HALF, "bilinear", fit="squash"), {}),
    "deit": (IMAGENET, {}),
    "dinov2": (IMAGENET, {"layer_norm_eps": 1e-6, "patch_size": 14}),
    "dinov2_with_registers": (IMAGENET, {"layer_norm_eps": 1e-6}),
    "clip": (OPENAI, {"layer_norm_eps": 1e-5, "hidden_act": "quick_gelu", "patch_size": 32}),
    "siglip": (
        Image((224, 224), 3, HALF, HALF, "bicubic", fit="squash"),
        {"layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"},
    ),
}
_READ = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps")
_POOLER = "of a layer over the class token, which is left out: the features are the class token itself"
# What becomes of the types' own settings; see transformers_files.COMMON.
_OWN: dict[str, Setting] = {
    **dict.fromkeys((*_READ, "image_size", "num_channels", "hidden_dropout_prob"), READ),
    **irrelevant("the tensors' shapes say it", "patch_size"),
    **irrelevant("of pretraining", "encoder_stride", "use_mask_token", "projection_dim", "logit_scale_init_value"),
}
_DINOV2: dict[str, Setting] = {
    **_OWN,
    "mlp_ratio": READ,
    "use_swiglu_ffn": READ,
    **irrelevant("where training began", "layerscale_value"),
}
OWN: dict[str, dict[str, Setting]] = {
    **{kind: {**_OWN, **irrelevant(_POOLER, "pooler_output_size", "pooler_act")} for kind in ("vit", "deit")},
    "dinov2": _DINOV2,
    "dinov2_with_registers": {
        **_DINOV2,
        "num_register_tokens": READ,
        "interpolate_antialias": only(True),
        "interpolate_offset": only(0.0),
    },
    "clip": _OWN,
    "siglip": {**_OWN, "vision_use_head": READ},
}
# Of a model of two towers, beside the settings of its image tower.
TEXT = irrelevant("of the text tower, which no picture enters", "text_config", "text_config_dict")
PAIR: dict[str, Setting] = {**_OWN, **TEXT, "vision_config": READ, "vision_config_dict": READ}
