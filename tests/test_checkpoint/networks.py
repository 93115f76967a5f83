"""Networks that a warm start is tested with, and how their outputs are compared."""

from __future__ import annotations

import copy
import math

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from tests.reference import plain_ean


def train_a_little(network: nn.Module, steps: int = 3) -> nn.Module:
    """Train on noise until no norm is what it started as."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        outputs = network(torch.randn(4, 3, 64, 64) * 2 + 1)
        outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
        optimizer.zero_grad()
        sum((output * torch.randn_like(output)).mean() for output in outputs).backward()
        optimizer.step()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.weight.std() > 1e-3
        assert norm.running_mean.abs().max() > 0
        assert (norm.running_var - 1).abs().max() > 1e-3
    # a bias with nothing but a convolution and another norm behind it has no gradient
    assert sum(norm.bias.std() > 1e-3 for norm in norms) > len(norms) / 2
    return network


def assert_same_outputs(network: nn.Module, plain: nn.Module, exact: float = 1e-10) -> None:
    """Hold each output of a network to that of the plain one, in evaluation and in training mode.

    In float64, where nothing but the weights can make a difference, and in evaluation mode as they are: in float32
    batch norm and EAN in one operation round otherwise than one after the other.
    """
    network, plain = copy.deepcopy(network), copy.deepcopy(plain)  # training mode would change their statistics
    image = torch.randn(2, 3, 64, 64)
    own = next(network.parameters()).dtype
    for dtype, training, tolerance in (
        (own, False, 1e-4),
        (torch.float64, False, exact),
        (torch.float64, True, exact),
    ):
        network.to(dtype).train(training)
        plain.to(dtype).train(training)
        with torch.no_grad():
            outputs, expected = network(image.to(dtype)), plain(image.to(dtype))
        assert len(outputs) == len(expected)
        for output, wanted in zip(outputs, expected):
            assert wanted.abs().max() > 1e-3
            assert (output - wanted).abs().max() <= tolerance * wanted.abs().max()


class ResNetFeatures(nn.Module):
    """The four stages of a ResNet of torchvision, timm or mmpretrain."""

    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        self.resnet = resnet

    def forward(self, x: Tensor) -> list[Tensor]:
        net, outputs = self.resnet, []
        activation = net.relu if hasattr(net, 'relu') else net.act1
        x = net.maxpool(activation(net.bn1(net.conv1(x))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            outputs.append(x)
        return outputs


@MODELS.register_module()
class LastLayerSE(nn.Module):
    """Squeeze and excitation that names its last layer."""

    def __init__(self, in_channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, in_channels // ratio, 1)
        self.expand = nn.Conv2d(in_channels // ratio, in_channels, 1)

    @property
    def gate_layers(self) -> tuple[nn.Module, ...]:
        return (self.expand,)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(self.reduce(x.mean(dim=(2, 3), keepdim=True)).relu()).sigmoid()


@MODELS.register_module()
class TwoLayerGate(nn.Module):
    """A gate by two masks with a norm inside, as Coordinate Attention has: ¼ once both last layers are zero."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.height = nn.Conv2d(8, in_channels, 1)
        self.width = nn.Conv2d(8, in_channels, 1)

    @property
    def gate_layers(self) -> tuple[nn.Module, ...]:
        return (self.height, self.width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.conv(x))
        height, width = self.height(hidden.mean(3, keepdim=True)), self.width(hidden.mean(2, keepdim=True))
        return x * height.sigmoid() * width.sigmoid()


@MODELS.register_module()
class ParameterFreeGate(nn.Module):
    """A gate without weights, whose mask depends on its input."""

    gate_layers = ()

    def __init__(self, in_channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * (x - x.mean(dim=(2, 3), keepdim=True)).square().sigmoid()


class PublicEAN(nn.Module):
    """EAN with the names and shapes of the authors' classification code, and weight norm 'rms'."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        width = channels // groups
        self.groupnorm = nn.GroupNorm(width, width)
        self.alpha = nn.Parameter(torch.randn(1, width, 1, 1))
        self.delta = nn.Parameter(torch.randn(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        norm = self.groupnorm
        alpha, delta = self.alpha.flatten(), self.delta.flatten()
        return plain_ean(x, norm.weight, norm.bias, alpha, delta, self.groups, weight_norm='rms', eps=norm.eps)


def divisible(value: float, divisor: int) -> int:
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


class PublicBlock(nn.Module):
    """A sandglass block with the names of the public MobileNeXt code: one Sequential, ``conv``."""

    def __init__(self, inputs: int, outputs: int, stride: int, reduction: int, alone: bool, groups: int | None) -> None:
        super().__init__()
        hidden = inputs // reduction
        if hidden < outputs / 6:
            hidden = divisible(math.ceil(outputs / 6), 16)
        full = reduction == 2 or inputs == outputs or alone
        self.identity = stride == 1 and inputs == outputs

        def depthwise(width: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm2d(width)]

        def pointwise(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]

        layers = [*depthwise(inputs, 1), nn.ReLU6(inplace=True)] if full else []
        layers += [*pointwise(inputs, hidden), *pointwise(hidden, outputs), nn.ReLU6(inplace=True)]
        if full or stride == 2:
            layers += depthwise(outputs, stride)
        if full and groups:
            layers.append(PublicEAN(outputs, groups))
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x if self.identity else self.conv(x)


class PublicMobileNeXt(nn.Module):
    """MobileNeXt with the names of the public code: ``features.N.conv.M``, from the paper's table."""

    stages = (
        (2, 96, 1, 2),
        (6, 144, 1, 1),
        (6, 192, 3, 2),
        (6, 288, 3, 2),
        (6, 384, 4, 1),
        (6, 576, 4, 2),
        (6, 960, 3, 1),
        (6, 1280, 1, 1),
    )

    def __init__(self, width: float = 1.0, groups: int | None = None, last_channels: int | None = None) -> None:
        super().__init__()
        inputs = divisible(32 * width, 8)
        stem = [nn.Conv2d(3, inputs, 3, 2, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU6(inplace=True)]
        features = [nn.Sequential(*stem)]
        self.ends = []
        for reduction, channels, blocks, stride in self.stages:
            outputs = divisible(channels * (max(width, 1) if channels == 1280 else width), 8)
            outputs = last_channels if channels == 1280 and last_channels else outputs
            for block in range(blocks):
                first = stride if block == 0 else 1
                alone = blocks == 1 and stride == 1
                features.append(PublicBlock(inputs, outputs, first, reduction, alone, groups))
                inputs = outputs
            self.ends.append(len(features) - 1)
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(inputs, 10))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for index, block in enumerate(self.features):
            x = block(x)
            if index in (self.ends[i] for i in (1, 2, 4, 7)):
                outputs.append(x)
        return outputs
