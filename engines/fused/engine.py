"""FP16 and channels last from end to end: cuDNN's convolutions, norms and activations fused."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engines.base import Target
from engines.evidence.mac_counter import layers_for
from engines.fused.network import Kernels, rewritten
from engines.placement import copied
from engines.pytorch.compile import cache_folder
from engines.pytorch.cuda_graph import graph_session
from engines.pytorch.engine import TorchEngine
from engines.pytorch.session import TorchSession, torch_settings
from models.errors import one_line

if TYPE_CHECKING:
    from models.model import Model

TRITON = "triton"


class Fused(TorchEngine):
    """Replays a rewritten network as a CUDA graph.

    Each InstanceNorm with its LeakyReLU is two passes of Triton's over a channels-last tensor. In the reference
    U-Net they also pool, the concatenations of the decoder are written in place, and a convolution may be our own
    kernel's, where that is faster than cuDNN's. Where Triton cannot work, PyTorch's own operations do the same, and
    the evidence says so.
    """

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[TorchSession]:
        layers = layers_for(model, target)
        kept = cache_folder(target, TRITON, "TRITON_CACHE_DIR")  # else in a home, which a container may lack
        with torch_settings(target), kept, torch.cuda.device(target.device):
            kernels, name = choose_kernels()
            module = rewritten(copied(model.module).to(target.device, torch.float16), kernels)
            details: dict[str, Any] = {"norm": name}
            if name == TRITON:
                from engines.fused.choice import kept_or_chosen

                details["convolutions"], details["cached"] = kept_or_chosen(model, module, target)

            def forward(x: Tensor) -> tuple[Tensor, Tensor]:
                segmentation, classification = module(x.half())
                contiguous = segmentation.to(torch.float32, memory_format=torch.contiguous_format)
                return contiguous, classification.float()

            yield graph_session(forward, layers, target, details)


def choose_kernels() -> tuple[Kernels, str]:
    """Return Triton's kernels, or PyTorch's operations where Triton cannot work here; and which, with the reason.

    Installed is not enough: for each process Triton builds its bridge to CUDA with a C compiler and Python's headers.
    """
    from engines.fused import torch_norm

    if find_spec("triton") is None:
        return torch_norm, "pytorch: the package triton is not installed"
    from triton.runtime import driver

    try:
        driver.active.get_current_device()
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        return torch_norm, f"pytorch: triton cannot start, {one_line(error)}"
    from engines.fused import triton_norm

    return triton_norm, TRITON
