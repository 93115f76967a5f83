"""Strategies: what scheme to evaluate next, by what those before were worth.

All of them are deterministic by their seed, so a search that was stopped goes on by being run again on the rewards that
it has already seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

Scheme = tuple[int, ...]


class Strategy(Protocol):
    """Proposes schemes and learns from their rewards, one after the other."""

    def propose(self) -> Scheme:
        """The next scheme, with at least one 1."""

    def learn(self, scheme: Scheme, reward: float) -> None:
        """Take note of what the proposed scheme is worth."""


def _draw(probability: Tensor, generator: torch.Generator) -> Scheme:
    """Each block on with its probability, until one is."""
    while True:
        scheme = tuple(torch.bernoulli(probability, generator=generator).int().tolist())
        if any(scheme):
            return scheme
        probability = probability.clamp_min(0.05)


class RandomSearch:
    """Schemes with each block on or off with equal chance, none of them twice while there are others.

    Args:
        blocks: Length of a scheme.
        seed: Seed. Defaults to 0.
    """

    def __init__(self, blocks: int, seed: int = 0) -> None:
        self.probability = torch.full((blocks,), 0.5)
        self.generator = torch.Generator().manual_seed(seed)
        self.seen: set[Scheme] = set()

    def propose(self) -> Scheme:
        """A scheme that wasn't proposed before."""
        if len(self.seen) == 2 ** len(self.probability) - 1:
            self.seen.clear()
        while (scheme := _draw(self.probability, self.generator)) in self.seen:
            pass
        self.seen.add(scheme)
        return scheme

    def learn(self, scheme: Scheme, reward: float) -> None:
        """Nothing is learned."""


class Evolution:
    """Regularized evolution (Real, Aggarwal, Huang and Le, AAAI 2019) on schemes, with crossover.

    Random schemes at first; then two winners of tournaments are crossed and mutated, and the oldest is dropped.

    Args:
        blocks: Length of a scheme.
        seed: Seed. Defaults to 0.
        population: Schemes that are alive. Defaults to 20.
        tournament: Schemes that a winner is the best of. Defaults to 5.
        mutation: Chance of each block to be flipped. Defaults to None, one in ``blocks``.
    """

    def __init__(
        self, blocks: int, seed: int = 0, population: int = 20, tournament: int = 5, mutation: float | None = None
    ) -> None:
        self.random = RandomSearch(blocks, seed)
        self.generator = self.random.generator
        self.blocks = blocks
        self.size = population
        self.population: deque[tuple[float, Scheme]] = deque(maxlen=population)
        self.tournament = tournament
        self.mutation = mutation or 1 / blocks

    def propose(self) -> Scheme:
        """A random scheme until there is a population, then a child of two winners."""
        if len(self.population) < self.size:
            return self.random.propose()
        for _ in range(50):
            mother, father = self._winner(), self._winner()
            mixed = torch.where(self._chances(0.5), torch.tensor(mother), torch.tensor(father))
            child = tuple(torch.where(self._chances(self.mutation), 1 - mixed, mixed).tolist())
            if any(child) and child not in self.random.seen:
                self.random.seen.add(child)
                return child
        return self.random.propose()

    def learn(self, scheme: Scheme, reward: float) -> None:
        """Add a scheme to the population."""
        self.population.append((reward, scheme))

    def _chances(self, probability: float) -> Tensor:
        return torch.rand(self.blocks, generator=self.generator) < probability

    def _winner(self) -> Scheme:
        order = torch.randperm(len(self.population), generator=self.generator)[: self.tournament].tolist()
        return max(self.population[index] for index in order)[1]


class Curiosity:
    """Random network distillation (Burda, Edwards, Storkey and Klimov, ICLR 2019) on schemes.

    The bonus is the squared difference between a fixed random network of three layers and one of two that learns it,
    summed over four outputs a block and over the schemes of a step. It falls for schemes that were seen often.

    Args:
        blocks: Length of a scheme.
        rate: Learning rate, of Adam. Defaults to 5e-2.
    """

    def __init__(self, blocks: int, rate: float = 5e-2) -> None:
        width, outputs = 32, 4 * blocks
        self.target = nn.Sequential(
            nn.Linear(blocks, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
        )
        self.learned = nn.Sequential(nn.Linear(blocks, width), nn.ReLU(), nn.Linear(width, outputs))
        self.optimizer = torch.optim.Adam(self.learned.parameters(), lr=rate)

    def see(self, schemes: Sequence[Scheme]) -> float:
        """Reward schemes for being new, and learn them, a step."""
        x = torch.tensor(schemes, dtype=torch.float32)
        bonus = (self.target(x).detach() - self.learned(x)).square().sum()
        self.optimizer.zero_grad()
        bonus.backward()
        self.optimizer.step()
        return bonus.item()


@dataclass(frozen=True)
class _Step:
    """Schemes that were drawn together, (3, blocks), their rewards, (3, 1), and each block's chance of its choice."""

    schemes: Tensor
    rewards: Tensor
    chances: Tensor


class Controller:
    """The paper's controller: a policy of schemes, by REINFORCE with curiosity and a replay buffer.

    A constant zero vector of 20 goes through a fully connected layer of 50, a ReLU and one of two logits a block,
    divided by 5; their softmax is each block's policy. As in the authors' code:

    - a step is on three schemes, so 300 steps are 900 evaluations;
    - the curiosity bonus is added to the three rewards before their moving average is taken from them, and isn't kept
      in the buffer;
    - after ``warmup`` steps a second step follows, of the optimizer too, on one earlier step that is drawn from the
      buffer: PPO's clipped form with a ratio for each block, the ratios taken as constants.

    Other than there a scheme has at least one block on, as the network without attention needs no search.

    Args:
        blocks: Length of a scheme.
        seed: Seed. Defaults to 0.
        rate: Learning rate, of Adam, for the policy and for curiosity. Defaults to 5e-2.
        decay: Of the rewards' moving average. Defaults to 0.95.
        curiosity: Factor of the bonus; 0 leaves it out. Defaults to 1.
        buffer: Steps in the replay buffer. Defaults to 30.
        warmup: Steps before the buffer is used. Defaults to 10.
        clip: PPO's clip. Defaults to 0.1.
        replay: Weight of the buffer's part. Defaults to 0.1.
    """

    schemes_a_step = 3

    def __init__(
        self,
        blocks: int,
        seed: int = 0,
        rate: float = 5e-2,
        decay: float = 0.95,
        curiosity: float = 1.0,
        buffer: int = 30,
        warmup: int = 10,
        clip: float = 0.1,
        replay: float = 0.1,
    ) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 2 * blocks))
            self.curiosity = Curiosity(blocks, rate) if curiosity else None
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=rate)
        self.decay, self.curiosity_factor = decay, curiosity
        self.buffer: deque[_Step] = deque(maxlen=buffer)
        self.warmup, self.clip, self.replay = warmup, clip, replay
        self.baseline: float | None = None
        self.steps = 0
        self.drawn: list[tuple[Scheme, float]] = []

    def log_policy(self) -> Tensor:
        """The logarithm of each block's chance to be off and on, (blocks, 2)."""
        return (self.net(torch.zeros(20)) / 5).view(-1, 2).log_softmax(dim=1)

    def propose(self) -> Scheme:
        """Drawn from the policy."""
        with torch.no_grad():
            return _draw(self.log_policy()[:, 1].exp(), self.generator)

    def learn(self, scheme: Scheme, reward: float) -> None:
        """Every third scheme is a step of the policy, on the last three."""
        self.drawn.append((scheme, reward))
        if len(self.drawn) == self.schemes_a_step:
            schemes, rewards = zip(*self.drawn)
            self.drawn.clear()
            self._step(schemes, torch.tensor(rewards)[:, None])

    def _step(self, schemes: tuple[Scheme, ...], rewards: Tensor) -> None:
        chosen = torch.tensor(schemes)
        bonus = self.curiosity_factor * self.curiosity.see(schemes) if self.curiosity else 0.0
        log_chances = self._log_chances(chosen)
        self.buffer.append(_Step(chosen, rewards, log_chances.detach().exp()))
        mean = (rewards + bonus).mean().item()
        self.baseline = mean if self.baseline is None else self.decay * self.baseline + (1 - self.decay) * mean
        advantage = rewards + bonus - self.baseline
        self._descend(-(log_chances * advantage).mean(0).sum())
        if self.steps >= self.warmup:
            index = int(torch.randint(len(self.buffer), (), generator=self.generator))
            self._descend(-self.replay * self._clipped(self.buffer[index], self.baseline))
        self.steps += 1

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _log_chances(self, schemes: Tensor) -> Tensor:
        """Of what schemes, (n, blocks), chose for each block."""
        policy = self.log_policy().expand(len(schemes), -1, -1)
        return policy.gather(2, schemes[:, :, None]).squeeze(2)

    def _clipped(self, step: _Step, baseline: float) -> Tensor:
        """PPO's clipped objective (Schulman et al., 2017, Eq. 7) on an earlier step, block by block."""
        log_chances = self._log_chances(step.schemes)
        ratio = log_chances.detach().exp() / step.chances
        advantage = step.rewards - baseline
        terms = (r * log_chances * advantage for r in (ratio, ratio.clamp(1 - self.clip, 1 + self.clip)))
        return torch.minimum(*(term.sum() / self.schemes_a_step for term in terms))


STRATEGIES: dict[str, type[Strategy]] = {
    'controller': Controller,
    'random': RandomSearch,
    'evolution': Evolution,
}
