"""CUDA graphs: what is recorded stays valid as long as it is replayed."""

import gc
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from engines.pytorch.cuda_graph import capture


class _Cuda:
    """In the place of streams and graphs, where there is no GPU: the calls that a capture makes, without their work."""

    def __init__(self, *_: object) -> None:
        pass

    def wait_stream(self, _other: object) -> None:
        pass

    def replay(self) -> None:
        pass


class _Engine:
    """Holds the tensors that a runtime was given the addresses of, as that of TensorRT does."""

    def __init__(self) -> None:
        self.held = torch.zeros(1, 1, 4, 4, 4)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.held.copy_(x)
        return self.held + 1, torch.zeros(1, 3)


def test_a_recorded_forward_lives_as_long_as_its_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU this shows who holds whom, and nothing of the memory itself."""
    for name in ("Stream", "CUDAGraph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, _Cuda)
    for name in ("device", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, nullcontext)
    forward = _Engine()
    held = weakref.ref(forward.held)
    replay = capture(forward, (1, 1, 4, 4, 4), "cpu")
    del forward
    gc.collect()
    assert held() is not None
    segmentation, classification = replay(torch.ones(1, 1, 4, 4, 4))
    assert (segmentation.shape, classification.shape) == ((1, 1, 4, 4, 4), (1, 3))
    del replay
    gc.collect()
    assert held() is None
