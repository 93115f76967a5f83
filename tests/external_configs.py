"""``mmdet::…`` in a config, looked up fast.

MMEngine reads all metafiles of a library, 85 in MMDetection, whenever a config names one of its configs: half a second
each time. The tests read some hundred configs; here each metafile is read once.
"""

from functools import lru_cache

from mmengine.config import config, utils


def read_metafiles_once() -> None:
    """Keep what MMEngine reads of metafiles, and which packages it has found installed, in this process."""
    if not hasattr(utils.load, 'cache_info'):
        utils.load = lru_cache(None)(utils.load)
        config.is_installed = lru_cache(None)(config.is_installed)
