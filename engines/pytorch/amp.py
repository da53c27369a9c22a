"""PyTorch's automatic mixed precision: FP16 on CUDA, BF16 on a CPU."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engines import Backend
from engines.base import Availability, Target
from engines.pytorch.session import TorchSession, check_half, half_of, torch_settings

if TYPE_CHECKING:
    from models.model import Model


def engine(backend: Backend) -> "Amp":
    """Return the engine of `backend`."""
    return Amp(backend)


class Amp:
    """Calls the module under autocast, which picks the operations that run in 16 bits."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def probe(self, target: Target) -> Availability:
        return check_half(target, self._backend)

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[TorchSession]:
        network = copy.deepcopy(model.module).to(target.device)
        device = torch.device(target.device).type

        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast(device, half_of(target)):
                segmentation, classification = network(x)
            return segmentation.float(), classification.float()

        with torch_settings(target):
            yield TorchSession(forward, model, target)
