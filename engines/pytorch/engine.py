"""The frame of the engines that run on PyTorch."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from engines.base import Availability, Engine, Target
from engines.probe import check
from engines.pytorch.session import Forward, TorchSession, torch_settings

if TYPE_CHECKING:
    from models.model import Model


class TorchEngine(Engine):
    """Puts a copy of the network on the device and calls it. Engines differ by `network`, `forward` or `session`."""

    def probe(self, target: Target) -> Availability:
        return check(target, self.backend)

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[TorchSession]:
        with torch_settings(target, tf32=self.backend.precision == "tf32"):
            yield self.session(self.forward(self.network(model, target), target), model, target)

    def network(self, model: "Model", target: Target) -> nn.Module:
        """A copy of the model's network on the target's device."""
        return copy.deepcopy(model.module).to(target.device)

    def forward(self, network: Any, target: Target) -> Forward:  # noqa: ARG002
        """The call of `network`: float32 ``[B, 1, D, H, W]`` to float32 logits."""
        call: Forward = network
        return call

    def session(self, forward: Forward, model: "Model", target: Target) -> TorchSession:
        """The session that runs `forward`."""
        return TorchSession(forward, model, target)
