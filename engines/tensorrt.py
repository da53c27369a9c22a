"""TensorRT: for now only the true reason why it cannot be used. Never creates a TensorRT object without CUDA."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from engines import Backend
from engines.base import Availability, EngineError, Session, Target
from engines.checks import check, unavailable

if TYPE_CHECKING:
    from models.model import Model


def engine(backend: Backend) -> "Unbuilt":
    """Return the engine of `backend`."""
    return Unbuilt(backend, ("tensorrt", "onnxscript"))


class Unbuilt:
    """An engine on TensorRT, which this version cannot build."""

    def __init__(self, backend: Backend, packages: tuple[str, ...]) -> None:
        self._backend = backend
        self._packages = packages

    def probe(self, target: Target) -> Availability:
        found = check(target, self._backend, self._packages)
        if not found.ok:
            return found
        return unavailable(
            "this version of voxbench does not build TensorRT engines yet",
            "leave it out; torch-half and ort-fp16 run in FP16 on this device",
        )

    def open(self, model: "Model", target: Target) -> AbstractContextManager[Session]:  # noqa: ARG002
        found = self.probe(target)
        raise EngineError(f"{found.reason}; {found.fix}")
