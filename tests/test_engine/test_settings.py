"""What nobody reads is told, with the key that works; what is read passes."""

import pytest
from mmengine.config import Config

from ean_mmdet.engine import build_model, load_config
from ean_mmdet.errors import InputError
from tests.conftest import ROOT
from tests.stock_settings import STOCK, WRONG, config_files, message

EAN = str(ROOT / 'configs/faster_rcnn_ean_r50_coco.py')
RETINANET = str(STOCK / 'retinanet/retinanet_r50_fpn_1x_coco.py')


@pytest.mark.parametrize(
    ('option', 'value', 'said'),
    [
        ('modle.backbone.groups', 3, 'nothing reads modle; did you mean model?'),
        ('optim_wraper.optimizer.lr', 0.1, 'nothing reads optim_wraper; did you mean optim_wrapper?'),
        ('default_hooks.loger.interval', 2, 'did you mean default_hooks.logger?'),
        ('model.backbone.group', 64, "model.backbone: EANResNet takes no argument 'group'; did you mean groups?"),
        ('model.backbone.type', 'EANResnet', 'model.backbone: there is no EANResnet; did you mean EANResNet?'),
        ('model.bakbone.depth', 18, "model: FasterRCNN takes no argument 'bakbone'; did you mean backbone?"),
        ('model.test_cfg.rcnn.max_per_image', 5, 'did you mean model.test_cfg.rcnn.max_per_img?'),
        (
            'train_cfg.max_iter',
            6,
            "train_cfg: IterBasedTrainLoop takes no argument 'max_iter'; did you mean max_iters?",
        ),
        ('train_dataloader.num_worker', 0, 'did you mean train_dataloader.num_workers?'),
        ('train_dataloader.dataset.filter_cfg.min_sise', 1, 'filter_cfg.min_sise; did you mean'),
        ('train_dataloader.dataset.metainfo.classess', ('a',), 'metainfo.classess; did you mean classes?'),
        ('optim_wrapper.paramwise_cfg.bias_lr_mlt', 2, 'paramwise_cfg.bias_lr_mlt; did you mean bias_lr_mult?'),
        ('env_cfg.cudnn_benchmrk', True, 'did you mean env_cfg.cudnn_benchmark?'),
        ('randomness.sed', 1, 'nothing reads randomness.sed; did you mean'),
        ('lr', 0.1, 'nothing reads lr; did you mean optim_wrapper.optimizer.lr?'),
        ('default_hooks.timer._scope_', 7, 'default_hooks.timer._scope_ must be the name of a library, such as'),
        ('default_scope', 7, "default_scope must be the name of a library, such as 'mmdet', got 7"),
    ],
)
def test_a_misspelt_option(option, value, said):
    with pytest.raises(InputError, match='^[^\n]*' + said.replace('?', r'\?').replace('.', r'\.')):
        load_config(EAN, {option: value})


def test_an_option_that_changes_nothing_is_answered_with_those_that_do():
    config = str(ROOT / 'configs/own_data/faster_rcnn_ean_r50_coco_mini.py')
    with pytest.raises(InputError, match='data_root=/other/ changes nothing') as error:
        load_config(config, {'data_root': '/other/'})
    options = dict(part.split('=', 1) for part in str(error.value).rpartition('--cfg-options ')[2].split())
    changed = load_config(config, options)
    for split in ('train', 'val', 'test'):
        assert changed[f'{split}_dataloader'].dataset.data_root == '/other/'
    assert changed.test_evaluator.ann_file == '/other/annotations/instances_val2017.json'
    with pytest.raises(InputError, match=r'train_dataloader\.dataset\.pipeline\.2\.prob=0\.1'):
        load_config(RETINANET, {'train_pipeline.2.prob': 0.1})


@pytest.fixture
def told(monkeypatch):
    """Lines of the log."""
    lines = []
    monkeypatch.setattr('ean_mmdet.engine.settings.print_log', lambda line, logger, level: lines.append(line))
    return lines


def test_names_of_the_users_own_may_be_alike():
    keys = {'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult': 0.1}
    load_config(RETINANET, {**keys, 'optim_wrapper.paramwise_cfg.custom_keys.backbones.lr_mult': 0.1})


def test_an_option_of_what_does_not_run_is_told(told):
    load_config(EAN, {'val_evaluator.proposal_nums': (1, 10, 100)}, ('test',))
    option = '--cfg-options val_evaluator.proposal_nums=(1, 10, 100)'
    assert told == [f'{option} changes nothing here, where test_evaluator is read']


def test_a_misspelt_key_in_a_file(tmp_path):
    path = tmp_path / 'own.py'

    def write(text):
        path.write_text(f'_base_ = {RETINANET!r}\n{text}\n')
        return str(path)

    with pytest.raises(InputError, match=r'nothing reads optim_wraper of .*own\.py; did you mean optim_wrapper\?'):
        load_config(write('optim_wraper = dict(optimizer=dict(lr=0.1))'))
    with pytest.raises(InputError, match=r'nothing reads train_dataloder'):
        load_config(write('train_dataloder = dict(batch_size=1)'))
    with pytest.raises(InputError, match=r'model\.backbone\.plugins\.0\.cfg: there is no EEAN; did you mean EAN\?'):
        load_config(write("model = dict(backbone=dict(plugins=[dict(cfg=dict(type='EEAN'), position='after_conv3')]))"))
    # a variable may be called like a setting
    load_config(write('optim_wrappers = dict(optimizer=dict(lr=0.1))\noptim_wrapper = optim_wrappers'))


def test_settings_of_mmdetection_2_are_told(tmp_path, told):
    path = tmp_path / 'own.py'
    path.write_text(f'_base_ = {RETINANET!r}\noptimizer = dict(lr=0.1)\ndata = dict(samples_per_gpu=2)\n')
    load_config(str(path))
    assert told == [
        f"nothing reads optimizer of {path}: it is MMDetection 2's; it is optim_wrapper.optimizer now",
        f"nothing reads data of {path}: it is MMDetection 2's; "
        f'it is train_dataloader, val_dataloader and test_dataloader now',
    ]


def test_what_a_module_of_ones_own_reads_passes(tmp_path, monkeypatch):
    package = tmp_path / 'my_settings_module.py'
    package.write_text(
        'from mmengine.registry import MODELS\n'
        '@MODELS.register_module()\n'
        'class Odd:\n'
        '    def __init__(self, odd_cfg, **kwargs):\n'
        "        self.wobble = odd_cfg['wobble_rate'], kwargs.pop('wobbles')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / 'own.py'
    path.write_text(
        f'_base_ = {RETINANET!r}\ncustom_imports = dict(imports=["my_settings_module"])\nmine = 1\n'
        "model = dict(neck=dict(_delete_=True, type='Odd', odd_cfg=dict(wobble_rate=1), wobbles=2))\n"
    )
    load_config(str(path))
    with pytest.raises(InputError, match=r'model\.neck\.odd_cfg\.wobble_rat; did you mean'):
        load_config(str(path), {'model.neck.odd_cfg.wobble_rat': 2})


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (
            {'model.backbone.foo': 1},
            r"model\.backbone: ResNet takes no argument 'foo'; it takes avg_down, base_channels",
        ),
        (
            {'model.backbone': dict(_delete_=True, type='MobileNetV2', plugins=[])},
            r"model\.backbone: MobileNetV2 takes no argument 'plugins'; attention goes into it by .*'WithAttention'",
        ),
        # a name that stands in the libraries' source, so that it isn't told before building
        ({'model.backbone.type': 'Resnet'}, r'model\.backbone: there is no Resnet; did you mean ResNet\?'),
        (
            {'model.backbone.plugins': [dict(cfg=dict(type='Attention'), position='after_conv3')]},
            r'model\.backbone\.plugins\.0\.cfg: there is no Attention',
        ),
    ],
)
def test_what_cannot_be_built_is_told_with_its_place(change, said):
    with pytest.raises(InputError, match=said):
        build_model(load_config(RETINANET, change))


# python -m tests.stock_settings has all of MMDetection's
@pytest.mark.parametrize('folder', [STOCK, ROOT / 'configs'], ids=['mmdetection', 'ours'])
def test_no_false_alarms(folder):
    files = config_files(folder)
    files = files[::16] if folder == STOCK else files[::5]
    told = {str(path.relative_to(folder)): said for path in files if (said := message(path))}
    assert {
        name: said for name, said in told.items() if not said.partition(': ')[2].startswith(WRONG.get(name, '?'))
    } == {}


@pytest.mark.parametrize(
    'path',
    ['ssdlite320_ean_mobilenext_coco.py', 'sample/ssdlite192_ean_mobilenext_sample.py', 'pretrain/ean_r50_cifar10.py',
     'retinanet/retinanet_r50_fpn_1x_coco.py', 'yolox/yolox_tiny_8xb8-300e_coco.py'],
)  # fmt: skip
def test_a_config_that_a_run_has_dumped_is_taken(path, tmp_path):
    """`tools/test.py work_dirs/x/x.py`: variables are written out there, and stand for themselves."""
    source = ROOT / 'configs' / path
    Config.fromfile(source if source.is_file() else STOCK / path).dump(tmp_path / 'dumped.py')
    assert load_config(str(tmp_path / 'dumped.py')).model
    text = (tmp_path / 'dumped.py').read_text()
    (tmp_path / 'dumped.py').write_text(text.replace('\ntrain_cfg =', '\ntrain_cgf ='))
    with pytest.raises(InputError, match=r'nothing reads train_cgf of .*; did you mean train_cfg'):
        load_config(str(tmp_path / 'dumped.py'))


def test_a_type_that_is_none_is_left_to_the_builder():
    with pytest.raises(InputError, match='type'):
        build_model(load_config(RETINANET, {'model.backbone.type': dict(x=1)}))
