"""The frame of the engines that run on PyTorch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from engines.base import Availability, Engine, Target
from engines.evidence.mac_counter import layers_for
from engines.layers import Layer
from engines.placement import placed
from engines.probe import check
from engines.pytorch.session import Forward, TorchSession, torch_settings

if TYPE_CHECKING:
    from models.model import Model


class TorchEngine(Engine):
    """Puts the network on the device and calls it. Engines differ by `dtype`, `forward` or `session`."""

    def probe(self, target: Target) -> Availability:
        return check(target, self.backend)

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[TorchSession]:
        layers = layers_for(model, target)
        tf32 = self.backend.precision == "tf32"
        with torch_settings(target, tf32), placed(model.module, target.device, self.dtype(target)) as network:
            yield self.session(self.forward(network, target), layers, target)

    def dtype(self, target: Target) -> torch.dtype | None:  # noqa: ARG002
        """The type that the network is converted to; None for the one that it has."""
        return None

    def forward(self, network: Any, target: Target) -> Forward:  # noqa: ARG002
        """The call of `network`: float32 ``[B, C, D, H, W]`` to float32 logits."""
        call: Forward = network
        return call

    def session(self, forward: Forward, layers: Sequence[Layer], target: Target) -> TorchSession:
        """The session that runs `forward`, whose work is `layers`."""
        return TorchSession(forward, layers, target)
