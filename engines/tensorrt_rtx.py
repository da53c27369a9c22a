"""TensorRT for RTX, by the same path as TensorRT. Not yet run on a GPU.

It builds without timing anything, also on a machine without a GPU, and compiles its kernels when an engine is first
run; those it keeps in a cache of its own.
"""

from engines import Backend
from engines.tensorrt import TensorRT


def engine(backend: Backend) -> TensorRT:
    """Return the engine of `backend`, ``fp32``, ``fp16`` or ``int8``."""
    return TensorRT(backend, "tensorrt_rtx")
