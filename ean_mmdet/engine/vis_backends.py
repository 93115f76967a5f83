"""Backends for a run's curves and pictures beside its work dir."""

from __future__ import annotations

import argparse
import importlib.util

from mmengine.config import Config

from ..errors import InputError

# By name: MMEngine's class, and the package that it needs.
BACKENDS = {
    'tensorboard': ('TensorboardVisBackend', 'tensorboard'),
    'wandb': ('WandbVisBackend', 'wandb'),
    'mlflow': ('MLflowVisBackend', 'mlflow'),
}


def add_backend_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--vis-backend``."""
    parser.add_argument(
        '--vis-backend',
        nargs='+',
        choices=BACKENDS,
        default=(),
        help="send curves, metrics and pictures there too, beside the work dir's own files",
    )


def use_backends(config: Config, names: list[str]) -> None:
    """Have a config's visualizer send to backends, test metrics and pictures included.

    Args:
        config: The config. Backends that it has stay.
        names: Of :data:`BACKENDS`.

    Raises:
        InputError: A backend's package is missing.
    """
    if not names:
        return
    visualizer = config.setdefault('visualizer', dict(type='Visualizer'))
    backends = list(visualizer.get('vis_backends') or [dict(type='LocalVisBackend')])
    for name in names:
        kind, package = BACKENDS[name]
        if importlib.util.find_spec(package) is None:
            raise InputError(f'--vis-backend {name} needs the package {package}: pip install {package}')
        if kind not in {backend['type'] for backend in backends}:
            backends.append(dict(type=kind))
    visualizer.vis_backends = backends
    config.setdefault('default_hooks', {})['test_visualization'] = dict(type='TestVisualizationHook')
