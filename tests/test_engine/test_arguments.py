import pytest

from ean_mmdet.engine import is_main_process

RANKS = ('RANK', 'OMPI_COMM_WORLD_RANK', 'PMI_RANK', 'SLURM_PROCID')


@pytest.mark.parametrize(
    ('environment', 'main'),
    [
        ({}, True),
        ({'RANK': '1'}, False),
        ({'OMPI_COMM_WORLD_RANK': '0'}, True),
        ({'OMPI_COMM_WORLD_RANK': '3'}, False),  # Open MPI
        ({'PMI_RANK': '2'}, False),  # MPICH and its kin
        ({'SLURM_PROCID': '1'}, False),
        ({'OMPI_COMM_WORLD_RANK': '1', 'SLURM_PROCID': '0'}, False),  # mpirun in a Slurm job of one task
        ({'RANK': '0', 'SLURM_PROCID': '1'}, True),  # torchrun in the second task
    ],
)
def test_one_process_of_a_run_checks_the_data(monkeypatch, environment, main):
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    for name, rank in environment.items():
        monkeypatch.setenv(name, rank)
    assert is_main_process() is main
