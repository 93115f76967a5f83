"""From a folder of images to a config: what is there, a split, numbers that fit, and the file a person would write.

``find`` looks (``coco_files``, ``voc_files``, ``yolo_files``), ``split`` divides, ``contents`` reads as MMDetection
does, ``anchors`` and ``choices`` take numbers from that, ``weights`` finds what to start from, ``rehearse`` the batch,
``write`` writes, ``show`` tells; ``new_config`` is all of it in turn.
"""

from .choices import DETECTORS
from .found import Options
from .new_config import New, Settings, new_config

__all__ = ['DETECTORS', 'New', 'Options', 'Settings', 'new_config']
