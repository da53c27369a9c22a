"""PyTorch with weights and activations in 16 bits: FP16 on CUDA, BF16 on a CPU."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

from engines import Backend
from engines.base import Availability, Target
from engines.pytorch.session import TorchSession, check_half, half_of, torch_settings

if TYPE_CHECKING:
    from models.model import Model


def engine(backend: Backend) -> "Half":
    """Return the engine of `backend`."""
    return Half(backend)


class Half:
    """Converts the whole module and its input; the logits come back in float32."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def probe(self, target: Target) -> Availability:
        return check_half(target, self._backend)

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[TorchSession]:
        half = half_of(target)
        network = copy.deepcopy(model.module).to(target.device, half)

        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            segmentation, classification = network(x.to(half))
            return segmentation.float(), classification.float()

        with torch_settings(target):
            yield TorchSession(forward, model, target)
