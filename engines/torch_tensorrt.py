"""Torch-TensorRT: for now only the true reason why it cannot be used."""

from engines import Backend
from engines.tensorrt import Unbuilt


def engine(backend: Backend) -> Unbuilt:
    """Return the engine of `backend`."""
    return Unbuilt(backend, ("torch_tensorrt",))
