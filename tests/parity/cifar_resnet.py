"""The CIFAR form of the residual network, on the reference side: no package that we compare with has it."""

from __future__ import annotations

from typing import Any


def network(torch: Any, widths: tuple[int, ...], classes: int) -> Any:
    """Returns the torch module of He et al. 2016, section 4.2, one block a stage, shortcuts of option A.

    Its tensors have the names of Idelbayev's pytorch_resnet_cifar10, whose files were saved from a DataParallel module
    and therefore begin with "module.".
    """
    nn, relu = torch.nn, torch.nn.functional.relu

    class Block(nn.Module):
        def __init__(self, entering: int, width: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(entering, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.stride, self.extra = stride, width - entering

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
            if self.extra:
                around = (0, 0, 0, 0, self.extra // 2, self.extra // 2)
                x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], around)
            return relu(x + y)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(widths[0])
            for i, width in enumerate(widths):
                setattr(self, f"layer{i + 1}", nn.Sequential(Block(widths[max(i - 1, 0)], width, 2 if i else 1)))
            self.linear = nn.Linear(widths[-1], classes)

        def forward(self, x: Any) -> Any:
            x = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
            return self.linear(x.mean((2, 3)))

    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = Network()

        def forward(self, x: Any) -> Any:
            return self.module(x)

    return Parallel()
