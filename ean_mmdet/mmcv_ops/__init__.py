"""mmcv's operators without a compiler: what the Python files of ``mmcv.ops`` ask of ``mmcv._ext``.

mmcv's own Python files stay as they are and hand in the tensors to be filled; torchvision's operators and plain PyTorch
fill them, on CPUs and GPUs. Supplied is what MMDetection 3.3 and MMPretrain 1.2 can call; any other operator says so
when it is called. Arguments, shapes and names are mmcv 2.1's; docs/mmcv_ops.md says where results differ.
"""

from .border_align import border_align_backward, border_align_forward
from .boxes import bbox_overlaps, box_iou_rotated
from .carafe import carafe_backward, carafe_forward, carafe_naive_backward, carafe_naive_forward
from .deform_attention import ms_deform_attn_backward, ms_deform_attn_forward
from .deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from .focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from .info import get_compiler_version, get_compiling_cuda_version, missing
from .masked_conv import masked_col2im_forward, masked_im2col_forward
from .psa_mask import psamask_backward, psamask_forward
from .roi_align import roi_align_backward, roi_align_forward
from .roi_pool import (
    deform_roi_pool_backward,
    deform_roi_pool_forward,
    prroi_pool_backward,
    prroi_pool_coor_backward,
    prroi_pool_forward,
    roi_pool_backward,
    roi_pool_forward,
)
from .suppression import nms, nms_match, nms_rotated, softnms
from .sync_bn import (
    sync_bn_backward_data,
    sync_bn_backward_param,
    sync_bn_forward_mean,
    sync_bn_forward_output,
    sync_bn_forward_var,
)
from .tin_shift import tin_shift_backward, tin_shift_forward

# All that mmcv.ops asks for and finds here.
__all__ = [
    'bbox_overlaps',
    'border_align_backward',
    'border_align_forward',
    'box_iou_rotated',
    'carafe_backward',
    'carafe_forward',
    'carafe_naive_backward',
    'carafe_naive_forward',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'deform_roi_pool_backward',
    'deform_roi_pool_forward',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'masked_col2im_forward',
    'masked_im2col_forward',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
    'nms',
    'nms_match',
    'nms_rotated',
    'prroi_pool_backward',
    'prroi_pool_coor_backward',
    'prroi_pool_forward',
    'psamask_backward',
    'psamask_forward',
    'roi_align_backward',
    'roi_align_forward',
    'roi_pool_backward',
    'roi_pool_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softnms',
    'sync_bn_backward_data',
    'sync_bn_backward_param',
    'sync_bn_forward_mean',
    'sync_bn_forward_output',
    'sync_bn_forward_var',
    'tin_shift_backward',
    'tin_shift_forward',
]


def __getattr__(name: str):
    # mmcv.ops looks with `hasattr` for all of its operators as it is imported.
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return missing(name)
