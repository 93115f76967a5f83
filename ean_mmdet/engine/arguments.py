"""The arguments that every command line with a config shares, named as in MMDetection."""

import argparse
import os

from mmengine.config import DictAction


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``config`` and ``--cfg-options``."""
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_dataloader.batch_size=4 optim_wrapper.optimizer.lr=0.02',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--work-dir``, ``--launcher`` and ``--no-check``."""
    parser.add_argument('--work-dir', help='folder for logs and results (default: work_dirs/CONFIG_NAME)')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='who started the processes'
    )
    parser.add_argument(
        '--no-check', action='store_true', help='start without a look at the data, see tools/check_data.py'
    )
    # older launchers pass it; torchrun sets the environment variable
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse, and set LOCAL_RANK where the launcher gave it as an argument."""
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(getattr(args, 'local_rank', 0)))
    return args


def is_main_process() -> bool:
    """Tell whether this process is the first of its run, known before the process group is."""
    # Inside a Slurm job, mpirun and torchrun number their processes themselves.
    ranks = (os.environ.get(name) for name in ('RANK', 'OMPI_COMM_WORLD_RANK', 'PMI_RANK', 'SLURM_PROCID'))
    return next((rank for rank in ranks if rank is not None), '0') == '0'
