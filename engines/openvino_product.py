"""A large matrix product by OpenVINO: what its kernels reach on this CPU without anything around them."""

from collections.abc import Callable

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset8 as ops

from engines.openvino import precision_of

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_LEVELS = (256, 255)  # of activations and of weights, whose zero is in the middle
_RANGE = 3.0  # of normal values; what lies beyond is cut off, as in a calibrated layer


def product(precision: str, side: int, threads: int) -> Callable[[], object] | None:
    """A call that multiplies random square matrices in ``fp32``, ``bf16`` or ``int8``.

    None where OpenVINO runs the product in another precision here, by its own account.
    """
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((side, side), np.float32) for _ in range(2))
    compiled = openvino.Core().compile_model(
        _graph(right, precision == "int8"),
        "CPU",
        {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1},
    )
    told = [precision_of(operation) for operation in compiled.get_runtime_model().get_ordered_ops()]
    if [one for one in told if one is not None] != [precision]:
        return None
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(left))
    return lambda: request.infer()


def _graph(right: NDArray[np.float32], quantized: bool) -> openvino.Model:
    left = ops.parameter(list(right.shape), np.float32)
    factors = [left, ops.constant(right)]
    if quantized:
        low, high = ops.constant(np.float32(-_RANGE)), ops.constant(np.float32(_RANGE))
        pairs = zip(factors, _LEVELS, strict=True)
        factors = [ops.fake_quantize(factor, low, high, low, high, levels) for factor, levels in pairs]
    return openvino.Model([ops.matmul(*factors, False, False)], [left])
