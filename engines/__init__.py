"""Ways to run a network, one file each.

The table of backends is here; importing it imports no runtime. `base` is what all share, `layers` what multiplies,
`probe` whether a backend can run, `placement` puts the network on its device, `cache` what was built, `rewrites` other
forms of the same network.

`host`: what the device can do. `evidence`: what really ran. `quantization`: which layers may be INT8.
`pytorch`, `fused`, `onnx`, `openvino`, `tensorrt`: the engines, by runtime.
"""

from collections.abc import Mapping
from pkgutil import resolve_name

from engines.base import Backend, Engine, EngineError, Runtime
from models.reader.container import EXPORTED, ONNX, TORCHSCRIPT

__all__ = ["BACKENDS", "BASELINE", "baseline_for", "load"]

BASELINE = "torch-fp32"
_BASELINE_OF_GRAPHS = "ort-fp32"
_CALLED = (TORCHSCRIPT, EXPORTED)  # what PyTorch can call, but not always take apart
_CPU, _CUDA = ("cpu",), ("cuda",)

_EXPORTER = ("onnx", "onnxscript")
_ORT = Runtime(
    {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}, ("onnxruntime",), {"cpu": "cpu", "cuda": "gpu"},
    _EXPORTER,
)  # fmt: skip
_ORT_TENSORRT = Runtime({"cuda": "TensorrtExecutionProvider"}, ("onnxruntime",), {"cuda": "gpu"}, _EXPORTER)
_OPENVINO = Runtime({"cpu": "openvino CPU"}, ("openvino",), {"cpu": "cpu"}, _EXPORTER)
_TENSORRT = Runtime({"cuda": "tensorrt cuda"}, ("tensorrt",), {"cuda": "gpu"}, _EXPORTER)
_TENSORRT_RTX = Runtime({"cuda": "tensorrt-rtx cuda"}, ("tensorrt_rtx",), {"cuda": "gpu-rtx"}, _EXPORTER)
_TORCH_TENSORRT = Runtime({"cuda": "tensorrt cuda"}, ("torch_tensorrt", "tensorrt"), {"cuda": "gpu"})

BACKENDS: Mapping[str, Backend] = {
    "torch-fp32": Backend("engines.pytorch.eager:Eager", "fp32", programs=_CALLED, calls_python=True),
    "torch-tf32": Backend("engines.pytorch.eager:Eager", "tf32", devices=_CUDA, programs=_CALLED, calls_python=True),
    "torch-amp": Backend("engines.pytorch.eager:Autocast", "half", programs=_CALLED, calls_python=True),
    "torch-half": Backend("engines.pytorch.eager:Half", "half", programs=_CALLED, calls_python=True),
    "torchscript": Backend("engines.pytorch.torchscript:TorchScript", "fp32", programs=_CALLED),
    "torch-compile": Backend("engines.pytorch.compile:Compile", "fp32", programs=(EXPORTED,)),
    "torch-compile-half": Backend("engines.pytorch.compile:CompileHalf", "half", programs=(EXPORTED,)),
    # AOTInductor's C++ calls matrix products past the dispatcher, where no trace sees them.
    "torch-aoti": Backend("engines.pytorch.aoti:AheadOfTime", "fp32", programs=(EXPORTED,), unknown_share=2e-3),
    "torch-graph": Backend("engines.pytorch.cuda_graph:CudaGraph", "half", devices=_CUDA, programs=_CALLED),
    "torch-fused": Backend("engines.fused.engine:Fused", "half", devices=_CUDA),
    "ort-fp32": Backend("engines.onnx.runtime:OnnxRuntime", "fp32", _ORT, programs=(EXPORTED, ONNX)),
    "ort-fp16": Backend("engines.onnx.runtime:OnnxRuntime", "fp16", _ORT, _CUDA, (EXPORTED,)),
    # ONNX Runtime's CUDA provider does not run quantized models (docs/how-to/gpu.md).
    "ort-int8": Backend("engines.onnx.runtime:OnnxRuntime", "int8", _ORT, _CPU, (EXPORTED, ONNX)),
    "ort-tensorrt-fp16": Backend(
        "engines.onnx.runtime_tensorrt:OnnxRuntimeTensorRT", "fp16", _ORT_TENSORRT, _CUDA, (EXPORTED,)
    ),
    "openvino-fp32": Backend("engines.openvino.engine:OpenVino", "fp32", _OPENVINO, _CPU, (EXPORTED, ONNX)),
    "openvino-bf16": Backend("engines.openvino.engine:OpenVino", "bf16", _OPENVINO, _CPU, (EXPORTED, ONNX)),
    "openvino-int8": Backend(
        "engines.openvino.engine:OpenVino", "int8", _OPENVINO, _CPU, (EXPORTED, ONNX), builders=("nncf",)
    ),
    "tensorrt-fp32": Backend("engines.tensorrt.engine:TensorRT", "fp32", _TENSORRT, _CUDA, (EXPORTED, ONNX)),
    "tensorrt-fp16": Backend("engines.tensorrt.engine:TensorRT", "fp16", _TENSORRT, _CUDA, (EXPORTED,)),
    "tensorrt-int8": Backend("engines.tensorrt.engine:TensorRT", "int8", _TENSORRT, _CUDA),
    "tensorrt-rtx-fp32": Backend("engines.tensorrt.rtx:TensorRTForRTX", "fp32", _TENSORRT_RTX, _CUDA, (EXPORTED, ONNX)),
    "tensorrt-rtx-fp16": Backend("engines.tensorrt.rtx:TensorRTForRTX", "fp16", _TENSORRT_RTX, _CUDA, (EXPORTED,)),
    "tensorrt-rtx-int8": Backend("engines.tensorrt.rtx:TensorRTForRTX", "int8", _TENSORRT_RTX, _CUDA),
    "torch-tensorrt-fp16": Backend(
        "engines.tensorrt.torch_tensorrt:TorchTensorRT", "fp16", _TORCH_TENSORRT, _CUDA, (EXPORTED,)
    ),
}


def load(name: str, backend: Backend | None = None) -> Engine:
    """Return the engine called `name`: that of the table, or of `backend` where a row is passed.

    Raises:
        EngineError: the table has no such name.
    """
    row = backend or BACKENDS.get(name)
    if row is None:
        raise EngineError(f"there is no backend {name!r}; choose from {', '.join(BACKENDS)}")
    engine: Engine = resolve_name(row.engine)(row)
    return engine


def baseline_for(program: str | None) -> str:
    """The backend that every speedup is against: PyTorch in FP32, or ONNX Runtime where the network is an ONNX graph.

    `program` is the container whose own program the network is, None where it is PyTorch code.
    """
    return _BASELINE_OF_GRAPHS if program == ONNX else BASELINE
