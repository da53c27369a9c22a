"""The classification alone in FP32, for cases whose class INT8 leaves uncertain."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from engines.base import ClassCheck, EngineError, Target
from engines.layers import OUTPUTS
from engines.openvino.core import core

if TYPE_CHECKING:
    from torch import Tensor

_FILE, _LEAD = "classes.xml", "classes.json"


def write_class_check(folder: Path, path: Path, changes: "Tensor") -> None:
    """Write the part of the ONNX file at `path` that its classification takes, and from which lead on INT8 is trusted.

    That is the most by which INT8 changed the distance of two classes' logits on any calibration tile: the logits of a
    case are a mean over its tiles, so they change by less, if its tiles are like these.

    Args:
        changes: of the logits of each tile, by INT8, ``[N, K]``.

    Raises:
        EngineError: INT8 gives logits that are not finite.
    """
    import openvino

    if not changes.isfinite().all():
        raise EngineError("INT8 gives logits that are not finite on the calibration tiles; use another precision")
    lead = float((changes.amax(1) - changes.amin(1)).max())
    network = core().read_model(str(path))
    outputs = [output for output in network.outputs if OUTPUTS[1] in output.get_names()]
    classes = openvino.Model(outputs, network.get_parameters())
    openvino.save_model(classes, str(folder / _FILE), compress_to_fp16=False)
    (folder / _LEAD).write_text(json.dumps({"lead": lead}))


def open_class_check(folder: Path, target: Target) -> ClassCheck | None:
    """What `write_class_check` wrote, compiled for one tile at a time; None of a network without a classification."""
    import torch

    if not (folder / _FILE).is_file():
        return None
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": target.threads, "NUM_STREAMS": 1}
    request = core().compile_model(str(folder / _FILE), "CPU", settings).create_infer_request()

    def infer(x: "Tensor") -> "Tensor":
        parts = torch.split(x.contiguous(), target.batch)
        return torch.cat([torch.from_numpy(request.infer({0: part.numpy()})[0].copy()) for part in parts])

    infer(torch.zeros(target.input_shape))  # the first call takes longer, and no case should be the one to pay
    return ClassCheck(json.loads((folder / _LEAD).read_text())["lead"], infer)
