"""Networks compared over seeds: mean, standard deviation, and the paired difference to one of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from scipy.stats import t as student

from ..errors import InputError
from ..evaluation.runs import read_run

NAME = re.compile(r'(?P<kind>.+)_(?P<network>[^_]+)_seed(?P<seed>\d+)')


@dataclass(frozen=True)
class Row:
    """What a network came to.

    Attributes:
        network: Its name.
        values: The final metric by seed.
        difference: Mean of the differences to the reference of the same seed; None for the reference itself.
        half_width: Half the width of the difference's 95 % confidence interval, by Student's t; None likewise.
    """

    network: str
    values: dict[int, float]
    difference: float | None = None
    half_width: float | None = None

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return mean(self.values.values())

    @property
    def deviation(self) -> float:
        """The sample standard deviation over the seeds."""
        return stdev(self.values.values()) if len(self.values) > 1 else math.nan


def compare(files: Sequence[Path], metric: str, reference: str = 'plain') -> list[Row]:
    """Compare runs whose logs are called ``KIND_NETWORK_seedN.json``.

    Args:
        files: The logs, ``scalars.json`` of mmengine, all of one kind.
        metric: The metric, such as ``'accuracy/top1'``; its last value counts.
        reference: The network to compare with. Defaults to ``'plain'``.

    Raises:
        InputError: A name has no network and seed in it, a run hasn't the metric, or the reference lacks a seed.
    """
    values: dict[str, dict[int, float]] = {}
    for file in files:
        name = NAME.fullmatch(file.stem)
        if not name:
            raise InputError(f'{file} is not called KIND_NETWORK_seedN.json')
        run = read_run(file)
        if metric not in run.metrics:
            raise InputError(f'{file} has no metric {metric!r}; it has {", ".join(run.metrics)}')
        values.setdefault(name['network'], {})[int(name['seed'])] = run.final(metric).values[metric]
    if reference not in values:
        raise InputError(f'no run of {reference}; there are {", ".join(values)}')
    base = values[reference]
    rows = [Row(reference, base)]
    for network, by_seed in values.items():
        if network == reference:
            continue
        lacking = set(by_seed) - set(base)
        if lacking:
            raise InputError(f'{reference} has no run with seed {sorted(lacking)[0]}, which {network} has')
        differences = [value - base[seed] for seed, value in by_seed.items()]
        half = math.nan
        if len(differences) > 1:
            half = student.ppf(0.975, len(differences) - 1) * stdev(differences) / math.sqrt(len(differences))
        rows.append(Row(network, by_seed, mean(differences), half))
    return sorted(rows, key=lambda row: (row.network != reference, row.mean))
