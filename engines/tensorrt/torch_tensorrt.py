"""Torch-TensorRT: its converters build the engine, and TensorRT runs it."""

import inspect
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.base import Availability, Engine, EngineError, Target
from engines.cache import artefact, key_of
from engines.placement import placed
from engines.probe import check
from engines.tensorrt.engine import open_plan, save_plan

if TYPE_CHECKING:
    from engines.tensorrt.session import TensorRTSession
    from models.model import Model


class TorchTensorRT(Engine):
    """Converts the exported FP16 program as a whole (``dynamo``); nothing of it is left to PyTorch.

    The plan is then run as those of the other TensorRT backends are, so that they differ by the converter alone.
    """

    def probe(self, target: Target) -> Availability:
        return check(target, self.backend)

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator["TensorRTSession"]:
        import tensorrt

        from engines.tensorrt.builder import logger

        log = logger(tensorrt)
        key = key_of(model, target, ("torch", "torch_tensorrt"), precision="fp16", runtime=tensorrt.__version__)
        built = artefact(target, "torch-tensorrt-fp16", key, lambda folder: _build(model, target, folder))
        import torch_tensorrt

        with open_plan(
            tensorrt, log, built, model, target, {"torch_tensorrt": torch_tensorrt.__version__, "converter": "dynamo"}
        ) as session:
            yield session


def _build(model: "Model", target: Target, folder: Path) -> None:
    import torch
    import torch_tensorrt

    x = torch.rand(target.input_shape, dtype=torch.float16, device=target.device)
    convert = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    settings: dict[str, Any] = {
        "arg_inputs": [x],
        "device": torch.device(target.device),
        "require_full_compilation": True,
        "disable_tf32": True,
    }
    # Up to 2.12 strong typing is an option (and the default of the later ones); then there is nothing else.
    if "use_explicit_typing" in inspect.signature(convert).parameters:
        settings["use_explicit_typing"] = True
    # Only under its debugger does it build with the details that the engine inspector reports.
    with (
        placed(model.module, target.device, torch.float16) as network,
        tempfile.TemporaryDirectory() as logs,
        torch_tensorrt.dynamo.Debugger(log_level="error", engine_builder_monitor=False, logging_dir=logs),
    ):
        with torch.no_grad():
            program = torch.export.export(network, (x,))
        plan = convert(program, **settings)
    if not plan:
        raise EngineError("Torch-TensorRT built no engine; the log says why")
    save_plan(folder, bytes(plan))
