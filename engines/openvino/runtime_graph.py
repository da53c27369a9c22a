"""What really runs of a compiled model: precisions and kernels, as OpenVINO's runtime graph has them."""

from collections.abc import Sequence
from typing import Any

from engines.layers import UNKNOWN, Layer, Tally

_MULTIPLY = ("Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul", "RNNCell", "RNNSeq")
_RUNTIME_INFO = ("layerType", "runtimePrecision", "primitiveType")
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}


def precision_of(operation: Any) -> str | None:
    """Precision in which a node of a compiled model's runtime graph multiplies; None for one that does not."""
    info = _runtime_info(operation)
    return _PRECISIONS.get(info["runtimePrecision"], UNKNOWN) if info["layerType"] in _MULTIPLY else None


def matched(compiled: Any, layers: Sequence[Layer]) -> tuple[Tally, set[str]]:
    """The multiply-accumulates of `layers` by precision, as a compiled model's runtime graph has them, and its kernels.

    Only kernels of operations that are layers are named.
    """
    tally, kernels = Tally(layers), set[str]()
    for operation in compiled.get_runtime_model().get_ordered_ops():
        precision = precision_of(operation)
        if precision is None:
            continue
        tensors = [*operation.inputs(), *operation.outputs()]
        if tally.add(precision, [list(tensor.get_shape()) for tensor in tensors]):
            info = _runtime_info(operation)
            kernels.add(f"{info['layerType']} {info['primitiveType']}")
    return tally, kernels


def _runtime_info(operation: Any) -> dict[str, str]:
    return {name: value.astype(str) for name, value in operation.get_rt_info().items() if name in _RUNTIME_INFO}
