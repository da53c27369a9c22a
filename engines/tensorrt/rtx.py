"""TensorRT for RTX, by the same path as TensorRT.

It builds without timing anything, also on a machine without a GPU, and compiles its kernels when an engine is first
run; those it keeps in a cache of its own.
"""

from engines.base import Availability, Target
from engines.host import cuda
from engines.probe import unavailable
from engines.tensorrt.engine import TensorRT
from models.errors import install

# Major compute capabilities of data centres' GPUs. On an H100 version 1.7.1 says: "The engine cannot run on this GPU,
# which has compute capability 9.0. Supported compute capabilities: 8.0 8.6 8.9 12.0 12.1 >12.0."
_UNSUPPORTED = (9, 10, 11)


class TensorRTForRTX(TensorRT):
    """Builds everywhere, but runs on GeForce RTX, RTX PRO and their like."""

    def probe(self, target: Target) -> Availability:
        # Before its packages: where it cannot run there is nothing to install.
        if target.on_cuda and cuda.missing(target.device) is None:
            import torch

            capability = torch.cuda.get_device_capability(target.device)
            if capability[0] in _UNSUPPORTED:
                name = torch.cuda.get_device_name(target.device)
                return unavailable(
                    f"TensorRT for RTX does not run on {name} (compute capability {capability[0]}.{capability[1]})",
                    f"use the backends tensorrt-*; {install('gpu')}",
                )
        return super().probe(target)
