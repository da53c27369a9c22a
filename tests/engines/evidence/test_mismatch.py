"""The judgement on what ran."""

from collections.abc import Callable, Mapping

import pytest

from engines import BACKENDS
from engines.base import Evidence, Target
from engines.evidence.mismatch import evidence_mismatch
from engines.layers import Layer

TRUE = [
    ("torch-fp32", "cpu", "torch cpu", {"fp32": 1.0}),
    ("torch-tf32", "cuda", "torch cuda (a GPU)", {"tf32": 1.0}),
    ("torch-half", "cpu", "torch cpu", {"bf16": 1.0}),
    ("torch-amp", "cuda:1", "torch cuda:1 (a GPU)", {"fp16": 0.98, "fp32": 0.02}),
    ("ort-int8", "cpu", "CPUExecutionProvider", {"int8": 0.5, "fp32": 0.5}),
    ("openvino-int8", "cpu", "openvino CPU", {"int8": 0.9, "bf16": 0.08, "unknown": 0.02}),
    ("tensorrt-fp16", "cuda", "tensorrt cuda", {"fp16": 1.0}),
    ("torch-aoti", "cuda", "torch cuda", {"fp32": 0.999, "unknown": 0.001}),
    ("torch-fp32", "cpu", "torch cpu", {}),
]
FALSE = [
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
    ("ort-int8", "cpu", "CPUExecutionProvider", {}, "no multiplication of its network is counted"),
    ("torch-fp32", "cpu", "torch cpu", {"fp32": 1.2}, "do not add up"),
    ("torch-fp32", "cpu", "torch cpu", {"fp32": float("nan")}, "do not add up"),
]


@pytest.mark.parametrize(("name", "device", "provider", "share"), TRUE)
def test_true_evidence_passes(
    name: str, device: str, provider: str, share: Mapping[str, float], target: Callable[..., Target]
) -> None:
    assert evidence_mismatch(BACKENDS[name], target(device), Evidence(provider, share)) is None


@pytest.mark.parametrize(("name", "device", "provider", "share", "said"), FALSE)
def test_false_evidence_is_one_line(
    name: str, device: str, provider: str, share: Mapping[str, float], said: str, target: Callable[..., Target]
) -> None:
    line = evidence_mismatch(BACKENDS[name], target(device), Evidence(provider, share))
    assert line is not None
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize("ran", ["bf16", "fp16"])
def test_a_layer_of_its_own_in_16_bits_may_run_in_either_type(ran: str, target: Callable[..., Target]) -> None:
    """Counted as BF16 on a CPU, and FP16 on a GPU, by one and the same autocast."""
    layers = [Layer("first", (1, 1, 1), 60), Layer("own", (1, 1, 1), 40, "bf16")]
    row = BACKENDS["torch-fp32"]

    def said(half: float) -> str | None:
        evidence = Evidence("torch cuda (a GPU)", {"fp32": 1 - half, ran: half})
        return evidence_mismatch(row, target("cuda"), evidence, layers)

    assert said(0.4) is None
    assert f"20.0% in {ran}" in str(said(0.6))
