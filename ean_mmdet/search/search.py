"""The search itself: propose, evaluate, learn, until the budget is spent."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import InputError
from .result import Seen
from .strategies import Strategy


class Search:
    """Goes by a strategy, and keeps the accuracies in a file.

    A search that was stopped is run again from its start; schemes that are in the file aren't evaluated again.

    Args:
        strategy: The strategy, at its start.
        evaluate: Gives the accuracy of a scheme, in percent.
        path: The file, a line a scheme.
        sparsity: What the share of blocks without attention adds to the reward. Defaults to 2, in the paper.
    """

    def __init__(
        self, strategy: Strategy, evaluate: Callable[[Sequence[int]], float], path: Path, sparsity: float = 2.0
    ) -> None:
        self.strategy = strategy
        self.evaluate = evaluate
        self.path = path
        self.sparsity = sparsity
        self.accuracies = read_accuracies(path)

    def run(self, budget: int, progress: Callable[[Seen], None] = lambda seen: None, write: bool = True) -> list[Seen]:
        """Search until ``budget`` schemes are proposed; one that was proposed before isn't evaluated again.

        Args:
            budget: Schemes to propose.
            progress: Called with what is known of each of them. Defaults to nothing.
            write: Whether this process keeps the file. Defaults to True.

        Returns:
            The schemes evaluated in this search, the best first.
        """
        seen: dict[tuple[int, ...], Seen] = {}
        for _ in range(budget):
            scheme = self.strategy.propose()
            if scheme not in seen:
                accuracy = self._accuracy(scheme, write)
                seen[scheme] = Seen(scheme, accuracy, accuracy + self.sparsity * scheme.count(0) / len(scheme))
            progress(seen[scheme])
            self.strategy.learn(scheme, seen[scheme].reward)
        return sorted(seen.values(), key=lambda entry: -entry.reward)

    def _accuracy(self, scheme: tuple[int, ...], write: bool) -> float:
        if scheme not in self.accuracies:
            self.accuracies[scheme] = self.evaluate(scheme)
            if write:
                with open(self.path, 'a') as file:
                    print(json.dumps(dict(scheme=scheme, accuracy=self.accuracies[scheme])), file=file)
        return self.accuracies[scheme]


def read_accuracies(path: Path) -> dict[tuple[int, ...], float]:
    """Read what an earlier search has evaluated; a last line that was cut off is left out.

    Raises:
        InputError: Another line is none of a search.
    """
    lines = path.read_text().splitlines() if path.is_file() else []
    accuracies = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            accuracies[tuple(entry['scheme'])] = float(entry['accuracy'])
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise InputError(f'{path}, line {number} is none of a search: {line[:80]!r}') from error
    return accuracies
