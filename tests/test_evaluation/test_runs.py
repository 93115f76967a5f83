import json
import shutil

import pytest
from mmengine.registry import DefaultScope

from ean_mmdet.errors import InputError
from ean_mmdet.evaluation.runs import choose_metric, config_value, read_run, read_runs, short_names

from .logged_runs import train, write_curve, write_run


@pytest.fixture(autouse=True)
def mmengine_scope():
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


def check(run):
    """Hold each point's place to what the model of the run says of it."""
    assert run.training and run.validation
    assert [point.iteration for point in run.training] == [1 - point.values['loss'] for point in run.training]
    assert [point.iteration for point in run.validation] == [point.values['count/steps'] for point in run.validation]


@pytest.fixture(scope='module')
def epochs(tmp_path_factory):
    """Two epochs, then resumed for two more."""
    work_dir = tmp_path_factory.mktemp('epochs') / 'run'
    with DefaultScope.overwrite_default_scope('mmengine'):
        train(work_dir, True, 2)
        train(work_dir, True, 4, resume=True)
    return work_dir


@pytest.fixture(scope='module')
def iterations(tmp_path_factory):
    """To iteration 8, then resumed from the checkpoint of iteration 6 to 14, validated every 5."""
    work_dir = tmp_path_factory.mktemp('iterations') / 'run'
    with DefaultScope.overwrite_default_scope('mmengine'):
        train(work_dir, False, 8, 5)
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_6.pth'))
        train(work_dir, False, 14, 5, resume=True)
    return work_dir


def test_epochs(epochs):
    run = read_run(epochs)
    check(run)
    assert run.by_epoch and run.planned == 4 and run.done(by_epoch=True) == 4
    assert [point.epoch for point in run.validation] == [1, 2, 3, 4]
    # in an epoch of 7 iterations the 2nd, 4th and 6th are logged
    assert [point.epoch for point in run.training] == [(e * 7 + i) / 7 for e in range(4) for i in (2, 4, 6)]


@pytest.mark.parametrize('gone', ['*/*.log', '*/vis_data/config.py', '*/*.log */vis_data/config.py'])
def test_epochs_without_the_text_log_or_the_config(epochs, tmp_path, gone):
    shutil.copytree(epochs, tmp_path / 'run')
    for file in (file for pattern in gone.split() for file in (tmp_path / 'run').glob(pattern)):
        file.unlink()
    run = read_run(tmp_path / 'run')
    check(run)
    assert [point.epoch for point in run.validation] == [1, 2, 3, 4]


def test_epochs_whose_validations_are_logged_at_the_iteration(tmp_path):
    train(tmp_path, True, 2, **{'default_hooks.logger.log_metric_by_epoch': False})
    run = read_run(tmp_path)
    check(run)
    assert [(point.epoch, point.iteration) for point in run.validation] == [(1, 7), (2, 14)]


def test_names_with_their_mode(tmp_path):
    train(tmp_path, True, 1, **{'log_processor.log_with_hierarchy': True})
    run = read_run(tmp_path)
    check(run)
    assert run.metrics[:2] == ('count/other', 'count/steps') and run.training[0].values['lr'] == 1


def test_iterations(iterations):
    run = read_run(iterations)
    check(run)
    assert not run.by_epoch and run.planned == 14
    # 8, the end of the first start, was trained again on the way to 14
    assert [point.iteration for point in run.validation] == [5, 10, 14]
    assert [point.iteration for point in run.training] == [2, 4, 6, 8, 10, 12, 14]
    (first, _) = sorted(iterations.glob('*/vis_data'))
    assert [point.iteration for point in read_run(first.parent).validation] == [5, 8]
    assert read_run(first / 'scalars.json').training == read_run(first.parent).training


def test_more_validations_than_lines_of_training(tmp_path):
    options = {'default_hooks.logger.interval': 7}
    train(tmp_path, False, 9, 3, **options)
    train(tmp_path, False, 20, 3, resume=True, **options)
    run = read_run(tmp_path)
    check(run)
    assert [point.iteration for point in run.validation] == [3, 6, 9, 12, 15, 18, 20]


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('metric_by_epoch', [True, False])
def test_validated_before_the_first_step(tmp_path, by_epoch, metric_by_epoch):
    hooks = [dict(type='SafeCheckpointHook'), dict(type='ValidateFirstHook')]
    logger = {'default_hooks.logger.log_metric_by_epoch': metric_by_epoch}
    train(tmp_path, by_epoch, 2 if by_epoch else 10, 1 if by_epoch else 5, custom_hooks=hooks, **logger)
    run = read_run(tmp_path)
    check(run)
    assert [point.iteration for point in run.validation] == [0, 7, 14] if by_epoch else [0, 5, 10]


def test_trained_again_from_the_beginning(epochs, tmp_path):
    shutil.copytree(epochs, tmp_path / 'run')
    again = train(tmp_path / 'run', True, 1)
    run = read_run(tmp_path / 'run')
    check(run)
    assert run.done(by_epoch=True) == 1
    assert run.notes == (
        f'{again}/vis_data/scalars.json: trained from the beginning again, so what was logged before is left out',
    )


def test_a_run_that_was_killed_while_it_wrote(iterations, tmp_path):
    shutil.copytree(iterations, tmp_path / 'run')
    log = sorted((tmp_path / 'run').glob('*/vis_data/scalars.json'))[-1]
    whole = read_run(tmp_path / 'run')
    text = log.read_text().rstrip()
    log.write_text(text[:-20])
    run = read_run(tmp_path / 'run')
    assert run.notes == (f'{log}: the last line was written by half, left out',)
    assert run.validation == whole.validation[:-1] and run.training == whole.training
    lines = text.split('\n')
    lines[2] = lines[2][:-20]
    log.write_text('\n'.join(lines))
    with pytest.raises(InputError, match=r'scalars.json, line 3 is no JSON'):
        read_run(tmp_path / 'run')


def test_a_start_that_logged_nothing_is_passed_over(epochs, tmp_path):
    shutil.copytree(epochs, tmp_path / 'run')
    write_run(tmp_path / 'run', [], start='99990101_000000')
    assert read_run(tmp_path / 'run').training == read_run(epochs).training


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        ([], 'nothing has been logged in .*run yet'),
        ([dict(data_time=0.1, time=0.2, step=1)], 'nothing has been logged in .*run yet'),  # a validation of no metrics
        (['{"lr": 1'], 'nothing has been logged'),
        (['[1]'], r'scalars.json, line 1 is no line of mmengine\'s log: \'\[1\]\' has no "step"'),
        ([dict(loss=1.0)], 'line 1 is no line of mmengine'),
        ([dict(loss=1.0, iter='1', step=1)], 'line 1 is no line of mmengine.*iter or epoch is no number'),
        ([dict(loss=1.0, iter=1, epoch=None, step=1)], 'line 1 is no line of mmengine.*iter or epoch is no number'),
        ([dict(loss=1.0, iter=1, step=1)], 'log_processor.by_epoch was False'),
    ],
)
def test_logs_that_cannot_be_used(tmp_path, lines, message):
    write_run(tmp_path / 'run', lines, 'train_cfg = dict(by_epoch=True, max_epochs=1)')
    with pytest.raises(InputError, match=message):
        read_run(tmp_path / 'run')


def test_folders_that_are_no_runs(tmp_path):
    with pytest.raises(InputError, match=r'no run at .*nowhere'):
        read_run(tmp_path / 'nowhere')
    with pytest.raises(InputError, match=r'no log of training in .*mmengine writes it\)$'):
        read_run(tmp_path)
    write_curve(tmp_path / 'g2', 70, 2)
    with pytest.raises(InputError, match=f'did you mean {tmp_path}/g2'):
        read_run(tmp_path)
    (start,) = (tmp_path / 'g2').glob('2*')
    with pytest.raises(InputError, match='is named 2 times'):
        read_runs([start, start / 'vis_data' / 'scalars.json'])
    (start / 'vis_data' / 'config.py').write_text('model = dict(')
    with pytest.raises(InputError, match=r'config.py is no valid config: SyntaxError'):
        read_run(start)


def test_loose_logs(tmp_path):
    log = write_run(tmp_path, [dict(loss=1.0, iter=1, step=1), {'a/b': 1, 'step': 0}], None)
    for name in ('ean', 'se'):
        shutil.copy(log, tmp_path / f'{name}.json')
    runs = read_runs([tmp_path / 'ean.json', tmp_path / 'se.json'])
    assert short_names(runs) == ['ean', 'se']
    assert [point.iteration for point in runs[0].validation] == [1]


@pytest.mark.parametrize(
    ('folders', 'names'),
    [
        (['ean', 'se'], ['ean', 'se']),
        (['ean/run', 'se/run'], ['ean', 'se']),
        (['g2/seed0', 'g2/seed1', 'g4/seed0'], ['g2/seed0', 'g2/seed1', 'g4/seed0']),
        (['a/g2/x/r18', 'b/g2/x/r18'], ['a', 'b']),
        (['one/of/them'], ['them']),
        (['ean/20260101_000000', 'se/20260102_000000'], ['ean', 'se']),
        (['ean/20260101_000000', 'ean/20260102_000000'], ['20260101_000000', '20260102_000000']),
    ],
)
def test_short_names(tmp_path, folders, names):
    for folder in folders:
        work_dir, _, start = f'{folder}/'.rstrip('/').rpartition('/')
        is_start = start.startswith('2026')
        line = dict(loss=1.0, iter=1, step=1)
        write_run(tmp_path / (work_dir if is_start else folder), [line], **(dict(start=start) if is_start else {}))
    assert short_names(read_runs([tmp_path / folder for folder in folders])) == names


def test_choice_of_the_metric(tmp_path):
    def run(name, metrics, save_best="'auto'"):
        lines = [dict(loss=1.0, iter=1, step=1)]
        lines += [dict(metrics, step=1)] if metrics else []
        write_run(tmp_path / name, lines, f'default_hooks = dict(checkpoint=dict(save_best={save_best}))')
        return read_run(tmp_path / name)

    coco = run('coco', {'coco/bbox_mAP': 0.2, 'coco/bbox_mAP_50': 0.4})
    named = run('named', {'coco/bbox_mAP': 0.1, 'coco/bbox_mAP_50': 0.3}, "'coco/bbox_mAP_50'")
    voc = run('voc', {'pascal_voc/mAP': 0.5})
    new = run('new', {})
    assert choose_metric([coco], ['a']) == 'coco/bbox_mAP'
    assert choose_metric([named, new], ['a', 'b']) == 'coco/bbox_mAP_50'
    assert choose_metric([coco, new], ['a', 'b'], 'coco/bbox_mAP_50') == 'coco/bbox_mAP_50'
    assert choose_metric([new], ['a']) is None and choose_metric([new], ['a'], 'x') is None
    with pytest.raises(InputError, match=r"^b has no metric 'coco/bbox_mAP'; it has pascal_voc/mAP$"):
        choose_metric([coco, voc], ['a', 'b'], 'coco/bbox_mAP')
    with pytest.raises(
        InputError, match='no metric in common: a has coco/bbox_mAP, coco/bbox_mAP_50; b has pascal_voc'
    ):
        choose_metric([coco, voc], ['a', 'b'])


@pytest.mark.parametrize(
    ('metric', 'rule', 'best'),
    [('accuracy/top1', 'None', 3), ('val_loss', 'None', 2), ('fid', 'None', 3), ('fid', "'less'", 2)],
)
def test_best(tmp_path, metric, rule, best):
    values = [float('nan'), 0.3, 0.9, 0.9, 0.4]
    lines = [{metric: value, 'step': step} for step, value in enumerate(values, 1)]
    config = f"train_cfg = dict(type='IterBasedTrainLoop')\ndefault_hooks = dict(checkpoint=dict(rule={rule}), "
    config += 'logger=dict(log_metric_by_epoch=False))'
    write_run(tmp_path, lines, config)
    run = read_run(tmp_path)
    assert run.best(metric).iteration == best and run.final(metric).iteration == 5


def test_settings(tmp_path):
    config = """
model = dict(backbone=dict(type='ResNet', out_indices=(2, 3), plugins=[dict(cfg=dict(type='EAN', groups=8))]))
"""
    write_run(tmp_path, [dict(loss=1.0, iter=1, step=1)], config)
    run = read_run(tmp_path)
    assert config_value(run, 'model.backbone.plugins.0.cfg.groups') == 8
    assert tuple(config_value(run, 'model.backbone.out_indices')) == (2, 3)
    for key, message in (
        ('model.backbone.groups', 'did you mean model.backbone.plugins.0.cfg.groups'),
        ('model.backbone.out_indexes', 'did you mean model.backbone.out_indices'),
        ('model.backbone', 'is a group of settings .*: model.backbone.type, model.backbone.out_indices'),
        ('zzz', 'has no zzz$'),
    ):
        with pytest.raises(InputError, match=message):
            config_value(run, key)
    next(tmp_path.glob('*/vis_data/config.py')).unlink()
    with pytest.raises(InputError, match=r'has no config\.py beside its log'):
        config_value(read_run(tmp_path), 'model.backbone.type')


def test_every_line_is_read(epochs):
    lines = [json.loads(line) for file in epochs.glob('*/vis_data/scalars.json') for line in file.open()]
    run = read_run(epochs)
    assert len(run.training) + len(run.validation) == len(lines)
