"""What is refused as another model's checkpoint, and what is said of it."""

import pytest
import torch
from torch import nn

from ean_mmdet.backbones import MobileNeXt
from ean_mmdet.checkpoint import check_compatibility, weights_in
from ean_mmdet.checkpoint.compatibility import measure_compatibility
from ean_mmdet.errors import InputError


class Detector(nn.Module):
    def __init__(self, width=0.25, classes=5, attention=None):
        super().__init__()
        self.backbone = MobileNeXt(width, attention=attention)
        self.head = nn.Conv2d(self.backbone.layer8[0].expand.conv.out_channels, classes, 1)


def test_its_own_checkpoint_says_nothing(capsys):
    model = Detector()
    check_compatibility(model, model.state_dict(), 'own.pth', complete=True)
    assert measure_compatibility(model, model.state_dict()).share == 1
    assert 'own.pth' not in capsys.readouterr().out


@pytest.mark.parametrize('whole', [False, True])
def test_another_width(whole):
    """The last stage is alike in both, which is not enough."""
    with pytest.raises(InputError, match=r'half\.pth fills \d+\.\d% .*another width \(most .* 2 times the channels\)'):
        check_compatibility(Detector(0.25), Detector(0.5).state_dict(), 'half.pth', whole)


def test_another_number_of_classes():
    weights = Detector(classes=80).state_dict()
    with pytest.raises(InputError, match=r'another number of classes.*head\.weight is \[80, .*\], not \[5, '):
        check_compatibility(Detector(), weights, 'coco.pth', complete=True)
    check_compatibility(Detector(), weights, 'coco.pth')  # to start from


def test_a_backbone_alone_is_something_to_start_from_and_not_to_evaluate(caplog):
    weights = {key: value for key, value in Detector().state_dict().items() if key.startswith('backbone.layer1')}
    model = Detector()
    with pytest.raises(InputError, match=r'fills \d\.\d% .* a part of the model.*missing'):
        check_compatibility(model, weights, 'part.pth')
    weights = {key: value for key, value in model.state_dict().items() if key.startswith('backbone')}
    check_compatibility(model, weights, 'backbone.pth')
    weights = {key: value for key, value in weights.items() if not key.startswith('backbone.layer8')}
    with pytest.raises(InputError, match='a part of the model'):
        check_compatibility(model, weights, 'backbone.pth', complete=True)


def test_a_larger_model():
    """A ResNet-101 has all that a ResNet-50 has, and more."""
    model, larger = (nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(depth))) for depth in (3, 5))
    with pytest.raises(InputError, match=r'101\.pth .* of a larger model .* 4 unexpected \(3\.weight'):
        check_compatibility(model, larger.state_dict(), '101.pth', complete=True)
    check_compatibility(model, larger.state_dict(), '101.pth')


def test_nothing_in_common():
    with pytest.raises(InputError, match=r'no weight in common with this Detector\. It has weight, bias; the model'):
        check_compatibility(Detector(), nn.Linear(2, 3).state_dict(), 'linear.pth')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([torch.ones(2)], 'holds a list, not weights by name'),
        (dict(state_dict=None), "'state_dict' is a NoneType"),
        (dict(state_dict={}), "'state_dict' is empty"),
        ({0: torch.ones(2)}, 'it has keys such as 0'),
    ],
)
def test_what_is_no_checkpoint(content, message):
    with pytest.raises(InputError, match=message):
        weights_in(content, 'odd.pth')


def test_the_prefix_of_a_wrapped_model_does_not_count():
    model = Detector()
    weights = {f'module.{key}': value for key, value in model.state_dict().items()}
    assert set(weights_in(dict(state_dict=weights), 'wrapped.pth')) == set(model.state_dict())
