"""Versions for ``mmcv.utils.collect_env``, and the error for an operator that isn't supplied."""

from collections.abc import Callable

import torchvision


def get_compiler_version() -> str:
    """Tell where the operators come from, where a compiled mmcv has its C++ compiler."""
    return f'none: ean_mmdet.mmcv_ops on torchvision {torchvision.__version__}'


def get_compiling_cuda_version() -> str:
    """Tell that nothing was compiled for CUDA. torchvision's operators run on its PyTorch's CUDA."""
    return 'not available'


def missing(name: str) -> Callable:
    """Stand in for an operator that only a compiled mmcv has."""

    def call(*args: object, **kwargs: object) -> None:
        import mmcv

        raise NotImplementedError(
            f'mmcv.ops: {name} needs a compiled mmcv, and ean_mmdet does not supply it. Compile one with '
            f'`EAN_MMCV=build bash tools/setup.sh` or `python tools/build_mmcv.py --version {mmcv.__version__}`.'
        )

    call.__name__ = name
    return call
