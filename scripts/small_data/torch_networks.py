"""The pretrained networks in PyTorch, from the same files: each a body that gives features, and a new linear head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Arrays = dict[str, Tensor]


class Network(nn.Module):
    """A pretrained body and a head for new classes."""

    def __init__(self, body: nn.Module, head: nn.Module):
        super().__init__()
        self.body, self.head = body, head

    def forward(self, inputs: Any) -> Tensor:
        """Returns logits [batch, classes]."""
        return self.head(self.body(inputs))


def network(weights: str | Path, classes: int) -> Network:
    """Returns the network of a folder of published weights, with a new head."""
    folder = Path(weights)
    body, features, dropout = BODIES[folder.name](folder)
    return Network(body, nn.Sequential(nn.Dropout(dropout), nn.Linear(features, classes)))


def _tensors(file: Path) -> Arrays:
    from safetensors.torch import load_file

    return {name: tensor.float() for name, tensor in load_file(file).items()}


def _mobilenet(folder: Path) -> tuple[nn.Module, int, float]:
    """torchvision's own module; channels_last, in which it runs fastest on a CPU."""
    from torchvision.models import mobilenet_v2

    [file] = folder.glob("*.pth")
    whole = mobilenet_v2()
    whole.load_state_dict(torch.load(file, weights_only=True))
    body = nn.Sequential(whole.features, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return body.to(memory_format=torch.channels_last), whole.last_channel, 0.2


class Sentences(nn.Module):
    """A BERT whose tokens are averaged and brought to length 1, as sentence-transformers does for this model."""

    def __init__(self, folder: Path):
        super().__init__()
        from transformers import BertConfig, BertModel

        [file] = folder.glob("*.safetensors")
        config = BertConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        self.bert = BertModel(config, add_pooling_layer=False)
        missing, _ = self.bert.load_state_dict(_tensors(file), strict=False)
        if missing:
            raise ValueError(f"{file} lacks {missing}")
        self.width = config.hidden_size

    def forward(self, inputs: Arrays) -> Tensor:
        """Returns embeddings [batch, width] of {"input_ids", "attention_mask"}."""
        hidden = self.bert(**inputs).last_hidden_state
        weight = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)


def _minilm(folder: Path) -> tuple[nn.Module, int, float]:
    body = Sentences(folder)
    return body, body.width, 0.0


def _same(x: Tensor, stride: int) -> Tensor:
    """Pads for a 3×3 convolution as TensorFlow's SAME does."""
    rows, columns = (max((-(-n // stride) - 1) * stride + 3 - n, 0) for n in x.shape[-2:])
    return functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


class Separable(nn.Module):
    """A convolution with TensorFlow's padding, a bias and ReLU6; its kernel comes as [height, width, in, out]."""

    def __init__(self, tensors: Arrays, name: str, stride: int):
        super().__init__()
        kernel = tensors[f"{name}/kernel"]
        self.depthwise = name.endswith("depthwise")
        self.kernel = nn.Parameter(kernel.permute(3, 2, 0, 1).contiguous())
        self.bias, self.stride = nn.Parameter(tensors[f"{name}/bias"]), stride

    def forward(self, x: Tensor) -> Tensor:
        """Returns [batch, channels, height, width]."""
        padded = _same(x, self.stride) if self.kernel.shape[-1] == 3 else x
        groups = len(self.kernel) if self.depthwise else 1
        return functional.relu6(functional.conv2d(padded, self.kernel, self.bias, self.stride, groups=groups))


class Channels(nn.Module):
    """Brings patches [batch, frames, bands, 1] into PyTorch's order."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns [batch, 1, frames, bands]."""
        return x.permute(0, 3, 1, 2)


_YAMNET_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def _yamnet(folder: Path) -> tuple[nn.Module, int, float]:
    """MobileNet-v1 on log-mel patches (Howard et al. 2017, table 1); its BatchNorm lies in the biases."""
    [file] = folder.glob("*.safetensors")
    tensors = _tensors(file)
    layers: list[nn.Module] = [Channels(), Separable(tensors, "layer1/conv", 2)]
    for i, stride in enumerate(_YAMNET_STRIDES):
        layers.append(Separable(tensors, f"layer{2 * i + 2}/depthwise", stride))
        layers.append(Separable(tensors, f"layer{2 * i + 3}/conv", 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 1024, 0.0


def _linear(tensors: Arrays, name: str) -> nn.Linear:
    kernel = tensors[f"{name}/kernel"]
    layer = nn.Linear(*kernel.shape, bias=f"{name}/bias" in tensors)
    layer.weight.data = kernel.T.contiguous()
    if layer.bias is not None:
        layer.bias.data = tensors[f"{name}/bias"].clone()
    return layer


class KeywordBlock(nn.Module):
    """Attention with one head, and a feed-forward part, each added and then normalised."""

    def __init__(self, tensors: Arrays, name: str):
        super().__init__()
        self.query, self.key, self.value, self.out = (
            _linear(tensors, f"{name}/attn/{part}") for part in ("query", "key", "value", "out")
        )
        self.fc1, self.fc2 = (_linear(tensors, f"{name}/mlp/{part}") for part in ("fc1", "fc2"))
        self.norm1, self.norm2 = (_normalisation(tensors, f"{name}/{part}") for part in ("norm1", "norm2"))

    def forward(self, x: Tensor) -> Tensor:
        """Returns tokens [batch, tokens, width]."""
        attended = functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        x = self.norm1(x + self.out(attended))
        return self.norm2(x + self.fc2(functional.gelu(self.fc1(x), approximate="tanh")))


def _normalisation(tensors: Arrays, name: str) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(tensors[f"{name}/scale"]), eps=1e-6)
    layer.weight.data, layer.bias.data = tensors[f"{name}/scale"].clone(), tensors[f"{name}/bias"].clone()
    return layer


class Keywords(nn.Module):
    """The keyword transformer KWT-1 on MFCC frames (Berg et al. 2021); features are the class token."""

    def __init__(self, tensors: Arrays):
        super().__init__()
        self.projection = _linear(tensors, "proj")
        self.token, self.position = nn.Parameter(tensors["class_emb"]), nn.Parameter(tensors["pos_emb"])
        depth = len({name.split("/")[0] for name in tensors if name.startswith("block")})
        self.blocks = nn.ModuleList(KeywordBlock(tensors, f"block{i}") for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Returns features [batch, width] of frames [batch, frames, coefficients]."""
        x = torch.cat([self.token.expand(len(x), -1, -1), self.projection(x)], 1) + self.position
        for block in self.blocks:
            x = block(x)
        return x[:, 0]


def _keywords(folder: Path) -> tuple[nn.Module, int, float]:
    [file] = folder.glob("*.safetensors")
    body = Keywords(_tensors(file))
    return body, body.projection.out_features, 0.0


BODIES: dict[str, Callable[[Path], tuple[nn.Module, int, float]]] = {
    "mobilenet_v2_imagenet": _mobilenet,
    "minilm_l6_v2": _minilm,
    "yamnet_audioset": _yamnet,
    "kwt1_speech_commands": _keywords,
}
