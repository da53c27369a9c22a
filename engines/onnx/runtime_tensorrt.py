"""ONNX Runtime's TensorRT provider in FP16."""

import ctypes.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engines.base import Availability, Evidence, Target
from engines.cache import key_of, place_of
from engines.onnx.export import PACKAGES
from engines.onnx.runtime import TENSORRT, OnnxRuntime, OnnxRuntimeSession, index
from engines.probe import distribution_version, unavailable
from models.errors import install

if TYPE_CHECKING:
    from models.model import Model

LIBRARY = "libnvinfer.so.10"  # what the provider is linked with, up to ONNX Runtime 1.31

_ENGINES = "trt_engine_cache_path"  # the provider's option


class Session(OnnxRuntimeSession):
    """A session whose whole graph TensorRT has taken."""

    def evidence(self) -> Evidence:
        """The profile shows nothing of what TensorRT does inside its subgraph.

        But without ``trt_fp16_enable`` the provider builds a strongly typed network (``createNetworkV2`` in its
        source), so that the types of the file, all float16, bind TensorRT.
        """
        evidence = super().evidence()
        if {node.provider for node in self.ran} != {TENSORRT}:
            return evidence
        read_from = "the session's own profile: one subgraph, all TensorRT's; types by the strongly typed file"
        details = {**evidence.details, "read_from": read_from}
        return replace(evidence, provider=TENSORRT, mac_share={"fp16": 1.0}, details=details)


class OnnxRuntimeTensorRT(OnnxRuntime):
    """Hands the halved network's ONNX file to TensorRT as a whole; a node left to another provider is a failure."""

    session = Session

    def provider(self, model: "Model", target: Target) -> tuple[str, dict[str, str]]:
        if distribution_version("tensorrt") is not None:
            import tensorrt  # noqa: F401  (loads the libraries that the provider looks for)
        key = key_of(model, target, ("torch", "onnxruntime-gpu", "tensorrt", *PACKAGES), precision="fp16")
        folder = place_of(target.cache, "ort-tensorrt-fp16", key)
        folder.mkdir(parents=True, exist_ok=True)
        return TENSORRT, {
            "device_id": str(index(target)),
            "trt_engine_cache_enable": "1",
            _ENGINES: str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }

    def has_built(self, settings: Mapping[str, str]) -> bool:
        """Whether the provider finds an engine of an earlier session, which takes TensorRT minutes to build."""
        return any(Path(settings[_ENGINES]).glob("*.engine"))

    def probe(self, target: Target) -> Availability:
        available = super().probe(target)
        if not available.ok:
            return available
        version = distribution_version("tensorrt")
        on_system = ctypes.util.find_library("nvinfer")
        if (version or "").startswith("10.") or (version is None and on_system == LIBRARY):
            return available
        there = f"TensorRT {version}" if version else on_system or "no TensorRT"
        return unavailable(
            f"ONNX Runtime's TensorRT provider needs {LIBRARY}, and there is {there}",
            install("gpu-trt10"),
        )
