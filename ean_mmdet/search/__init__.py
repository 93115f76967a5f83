"""Search for where to plug attention: a supernet of all connection schemes, and strategies that search in it.

Huang, Liang, He, Liang and Lin, 'Efficient Attention Network: Accelerate Attention by Searching Where to Plug', arXiv
2011.14058. Importing it registers the hook and the data set that it needs.
"""

from .evaluation import SchemeEvaluator
from .result import Seen, write_config, write_picture
from .search import Search
from .split import SplitDataset, split_training_data
from .strategies import STRATEGIES, Controller, Evolution, RandomSearch, Strategy
from .supernet import SupernetHook, supernet_config

__all__ = [
    'STRATEGIES',
    'Controller',
    'Evolution',
    'RandomSearch',
    'SchemeEvaluator',
    'Search',
    'Seen',
    'SplitDataset',
    'Strategy',
    'SupernetHook',
    'split_training_data',
    'supernet_config',
    'write_config',
    'write_picture',
]
