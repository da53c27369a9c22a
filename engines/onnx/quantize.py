"""ONNX Runtime's static INT8 quantizer, fed with calibration tiles."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from engines.base import Target
from engines.host.cpu import weight_bits
from engines.layers import INPUT
from engines.onnx.export import calibration_batches

if TYPE_CHECKING:
    from models.model import Model


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Hands out one batch at a time, as the quantizer asks."""

    def __init__(self, model: "Model", target: Target) -> None:
        self._batches = iter(calibration_batches(model, target))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.numpy()}


def quantize(path: Path, model: "Model", target: Target, out: Path) -> None:
    """Write the network in `path` to `out` with QDQ nodes around every Conv, weights symmetric and per channel.

    Norms stay in float, as INT8 has no kernel for them; transposed convolutions too, since on a CPU their
    Q/DQ pairs are only extra work; and the classification head, whose few MACs are not worth its accuracy.
    """
    prepared = out.with_name("prepared.onnx")
    with redirect_stdout(sys.stderr):  # it prints
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(out),
            _Batches(model, target),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            reduce_range=weight_bits() == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"WeightSymmetric": True},
        )
    prepared.unlink()
