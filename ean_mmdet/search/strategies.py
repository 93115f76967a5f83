"""Strategies: what scheme to evaluate next, by what those before were worth.

All of them are deterministic by their seed, so a search that was stopped goes on by being run again on the rewards that
it has already seen.
"""

from __future__ import annotations

from collections import deque
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
        """It joins the population."""
        self.population.append((reward, scheme))

    def _chances(self, probability: float) -> Tensor:
        return torch.rand(self.blocks, generator=self.generator) < probability

    def _winner(self) -> Scheme:
        order = torch.randperm(len(self.population), generator=self.generator)[: self.tournament].tolist()
        return max(self.population[index] for index in order)[1]


class Curiosity:
    """Random network distillation (Burda, Edwards, Storkey and Klimov, ICLR 2019) on schemes.

    The bonus is the squared difference between a fixed random network and one that learns it on the schemes seen, so it
    falls for a scheme that was seen often.
    """

    def __init__(self, blocks: int, rate: float = 1e-2) -> None:
        self.target, self.learned = (
            nn.Sequential(nn.Linear(blocks, 32), nn.ReLU(), nn.Linear(32, 8)) for _ in range(2)
        )
        self.optimizer = torch.optim.Adam(self.learned.parameters(), lr=rate)

    def bonus(self, scheme: Scheme) -> float:
        """What the scheme is worth for being new."""
        with torch.no_grad():
            return self._difference(scheme).item()

    def see(self, scheme: Scheme) -> None:
        """Learn it, a step."""
        self.optimizer.zero_grad()
        self._difference(scheme).backward()
        self.optimizer.step()

    def _difference(self, scheme: Scheme) -> Tensor:
        x = torch.tensor(scheme, dtype=torch.float32)
        return (self.target(x).detach() - self.learned(x)).square().mean()


class Controller:
    """The paper's controller: a policy of schemes, by REINFORCE with curiosity and a replay buffer.

    A constant zero vector of 20 goes through a fully connected layer of 50, a ReLU and one of two logits a block,
    divided by 5; their softmax is each block's policy. A step is on the reward less its moving average, plus the
    curiosity bonus; after ``warmup`` steps also on the schemes in the buffer, in PPO's clipped form.

    Args:
        blocks: Length of a scheme.
        seed: Seed. Defaults to 0.
        rate: Learning rate, of Adam. Defaults to 5e-2.
        decay: Of the reward's moving average. Defaults to 0.95.
        curiosity: Factor of the bonus; 0 leaves it out. Defaults to 1.
        buffer: Schemes in the replay buffer. Defaults to 30.
        warmup: Steps before the buffer is used. Defaults to 10.
        clip: PPO's clip. Defaults to 0.1.
        replay: Weight of the buffer's part. Defaults to 0.1.
    """

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
            self.curiosity = Curiosity(blocks) if curiosity else None
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=rate)
        self.decay, self.curiosity_factor = decay, curiosity
        self.buffer: deque[tuple[Scheme, float, float]] = deque(maxlen=buffer)
        self.warmup, self.clip, self.replay = warmup, clip, replay
        self.baseline: float | None = None
        self.steps = 0

    def log_policy(self) -> Tensor:
        """The logarithm of each block's chance to be off and on, (blocks, 2)."""
        return (self.net(torch.zeros(20)) / 5).view(-1, 2).log_softmax(dim=1)

    def propose(self) -> Scheme:
        """Drawn from the policy."""
        with torch.no_grad():
            return _draw(self.log_policy()[:, 1].exp(), self.generator)

    def learn(self, scheme: Scheme, reward: float) -> None:
        """A step of the policy."""
        bonus = self.curiosity_factor * self.curiosity.bonus(scheme) if self.curiosity else 0.0
        if self.curiosity:
            self.curiosity.see(scheme)
        self.baseline = reward if self.baseline is None else self.decay * self.baseline + (1 - self.decay) * reward
        advantage = reward - self.baseline + bonus
        policy = self.log_policy()
        log_chance = self._log_chance(policy, scheme)
        loss = -log_chance * advantage
        if self.steps >= self.warmup and self.buffer:
            loss = loss - self.replay * self._clipped(policy)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.buffer.append((scheme, log_chance.item(), reward + bonus))
        self.steps += 1

    @staticmethod
    def _log_chance(policy: Tensor, scheme: Scheme) -> Tensor:
        return policy.gather(1, torch.tensor(scheme)[:, None]).sum()

    def _clipped(self, policy: Tensor) -> Tensor:
        """PPO's clipped objective (Schulman et al., 2017, Eq. 7) on the buffer."""
        terms = []
        for scheme, old, reward in self.buffer:
            ratio = (self._log_chance(policy, scheme) - old).exp()
            advantage = reward - (self.baseline or 0)
            terms.append(torch.minimum(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage))
        return torch.stack(terms).mean()


STRATEGIES: dict[str, type[Strategy]] = {
    'controller': Controller,
    'random': RandomSearch,
    'evolution': Evolution,
}
