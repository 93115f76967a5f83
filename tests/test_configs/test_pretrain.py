"""The pretraining configs: every row of Tables 1 to 3 builds, trains a step, and has the paper's settings."""

import io
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmpretrain.structures import DataSample
from torch import nn

from ean_mmdet.analysis.paper_tables import TABLES
from ean_mmdet.engine import build_model

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FILES = {file.stem: file for file in sorted((CONFIGS / 'pretrain').glob('*.py'))}
# Classifiers of other papers.
OTHERS = {f'{d}/{file.stem}': file for d in ('an', 'ela', 'search') for file in (CONFIGS / d).glob('*_imagenet.py')}
OTHERS = {name: file for name, file in OTHERS.items() if not name.startswith('search') or 'dia_' in name}
NETWORKS = {
    'mobilenext': dict(cifar='se cbam eca sa sge ca ean', imagenet='se cbam sge pdfam ca ean'),
    'mobilenet_v2': dict(cifar='se cbam eca sa sge ca ean', imagenet='se cbam sge pdfam ca ean'),
    'r50': dict(cifar='se cbam sa ca ean', imagenet='se cbam sge pdfam ca ean'),
    'r101': dict(cifar='se cbam sa ca ean'),
    'shufflenet_v2': dict(cifar='se cbam ean'),
    'densenet121': dict(cifar='se cbam ean'),
    'efficientnet_b0': dict(cifar='se cbam ean'),
    'r56': dict(cifar100='se cbam sa ca ean'),
    'wrn28_10': dict(cifar100='se cbam ca ean'),
    'resnext29': dict(cifar100='se cbam ca ean'),
}


def expected_names():
    for network, modules in NETWORKS.items():
        for dataset in ('cifar10', 'cifar100', 'imagenet'):
            names = modules.get(dataset) or modules.get(dataset.rstrip('10'))
            if names:
                yield f'{network}_{dataset}'
                yield from (f'{module}_{network}_{dataset}' for module in names.split())


def test_every_row_is_here():
    assert set(FILES) == set(expected_names())
    rows = {row.config for number in (1, 2, 3) for group in TABLES[number].groups for row in group}
    assert rows <= {f'pretrain/{name}' for name in FILES}


@cache
def read(name):
    return Config.fromfile({**FILES, **OTHERS}[name])


def built(config):
    config.model.data_preprocessor = dict(config.data_preprocessor)
    return build_model(config)


# By name, the row that is the same but for the number of classes, or for the depth.
TWINS = {name: name.replace('cifar10', 'cifar100') for name in FILES if name.endswith('cifar10')}
TWINS |= {name: name.replace('r101', 'r50') for name in FILES if name.endswith('r101_cifar100')}
TWINS = {name: twin for name, twin in TWINS.items() if twin in FILES}


@pytest.mark.parametrize('name', [*(name for name in FILES if name not in TWINS), *OTHERS])
def test_trains_a_step_saves_and_loads(name, monkeypatch):
    config = Config(read(name).to_dict())
    classes = dict(cifar10=10, cifar100=100, imagenet=1000)[name.rsplit('_', 1)[1]]
    # most networks for CIFAR keep the images' resolution in their stem
    side = 64 if 'imagenet' in name else 32 if 'mobile' in name or 'efficient' in name else 8
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = built(config)
        model.train()
        samples = [DataSample().set_gt_label(label) for label in (0, classes - 1)]
        images = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in samples]
        data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
        assert config.data_preprocessor.num_classes == classes == model.head.num_classes
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        weight = next(model.backbone.parameters())
        before = weight.detach().clone()
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        wrapper.update_params(loss)
        assert loss.isfinite() and weight.isfinite().all() and not torch.equal(before, weight)
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        for layer in (nn.Conv2d, nn.Linear):  # no initial weights, which take time
            monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
        loaded = built(config)
        loaded.load_state_dict(torch.load(file, weights_only=True))
        inputs = model.data_preprocessor(dict(inputs=images), training=False)
        with torch.no_grad():
            scores = [net.eval()(**inputs, mode='predict')[0].pred_score for net in (model, loaded)]
    assert scores[0].shape == (classes,)
    torch.testing.assert_close(*scores, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize('name', TWINS)
def test_is_its_twin_but_for_classes_or_depth(name):
    config, twin = (Config(read(n).to_dict()) for n in (name, TWINS[name]))
    if 'cifar10' in name and 'cifar100' not in name:
        assert (config.model.head.pop('num_classes'), twin.model.head.pop('num_classes')) == (10, 100)
        assert (config.data_preprocessor.num_classes, twin.data_preprocessor.num_classes) == (10, 100)
        assert config.train_dataloader.dataset.type == config.val_dataloader.dataset.type == 'CIFAR10FolderOrBinary'
        assert twin.train_dataloader.dataset.type == twin.val_dataloader.dataset.type == 'CIFAR100FolderOrBinary'
    else:
        for model, depth in ((config.model, 101), (twin.model, 50)):
            network = model.backbone.get('backbone') or model.backbone
            assert network.pop('depth') == depth
    assert config.model == twin.model and config.optim_wrapper == twin.optim_wrapper


@pytest.mark.parametrize('name', FILES)
def test_settings_are_the_papers(name):
    config = read(name)
    optimizer = config.optim_wrapper.optimizer
    assert optimizer.type == 'SGD' and optimizer.momentum == 0.9
    epochs = config.train_cfg.max_epochs
    schedule = [config.param_scheduler] if isinstance(config.param_scheduler, dict) else config.param_scheduler
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=optimizer.lr)
    scheduler = PARAM_SCHEDULERS.build({**schedule[0], '_scope_': 'mmengine'}, default_args=dict(optimizer=sgd))
    rates = []
    for _ in range(epochs):
        rates.append(sgd.param_groups[0]['lr'])
        sgd.step()
        scheduler.step()
    if 'cifar' in name:
        assert (epochs, optimizer.lr, optimizer.weight_decay) == (200, 0.05, 5e-4)
        expected = [0.05] * 100 + [0.005] * 50 + [0.0005] * 50
    elif 'r50' in name:
        assert (optimizer.lr, optimizer.weight_decay) == (0.1, 1e-4)
        expected = [0.1] * 30 + [0.01] * 30 + [0.001] * 30 + [0.0001] * 10
    else:
        assert (optimizer.lr, optimizer.weight_decay) == (0.1, 4e-5)
        expected = [0.05 * (1 + math.cos(epoch / epochs * math.pi)) for epoch in range(epochs)]
    assert rates == pytest.approx(expected)
    if 'imagenet' in name:
        assert config.train_dataloader.batch_size * 8 == config.auto_scale_lr.base_batch_size == 256
    else:
        assert config.train_dataloader.batch_size == config.auto_scale_lr.base_batch_size == 128


def test_a_pretrained_resnet_learns_its_norms():
    model = build_model(Config.fromfile(FILES['ean_r50_imagenet']))
    model.train()
    assert all(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))


def test_the_schedules_of_attentive_normalization():
    for name, epochs, rate, decay in (('an_r50', 120, 0.4, 1e-4), ('an_mobilenet_v2', 150, 0.2, 4e-5)):
        config = read(f'an/{name}_imagenet')
        optimizer = config.optim_wrapper.optimizer
        assert (config.train_cfg.max_epochs, optimizer.lr, optimizer.weight_decay) == (epochs, rate, decay)
        assert config.train_dataloader.batch_size * 8 == config.auto_scale_lr.base_batch_size == 1024
        warmup, cosine = config.param_scheduler
        assert (warmup.end, cosine.begin, cosine.end, cosine.T_max) == (5, 5, epochs, epochs - 5)


def test_the_last_norm_of_an_resnet_starts_at_zero():
    backbone = build_model(read('an/an_r50_imagenet')).backbone
    backbone.init_weights()
    assert all(not block.norm3.weight.any() for block in backbone.layer3)
