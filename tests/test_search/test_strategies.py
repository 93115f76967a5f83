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


@pytest.mark.slow
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
    first = curiosity.see([BEST])
    for _ in range(60):
        last = curiosity.see([BEST])
    assert last < 0.1 * first
    assert last < curiosity.see([tuple(1 - bit for bit in BEST)])


def test_curiosity_is_as_the_authors_code_has_it():
    curiosity = Curiosity(16)
    assert [tuple(p.shape) for p in curiosity.target.parameters() if p.ndim == 2] == [(32, 16), (32, 32), (64, 32)]
    assert [tuple(p.shape) for p in curiosity.learned.parameters() if p.ndim == 2] == [(32, 16), (64, 32)]
    assert curiosity.optimizer.param_groups[0]['lr'] == 5e-2
    schemes = torch.randint(0, 2, (3, 16))
    with torch.no_grad():
        errors = (curiosity.target(schemes.float()) - curiosity.learned(schemes.float())) ** 2
    assert curiosity.see(schemes.tolist()) == pytest.approx(errors.sum().item(), rel=1e-5)


def test_the_policy_is_as_the_paper_has_it():
    controller = Controller(15)
    assert [tuple(p.shape) for p in controller.net.parameters()] == [(50, 20), (50,), (30, 50), (30,)]
    logits = controller.net(torch.zeros(20)).view(15, 2) / 5
    torch.testing.assert_close(controller.log_policy(), torch.log(torch.softmax(logits, 1)))
    assert controller.optimizer.param_groups[0]['lr'] == 5e-2 and controller.buffer.maxlen == 30


def test_a_step_is_on_three_schemes_and_ten_steps_later_on_an_earlier_one_too():
    """Against the gradients of the formulas, with SGD in the optimizer's place so that a step shows its gradient."""
    controller = Controller(4, warmup=1, curiosity=0)
    controller.optimizer = torch.optim.SGD(controller.net.parameters(), lr=1e-3)
    schemes = [(1, 0, 0, 1), (0, 1, 1, 0), (1, 1, 0, 0)]

    def policy_step(log_chances, advantage):
        return -(log_chances * advantage[:, None]).sum(1).mean()

    def stepped(loss):
        gradients = torch.autograd.grad(loss, list(controller.net.parameters()))
        return [p.detach() - 1e-3 * g for p, g in zip(controller.net.parameters(), gradients)]

    def chosen():
        policy = controller.log_policy()
        return torch.stack([policy[range(4), scheme] for scheme in schemes])

    rewards = torch.tensor([1.0, 2.0, 6.0])
    expected = stepped(policy_step(chosen(), rewards - 3))
    start = [p.detach().clone() for p in controller.net.parameters()]
    for scheme, reward in zip(schemes, rewards.tolist()):
        assert all(torch.equal(p, q) for p, q in zip(controller.net.parameters(), start))
        controller.learn(scheme, reward)
    torch.testing.assert_close(list(controller.net.parameters()), expected)
    assert controller.baseline == 3 and controller.steps == 1

    # the second step, of the same schemes and other rewards: the replay may draw either of the two
    found = False
    before = [p.detach().clone() for p in controller.net.parameters()]
    old = list(controller.buffer)
    rewards = torch.tensor([4.0, 5.0, 9.0])
    baseline = 0.95 * 3 + 0.05 * 6
    middle = stepped(policy_step(chosen(), rewards - baseline))
    new_chances = chosen().detach().exp()
    for scheme, reward in zip(schemes, rewards.tolist()):
        controller.learn(scheme, reward)
    after = [p.detach().clone() for p in controller.net.parameters()]
    for chances, kept in ((old[0].chances, torch.tensor([1.0, 2.0, 6.0])), (new_chances, rewards)):
        for parameter, value in zip(controller.net.parameters(), middle):
            parameter.data.copy_(value)
        log_chances = chosen()
        ratio = log_chances.detach().exp() / chances
        advantage = (kept - baseline)[:, None]
        surrogates = [(r * log_chances * advantage).sum() / 3 for r in (ratio, ratio.clamp(0.9, 1.1))]
        found |= all(torch.allclose(p, q, atol=1e-7) for p, q in zip(stepped(-0.1 * min(surrogates)), after))
    assert found and not all(torch.equal(p, q) for p, q in zip(before, after))


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
