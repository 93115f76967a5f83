"""What is done to networks later: each keeps the attention working, or stops by name."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace
from torch.fx.experimental.optimization import fuse
from torch.nn.parallel import DistributedDataParallel

import ean_mmdet
from ean_mmdet.attention import EAN, SE
from tests.test_insertion.networks import BLOCKS, Conv, images, network


def attached(kind='residual', **options):
    """A network with EANs that do something, which its output tells."""
    model = network(kind)
    ean_mmdet.attach(model, 'EAN', **options)
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, EAN):
            nn.init.normal_(module.alpha)
            nn.init.normal_(module.delta)
    return model


def close(model):
    """Shut every attention, which no working one survives."""
    for module in model.modules():
        if isinstance(module, EAN):
            nn.init.constant_(module.delta, -100)


def check(model, expected, **tolerance):
    """The same output, made with the model's own attention."""
    torch.testing.assert_close(model(images()), expected, **tolerance)
    keys = [key for key in model.state_dict() if '_attention.' in key]
    assert len(keys) == 8 and all('_attention.' in name for name, _ in model.named_parameters() if name in keys)
    close(model)
    assert not torch.allclose(model(images()), expected, rtol=0.1)


def frozen(module):
    """Every batch norm as a frozen one, another class, as timm, torchvision and detectron2 convert them."""
    from torchvision.ops import FrozenBatchNorm2d

    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            new = FrozenBatchNorm2d(child.num_features)
            new.load_state_dict(child.state_dict())
            new.num_features = child.num_features
            setattr(module, name, new)
        else:
            frozen(child)
    return module


def yolo_fused(model):
    for module in model.modules():
        if isinstance(module, Conv):
            module.fuse()
    return model


def mmcv_fused(model):
    return pytest.importorskip('mmcv.cnn.utils').fuse_conv_bn(model)


def mmengine_sync(model):
    mmengine = pytest.importorskip('mmengine.model')
    return mmengine.revert_sync_batchnorm(mmengine.convert_sync_batchnorm(model)).eval()  # it sets training mode


def ema(model):
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    return averaged.module


def saved(model, tmp_path):
    torch.save(model, tmp_path / 'model.pt')
    return torch.load(tmp_path / 'model.pt', weights_only=False)


LATER = {
    'deepcopy': copy.deepcopy,
    'pickle': lambda model: pickle.loads(pickle.dumps(model)),
    'EMA': ema,
    'SyncBatchNorm': nn.SyncBatchNorm.convert_sync_batchnorm,
    "mmengine's SyncBatchNorm and back": mmengine_sync,
    'FrozenBatchNorm2d': frozen,
    "mmcv's fuse_conv_bn": mmcv_fused,
    'torch.fx': symbolic_trace,
    'torch.fx twice': lambda model: symbolic_trace(copy.deepcopy(symbolic_trace(model))),
    "torch.fx's fusion": fuse,
    'half and back': lambda model: model.half().float(),
    'a block elsewhere': lambda model: nn.Sequential(*model.children()),
}


@pytest.mark.parametrize('kind', BLOCKS)
@pytest.mark.parametrize('later', LATER)
def test_attention_is_kept(later, kind):
    if kind == 'detectron2' and 'fuse' in later:
        pytest.skip('its norms are frozen, which nothing folds')
    model = attached(kind)
    expected = model(images()).detach()
    tolerance = dict(rtol=2e-3, atol=2e-3) if later.startswith('half') else dict(rtol=1e-4, atol=1e-4)
    changed = LATER[later](copy.deepcopy(model))
    check(changed, expected, **tolerance)
    torch.testing.assert_close(model(images()), expected)  # not the original's


def test_yolos_fuse_drops_the_norm_and_keeps_the_attention(tmp_path):
    model = attached('yolo')
    expected = model(images()).detach()
    fused = yolo_fused(copy.deepcopy(model))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert set(fused.state_dict()) >= {'1.cv2.bn_attention.alpha', '1.cv2.conv.bias'}
    fused = saved(copy.deepcopy(fused), tmp_path)  # before it has run, as fuse() is
    check(fused, expected, rtol=1e-4, atol=1e-4)


def test_saved_whole(tmp_path):
    model = attached()
    expected = model(images()).detach()
    check(saved(model, tmp_path), expected)


@pytest.mark.parametrize('kind', ['residual', 'yolo'])
def test_compiles_without_a_graph_break_and_exports(kind):
    model = attached(kind)
    expected = model(images()).detach()
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.testing.assert_close(torch.compile(model, backend='aot_eager', fullgraph=True)(images()), expected)
        torch.testing.assert_close(torch.export.export(model, (images(),)).module()(images()), expected)
        traced = torch.jit.trace(model, images())
    torch.testing.assert_close(traced(images()), expected)
    # compiled first, converted afterwards
    torch.compiler.reset()
    compiled = torch.compile(model, backend='eager')
    compiled(images())
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    torch.testing.assert_close(compiled(images()), expected)
    torch.compiler.reset()


@pytest.mark.parametrize('dynamo', [False, True])
def test_exports_to_onnx_by_pytorchs_own_exporters(dynamo, tmp_path):
    """As Ultralytics and timm do it: standard operators alone."""
    runtime = pytest.importorskip('onnxruntime')
    model = attached('yolo')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(model, (images(),), str(tmp_path / 'model.onnx'), dynamo=dynamo, input_names=['image'])
    (actual,) = runtime.InferenceSession(str(tmp_path / 'model.onnx')).run(None, dict(image=images().numpy()))
    torch.testing.assert_close(torch.from_numpy(actual), model(images()).detach(), rtol=1e-4, atol=1e-4)


def test_distributed_data_parallel(tmp_path):
    model = network()
    ean_mmdet.attach(model, 'SE', ratio=4)
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(model.train())
        for _ in range(2):  # an unused parameter would be an error in the second step
            parallel(images()).mean().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(m.gate.fc1.bias.grad is not None for m in model.modules() if isinstance(m, SE))


def test_data_parallel_is_refused():
    with pytest.raises(RuntimeError, match=r'DataParallel copies modules one by one.*DistributedDataParallel'):
        attached()[1].bn2._replicate_for_data_parallel()


def test_quantization():
    """Observers are inserted around modules; what is fused for it goes by exact classes, and says so."""
    quantization = pytest.importorskip('torch.ao.quantization')
    model = attached()
    expected = model(images()).detach()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises(AssertionError, match=r'did not find fuser method for: .*BatchNorm2dAttention'):
            quantization.fuse_modules(copy.deepcopy(model), [['1.conv2', '1.bn2']])
        prepared = copy.deepcopy(model)
        prepared[1].conv1.qconfig = quantization.get_default_qconfig('x86')
        check(quantization.prepare(prepared), expected)
        mapping = quantization.get_default_qconfig_mapping('x86')
        quantize_fx = pytest.importorskip('torch.ao.quantization.quantize_fx')
        fx_prepared = quantize_fx.prepare_fx(copy.deepcopy(model), mapping, (images(),))
    torch.testing.assert_close(fx_prepared(images()), expected)


def test_a_norm_that_is_replaced_by_something_else_stops_by_name():
    for replacement, message in (
        (nn.BatchNorm2d(8), r'ResidualBlock: bn2, which EAN follows, was replaced by BatchNorm2d of 8 channels'),
        (nn.Dropout(), r'was replaced by Dropout of None channels; call ean_mmdet.detach first'),
    ):
        model = attached()
        model[1].bn2 = replacement
        with pytest.raises(RuntimeError, match=message):
            model(images())
    model = attached()
    del model[1].bn2
    with pytest.raises(RuntimeError, match=r'conv2, which EAN follows, is gone, and no convolution is left'):
        model(images())
    model = attached()
    model[1].bn2.forward = lambda x: x
    with pytest.raises(RuntimeError, match="has got another 'forward' in its instance"):
        model(images())
    model = attached()
    del model[1].bn2_attention
    with pytest.raises(RuntimeError, match='bn2_attention is gone, but bn2 needs it'):
        model(images())


def test_a_norm_is_not_folded_past_the_attention():
    model = network()
    ean_mmdet.attach(model, 'EAN', at=r'\d\.conv1')
    with pytest.raises(RuntimeError, match=r'conv1, which EAN follows, is followed by bn1, which was folded'):
        mmcv_fused(model)(images())


@pytest.mark.parametrize('before', [True, False])
def test_efficient_conv_bn_eval_does_not_pass_the_attention_by(before):
    """mmcv's, an option of ConvModule that computes norm and convolution as one and skips the norm."""
    bricks = pytest.importorskip('mmcv.cnn')
    torch.manual_seed(0)
    norm_cfg = dict(type='BN')
    model = nn.Sequential(bricks.ConvModule(3, 16, 3, norm_cfg=norm_cfg, efficient_conv_bn_eval=before)).eval()
    model[0].bn.running_mean.normal_()
    plain = copy.deepcopy(model)
    report = ean_mmdet.attach(model, 'EAN', at=r'0\.bn')
    assert report.change < 1e-5
    torch.testing.assert_close(model(images()), plain(images()))
    model[0].turn_on_efficient_conv_bn_eval()
    close(model)
    assert model(images()).abs().max() < 1e-5


def test_mmengines_efficient_conv_bn_eval_leaves_the_norm_with_attention():
    efficient = pytest.importorskip('mmengine.model.efficient_conv_bn_eval')
    model = attached()
    expected = model(images()).detach()
    efficient.turn_on_efficient_conv_bn_eval_for_single_model(model)
    assert 'efficient_conv_bn_eval' in model.forward.__self__.code  # of the other norms
    check(model, expected, rtol=1e-4, atol=1e-4)


def test_an_attention_module_that_is_replaced_is_the_one_that_runs():
    model = attached()
    model[1].bn2_attention = nn.Identity()
    model[2].bn2_attention = nn.Identity()
    plain = network()
    for block in plain[1:]:  # the norms are doubled, and nothing halves
        block.bn2.weight.data.mul_(2)
        block.bn2.bias.data.mul_(2)
    torch.testing.assert_close(model(images()), plain(images()))


def test_norm_and_ean_are_one_operation_that_keeps_no_map_of_its_own():
    """Saved for the gradient: as many bytes as the plain network saves."""

    def saved_bytes(model):
        seen = {}

        def pack(tensor):
            if tensor.dim() == 4 and tensor.shape[-1] > 3:  # feature maps
                seen[tensor.untyped_storage().data_ptr(), tensor._version] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = model(images().requires_grad_())
        del output
        return sum(seen.values())

    for kind in ('residual', 'yolo'):
        assert saved_bytes(attached(kind)) == saved_bytes(network(kind))


def test_batch_norm_is_updated_as_pytorch_updates_it():
    for change in (dict(momentum=None), dict(momentum=0.3), dict(track_running_stats=False)):
        plain = network()
        for block in plain[1:]:
            norm = nn.BatchNorm2d(16, **change)
            norm.load_state_dict(block.bn2.state_dict(), strict=False)
            block.bn2 = norm
        model = copy.deepcopy(plain)
        ean_mmdet.attach(model, 'EAN')
        for _ in range(3):
            torch.testing.assert_close(model.train()(images()), plain.train()(images()), rtol=1e-4, atol=1e-4)
        buffers = dict(model.named_buffers())
        for name, buffer in plain.named_buffers():
            torch.testing.assert_close(buffers[name], buffer, rtol=1e-4, atol=1e-4)


def test_hooks_on_an_ean_see_what_it_gets_and_gives():
    model = attached()
    expected, seen = model(images()), {}
    ean, norm = model[1].bn2_attention, copy.deepcopy(network()[1].bn2)
    norm.load_state_dict(model[1].bn2.state_dict())
    model[1].conv2.register_forward_hook(lambda module, args, output: seen.update(z=output))
    handle = ean.register_forward_hook(lambda module, args, output: seen.update(x=args[0], y=output))
    torch.testing.assert_close(model(images()), expected)
    torch.testing.assert_close(seen['x'], norm(seen['z']))
    assert not torch.allclose(seen['y'], seen['x'])
    handle.remove()
    assert ean.hooked and not model.eval()[1].bn2_attention.hooked
