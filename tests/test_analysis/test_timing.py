import pytest
import torch

from ean_mmdet.analysis.timing import environment, interleave, kept_memory, peak_memory, usable_device

CPU = torch.device('cpu')


def test_functions_take_turns_in_changing_order():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in 'abc'}
    times = interleave(functions, CPU, repeat=3, least=0, progress=lambda rounds: calls.append(str(rounds)))
    assert set(times) == set('abc') and all(seconds > 0 for seconds in times.values())
    assert ''.join(calls) == 'aabbcc' + 'abc1' + 'bca2' + 'cab3'


def test_quick_functions_are_called_several_times_for_one_measurement():
    calls = []
    interleave({'quick': lambda: calls.append(1)}, CPU, repeat=1, least=0.001)
    assert len(calls) > 10


def test_peak_memory_counts_what_is_alive_together():
    def one_after_the_other():
        for _ in range(3):
            torch.empty(1 << 20)

    def together():
        return [torch.empty(1 << 20) for _ in range(3)]

    assert peak_memory(one_after_the_other, CPU) == 4 << 20
    assert peak_memory(together, CPU) == 12 << 20


def test_kept_memory_counts_storages_once():
    x = torch.randn(1000, requires_grad=True)
    assert kept_memory(lambda: x * x) == 4000
    assert kept_memory(lambda: x.sigmoid() * x) == 8000
    assert kept_memory(lambda: x + 1) == 0


def test_environment_names_the_machine():
    found = environment(CPU)
    assert found['device'].startswith('cpu: ') and found['pytorch'] == torch.__version__
    assert found['threads'] == torch.get_num_threads()


def test_usable_devices():
    assert usable_device('cpu') == CPU
    for name, message in (('gpu', "can not use 'gpu' here"), ('meta', "does not report the memory of 'meta'")):
        with pytest.raises(ValueError, match=message):
            usable_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="can not use 'cuda' here"):
            usable_device('cuda')
