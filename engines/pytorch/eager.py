"""PyTorch as it stands, in FP32 or TF32, under automatic mixed precision, and in 16 bits."""

from typing import Any

import torch
from torch import Tensor

from engines.base import Availability, Target
from engines.probe import check, unavailable
from engines.pytorch.engine import TorchEngine
from engines.pytorch.session import Forward, check_half, half_of

AMPERE = (8, 0)  # the first compute capability with TF32 units


class Eager(TorchEngine):
    """Calls the module. FP32 is the baseline that every speedup is against: TF32 off, cudnn.benchmark on."""

    def probe(self, target: Target) -> Availability:
        available = check(target, self.backend)
        if not available.ok or self.backend.precision != "tf32":
            return available
        if torch.cuda.get_device_capability(target.device) < AMPERE:
            name = torch.cuda.get_device_name(target.device)
            return unavailable(f"{name} has no TF32 units", "run on an Ampere GPU or a newer one")
        return available


class Autocast(TorchEngine):
    """Calls the module under autocast, which picks the operations that run in 16 bits: FP16 on CUDA, BF16 on a CPU."""

    def probe(self, target: Target) -> Availability:
        return check_half(target, self.backend)

    def forward(self, network: Any, target: Target) -> Forward:
        device = torch.device(target.device).type

        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast(device, half_of(target)):
                segmentation, classification = network(x)
            return segmentation.float(), classification.float()

        return forward


class Half(TorchEngine):
    """Converts the whole module and its input to 16 bits, FP16 on CUDA, BF16 on a CPU; the logits are float32."""

    def probe(self, target: Target) -> Availability:
        return check_half(target, self.backend)

    def dtype(self, target: Target) -> torch.dtype:
        return half_of(target)

    def forward(self, network: Any, target: Target) -> Forward:
        half = half_of(target)

        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            segmentation, classification = network(x.to(half))
            return segmentation.float(), classification.float()

        return forward
