"""PyTorch's threads: one beside an engine that has its own, all of them wherever else."""

import pytest
import torch

from bench.machine.threads import all_threads, one_thread


def lose() -> None:
    """Within one thread, and then all of them again."""
    with one_thread():
        assert torch.get_num_threads() == 1
        with all_threads():
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 1
        raise ValueError("lost")


def test_all_are_back_behind_it_whatever_happened():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(ValueError, match="lost"):
            lose()
        assert torch.get_num_threads() == 3
        with all_threads():
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
