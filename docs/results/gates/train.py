"""Train CIFAR ResNets with EAN under several settings of the gates' vectors, and log what the gates do.

One process runs every setting and seed that has no result yet, seeds outermost, so that it can be stopped and started
again at any time; a run goes on from its last evaluation. Selection is by images that training leaves out; test images
are only reported.

    python docs/results/gates/train.py CIFAR.npz OUT_DIR [--side 16] [--epochs 4] [--seeds 0 1 2] [--settings NAME …]

CIFAR.npz is written by ``prepare.py`` beside this file. A result is ``OUT_DIR/SETTING_seedN.json``: top-1 by epoch, the
same with every attention map replaced by its mean, and for every EAN mean |α·ω|, mean |δ| and the standard deviation of
its attention map over pixels and samples.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ean_mmdet
from ean_mmdet.attention import EAN

HELD_OUT = 5000  # of the training images, the last of a fixed shuffle
BATCH = 128


@dataclass(frozen=True)
class Setting:
    """What one row of the table trains.

    Attributes:
        attention: ``'none'``, ``'half'`` (the map is ½ for ever), ``'constant'`` (an EAN whose α stays 0, so that its
            map can't depend on the input), or ``'EAN'``.
        rate: Multiple of the learning rate for the gates' vectors.
        decay: Whether the gates' vectors are decayed as the other weights are.
        alpha: α at the start; the paper's is 0.
        optimizer: ``'SGD'`` or ``'AdamW'``.
    """

    attention: str = 'EAN'
    rate: float = 1
    decay: bool = True
    alpha: float = 0
    optimizer: str = 'SGD'


SETTINGS = {
    'plain': Setting('none'),
    'half': Setting('half'),
    'constant': Setting('constant'),
    'ean': Setting(),
    'ean_x10': Setting(rate=10),
    'ean_x10_nodecay': Setting(rate=10, decay=False),
    'ean_x30_nodecay': Setting(rate=30, decay=False),
    'constant_x10_nodecay': Setting('constant', rate=10, decay=False),
    'ean_alpha1': Setting(alpha=1),
    'ean_alpha1_x10_nodecay': Setting(alpha=1, rate=10, decay=False),
    'ean_x3': Setting(rate=3),
    'ean_nodecay': Setting(decay=False),
    'adamw_plain': Setting('none', optimizer='AdamW'),
    'adamw_half': Setting('half', optimizer='AdamW'),
    'adamw_ean': Setting(optimizer='AdamW'),
    'adamw_ean_x10': Setting(rate=10, optimizer='AdamW'),
}
OPTIMIZERS = {
    'SGD': lambda groups, lr: torch.optim.SGD(groups, lr=lr or 0.1, momentum=0.9, weight_decay=5e-4),
    'AdamW': lambda groups, lr: torch.optim.AdamW(groups, lr=lr or 2e-3, weight_decay=0.05),
}
NORMALIZATIONS = {
    'CIFAR-10': ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    'ImageNet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class Half(nn.Module):
    """The control that only halves."""

    gate_layers = ()  # its map is a constant as it is

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5


class Block(nn.Module):
    """The basic block of CIFAR ResNets; its shortcut pads with zero channels."""

    def __init__(self, inplanes: int, planes: int, stride: int, attention: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.attention = attention
        self.pad, self.stride = (planes - inplanes) // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.attention(self.bn2(self.conv2(out)))
        if self.pad:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(out + x)


class ResNet(nn.Module):
    """CIFAR ResNet of depth 6n + 2 (He et al., 2016), 10 classes."""

    def __init__(self, blocks: int, width: int, setting: Setting) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        layers, inplanes = [], width
        for stage in range(3):
            planes = width * 2**stage
            for index in range(blocks):
                stride = 2 if stage and not index else 1
                layers.append(Block(inplanes, planes, stride, make_attention(setting, planes)))
                inplanes = planes
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(inplanes, 10)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        return self.linear(x.mean((2, 3)))


def make_attention(setting: Setting, channels: int) -> nn.Module:
    if setting.attention in ('none', 'half'):
        return nn.Identity() if setting.attention == 'none' else Half()
    ean = EAN(channels, groups=8)
    nn.init.constant_(ean.alpha, setting.alpha)
    if setting.attention == 'constant':
        ean.alpha.requires_grad_(False)
    return ean


def pretrained(weights: Path, blocks: int, width: int, setting: Setting) -> ResNet:
    """The plain network with its weights, and attention added that changes nothing at its start."""
    model = ResNet(blocks, width, Setting('none'))
    weight = torch.load(weights)
    for key in list(weight):
        if stage := re.match(r'layer(\d)\.(\d+)', key):
            place = (int(stage[1]) - 1) * blocks + int(stage[2])
            weight[f'layers.{place}{key[stage.end() :]}'] = weight.pop(key)
    model.load_state_dict(weight)
    if setting.attention != 'none':
        ean_mmdet.attach(model, partial(make_attention, setting), at=r'layers\.\d+\.bn2')
    return model


def gates_of(model: nn.Module) -> list[EAN]:
    return [module for module in model.modules() if isinstance(module, EAN)]


def parameter_groups(model: nn.Module, setting: Setting) -> list[dict]:
    gates = {id(p) for gate in gates_of(model) for p in gate.parameters()}
    named = list(model.parameters())
    groups = [dict(params=[p for p in named if id(p) not in gates], multiple=1.0)]
    if gates:
        groups.append(dict(params=[p for p in named if id(p) in gates and p.requires_grad], multiple=setting.rate))
        if not setting.decay:
            groups[1]['weight_decay'] = 0.0
    return groups


def augment(x: Tensor, generator: torch.Generator, pad: int) -> Tensor:
    """Random shifts and flips, of their own for each image."""
    n, _, side, _ = x.shape
    x = F.pad(x, (pad,) * 4)
    top, left = (torch.randint(0, 2 * pad + 1, (n, 1), generator=generator) for _ in range(2))
    rows, columns = top + torch.arange(side), left + torch.arange(side)
    flip = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    index = torch.arange(n)
    return (
        x.permute(0, 2, 3, 1)[index[:, None, None], rows[:, :, None], columns[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def gate_figures(model: nn.Module, images: Tensor) -> dict[str, list[float]]:
    """What the gates do on these images: mean |α·ω|, mean |δ|, and how far the attention map spreads."""
    figures: dict[str, list[float]] = dict(alpha_omega=[], delta=[], spread=[])
    hooks = []

    def look(gate: EAN, args: tuple, output: Tensor) -> None:
        attention = attention_map(gate, args[0])
        figures['spread'].append((attention - attention.mean((0, 2, 3), keepdim=True)).pow(2).mean().sqrt().item())

    for gate in gates_of(model):
        omega = gate.weight / (gate.weight.pow(2).sum() + gate.eps).sqrt()
        figures['alpha_omega'].append((gate.alpha * omega).abs().mean().item())
        figures['delta'].append(gate.delta.abs().mean().item())
        hooks.append(gate.register_forward_hook(look))
    model(images)
    for hook in hooks:
        hook.remove()
    return figures


def attention_map(gate: EAN, x: Tensor) -> Tensor:
    """The paper's Eq. 5 to 8, written out."""
    normed = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, unbiased=False) + gate.eps).sqrt()
    omega = gate.weight / (gate.weight.pow(2).sum() + gate.eps).sqrt()
    scale, shift, alpha, delta, omega = (
        vector.repeat(gate.groups).view(1, -1, 1, 1)
        for vector in (gate.weight, gate.bias, gate.alpha, gate.delta, omega)
    )
    return torch.sigmoid(alpha * omega * (scale * normed + shift) + delta)


def top1(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500)))
    return 100 * right / len(labels)


def with_constants(model: nn.Module, seen: Tensor, images: Tensor, labels: Tensor) -> float:
    """Top-1 with every attention map replaced by its mean over ``seen``, one number a channel."""
    hooks, means = [], {}
    for gate in gates_of(model):
        hooks.append(
            gate.register_forward_hook(
                lambda g, a, o: means.__setitem__(g, attention_map(g, a[0]).mean((0, 2, 3), keepdim=True))
            )
        )
    model(seen)
    for hook in hooks:
        hook.remove()
    hooks = [gate.register_forward_hook(lambda g, a, o: a[0] * means[g]) for gate in means]
    result = top1(model, images, labels)
    for hook in hooks:
        hook.remove()
    return result


def run(setting: Setting, seed: int, data: dict[str, Tensor], args: argparse.Namespace, checkpoint: Path) -> dict:
    torch.manual_seed(seed)
    size = args.blocks, args.width
    model = pretrained(args.weights, *size, setting) if args.weights else ResNet(*size, setting)
    model.to(memory_format=torch.channels_last)  # faster on CPUs
    optimizer = OPTIMIZERS[setting.optimizer](parameter_groups(model, setting), args.learning_rate)
    bases = [group['lr'] for group in optimizer.param_groups]
    generator = torch.Generator().manual_seed(seed)
    images, labels = data['train'][: args.images], data['train_labels'][: args.images]
    steps = len(images) // BATCH
    total, epochs, seconds = steps * args.epochs, [], 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state['model'])
        optimizer.load_state_dict(state['optimizer'])
        generator.set_state(state['generator'])
        epochs, seconds = state['epochs'], state['seconds']
        print(f'  goes on after {epochs[-1]["epoch"]} epochs', flush=True)
    elif args.weights:
        epochs.append(evaluate(model, data) | dict(epoch=0))
    begun = time.time() - seconds
    for epoch in range(epochs[-1]['epoch'] if epochs else 0, args.epochs):
        model.train()
        order = torch.randperm(len(images), generator=generator)
        for step, index in enumerate(order[: steps * BATCH].view(steps, BATCH), epoch * steps):
            factor = 0.5 * (1 + math.cos(math.pi * step / total))
            for group, base in zip(optimizer.param_groups, bases):
                group['lr'] = base * factor * group['multiple']
            batch = augment(images[index], generator, args.side // 8)
            with torch.autocast('cpu', torch.bfloat16, enabled=args.bfloat16):
                logits = model(batch)
            loss = F.cross_entropy(logits.float(), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (epoch + 1) % args.every and epoch + 1 < args.epochs:
            continue
        row = evaluate(model, data) | dict(epoch=epoch + 1, loss=loss.item())
        epochs.append(row)
        seconds = time.time() - begun
        print(f'  {epoch + 1} {row["loss"]:.3f} {row["held_out"]:.2f} {row["test"]:.2f} {seconds:.0f} s', flush=True)
        state = dict(
            model=model.state_dict(), optimizer=optimizer.state_dict(), generator=generator.get_state(),
            epochs=epochs, seconds=seconds,
        )  # fmt: skip
        save(checkpoint, partial(torch.save, state))
    return dict(
        setting=asdict(setting), seed=seed, side=args.side, width=args.width, blocks=args.blocks, images=len(images),
        epochs=epochs, seconds=round(seconds), torch=torch.__version__,
    )  # fmt: skip


@torch.no_grad()
def evaluate(model: nn.Module, data: dict[str, Tensor]) -> dict:
    model.eval()
    row: dict = {name: top1(model, data[name], data[f'{name}_labels']) for name in ('held_out', 'test')}
    if gates_of(model):
        row.update(gate_figures(model, data['held_out'][:1000]))
        for name in ('held_out', 'test'):
            row[f'{name}_with_constants'] = with_constants(
                model, data['train'][:2000], data[name], data[f'{name}_labels']
            )
    return row


def save(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file as a whole or not at all."""
    unfinished = path.with_suffix('.partial')
    write(unfinished)
    os.replace(unfinished, path)


def load(path: Path, normalization: str) -> dict[str, Tensor]:
    stored = np.load(path)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in NORMALIZATIONS[normalization])
    images = {part: (torch.from_numpy(stored[part]).float() / 255 - mean) / std for part in ('train', 'test')}
    labels = {part: torch.from_numpy(stored[f'{part}_labels']).long() for part in ('train', 'test')}
    order = torch.randperm(len(images['train']), generator=torch.Generator().manual_seed(0))
    kept, held = order[:-HELD_OUT], order[-HELD_OUT:]
    return dict(
        train=images['train'][kept], train_labels=labels['train'][kept],
        held_out=images['train'][held], held_out_labels=labels['train'][held],
        test=images['test'], test_labels=labels['test'],
    )  # fmt: skip


def check_protocol(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """One folder, one protocol: what is in it was trained as this call would, or nothing goes on."""
    wanted = {name: getattr(value, 'name', value) for name, value in vars(args).items()}  # of files, their names
    wanted = {name: value for name, value in wanted.items() if name not in ('out', 'seeds', 'settings')}
    path = args.out / 'protocol.json'
    if not path.exists():
        path.write_text(json.dumps(wanted))
    stored = json.loads(path.read_text())
    other = [f'{name} {stored.get(name)}, not {wanted[name]}' for name in wanted if stored.get(name) != wanted[name]]
    if other:
        parser.error(f'{args.out} holds runs of {"; ".join(other)}: another folder, or the same arguments')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('cifar', type=Path, help='file that prepare.py wrote')
    parser.add_argument('out', type=Path, help='folder for results')
    parser.add_argument('--side', type=int, default=16, help='side of the images (default: %(default)s)')
    parser.add_argument('--epochs', type=int, default=4, help='epochs (default: %(default)s)')
    parser.add_argument('--every', type=int, default=1, help='epochs from one evaluation to the next (default: 1)')
    parser.add_argument('--images', type=int, help='training images (default: all 45,000)')
    parser.add_argument('--blocks', type=int, default=3, help='blocks a stage; depth 6n + 2 (default: %(default)s)')
    parser.add_argument('--width', type=int, default=16, help='channels of the first stage (default: %(default)s)')
    parser.add_argument('--bfloat16', action='store_true', help='train under autocast (evaluation is in float32)')
    parser.add_argument('--weights', type=Path, help='start from these of a plain CIFAR ResNet of that size')
    parser.add_argument('--learning-rate', type=float, help='default: 0.1 of SGD, 0.002 of AdamW')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='seeds (default: 0 1 2)')
    parser.add_argument('--settings', nargs='+', choices=SETTINGS, default=list(SETTINGS), help='rows (default: all)')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    check_protocol(args, parser)
    data = load(args.cifar, 'ImageNet' if args.weights else 'CIFAR-10')
    for seed in args.seeds:
        for name in args.settings:
            path = args.out / f'{name}_seed{seed}.json'
            if path.exists():
                continue
            print(path.stem, flush=True)
            checkpoint = path.with_suffix('.pth')
            result = run(SETTINGS[name], seed, data, args, checkpoint)
            save(path, partial(Path.write_text, data=json.dumps(result)))
            checkpoint.unlink()


if __name__ == '__main__':
    main()
