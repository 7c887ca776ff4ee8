"""The architectures of timm that are computed as timm computes them, by full name; any other name is refused.

A name decides what no tensor shows: pooling between strides, the number of heads, activations, padding, epsilons. So
names are matched whole against these lists, which `tests/parity/timm_names.py` compares with timm's own networks, name
by name. Names are written with {alternatives}. Source: timm 1.0.31, `timm.list_models()` and `_deprecated_models`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from flaxtl.errors import CheckpointError, did_you_mean, listed

RESNET = (
    "resnet{18,26,34,50,101,152,200}{,d}",
    "resnet{50,101,152}{c,s}",
    "resnet{10,14,26,50}t",
    "resnetaa{50,34d,50d,101d}",
    "resnetblur{18,50,50d,101d}",
)
MOBILENET = (
    "mobilenetv2_{035,050,075,100,110d,120d,140}",
    "mobilenetv3_large_{075,100}",
    "mobilenetv3_small_{050,075,100}",
    "tf_mobilenetv3_{large,small}_{075,100}",
    "{,tf_}efficientnet_b{0,1,2,3,4,5,6,7,8}",
    "{,tf_}efficientnet_lite{0,1,2,3,4}",
)
CONVNEXT = (
    "convnext_{atto,femto,pico,nano}{,_ols}",
    "convnext_{tiny,tiny_hnf,small,base,large,xlarge,xxlarge}",
    "convnextv2_{atto,femto,pico,nano,tiny,small,base,large,huge}",
    "test_convnext{,2}",
)
VIT = (
    "vit_tiny_patch16_{224,384}",
    "vit_small_patch{8_224,16_224,16_384,32_224,32_384,16_36x1_224}",
    "vit_base_patch{8_224,16_224,16_384,32_224,32_384,16_224_miil,16_gap_224,16_plus_240,32_plus_256}",
    "vit_large_patch{14_224,16_224,16_384,32_224,32_384}",
    "vit_{huge,giant,gigantic}_patch14_224",
    "vit_{huge_patch14,giant_patch16}_gap_224",
    "vit_huge_patch16_gap_448",
    "vit_{small,base,large,giant}_patch14{,_reg4}_dinov2",
    "vit_{base,large,giant,so400m}_patch14_reg1_tipsv2",
    "vit_{xsmall,medium}_patch16_clip_224",
    "vit_{medium,betwixt}_patch32_clip_224",
    "vit_base_patch16_plus_clip_240",
    "vit_base_patch{16_clip_224,16_clip_384,32_clip_224,32_clip_256,32_clip_384,32_clip_448}",
    "vit_large_patch14_clip{,_quickgelu}_{224,336}",
    "vit_huge_patch14_clip_{224,336,378,quickgelu_224,quickgelu_378}",
    "vit_{giant,gigantic}_patch14_clip_224",
    "vit_gigantic_patch14_clip_{378,quickgelu_224}",
    "vit_base_patch{16,32}_clip_quickgelu_224",
    "vit_base_patch16_siglip{,_gap}_{224,256,384,512}",
    "vit_base_patch32_siglip{,_gap}_256",
    "vit_large_patch16_siglip{,_gap}_{256,384,512}",
    "vit_so400m_patch14_siglip_{224,378,384,gap_224,gap_378,gap_384,gap_448,gap_896}",
    "vit_so400m_patch16_siglip{,_gap}_{256,384,512}",
    "vit_giantopt_patch16_siglip{,_gap}_{256,384}",
    "vit_base_patch16_reg4_gap_256",
    "vit_{wee,little,medium,betwixt}_patch16_reg1_gap_256",
    "vit_{little,medium,mediumd,betwixt}_patch16_reg4_gap_256",
    "vit_{mediumd,betwixt}_patch16_reg4_gap_384",
    "vit_medium_patch16_gap_{240,256,384}",
    "vit_betwixt_patch16_gap_256",
    "vit_so150m_patch16_reg4_{gap_256,gap_384,map_256}",
    "vit_so150m2_patch16_reg1_gap_{256,384,448}",
    "vit_intern300m_patch14_448",
    "deit_{tiny,small,base}{,_distilled}_patch16_224",
    "deit_base{,_distilled}_patch16_384",
    "deit3_{small,base,large}_patch16_{224,384}",
    "deit3_{medium_patch16,huge_patch14}_224",
    "eva_large_patch14_{196,336}",
    "flexivit_{small,base,large}",
    "test_vit{,2,3}",
)
# What timm called networks before version 0.9, where the name held what is now the tag behind the dot.
_OLD = (
    (r"(?:tv|ssl|swsl)_(resnet\d+)", r"\1"),
    (r"gluon_(resnet\d+)_v1b", r"\1"),
    (r"gluon_(resnet\d+)_v1([cds])", r"\1\2"),
    (r"(efficientnet_b[23])a", r"\1"),
    (r"(tf_efficientnet_b\d)_(?:ap|ns)", r"\1"),
    (r"(mobilenetv3_large_100)_miil(?:_in21k)?", r"\1"),
    (r"(convnext_\w+?)(?:_384)?_(?:in22ft1k|in22k)", r"\1"),
    (r"(vit_\w+_patch\d+)_224_clip_laion2b", r"\1_clip_224"),
    (r"(vit_\w+|deit3_\w+)_(?:in21k|in21ft1k|sam|dino)", r"\1"),
)


def expanded(patterns: Iterable[str]) -> tuple[str, ...]:
    """Returns the names that patterns with {alternatives} stand for.

    Example:
        >>> expanded(['a{1,2}{,d}'])
        ('a1', 'a1d', 'a2', 'a2d')
    """
    found: list[str] = []
    for pattern in patterns:
        parts = re.split(r"\{(.*?)\}", pattern)
        choices = [p.split(",") if i % 2 else [p] for i, p in enumerate(parts)]
        found += ("".join(words) for words in itertools.product(*choices))
    return tuple(found)


def current_name(name: str) -> str:
    """Returns timm's present name of an architecture, without the tag that says which weights.

    Example:
        >>> current_name('resnet50.a1_in1k'), current_name('gluon_resnet50_v1d'), current_name('convnext_tiny_in22k')
        ('resnet50', 'resnet50d', 'convnext_tiny')
    """
    name = name.partition(".")[0]
    for old, new in _OLD:
        if re.fullmatch(old, name):
            return re.sub(old, new, name)
    return name


def require_listed(name: str, patterns: Iterable[str], differs: Iterable[tuple[str, str]]) -> None:
    """Refuses an architecture that is not on a list.

    Args:
        name: as the source says it; "" where it does not.
        patterns: the family's list.
        differs: (regular expression, what a network of such a name has that others do not).

    Raises:
        CheckpointError: the name is not listed.
    """
    patterns = tuple(patterns)
    names = expanded(patterns)
    if not name or name in names:
        return
    reason = next((told for pattern, told in differs if re.search(pattern, name)), "")
    raise CheckpointError(
        f"flaxtl does not know the architecture {name!r}{f', which has {reason}' if reason else ''}."
        f"{did_you_mean(name, names)} Of this family it computes {listed(patterns, len(patterns))}. If the weights are "
        "one of these under a name of their own, load them with ignore_settings=('architecture',), or put timm's name "
        "into config.json."
    )
