"""ONNX Runtime's sessions."""

from pathlib import Path

import engines
from engines.onnx.runtime import OnnxRuntime


def test_what_tensorrt_has_yet_to_build_is_not_called_cached(tmp_path: Path) -> None:
    """Its engines lie apart from the ONNX file, which another backend may have written before."""
    runtime = engines.load("ort-tensorrt-fp16")
    assert isinstance(runtime, OnnxRuntime)
    settings = {"trt_engine_cache_path": str(tmp_path)}
    (tmp_path / "TensorrtExecutionProvider_cache_sm90.timing").touch()
    assert not runtime.has_built(settings)
    (tmp_path / "TensorrtExecutionProvider_TRTKernel_graph_0_0_fp16_sm90.engine").touch()
    assert runtime.has_built(settings)
