"""Strategies on a made-up reward whose best scheme is known."""

import pytest
import torch

from ean_mmdet.search import STRATEGIES, Controller, Evolution, RandomSearch, Search
from ean_mmdet.search.strategies import Curiosity

BEST = (1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1)


def accuracy(scheme):
    """In percent, highest for BEST, whatever sparsity adds."""
    return 60 - 3 * sum(a != b for a, b in zip(scheme, BEST))


def distance_of_the_best(strategy, tmp_path, budget):
    path = tmp_path / 'schemes.jsonl'
    path.unlink(missing_ok=True)
    return sum(a != b for a, b in zip(Search(strategy, accuracy, path).run(budget)[0].scheme, BEST))


def test_the_controller_finds_it_more_often_than_random_search(tmp_path):
    seeds = range(5)
    found = [distance_of_the_best(Controller(15, seed), tmp_path, 300) for seed in seeds]
    drawn = [distance_of_the_best(RandomSearch(15, seed), tmp_path, 300) for seed in seeds]
    assert found.count(0) >= 4 and found.count(0) > drawn.count(0), (found, drawn)


def test_evolution_finds_it_too(tmp_path):
    assert [distance_of_the_best(Evolution(15, seed), tmp_path, 300) for seed in range(3)].count(0) >= 2


def test_curiosity_falls_for_what_was_seen_often():
    torch.manual_seed(0)
    curiosity = Curiosity(15)
    other = tuple(1 - bit for bit in BEST)
    before = curiosity.bonus(BEST), curiosity.bonus(other)
    for _ in range(60):
        curiosity.see(BEST)
    assert curiosity.bonus(BEST) < 0.1 * before[0]
    assert curiosity.bonus(BEST) < curiosity.bonus(other)


def test_the_policy_is_as_the_paper_has_it():
    controller = Controller(15)
    assert [tuple(p.shape) for p in controller.net.parameters()] == [(50, 20), (50,), (30, 50), (30,)]
    logits = controller.net(torch.zeros(20)).view(15, 2) / 5
    torch.testing.assert_close(controller.log_policy(), torch.log(torch.softmax(logits, 1)))
    assert controller.optimizer.param_groups[0]['lr'] == 5e-2 and controller.buffer.maxlen == 30


@pytest.mark.parametrize('name', STRATEGIES)
def test_a_search_that_was_stopped_goes_on_with_the_same_schemes(name, tmp_path):
    def calls(path, budget, stop=None):
        made = []

        def evaluate(scheme):
            if stop is not None and len(made) == stop:
                raise KeyboardInterrupt
            made.append(scheme)
            return accuracy(scheme)

        search = Search(STRATEGIES[name](15, 3), evaluate, path)
        try:
            return made, search.run(budget)
        except KeyboardInterrupt:
            return made, None

    whole, result = calls(tmp_path / 'whole.jsonl', 40)
    first, _ = calls(tmp_path / 'parts.jsonl', 40, stop=17)
    with open(tmp_path / 'parts.jsonl', 'a') as file:
        file.write('{"scheme": [1, 0')  # killed while it wrote
    second, resumed = calls(tmp_path / 'parts.jsonl', 40)
    assert first + second == whole and resumed == result
    assert all(any(scheme) and len(scheme) == 15 for scheme in whole)
    assert len(set(whole)) == len(whole)
