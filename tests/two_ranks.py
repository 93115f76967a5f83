"""Trains the same total batch in one process and in two, and says how far apart they end:
python -m tests.two_ranks [--iterations 50]

The detector is that of tests/test_tools/tiny.py, without random augmentation, so that both see the same images in the
same steps. A loss is an average over what one process has, and batch norms in training take the statistics of one
process: these are what differs. The last pair has its batch norms in evaluation mode, so that the loss alone does.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from ean_mmdet.checkpoint import load_local
from ean_mmdet.datasets import make_sample_dataset
from tests.fork_server import ROOT
from tests.test_tools.tiny import write_config


def train(config: Path, work_dir: Path, ranks: int, iterations: int) -> tuple[dict, dict]:
    """The weights and metrics of a run."""
    with socket.socket() as server:
        server.bind(('', 0))
        port = str(server.getsockname()[1])
    environment = {**os.environ, 'PORT': port, 'OMP_NUM_THREADS': '1', 'VIRTUAL_ENV': sys.prefix}
    command = ['bash', ROOT / 'tools/dist_train.sh'] if ranks > 1 else [sys.executable, ROOT / 'tools/train.py']
    command += [config, *[str(ranks)] * (ranks > 1), '--work-dir', work_dir]
    command += ['--cfg-options', f'train_dataloader.batch_size={4 // ranks}']
    subprocess.run(command, check=True, env=environment, capture_output=True, cwd=ROOT)
    (log,) = work_dir.glob('2*/vis_data/scalars.json')
    metrics = json.loads(log.read_text().splitlines()[-1])
    return load_local(str(work_dir / f'iter_{iterations}.pth'))['state_dict'], metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--iterations', type=int, default=50, help='steps (default: 50)')
    args = parser.parse_args()
    print('| batch norms | apart, of what training changed | mAP@.5, one process | two |')
    print('| --- | ---: | ---: | ---: |')
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = make_sample_dataset(folder / 'data', train=24, val=24)
        base = write_config(folder, data, args.iterations)
        for name, norm_eval in (('each process its own', False), ('evaluation mode', True)):
            config = folder / 'config.py'
            config.write_text(
                f'_base_ = {str(base)!r}\n'
                'train_pipeline = _base_.train_dataloader.dataset.pipeline\n'
                "keep = ('LoadImageFromFile', 'LoadAnnotations', 'Resize', 'PackDetInputs')\n"
                "train_pipeline = [step for step in train_pipeline if step['type'] in keep]\n"
                'train_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n'
                f'model = dict(backbone=dict(norm_eval={norm_eval}))\n'
                f'default_hooks = dict(checkpoint=dict(interval={args.iterations}))\n'
            )
            start, _ = train(config, folder / f'{norm_eval}0', 1, args.iterations)
            (one, one_metrics), (two, two_metrics) = (
                train(config, folder / f'{norm_eval}{ranks}', ranks, args.iterations) for ranks in (1, 2)
            )
            assert all(torch.equal(value, one[key]) for key, value in start.items()), 'a run is not repeatable'
            initial = initial_weights(config)
            distance, moved = (
                sum((a[key] - b[key]).double().square().sum() for key in initial).sqrt().item()
                for a, b in ((one, two), (one, initial))
            )
            maps = [metrics['coco/bbox_mAP_50'] for metrics in (one_metrics, two_metrics)]
            print(f'| {name} | {distance / moved:.4f} | {maps[0]:.3f} | {maps[1]:.3f} |', flush=True)


def initial_weights(config: Path) -> dict:
    """The parameters that a run of the config starts from."""
    from mmengine.config import Config

    from ean_mmdet.engine import build_runner

    config = Config.fromfile(config)
    config.work_dir = tempfile.mkdtemp()
    runner = build_runner(config)
    runner._init_model_weights()
    return {key: value.detach().clone() for key, value in runner.model.named_parameters()}


if __name__ == '__main__':
    main()
