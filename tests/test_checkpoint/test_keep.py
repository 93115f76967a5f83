import pytest
import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from ean_mmdet.attention import EAN
from ean_mmdet.checkpoint.keep import constants, scale_norms, standing
from ean_mmdet.errors import InputError
from ean_mmdet.insertion import constant_map, zero_gate_layers
from tests.test_checkpoint.networks import LastLayerSE, ParameterFreeGate, TwoLayerGate


class Constant(nn.Module):
    def __init__(self, mask: float) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.tensor(mask))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


class InPlace(nn.Module):
    """Halves its input where it lies."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(0.5)


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square()


class Shrink(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2]


class OnlyInTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid() if self.training else x / 2


@pytest.mark.parametrize(
    'gate, mask',
    [
        (EAN(8, groups=4), 0.5),
        (EAN(8, groups=4, weight_norm='rms').double(), 0.5),
        (Constant(3.0), 3.0),
        (InPlace(), 0.5),
        (nn.Identity(), 1.0),
        (Constant(0.0), None),
        (Constant(-1.0), None),
        (LastLayerSE(8), None),
        (ParameterFreeGate(8), None),
        (OnlyInTraining(), None),
        (Square(), None),
        (Shrink(), None),
        (nn.Conv2d(8, 8, 1), None),
        (nn.Conv2d(4, 4, 1), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_masks_are_measured(gate, mask):
    assert constant_map(gate, 8) == mask


@pytest.mark.parametrize('gate, mask', [(LastLayerSE(8), 0.5), (TwoLayerGate(8), 0.25)])
def test_zero_layers_make_a_mask_constant(gate, mask):
    assert constant_map(gate, 8) is None
    zero_gate_layers(gate)
    assert constant_map(gate, 8) == mask


def test_a_gate_that_fails_says_so():
    with pytest.raises(ValueError, match='expected a feature map'):
        constant_map(EAN(8, groups=4), 16)


def test_measuring_leaves_no_trace():
    gate = TwoLayerGate(8).eval()
    state = {key: value.clone() for key, value in gate.state_dict().items()}
    generator = torch.get_rng_state()
    constant_map(gate, 8)
    assert not any(module.training for module in gate.modules())
    assert all(torch.equal(value, state[key]) for key, value in gate.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)


class Network(nn.Module):
    """A convolution, then whatever stands between it and the gate, then the gate."""

    def __init__(self, *between: nn.Module, gate: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.between = nn.Sequential(*between)
        self.gate = gate or EAN(8, groups=4)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                for tensor in (module.weight, module.bias, module.running_mean):
                    nn.init.normal_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.between(self.conv(x)))


class WithoutGate(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.between(self.network.conv(x))


def scaled(network: nn.Module) -> dict[str, float]:
    places = standing(network, {'gate': network.gate})
    return scale_norms(network, places, constants(places))


@pytest.mark.parametrize(
    'between, norm',
    [
        ([nn.BatchNorm2d(8)], 'between.0'),
        ([nn.GroupNorm(2, 8)], 'between.0'),
        ([nn.InstanceNorm2d(8, affine=True)], 'between.0'),
        ([nn.SyncBatchNorm(8)], 'between.0'),
        ([nn.BatchNorm2d(8), nn.ReLU()], 'between.0'),
        ([nn.BatchNorm2d(8), nn.ReLU(inplace=True)], 'between.0'),
        ([nn.BatchNorm2d(8), nn.LeakyReLU(inplace=True), nn.Identity(), nn.Dropout()], 'between.0'),
        ([ConvModule(8, 8, 1, norm_cfg=dict(type='BN'))], 'between.0.bn'),
        ([nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)], 'between.3'),
    ],
)
def test_the_norm_in_front_is_found(between, norm):
    network = Network(*between).eval()
    image = torch.randn(2, 3, 16, 16)
    expected = WithoutGate(network)(image)
    assert scaled(network) == {norm: 2}
    torch.testing.assert_close(network(image), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    'between',
    [
        [],
        [nn.Conv2d(8, 8, 1)],
        [nn.BatchNorm2d(8, affine=False)],
        [nn.BatchNorm2d(8), nn.ReLU6()],
        [nn.BatchNorm2d(8), nn.ReLU6(inplace=True)],
        [nn.BatchNorm2d(8), nn.SiLU(inplace=True)],
        [nn.BatchNorm2d(8), InPlace(), Square()],
        [nn.BatchNorm2d(8), nn.MaxPool2d(2)],
    ],
)
def test_no_norm_right_in_front(between):
    network = Network(*between)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError, match='gate has no norm with weight and bias right in front of it to scale by 2'):
        scaled(network)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


class PastTheGate(Network):
    """The norm's output goes past the gate too."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.conv(x))
        return self.gate(x) + x


def test_a_norm_whose_output_is_used_elsewhere():
    network = PastTheGate(nn.BatchNorm2d(8))
    weight = network.between[0].weight.clone()
    with pytest.raises(
        InputError, match=r'between\.0.*the output of the network would change by .* past the attention'
    ):
        scaled(network)
    assert torch.equal(network.between[0].weight, weight)


class GateAndShortcut(nn.Module):
    """A gate that adds the shortcut itself, as a fused tail of a block does."""

    gate_layers = ()

    def __init__(self) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        x = x * self.delta.sigmoid()
        return x if residual is None else (x + residual).relu()


class FusedTail(Network):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.gate(self.between(x), residual=x)


def test_a_gate_that_adds_the_shortcut_too():
    network = FusedTail(nn.BatchNorm2d(8), gate=GateAndShortcut()).eval()
    image = torch.randn(2, 3, 16, 16)
    inner = network.conv(image)
    expected = (network.between(inner) + inner).relu()
    assert scaled(network) == {'between.0': 2}
    torch.testing.assert_close(network(image), expected)


class AsHook(nn.Module):
    """A gate that hangs on the norm as a forward hook, called by nobody else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.gate = EAN(8, groups=4)
        self.norm.register_forward_hook(lambda module, args, output: self.gate(output))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def test_a_gate_that_is_a_hook_of_the_norm():
    network = AsHook().eval()
    image = torch.randn(2, 3, 16, 16)
    expected = 2 * network(image)
    assert scaled(network) == {'norm': 2}
    torch.testing.assert_close(network(image), expected)


def test_modules_that_are_not_called_are_left_out():
    network = Network(nn.BatchNorm2d(8))
    network.spare = EAN(8, groups=4)
    places = standing(network, {'gate': network.gate, 'spare': network.spare})
    assert [(place.norm, place.attention) for place in places] == [('between.0', 'gate')]
