"""A backend that is PyTorch FP32 made slower, or less accurate, by a known amount. For `real_claims.py`.

``VOXBENCH_INJECT`` says what: ``sleep=0.2`` sleeps a fifth of each forward's own time after it; ``noise=0.02`` replaces
the logits of that share of the voxels by those of others.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from engines.base import Availability, Backend, Engine, Evidence, Session, Target
from engines.pytorch.eager import Eager


class Injected:
    """A session with something done to it."""

    def __init__(self, real: Session, how: str) -> None:
        self._real = real
        kind, _, amount = how.partition("=")
        self._sleep = float(amount) if kind == "sleep" else 0.0
        self._noise = float(amount) if kind == "noise" else 0.0
        self._random = torch.Generator().manual_seed(0)

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self._real.sync()
        start = time.perf_counter()
        segmentation, classification = self._real.infer(x)
        self._real.sync()
        time.sleep(self._sleep * (time.perf_counter() - start))
        return self._noised(segmentation), classification

    def _noised(self, logits: Tensor) -> Tensor:
        if not self._noise:
            return logits
        flat = logits.flatten(2).clone()
        places = torch.rand(flat.shape[2], generator=self._random) < self._noise
        others = torch.randint(flat.shape[2], (int(places.sum()),), generator=self._random)
        flat[:, :, places] = flat[:, :, others]
        return flat.reshape(logits.shape)

    def sync(self) -> None:
        self._real.sync()

    def evidence(self) -> Evidence:
        return self._real.evidence()


class InjectedEngine(Engine):
    """The engine of PyTorch FP32, whose sessions are `Injected`."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self._real = Eager(backend)

    def probe(self, target: Target) -> Availability:
        return self._real.probe(target)

    @contextmanager
    def open(self, model: Any, target: Target) -> Iterator[Injected]:
        with self._real.open(model, target) as session:
            yield Injected(session, os.environ["VOXBENCH_INJECT"])
