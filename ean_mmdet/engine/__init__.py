"""What the command lines share: reading a config, and building a runner on whatever machine there is."""

from .config import load_config, set_work_dir
from .runner import build_runner
from .user_errors import user_errors

__all__ = ['build_runner', 'load_config', 'set_work_dir', 'user_errors']
