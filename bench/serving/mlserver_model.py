"""A package as a model of MLServer, which ``model-settings.json`` of a folder that `bench export` writes names.

It runs in the server's own process. One thread predicts, and requests wait in that thread's queue.
"""

import asyncio
import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mlserver import MLModel
from mlserver.errors import MLServerError
from mlserver.types import InferenceRequest, InferenceResponse, Parameters, ResponseOutput
from mlserver.utils import get_model_uri
from numpy.typing import NDArray

from bench.errors import BenchError
from bench.package.formats.case_tensors import BUSY, IMAGE, OUTPUTS, TYPES
from bench.serving.served_model import Options, message_of, served

_BAD_REQUEST, _INTERNAL_ERROR, _UNAVAILABLE = 400, 500, 503  # of HTTP
_TYPES = TYPES | {"object": TYPES["bytes"]}
_AS_BASE64 = Parameters(content_type="base64")  # MLServer's name of how JSON holds bytes


class CaseModel(MLModel):  # type: ignore[misc]  # MLServer has no types
    """The package that the settings name, one case at a time."""

    async def load(self) -> bool:
        """Open the package; what is raised here is MLServer's reason why the model is not ready."""
        parameters = self.settings.parameters
        assert parameters is not None, "model-settings.json has parameters"
        extra, package = dict(parameters.extra or {}), Path(await get_model_uri(self.settings))
        options = Options(
            device=extra["device"],
            threads=extra["threads"] or None,
            trust=package if extra["trust"] else None,
            most_bytes=int(extra["most_gigabytes"] * 2**30),
        )
        self._most_waiting, self._waiting = int(extra["most_waiting"]), 0
        self._stack = ExitStack()
        self._thread = self._stack.enter_context(ThreadPoolExecutor(1, "case"))
        loop = asyncio.get_running_loop()
        self._model = await loop.run_in_executor(self._thread, self._stack.enter_context, served(package, options))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a request; one whose client is gone leaves the queue, or is stopped at the next tile."""
        if self._waiting > self._most_waiting:
            raise MLServerError(f"{BUSY}: {self._waiting} requests wait; ask again later", _UNAVAILABLE)
        (files, as_text), wanted, cancelled = _files_of(payload), _wanted(payload), threading.Event()
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            held = await loop.run_in_executor(self._thread, self._model.outputs, files, cancelled.is_set)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        except Exception as error:  # one case, whatever a runtime raises
            code = _BAD_REQUEST if isinstance(error, BenchError) else _INTERNAL_ERROR
            raise MLServerError(message_of(error), code) from None
        finally:
            self._waiting -= 1
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[_output(name, value, as_text=as_text) for name, value in held.items() if name in wanted],
        )

    async def unload(self) -> bool:
        """Close the package."""
        self._stack.close()
        return True


def _files_of(payload: InferenceRequest) -> tuple[list[bytes], bool]:
    """The files of a request, and whether it came as JSON, which holds them as base64."""
    names = [each.name for each in payload.inputs]
    if names != [IMAGE] or payload.inputs[0].datatype != "BYTES":
        raise MLServerError(
            f"the request has the inputs {names}; it takes one, {IMAGE!r} of type BYTES: send the NIfTI files there"
        )
    (image,) = payload.inputs
    held: Any = getattr(image.data, "root", image.data)
    held = held if isinstance(held, list) else [held]
    if list(image.shape) != [1, len(held)]:
        raise MLServerError(
            f"{IMAGE}: has shape {list(image.shape)} and {len(held)} files; send one case, of shape [1, files]"
        )
    try:
        return [_content(file) for file in held], any(isinstance(file, str) for file in held)
    except (ValueError, TypeError):
        raise MLServerError(f"{IMAGE}: is no base64, as which JSON holds files; encode them so") from None


def _content(file: Any) -> bytes:
    """Of a file as gRPC holds it, or JSON; of nothing else, for which `bytes` would make room as large as it says."""
    if isinstance(file, bytes):
        return file
    if isinstance(file, str):
        return base64.b64decode(file, validate=True)
    raise TypeError


def _wanted(payload: InferenceRequest) -> set[str]:
    """The names of the outputs that a request asks for; of all where it names none."""
    names = {each.name for each in payload.outputs or ()} or set(OUTPUTS)
    if unknown := names - set(OUTPUTS):
        raise MLServerError(f"the request asks for the outputs {sorted(unknown)}; there are {', '.join(OUTPUTS)}")
    return names


def _output(name: str, value: NDArray[Any], *, as_text: bool) -> ResponseOutput:
    held, is_bytes = value.ravel().tolist(), value.dtype == object
    return ResponseOutput(
        name=name,
        shape=list(value.shape),
        datatype=_TYPES[value.dtype.name],
        data=[base64.b64encode(each).decode() for each in held] if as_text and is_bytes else held,
        parameters=_AS_BASE64 if as_text and is_bytes else None,
    )
