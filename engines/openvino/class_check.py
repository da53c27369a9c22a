"""The classification alone in FP32, for cases whose class INT8 leaves uncertain."""

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.base import ClassCheck, EngineError, Target
from engines.layers import OUTPUTS

if TYPE_CHECKING:
    from torch import Tensor

_FILE, _LEAD = "classes.xml", "classes.json"


def write_class_check(folder: Path, path: Path, quantized: Any, batches: "Sequence[Tensor]", hint: str) -> None:
    """Write the part of the ONNX file at `path` that its classification takes, and from which lead on it is trusted.

    That is the most by which INT8 changed the distance of two classes' logits on any of the calibration tiles `batches`
    ``[B, C, D, H, W]``: the logits of a case are a mean over its tiles, so they change by less, if its tiles are like
    these.

    Args:
        quantized: the network in INT8, an `openvino.Model`, whose other layers run in the precision `hint`.

    Raises:
        EngineError: INT8 gives logits that are not finite.
    """
    import openvino

    core = openvino.Core()
    network = core.read_model(str(path))
    outputs = [output for output in network.outputs if OUTPUTS[1] in output.get_names()]
    classes = openvino.Model(outputs, network.get_parameters())
    exact = core.compile_model(classes, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    lowered = core.compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    lead = 0.0
    for batch in batches:
        change = lowered(batch.numpy())[1] - exact(batch.numpy())[0]
        lead = max(lead, *(change.max(1) - change.min(1)).tolist())
        if not isfinite(change.sum()):
            raise EngineError("INT8 gives logits that are not finite on the calibration tiles; use another precision")
    openvino.save_model(classes, str(folder / _FILE), compress_to_fp16=False)
    (folder / _LEAD).write_text(json.dumps({"lead": lead}))


def open_class_check(folder: Path, target: Target) -> ClassCheck | None:
    """What `write_class_check` wrote, compiled for one tile at a time; None of a network without a classification."""
    import openvino
    import torch

    if not (folder / _FILE).is_file():
        return None
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": target.threads, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(str(folder / _FILE), "CPU", settings).create_infer_request()

    def infer(x: "Tensor") -> "Tensor":
        parts = torch.split(x.contiguous(), target.batch)
        return torch.cat([torch.from_numpy(request.infer({0: part.numpy()})[0].copy()) for part in parts])

    infer(torch.zeros(target.input_shape))  # the first call takes longer, and no case should be the one to pay
    return ClassCheck(json.loads((folder / _LEAD).read_text())["lead"], infer)
