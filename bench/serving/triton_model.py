"""What NVIDIA Triton's Python backend calls for a case: ``model.py`` of a repository that `bench export` writes.

The network is run here, by the package's own engine, or by Triton itself as models of their own, tile by tile: a window
over a volume is a loop, which no ensemble of Triton's can be.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.errors import BenchError
from bench.package.formats.case_config import PACKAGE
from bench.package.formats.case_tensors import IMAGE
from bench.plan.opening import Opening
from bench.serving.served_model import Options, RequestCancelledError, message_of, served
from bench.worker.ensemble import EnsembleSession
from engines.base import EngineError, Evidence, Session
from engines.layers import INPUT, OUTPUTS

if TYPE_CHECKING:
    from torch import Tensor


class TritonPythonModel:
    """The package beside this file as a model of Triton's, one case at a time in each instance."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Open the package; what is raised here is Triton's reason why the model is not ready."""
        config = json.loads(arguments["model_config"])
        parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        package = Path(arguments["model_repository"]) / arguments["model_version"] / PACKAGE
        on_gpu = arguments["model_instance_kind"] == "GPU"
        networks, tile_type = parameters["networks"].split(), getattr(torch, parameters["tile_type"])
        options = Options(
            device=f"cuda:{arguments['model_instance_device_id']}" if on_gpu else "cpu",
            threads=int(parameters["threads"]) or None,
            trust=package if parameters["trust"] == "yes" else None,
            most_bytes=int(float(parameters["most_gigabytes"]) * 2**30),
        )
        elsewhere = partial(_of_triton, networks, tile_type) if networks else None
        self._stack = ExitStack()
        self._model = self._stack.enter_context(served(package, options, elsewhere))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request by itself."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Close the package."""
        self._stack.close()

    def _answer(self, request: Any) -> Any:
        triton = _triton()
        try:
            files = [bytes(file) for file in triton.get_input_tensor_by_name(request, IMAGE).as_numpy().ravel()]
            held = self._model.outputs(files, request.is_cancelled)
        except RequestCancelledError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error), triton.TritonError.CANCELLED))
        except Exception as error:  # one case, whatever a runtime raises
            theirs = isinstance(error, BenchError)
            code = triton.TritonError.INVALID_ARG if theirs else triton.TritonError.INTERNAL
            return triton.InferenceResponse(error=triton.TritonError(message_of(error), code))
        return triton.InferenceResponse([triton.Tensor(name, value) for name, value in held.items()])


def _of_triton(names: Sequence[str], dtype: torch.dtype, opening: Opening) -> Session:
    settings = opening.open.settings
    sessions = [_TileModel(name, dtype, classifies=settings.subtypes > 0) for name in names]
    return sessions[0] if len(sessions) == 1 else EnsembleSession(sessions, settings.merged_apart > 1)


class _TileModel:
    """A network that Triton runs as a model of its own, as a session: float32 tiles to float32 logits."""

    def __init__(self, name: str, dtype: torch.dtype, *, classifies: bool) -> None:
        self._name = name
        self._dtype = dtype
        self._outputs = OUTPUTS if classifies else OUTPUTS[:1]

    def infer(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        triton: Any = _triton()
        tile = triton.Tensor.from_dlpack(INPUT, x.to(self._dtype).contiguous())
        request = triton.InferenceRequest(
            model_name=self._name, requested_output_names=list(self._outputs), inputs=[tile]
        )
        response = request.exec()
        if response.has_error():
            raise EngineError(f"{self._name}: {response.error().message()}")
        segmentation, *classification = (self._logits(response, name, x) for name in self._outputs)
        return segmentation, classification[0] if classification else x.new_empty(len(x), 0)

    def sync(self) -> None:
        """Nothing: the answer of Triton is there when it has come."""

    def evidence(self) -> Evidence:
        """Triton does not say what ran."""
        return Evidence("Triton", {}, {})

    def _logits(self, response: Any, name: str, x: "Tensor") -> "Tensor":
        tensor = _triton().get_output_tensor_by_name(response, name)
        return torch.utils.dlpack.from_dlpack(tensor.to_dlpack()).to(x.device, torch.float32)


def _triton() -> Any:
    """Triton's own module, which is there in its processes alone."""
    return import_module("triton_python_backend_utils")
