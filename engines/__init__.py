"""Every backend by name. Importing this table imports no runtime: each engine's file does that when it is opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from engines.base import Engine, EngineError, Evidence, Target
from models.reader.container import EXPORTED, ONNX, TORCHSCRIPT

__all__ = ["BACKENDS", "BASELINE", "Backend", "baseline_for", "contradiction", "load"]

BASELINE = "torch-fp32"
_BASELINE_OF_GRAPHS = "ort-fp32"
_CALLED = (TORCHSCRIPT, EXPORTED)  # what PyTorch can call, but not always take apart
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class Backend:
    """A row of the table: the module that builds it, in which precision, and where it exists.

    Every backend runs a network of PyTorch code; `programs`
    are the containers whose own program it can run too. `untold` is the share of the multiply-accumulates whose
    precision its traces may leave open.
    """

    module: str
    precision: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    programs: tuple[str, ...] = ()
    untold: float = 1e-4


BACKENDS: Mapping[str, Backend] = {
    "torch-fp32": Backend("engines.pytorch.eager", "fp32", programs=_CALLED),
    "torch-tf32": Backend("engines.pytorch.eager", "tf32", ("cuda",), programs=_CALLED),
    "torch-amp": Backend("engines.pytorch.amp", "half", programs=_CALLED),
    "torch-half": Backend("engines.pytorch.half", "half", programs=_CALLED),
    "torchscript": Backend("engines.pytorch.torchscript", "fp32", programs=_CALLED),
    "torch-compile": Backend("engines.pytorch.compile", "fp32", programs=(EXPORTED,)),
    # AOTInductor's C++ calls matrix products past the dispatcher, where no trace sees them.
    "torch-aoti": Backend("engines.pytorch.aoti", "fp32", programs=(EXPORTED,), untold=2e-3),
    "torch-graph": Backend("engines.pytorch.cuda_graph", "half", ("cuda",), programs=_CALLED),
    "torch-fused": Backend("engines.fused.engine", "half", ("cuda",)),
    "ort-fp32": Backend("engines.onnx.runtime", "fp32", programs=(EXPORTED, ONNX)),
    "ort-fp16": Backend("engines.onnx.runtime", "fp16", ("cuda",), programs=(EXPORTED,)),
    # ONNX Runtime's CUDA provider does not run quantized models (docs/how-to/gpu.md).
    "ort-int8": Backend("engines.onnx.runtime", "int8", ("cpu",), programs=(EXPORTED, ONNX)),
    "ort-tensorrt-fp16": Backend("engines.onnx.runtime_tensorrt", "fp16", ("cuda",), programs=(EXPORTED,)),
    "openvino-fp32": Backend("engines.openvino.engine", "fp32", ("cpu",), programs=(EXPORTED, ONNX)),
    "openvino-bf16": Backend("engines.openvino.engine", "bf16", ("cpu",), programs=(EXPORTED, ONNX)),
    "openvino-int8": Backend("engines.openvino.engine", "int8", ("cpu",), programs=(EXPORTED, ONNX)),
    "tensorrt-fp32": Backend("engines.tensorrt.engine", "fp32", ("cuda",), programs=(EXPORTED, ONNX)),
    "tensorrt-fp16": Backend("engines.tensorrt.engine", "fp16", ("cuda",), programs=(EXPORTED,)),
    "tensorrt-int8": Backend("engines.tensorrt.engine", "int8", ("cuda",)),
    "tensorrt-rtx-fp32": Backend("engines.tensorrt.rtx", "fp32", ("cuda",), programs=(EXPORTED, ONNX)),
    "tensorrt-rtx-fp16": Backend("engines.tensorrt.rtx", "fp16", ("cuda",), programs=(EXPORTED,)),
    "tensorrt-rtx-int8": Backend("engines.tensorrt.rtx", "int8", ("cuda",)),
    "torch-tensorrt-fp16": Backend("engines.tensorrt.torch_tensorrt", "fp16", ("cuda",), programs=(EXPORTED,)),
}

# How the provider of each runtime's evidence begins, by device. Any other module is judged by the device alone.
_TORCH = {"cpu": "torch cpu", "cuda": "torch cuda"}
_TENSORRT = {"cuda": "tensorrt cuda"}
_PROVIDERS: Mapping[str, Mapping[str, str]] = {
    "engines.pytorch.eager": _TORCH,
    "engines.pytorch.amp": _TORCH,
    "engines.pytorch.half": _TORCH,
    "engines.pytorch.torchscript": _TORCH,
    "engines.pytorch.compile": _TORCH,
    "engines.pytorch.aoti": _TORCH,
    "engines.pytorch.cuda_graph": _TORCH,
    "engines.fused.engine": _TORCH,
    "engines.onnx.runtime": {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"},
    "engines.onnx.runtime_tensorrt": {"cuda": "TensorrtExecutionProvider"},
    "engines.openvino.engine": {"cpu": "openvino CPU"},
    "engines.tensorrt.engine": _TENSORRT,
    "engines.tensorrt.rtx": {"cuda": "tensorrt-rtx cuda"},
    "engines.tensorrt.torch_tensorrt": _TENSORRT,
}


def load(name: str, backend: Backend | None = None) -> Engine:
    """Return the engine called `name`: that of the table, or of `backend` where a row is given.

    Raises:
        EngineError: the table has no such name.
    """
    row = backend or BACKENDS.get(name)
    if row is None:
        raise EngineError(f"there is no backend {name!r}; choose from {', '.join(BACKENDS)}")
    return cast(Engine, import_module(row.module).engine(row))


def baseline_for(program: str | None) -> str:
    """The backend that every speedup is against: PyTorch in FP32, or ONNX Runtime where the network is an ONNX graph.

    `program` is the container whose own program the network is, None where it is PyTorch code.
    """
    return _BASELINE_OF_GRAPHS if program == ONNX else BASELINE


def contradiction(backend: str | Backend, target: Target, evidence: Evidence) -> str | None:
    """Say in one line how what ran differs from what the backend's name promises; None where it does not.

    A provider must be that of the runtime on the target's device. Every multiply-accumulate that the runtime of an FP32
    backend tells of must have run in FP32, and next to none be left untold; with another name at least half must have
    run in the precision that it states. ``half`` is FP16 on CUDA and BF16 on a CPU.
    """
    row = BACKENDS[backend] if isinstance(backend, str) else backend
    return _wrong_provider(row, target, evidence.provider) or _wrong_precision(row, target, evidence.mac_share)


def _wrong_provider(row: Backend, target: Target, provider: str) -> str | None:
    device = "cuda" if target.on_cuda else "cpu"
    if row.module in _PROVIDERS:
        expected = _PROVIDERS[row.module].get(device)
        right = expected is not None and all(part.startswith(expected) for part in provider.split(" + "))
    else:
        expected = device
        right = device in provider.lower()
    return None if right else f"it ran on {provider or 'an unknown provider'}, not on {expected or 'its own runtime'}"


def _wrong_precision(row: Backend, target: Target, share: Mapping[str, float]) -> str | None:
    wanted = ("fp16" if target.on_cuda else "bf16") if row.precision == "half" else row.precision
    ran = ", ".join(f"{part:.1%} in {name}" for name, part in share.items() if part > 0)
    if abs(sum(share.values()) - 1) > 1e-3:
        return f"its multiply-accumulates do not add up: {ran or 'nothing was seen'}"
    untold = sum(part for name, part in share.items() if name not in PRECISIONS)
    if untold > row.untold and (row.precision == "fp32" or share.get(wanted, 0) < 0.5):
        return f"the precision of some multiply-accumulates is unknown: {ran}"
    least = 0.9999 - untold if wanted == "fp32" else 0.5
    if share.get(wanted, 0) < least:
        return f"its multiply-accumulates ran {ran}, not {'all' if wanted == 'fp32' else 'mostly'} in {wanted}"
    return None
