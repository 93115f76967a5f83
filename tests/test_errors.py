from ean_mmdet.errors import did_you_mean, near_names


def test_near_names():
    names = ['EANResNet', 'ANResNet', 'ResNet', 'RetinaNet']
    assert near_names('EANResnet', names) == ['EANResNet']  # but for the case
    assert near_names('EANResNt', names, 2) == ['EANResNet', 'ANResNet']
    assert near_names('YOLO', names) == []


def test_did_you_mean():
    assert did_you_mean('modle', ['model', 'work_dir']) == '; did you mean model?'
    assert did_you_mean('grups', {'groups': 1, 'group': 2}) == '; did you mean groups or group?'
    assert did_you_mean('x', ['model']) == ''
