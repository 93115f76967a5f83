"""Search for where to plug attention: a supernet of all connection schemes, and strategies that search in it.

Huang, Liang, He, Liang and Lin, 'Efficient Attention Network: Accelerate Attention by Searching Where to Plug', arXiv
2011.14058. Importing it registers the hook that it needs.
"""

from .evaluation import SchemeEvaluator
from .result import Seen, write_config, write_picture
from .search import Search
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
    'Strategy',
    'SupernetHook',
    'supernet_config',
    'write_config',
    'write_picture',
]
