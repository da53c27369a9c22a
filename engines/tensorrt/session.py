"""A TensorRT engine on tensors of PyTorch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engines.base import EngineError, Evidence, Target
from engines.cache import write_whole
from engines.evidence.mac_counter import layers_for
from engines.layers import UNKNOWN, Layer, Operation, Tally
from engines.pytorch.cuda_graph import capture
from engines.pytorch.session import Forward
from engines.tensorrt.builder import create, first_error
from engines.tensorrt.inspector import layers_of as inspected_layers
from engines.tensorrt.inspector import operations
from models.errors import one_line

if TYPE_CHECKING:
    from models.model import Model

_UNKNOWN_SHARE = 1e-3  # share of the MACs whose precision the inspector may leave open
_DTYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16}


class TensorRTSession:
    """Runs a plan on the target's GPU, recorded as a CUDA graph where that works; every call overwrites the outputs."""

    def __init__(
        self,
        trt: Any,
        log: Any,
        plan: bytes,
        model: "Model",
        target: Target,
        typed: Sequence[Operation],
        details: Mapping[str, Any],
        kernels: Path,
    ) -> None:
        """`kernels`: where TensorRT for RTX keeps what it compiles when an engine is first run."""
        self._trt, self._target, self._typed, self._details = trt, target, typed, details
        self._layers = layers_for(model, target)
        with torch.cuda.device(target.device):
            self._runtime = create(log, lambda: trt.Runtime(log), trt)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise EngineError(
                    f"{trt.__name__} {trt.__version__} cannot load the engine it built: {first_error(log)}"
                )
            self._context, compiled = _context(trt, self._engine, kernels)
            if self._context is None:
                raise EngineError(f"{trt.__name__} {trt.__version__} has no room to run the engine: {first_error(log)}")
            forward = _forward(trt, self._engine, self._context, target)
            self._run, self._graph = _recorded(forward, target)
            if compiled is not None:
                write_whole(kernels, bytes(compiled.serialize()))

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            return self._run(x)

    def sync(self) -> None:
        torch.cuda.synchronize(self._target.device)

    def evidence(self) -> Evidence:
        trt = self._trt
        report = self._engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        layers = inspected_layers(report)
        share, read_from = self._share(operations(layers))
        details = {
            "read_from": read_from,
            "layers": dict(Counter(str(layer.get("LayerType", UNKNOWN)) for layer in layers)),
            "tactics": sorted({str(layer["TacticName"]) for layer in layers if layer.get("TacticName")}),
            "cuda_graph": self._graph,
            trt.__name__: trt.__version__,
        }
        name = torch.cuda.get_device_name(self._target.device)
        provider = f"{trt.__name__.replace('_', '-')} {self._target.device} ({name})"
        return Evidence(provider, share, {**details, **self._details})

    def _share(self, inspected: list[Operation]) -> tuple[dict[str, float], str]:
        """MACs by precision, from the inspector; where it leaves layers open, from the types that bind TensorRT."""
        by_inspector = _tally(self._layers, inspected)
        if by_inspector.get(UNKNOWN, 0) <= _UNKNOWN_SHARE or not self._typed:
            return by_inspector, "the engine inspector, layer by layer"
        return _tally(self._layers, self._typed), (
            "the types of the strongly typed network, which bind TensorRT; its inspector left "
            f"{by_inspector.get(UNKNOWN, 0):.0%} of the MACs open"
        )


def _tally(layers: list[Layer], operations: Sequence[Operation]) -> dict[str, float]:
    tally = Tally(layers)
    for operation in operations:
        tally.add(operation.precision, operation.shapes)
    return tally.share()


def _context(trt: Any, engine: Any, kernels: Path) -> tuple[Any, Any]:
    """An execution context; with TensorRT for RTX, also the cache of the kernels that it compiles for it."""
    if not hasattr(trt, "IRuntimeCache"):
        return engine.create_execution_context(), None
    config = engine.create_runtime_config()
    compiled = config.create_runtime_cache()
    if kernels.is_file():
        compiled.deserialize(kernels.read_bytes())
    config.set_runtime_cache(compiled)
    return engine.create_execution_context(config), compiled


def _forward(trt: Any, engine: Any, context: Any, target: Target) -> Forward:
    """The engine as a function of tensors, on whichever stream is current."""
    tensors: dict[str, Tensor] = {}
    for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors)):
        dtype = _DTYPES[engine.get_tensor_dtype(name).name]
        tensors[name] = torch.empty(tuple(engine.get_tensor_shape(name)), dtype=dtype, device=target.device)
        if not context.set_tensor_address(name, tensors[name].data_ptr()):
            raise EngineError(f"{trt.__name__} takes no address for its tensor {name}")
    image = next(tensors[name] for name in tensors if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
    outputs = [tensors[name] for name in tensors if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
    segmentation, classification = sorted(outputs, key=lambda output: -output.ndim)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        image.copy_(x)
        if not context.execute_async_v3(torch.cuda.current_stream(target.device).cuda_stream):
            raise EngineError(f"{trt.__name__} {trt.__version__} could not run the engine; its log says why")
        return segmentation.float(), classification.float()

    return forward


def _recorded(forward: Forward, target: Target) -> tuple[Forward, str]:
    """`forward` as a CUDA graph; where TensorRT cannot be recorded, on a stream of its own, and why."""
    shape = target.input_shape
    try:
        return capture(forward, shape, target.device), "recorded"
    except (RuntimeError, EngineError) as error:  # for whatever CUDA or TensorRT does not allow while it records
        return _on_own_stream(forward, target), f"not recorded: {one_line(error)}"


def _on_own_stream(forward: Forward, target: Target) -> Forward:
    """On the default stream TensorRT would synchronise the device in every call."""
    own = torch.cuda.Stream(target.device)  # type: ignore[no-untyped-call]

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        current = torch.cuda.current_stream(target.device)
        own.wait_stream(current)
        with torch.cuda.stream(own):
            outputs = forward(x)
        current.wait_stream(own)
        for output in outputs:
            output.record_stream(current)
        return outputs

    return run
