"""The table of backends, and the judgement on what ran."""

import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest

import engines
from engines import Backend
from engines.base import EngineError, Evidence, Target

TRUE = [
    ("torch-fp32", "cpu", "torch cpu", {"fp32": 1.0}),
    ("torch-tf32", "cuda", "torch cuda (a GPU)", {"tf32": 1.0}),
    ("torch-half", "cpu", "torch cpu", {"bf16": 1.0}),
    ("torch-amp", "cuda:1", "torch cuda:1 (a GPU)", {"fp16": 0.98, "fp32": 0.02}),
    ("ort-int8", "cpu", "CPUExecutionProvider", {"int8": 0.5, "fp32": 0.5}),
    ("openvino-int8", "cpu", "openvino CPU", {"int8": 0.9, "bf16": 0.08, "unknown": 0.02}),
    ("tensorrt-fp16", "cuda", "tensorrt cuda", {"fp16": 1.0}),
    ("torch-aoti", "cuda", "torch cuda", {"fp32": 0.999, "unknown": 0.001}),
]
LIES = [
    ("torch-fp32", "cpu", "torch cpu", {"fp32": 0.99, "bf16": 0.01}, "1.0% in bf16"),
    ("torch-fp32", "cuda", "torch cuda", {"tf32": 1.0}, "100.0% in tf32"),
    ("torchscript", "cpu", "torch cpu", {"fp32": 0.9, "unknown": 0.1}, "unknown"),
    ("torch-compile", "cuda", "torch cuda", {"fp32": 0.999, "unknown": 0.001}, "unknown"),
    ("torch-aoti", "cuda", "torch cuda", {"fp32": 0.998, "unknown": 0.001, "tf32": 0.001}, "0.1% in tf32"),
    ("torch-fp32", "cuda", "torch cpu", {"fp32": 1.0}, "it ran on torch cpu"),
    ("ort-fp32", "cuda", "CPUExecutionProvider", {"fp32": 1.0}, "CPUExecutionProvider"),
    ("ort-fp32", "cuda", "CPUExecutionProvider + CUDAExecutionProvider", {"fp32": 1.0}, "CPUExecutionProvider"),
    ("ort-fp32", "cpu", "", {"fp32": 1.0}, "unknown provider"),
    ("openvino-int8", "cpu", "torch cpu", {"int8": 1.0}, "not on openvino CPU"),
    ("openvino-int8", "cpu", "openvino CPU", {"int8": 0.49, "fp32": 0.51}, "mostly in int8"),
    ("openvino-fp32", "cpu", "openvino CPU", {"bf16": 1.0}, "all in fp32"),
    ("torch-half", "cpu", "torch cpu", {"fp16": 1.0}, "mostly in bf16"),
    ("torch-half", "cuda", "torch cuda", {"bf16": 1.0}, "mostly in fp16"),
    ("torch-half", "cpu", "torch cpu", {"unknown": 1.0}, "unknown"),
    ("torch-fp32", "cpu", "torch cpu", {}, "do not add up"),
    ("torch-fp32", "cpu", "torch cpu", {"fp32": 1.2}, "do not add up"),
]


@pytest.mark.parametrize(("name", "device", "provider", "share"), TRUE)
def test_true_evidence_passes(
    name: str, device: str, provider: str, share: Mapping[str, float], target: Callable[..., Target]
) -> None:
    assert engines.contradiction(name, target(device), Evidence(provider, share)) is None


@pytest.mark.parametrize(("name", "device", "provider", "share", "told"), LIES)
def test_a_lie_is_told_in_one_line(
    name: str, device: str, provider: str, share: Mapping[str, float], told: str, target: Callable[..., Target]
) -> None:
    line = engines.contradiction(name, target(device), Evidence(provider, share))
    assert line is not None
    assert told in line
    assert "\n" not in line


def test_a_row_of_its_own_is_judged_by_its_device(target: Callable[..., Target]) -> None:
    row = Backend("tests.some_double", "fp32")
    assert engines.contradiction(row, target(), Evidence("double on cpu", {"fp32": 1.0})) is None
    assert engines.contradiction(row, target(), Evidence("double on cuda", {"fp32": 1.0})) is not None


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(EngineError, match=r"no backend 'torch-fp64'.*torch-fp32.*openvino-int8"):
        engines.load("torch-fp64")


@pytest.mark.parametrize(
    "module", ["engines", "engines.onnx.runtime", "engines.openvino.engine", "engines.tensorrt.engine"]
)
def test_importing_is_light(module: str) -> None:
    heavy = ("torch", "onnx", "onnxruntime", "openvino", "nncf", "numpy", "tensorrt")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
