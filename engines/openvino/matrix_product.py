"""A large matrix product by OpenVINO: what its kernels reach on this CPU without anything around them."""

from collections.abc import Callable

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset8 as ops

from engines.openvino.core import core
from engines.openvino.runtime_graph import precision_of

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_LEVELS = (256, 255)  # of activations and of weights, whose zero is in the middle
_RANGE = 3.0  # of normal values; what lies beyond is cut off, as in a calibrated layer
_ROW = 32  # pixels in a row of the image that stands for a matrix


def products(precision: str, side: int, threads: int) -> list[Callable[[], object]]:
    """Calls that multiply random square matrices in ``fp32``, ``bf16`` or ``int8``: as such, and as a convolution.

    A convolution by one pixel is the same product, transposed, and has kernels of its own: with AVX2 those for INT8 are
    the faster ones. Left out is what OpenVINO runs in another precision here, by its own account. `side` is a multiple
    of 32.
    """
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((side, side), np.float32) for _ in range(2))
    image = np.ascontiguousarray(left.T).reshape(1, side, side // _ROW, _ROW)
    forms = [(left, right, _matmul), (image, np.ascontiguousarray(right.T)[:, :, None, None], _convolution)]
    requests = [_request(matrix, weights, form, precision, threads) for matrix, weights, form in forms]
    return [request.infer for request in requests if request is not None]


def _request(
    matrix: NDArray[np.float32],
    weights: NDArray[np.float32],
    form: Callable[[openvino.Node, openvino.Node], openvino.Node],
    precision: str,
    threads: int,
) -> openvino.InferRequest | None:
    x = ops.parameter(list(matrix.shape), np.float32)
    factors = [x, ops.constant(weights)]
    if precision == "int8":
        factors = [_quantized(factor, levels) for factor, levels in zip(factors, _LEVELS, strict=True)]
    compiled = core().compile_model(
        openvino.Model([form(*factors)], [x]),
        "CPU",
        {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1},
    )
    ran = [precision_of(operation) for operation in compiled.get_runtime_model().get_ordered_ops()]
    if [each for each in ran if each is not None] != [precision]:
        return None
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(matrix))
    return request


def _matmul(left: openvino.Node, right: openvino.Node) -> openvino.Node:
    return ops.matmul(left, right, False, False)


def _convolution(image: openvino.Node, kernels: openvino.Node) -> openvino.Node:
    return ops.convolution(image, kernels, [1, 1], [0, 0], [0, 0], [1, 1])


def _quantized(values: openvino.Node, levels: int) -> openvino.Node:
    low, high = ops.constant(np.float32(-_RANGE)), ops.constant(np.float32(_RANGE))
    return ops.fake_quantize(values, low, high, low, high, levels)
