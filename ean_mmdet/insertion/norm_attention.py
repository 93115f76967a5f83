"""Norm and attention as one module, in any network, with the network's own keys.

The choice, and what it has to stand:

- **The norm stays the object that it is; its class becomes a subclass** that runs the attention behind the norm
  (:func:`put_behind`). So ``isinstance(m, BatchNorm2d)`` holds where MMDetection's ``norm_eval``, optimizers' norm
  rules and quantization ask, hooks and references to the norm stay, and keys and names of parameters don't change. A
  wrapper would change keys; a forward hook can't make norm and attention one operation.
- **The attention module is a child of the block** (``layer1.0.bn3_attention``; of the nearest module around the norm
  that is no mere container), and the norm refers to it through a :class:`Switch`. So its keys are the same whatever
  becomes of the norm, MMDetection's initializers that reach into a norm don't reach it, and blocks can share one.
- **A** :class:`Guard`, a pre-hook of the block, sees before each call that the norm is still there. What converts or
  folds norms puts new modules in their places, without a word: ``SyncBatchNorm`` and back, frozen norms, an
  ``Identity`` (mmcv's ``fuse_conv_bn``), or nothing (Ultralytics' ``fuse()``). The guard puts the attention behind the
  new module, or behind the convolution that the norm was folded into, and stops by name where it can't know.
- **Norm and EAN are one operation** (:func:`.batch_norm_gate`) wherever the norm is a batch norm. What that needs is
  known from the classes; hooks on the EAN, which one operation would pass by, are noted by the EAN as they come.
- ``deepcopy`` and ``pickle`` rebuild the subclass; ``torch.fx`` sees norm and attention as one call, with both modules
  in the graph; ``torch.nn.DataParallel``, which copies modules one by one, is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.batchnorm import _BatchNorm

from ..attention.base import NotesHooks
from ..attention.ean import EAN
from ..ops import batch_norm_gate

# With this set, mmcv's ConvModule multiplies the norm into the convolution at each call, and passes the norm by.
EFFICIENT = 'efficient_conv_bn_eval_forward'


class Switch:
    """Attention module of a position, and whether it is used.

    A plain object, so that the module isn't among the norm's own children.

    Attributes:
        module: The attention module; None where there is none.
        on: Whether the norm's output goes through it.
        channels: Channels of the norm's output.
        first: Whether it is the first of the positions that share a module with a state, such as DIA.
        last: Whether it is the last of them.
    """

    def __init__(self, module: Any = None, on: bool = True, channels: int | None = None) -> None:
        self.module = module
        self.on = on
        self.channels = channels
        self.first = self.last = False


class NormAttention(NotesHooks):
    """A norm, or another module, with attention behind it. Made by :func:`put_behind`, never built.

    Attributes:
        plain: The class that the module had.
        normalize: What is in front of the attention: that class's ``forward``, or the batch norm in it where the class
            has norm and activation in one (timm's ``BatchNormAct2d``).
        activates: Whether the module's own dropout and activation come behind the attention.
        batch_norm: Whether ``normalize`` is PyTorch's batch norm, which is one operation with an EAN.
        switch: The attention module, and whether it is on.
    """

    plain: type[nn.Module]
    normalize: Any
    activates: bool
    batch_norm: bool
    switch: Switch
    # those of a batch norm, and of one with an activation
    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    momentum: float | None
    eps: float
    track_running_stats: bool
    act: nn.Module
    drop: nn.Module

    def forward(
        self, *args, residual: Tensor | None = None, activation: str | None = None, inplace: bool = False, **kwargs
    ) -> Tensor:
        """Norm, attention, addition and activation.

        Args:
            *args: The module's: a feature map of shape (N, C, H, W).
            residual: Added to the result, of its shape. Defaults to None.
            activation: ``'relu'`` or None, applied last. Defaults to None.
            inplace: Whether the result may be written over the map, as it is where no gradient is recorded.
                Defaults to False.
            **kwargs: The module's.
        """
        if args and isinstance(args[0], Proxy):
            return _traced(self, *args, residual=residual, activation=activation, **kwargs)
        switch = self.switch
        attention: Any = switch.module if switch.on else None
        ean = type(attention) is EAN and not attention.hooked
        inplace = inplace and not torch.is_grad_enabled()
        if ean and self.batch_norm:
            # What the batch norm's own forward does around the arithmetic, and the arithmetic together with the EAN's.
            momentum = 0.0 if self.momentum is None else self.momentum
            updated = self.training and self.track_running_stats
            if updated and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
                if self.momentum is None:
                    momentum = 1.0 / float(self.num_batches_tracked)
            seen = updated or not self.training
            y = batch_norm_gate(
                args[0],
                self.running_mean if seen else None,
                self.running_var if seen else None,
                attention.alpha,
                attention.delta,
                attention.weight,
                attention.bias,
                attention.weight_norm,
                self.weight,
                self.bias,
                self.training,
                momentum,
                self.eps,
                attention.eps,
                residual,
                activation,
                inplace,
            )
        elif ean:
            y = attention(self.normalize(*args, **kwargs), residual, activation, inplace)
        else:
            y = self.normalize(*args, **kwargs)
            if attention is not None:
                y = _with_state(switch, attention, y)
            if residual is not None:
                y = y + residual
            if activation is not None:
                y = torch.relu(y)
        return self.act(self.drop(y)) if self.activates else y

    def extra_repr(self) -> str:
        """Describe the module in ``repr``."""
        attention = type(self.switch.module).__name__ if self.switch.on else f'{type(self.switch.module).__name__}, off'
        return ', '.join(filter(None, [super().extra_repr(), f'attention={attention}']))

    def __reduce_ex__(self, protocol):
        return _rebuilt, (self.plain, self.activates), self.__dict__

    def _replicate_for_data_parallel(self):
        raise RuntimeError(
            'torch.nn.DataParallel copies modules one by one, which parts a norm from its attention; use '
            'torch.nn.parallel.DistributedDataParallel, or ean_mmdet.detach(model) first'
        )


def _with_state(switch: Switch, attention: Any, x: Tensor) -> Tensor:
    """Call the attention module; tell one that goes from block to block where its stage begins and ends."""
    if switch.first:
        attention.begin()
    y = attention(x)
    if switch.last:
        attention.end()
    return y


def _traced(norm: NormAttention, *args, **kwargs) -> Any:
    """One call in a graph of ``torch.fx``, which gets both modules by their names."""
    tracer = args[0].tracer
    modules = [tracer.create_proxy('get_attr', tracer.path_of_module(norm), (), {})]
    if norm.switch.module is not None:
        modules.append(tracer.create_proxy('get_attr', tracer.path_of_module(norm.switch.module), (), {}))
    return tracer.create_proxy('call_function', call_norm_attention, (tuple(modules), *args), kwargs)


def call_norm_attention(modules: tuple[nn.Module, ...], *args, **kwargs) -> Tensor:
    """Call the first of ``modules``, which runs the second: what a graph of ``torch.fx`` has for both."""
    return modules[0](*args, **kwargs)


@cache
def _subclass(plain: Any, activates: bool) -> Any:
    # The bases' own bases too, as mmengine's initializers look no deeper for '_BatchNorm'.
    bases = [base for base in plain.__bases__ if base is not nn.Module]
    return type(
        f'{plain.__name__}Attention',
        (NormAttention, plain, *bases),
        dict(
            __module__=__name__,
            __doc__=NormAttention.__doc__,
            plain=plain,
            normalize=_BatchNorm.forward if activates else plain.forward,
            activates=activates,
            batch_norm=issubclass(plain, _BatchNorm) and (activates or plain.forward is _BatchNorm.forward),
        ),
    )


def _rebuilt(plain: Any, activates: bool) -> Any:
    cls = _subclass(plain, activates)
    return cls.__new__(cls)


def put_behind(module: Any, switch: Switch) -> None:
    """Put attention behind a module, in place.

    Raises:
        ValueError: There is attention behind it already, or it is a norm with an activation of an unknown kind.
    """
    plain: Any = type(module)
    if issubclass(plain, NormAttention):
        raise ValueError(f'{plain.__name__} is followed by attention already')
    activates = isinstance(getattr(module, 'act', None), nn.Module) and isinstance(
        getattr(module, 'drop', None), nn.Module
    )
    if activates and not issubclass(plain, _BatchNorm):
        raise ValueError(
            f'{plain.__name__} is norm and activation in one and no batch norm, so attention cannot go between'
        )
    module.__class__ = _subclass(plain, activates)
    module.switch = switch
    module.train(module.training)  # notes its hooks


def take_off(module: Any) -> None:
    """Make a module what it was."""
    del module.switch, module.hooked
    module.__class__ = module.plain


class Guard:
    """Forward pre-hook of the block around a norm that sees that the attention is still there.

    An object rather than a closure, so that deep copies and pickles of the block have their own.

    Args:
        path: Name of the norm within the block.
        switch: The position's.
        folded: Name within the block of the convolution that the norm may be folded into; None where there is none.
        behind: Name within the block of a norm behind the attention, which must not be folded past it into a
            convolution; None where there is none.
        own: Name of the attention module in the block; None where it is another block's.
        sharing: The switches of all positions that use that module.
    """

    def __init__(
        self,
        path: str,
        switch: Switch,
        folded: str | None = None,
        behind: str | None = None,
        own: str | None = None,
        sharing: Sequence[Switch] = (),
    ) -> None:
        self.path: str = path
        self.switch = switch
        self.folded = folded
        self.behind = behind
        self.own = own
        self.sharing = sharing

    def __call__(self, block: nn.Module, args: object) -> None:
        """See before each call of the block that its attention is in place."""
        if self.own is not None and block._modules.get(self.own) is not self.switch.module:
            self.take(block._modules.get(self.own))
        norm = find(block, self.path)
        if block.__dict__.get(EFFICIENT) is not None:
            setattr(block, EFFICIENT, None)
        if not isinstance(norm, NormAttention) or 'forward' in norm.__dict__ or self.behind is not None:
            self.mend(block, norm)

    @torch.compiler.disable
    def take(self, attention: nn.Module | None) -> None:
        """Use the module that the block has now.

        Raises:
            RuntimeError: It has none.
        """
        if attention is None:
            raise RuntimeError(f'{self.own} is gone, but {self.path} needs it; ean_mmdet.detach takes attention off')
        for switch in self.sharing:
            switch.module = attention

    @torch.compiler.disable
    def mend(self, block: Any, norm: Any) -> None:
        """Put the attention behind what became of the norm.

        Raises:
            RuntimeError: It isn't known what that is.
        """
        problem = None
        if self.behind is not None and type(find(block, self.behind)) in (nn.Identity, type(None)):
            problem = f'is followed by {self.behind}, which was folded into the convolution in front of it'
        elif norm is None:
            self.path, self.folded = self.folded or self.path, None
            norm = find(block, self.path)
            if getattr(norm, 'bias', None) is None:
                problem = 'is gone, and no convolution is left that it was folded into'
        elif 'forward' in norm.__dict__:
            problem = "has got another 'forward' in its instance, which skips the attention"
        elif type(norm) is not nn.Identity and channels_of(norm) != self.switch.channels:
            problem = f'was replaced by {type(norm).__name__} of {channels_of(norm)} channels'
        if problem is not None:
            raise RuntimeError(
                f'{type(block).__name__}: {self.path}, which {type(self.switch.module).__name__} follows, {problem}; '
                f'call ean_mmdet.detach first, and attach afterwards'
            )
        if not isinstance(norm, NormAttention):
            put_behind(norm, self.switch)


def find(module: Any, path: str) -> Any:
    """The submodule of that name, or None."""
    for name in path.split('.'):
        module = module._modules.get(name) if module is not None else None
    return module


def channels_of(module: nn.Module) -> int | None:
    """A module's output channels, where they are an attribute: norms, convolutions, ConvModules and many blocks."""
    for attribute in ('num_features', 'num_channels', 'out_channels'):
        channels = getattr(module, attribute, None)
        if isinstance(channels, int):
            return channels
    return None
