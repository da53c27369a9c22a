"""PyTorch as it stands: the baseline in FP32, and the same with TF32."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from engines import Backend
from engines.base import Availability, Target
from engines.probe import check, unavailable
from engines.pytorch.session import TorchSession, torch_settings

if TYPE_CHECKING:
    from models.model import Model

AMPERE = (8, 0)  # the first compute capability with TF32 units


def engine(backend: Backend) -> "Eager":
    """Return the engine of `backend`, ``fp32`` or ``tf32``."""
    return Eager(backend)


class Eager:
    """Calls the module. FP32 is the baseline that every speedup is against: TF32 off, cudnn.benchmark on."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def probe(self, target: Target) -> Availability:
        found = check(target, self._backend)
        if found.ok and self._backend.precision == "tf32" and torch.cuda.get_device_capability(target.device) < AMPERE:
            return unavailable(
                f"{torch.cuda.get_device_name(target.device)} has no TF32 units", "run on an Ampere GPU or a newer one"
            )
        return found

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[TorchSession]:
        with torch_settings(target, tf32=self._backend.precision == "tf32"):
            network = copy.deepcopy(model.module).to(target.device)
            yield TorchSession(network, model, target)
