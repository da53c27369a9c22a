"""TensorRT 10 and 11 in FP32, FP16 and INT8. Nothing of it is imported without CUDA."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.base import Availability, Engine, Target
from engines.cache import Artefact, artefact, device_identity, key_of
from engines.layers import Operation
from engines.onnx.export import PACKAGES, onnx_file
from engines.probe import check, distribution_version, unavailable
from models.errors import install

if TYPE_CHECKING:
    from engines.tensorrt.session import TensorRTSession
    from models.model import Model

OLDEST = 10  # the first release whose networks can be strongly typed in every precision
_PLAN, _TYPES = "engine.plan", "types.json"


class TensorRT(Engine):
    """Builds a plan from an ONNX file of the network, strongly typed, for one shape.

    FP32 from the float32 export with TF32 off, FP16 from the export of the halved network, INT8 from the halved one
    with Q/DQ nodes.
    """

    @property
    def package(self) -> str:
        """``tensorrt``, or ``tensorrt_rtx`` for TensorRT for RTX."""
        return self.backend.runtime.packages[0]

    def probe(self, target: Target) -> Availability:
        available = check(target, self.backend)
        version = distribution_version(self.package)
        if available.ok and self.package == "tensorrt" and version and int(version.partition(".")[0]) < OLDEST:
            return unavailable(
                f"TensorRT {version} is too old: {OLDEST} is the first with strong typing",
                install("gpu"),
            )
        return available

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator["TensorRTSession"]:
        from engines.tensorrt.builder import logger

        trt = import_module(self.package)
        log = logger(trt)
        path, quantized = self._onnx(model, target)
        key = key_of(
            model, target, ("torch", *PACKAGES), precision=self.backend.precision, runtime=trt.__version__,
            calibration=target.calibration.sha256 if target.calibration and quantized else None, quantized=quantized,
        )  # fmt: skip
        timings = target.cache / f"{self.package}-timings" / f"{_file_name(device_identity(target), trt.__version__)}"
        built = artefact(
            target, f"{self.package}-{self.backend.precision}", key,
            lambda folder: _build(trt, path, log, timings, folder),
        )  # fmt: skip
        with open_plan(trt, log, built, model, target, quantized) as session:
            yield session

    def _onnx(self, model: "Model", target: Target) -> tuple[Path, Mapping[str, Any]]:
        """The file to build from, and what its quantization reports."""
        if self.backend.precision == "int8":
            from engines.tensorrt.qdq import qdq_file

            return qdq_file(model, target)
        return onnx_file(model, target, half=self.backend.precision == "fp16")[0], {}


@contextmanager
def open_plan(
    trt: Any, log: Any, built: Artefact, model: "Model", target: Target, details: Mapping[str, Any]
) -> Iterator["TensorRTSession"]:
    """Run the plan in `built`, as `save_plan` left it there."""
    from engines.tensorrt.session import TensorRTSession

    typed = [Operation(**fields) for fields in json.loads((built.folder / _TYPES).read_text())]
    kernels = target.cache / f"{trt.__name__}-kernels" / f"{built.folder.name}.bin"
    plan = (built.folder / _PLAN).read_bytes()
    yield TensorRTSession(trt, log, plan, model, target, typed, {"cached": built.cached, **details}, kernels)


def _build(trt: Any, path: Path, log: Any, timings: Path, folder: Path) -> None:
    from engines.tensorrt.builder import build

    plan = build(trt, path, log, timings)
    save_plan(folder, plan.data, plan.typed)


def save_plan(folder: Path, plan: bytes, typed: tuple[Operation, ...] = ()) -> None:
    """Write a plan where `open_plan` finds it."""
    (folder / _PLAN).write_bytes(plan)
    (folder / _TYPES).write_text(json.dumps([asdict(operation) for operation in typed]))


def _file_name(*parts: str) -> str:
    return re.sub(r"[^\w.]+", "-", " ".join(parts))
