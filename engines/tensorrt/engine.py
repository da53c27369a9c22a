"""TensorRT 10 and 11 in FP32, FP16 and INT8. Nothing of it is imported without CUDA. Not yet run on a GPU."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import Backend
from engines.base import Availability, Target
from engines.cache import Artefact, artefact, device_identity, key_of
from engines.evidence.mac_counter import Operation
from engines.onnx.export import PACKAGES, onnx_file
from engines.probe import check, distribution_version, install, unavailable

if TYPE_CHECKING:
    from engines.tensorrt.session import TensorRTSession
    from models.model import Model

OLDEST = 10  # the first release whose networks can be strongly typed in every precision
_PLAN, _TOLD = "engine.plan", "told.json"


def engine(backend: Backend) -> "TensorRT":
    """Return the engine of `backend`, ``fp32``, ``fp16`` or ``int8``."""
    return TensorRT(backend, "tensorrt")


class TensorRT:
    """Builds a plan from an ONNX file of the network, strongly typed, for one shape.

    FP32 from the float32 export with TF32 off, FP16 from the export of the halved network, INT8 from the halved one
    with Q/DQ nodes.
    """

    def __init__(self, backend: Backend, package: str) -> None:
        """`package`: ``tensorrt``, or ``tensorrt_rtx`` for TensorRT for RTX."""
        self._backend = backend
        self._package = package

    def probe(self, target: Target) -> Availability:
        found = check(target, self._backend, (self._package, *PACKAGES))
        version = distribution_version(self._package)
        if found.ok and self._package == "tensorrt" and version and int(version.partition(".")[0]) < OLDEST:
            return unavailable(
                f"TensorRT {version} is too old: {OLDEST} is the first with strong typing",
                install("gpu"),
            )
        return found

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator["TensorRTSession"]:
        from engines.tensorrt.builder import logger

        trt = import_module(self._package)
        log = logger(trt)
        path, quantized = self._onnx(model, target)
        key = key_of(
            model, target, ("torch", *PACKAGES), precision=self._backend.precision, runtime=trt.__version__,
            calibration=target.calibration.sha256 if target.calibration and quantized else None, quantized=quantized,
        )  # fmt: skip
        timings = target.cache / f"{self._package}-timings" / f"{_file_name(device_identity(target), trt.__version__)}"
        built = artefact(
            target.cache, f"{self._package}-{self._backend.precision}", key,
            lambda folder: _build(trt, path, log, timings, folder),
        )  # fmt: skip
        with opened(trt, log, built, model, target, quantized) as session:
            yield session

    def _onnx(self, model: "Model", target: Target) -> tuple[Path, Mapping[str, Any]]:
        """The file to build from, and what its quantization tells."""
        if self._backend.precision == "int8":
            from engines.tensorrt.qdq import qdq_file

            return qdq_file(model, target)
        return onnx_file(model, target, half=self._backend.precision == "fp16")[0], {}


@contextmanager
def opened(
    trt: Any, log: Any, built: Artefact, model: "Model", target: Target, details: Mapping[str, Any]
) -> Iterator["TensorRTSession"]:
    """Run the plan in `built`, as `save` left it there."""
    from engines.tensorrt.session import TensorRTSession

    typed = [Operation(**one) for one in json.loads((built.folder / _TOLD).read_text())]
    kernels = target.cache / f"{trt.__name__}-kernels" / f"{built.folder.name}.bin"
    plan = (built.folder / _PLAN).read_bytes()
    yield TensorRTSession(trt, log, plan, model, target, typed, {"cached": built.cached, **details}, kernels)


def _build(trt: Any, path: Path, log: Any, timings: Path, folder: Path) -> None:
    from engines.tensorrt.builder import build

    plan = build(trt, path, log, timings)
    save(folder, plan.data, plan.typed)


def save(folder: Path, plan: bytes, typed: tuple[Operation, ...] = ()) -> None:
    """Write a plan where `opened` finds it."""
    (folder / _PLAN).write_bytes(plan)
    (folder / _TOLD).write_text(json.dumps([asdict(one) for one in typed]))


def _file_name(*parts: str) -> str:
    return re.sub(r"[^\w.]+", "-", " ".join(parts))
