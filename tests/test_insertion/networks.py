"""Small networks of the shapes that libraries' blocks have, with statistics that are no zeros and ones."""

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """torchvision's basic block."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + x)


class Conv(nn.Module):
    """Convolution, norm and SiLU as YOLO has them, with its way to fold the norm into the convolution."""

    def __init__(self, in_channels, out_channels, kernel_size=3):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))

    def forward_fuse(self, x):
        return self.act(self.conv(x))

    def fuse(self):
        bn, conv = self.bn, self.conv
        factor = bn.weight / (bn.running_var + bn.eps).sqrt()
        fused = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding)
        with torch.no_grad():
            fused.weight.copy_(conv.weight * factor.view(-1, 1, 1, 1))
            fused.bias.copy_(bn.bias - bn.running_mean * factor)
        self.conv = fused
        del self.bn
        self.forward = self.forward_fuse


class YoloBlock(nn.Module):
    """A CSP network's bottleneck as YOLO has it."""

    def __init__(self, channels):
        super().__init__()
        self.cv1 = Conv(channels, channels // 2)
        self.cv2 = Conv(channels // 2, channels)
        self.add = True

    def forward(self, x):
        return x + self.cv2(self.cv1(x))


class Detectron2Conv(nn.Conv2d):
    """A convolution that has its norm as a child, as detectron2's."""

    def __init__(self, *args, norm, **kwargs):
        super().__init__(*args, **kwargs)
        self.norm = norm

    def forward(self, x):
        return self.norm(super().forward(x))


class FrozenBatchNorm2d(nn.Module):
    """A batch norm of four buffers, as detectron2's and torchvision's."""

    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            self.register_buffer(name, torch.rand(num_features) + 0.5)

    def forward(self, x):
        factor = self.weight / (self.running_var + 1e-5).sqrt()
        shift = self.bias - self.running_mean * factor
        return x * factor.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


class Detectron2Block(nn.Module):
    """detectron2's bottleneck, by its source's shape: the library has no wheel to test with."""

    def __init__(self, channels, norm=FrozenBatchNorm2d):
        super().__init__()
        self.shortcut = Detectron2Conv(channels, channels, 1, bias=False, norm=norm(channels))
        self.conv1 = Detectron2Conv(channels, channels // 2, 1, bias=False, norm=norm(channels // 2))
        self.conv2 = Detectron2Conv(channels // 2, channels // 2, 3, padding=1, bias=False, norm=norm(channels // 2))
        self.conv3 = Detectron2Conv(channels // 2, channels, 1, bias=False, norm=norm(channels))

    def forward(self, x):
        out = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return torch.relu(self.conv3(out) + self.shortcut(x))


BLOCKS = {'residual': ResidualBlock, 'yolo': YoloBlock, 'detectron2': Detectron2Block}
NORMS = {'residual': '1.bn2', 'yolo': '1.cv2.bn', 'detectron2': '1.conv3.norm'}


def network(kind='residual', channels=16, blocks=2):
    """A stem and a few blocks, in evaluation mode, with parameters and statistics at random."""
    torch.manual_seed(0)
    built = nn.Sequential(nn.Conv2d(3, channels, 3), *(BLOCKS[kind](channels) for _ in range(blocks)))
    with torch.no_grad():
        for name, value in [*built.named_parameters(), *built.named_buffers()]:
            if name.endswith(('running_var', 'weight')) and value.dim() == 1:
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point() and value.dim() == 1:
                value.normal_(std=0.3)
    return built.eval()


def images():
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
