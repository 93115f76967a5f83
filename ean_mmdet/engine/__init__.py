"""Common parts of the command lines: arguments, reading a config, building a runner on whatever machine there is."""

from .arguments import add_config_arguments, add_run_arguments, is_main_process, parse
from .config import load_config, set_work_dir
from .dumped import check_buildable, read_dumped_config
from .model import build_model, check_device, input_shape
from .runner import build_runner, finish
from .user_errors import user_errors
from .vis_backends import add_backend_argument, use_backends

__all__ = [
    'add_backend_argument',
    'add_config_arguments',
    'add_run_arguments',
    'build_model',
    'build_runner',
    'check_buildable',
    'check_device',
    'finish',
    'input_shape',
    'is_main_process',
    'load_config',
    'parse',
    'read_dumped_config',
    'set_work_dir',
    'use_backends',
    'user_errors',
]
