"""ONNX Runtime on its CPU and CUDA providers."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.base import Availability, Engine, EngineError, Evidence, Target
from engines.cache import artefact, key_of
from engines.evidence.mac_counter import layers_for
from engines.host.cpu import weight_bits
from engines.layers import INPUT, OUTPUTS, UNKNOWN, Tally
from engines.onnx.export import PACKAGES, onnx_file
from engines.probe import check, unavailable

if TYPE_CHECKING:
    from torch import Tensor

    from models.model import Model

_CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}
_QUANTIZED = "int8.onnx"
_MULTIPLY = ("Conv", "Gemm", "MatMul", "Attention", "LSTM", "GRU", "Einsum")
_ONE_OF_BOTH = (
    "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu (or onnxruntime where there is no GPU)"
)


def onnxruntime_conflict() -> str | None:
    """Say in one line that two distributions of ONNX Runtime overwrite each other, and what to do; None if not.

    In two folders they do not: then the first of `sys.path` is imported, as `distributions` says.
    """
    if len(distributions()) < 2:
        return None
    return f"onnxruntime and onnxruntime-gpu are both installed, and are the same module: {_ONE_OF_BOTH}"


def distributions() -> list[str]:
    """The distributions that lie where ``import onnxruntime`` finds its module."""
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return []
    root = Path(spec.origin).parents[1].resolve()
    names = {distribution.name.lower() for distribution in metadata.distributions(path=[str(root)])}
    return sorted(names & {"onnxruntime", "onnxruntime-gpu"})


@dataclass(frozen=True)
class _Node:
    """A node that ran, as the runtime's profile reports it."""

    kind: str
    provider: str
    type: str
    shapes: list[list[int]]


class OnnxRuntimeSession:
    """A session of ONNX Runtime."""

    def __init__(self, runtime: Any, run: Any, ran: list[_Node], model: "Model", target: Target, cached: bool) -> None:
        self._runtime, self._run, self.ran = runtime, run, ran
        self._target, self._cached = target, cached
        self.own_threads = not target.on_cuda
        self._layers = layers_for(model, target)

    def infer(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        segmentation, classification = self._run(x)
        return segmentation, classification

    def sync(self) -> None:
        if self._target.on_cuda:
            import torch

            torch.cuda.synchronize(self._target.device)

    def evidence(self) -> Evidence:
        import onnxruntime

        tally, providers, nodes = Tally(self._layers), set(), dict[str, int]()
        options = self._runtime.get_provider_options().get(CUDA, {})
        tf32 = options.get("use_tf32", "1") == "1"
        for node in self.ran:
            nodes[f"{node.provider} {node.kind}"] = nodes.get(f"{node.provider} {node.kind}", 0) + 1
            precision = _TYPES.get(node.type, UNKNOWN)
            if precision == "fp32" and node.provider == CUDA and tf32:
                precision = "tf32"
            if any(word in node.kind for word in _MULTIPLY) and tally.add(precision, node.shapes):
                providers.add(node.provider)
        details = {
            "cached": self._cached,
            "read_from": "the session's own profile of its first pass",
            "nodes": nodes,
            "threads": self._runtime.get_session_options().intra_op_num_threads,
            "onnxruntime": onnxruntime.__version__,
        }
        if not self._layers:  # nothing to match: then all that ran counts
            providers = {node.provider for node in self.ran}
        return Evidence(" + ".join(sorted(providers)), tally.share(), details)


class OnnxRuntime(Engine):
    """Runs an ONNX file of the network; INT8 through ONNX Runtime's own static quantizer."""

    session = OnnxRuntimeSession

    def provider(self, model: "Model", target: Target) -> tuple[str, dict[str, str]]:  # noqa: ARG002
        """The execution provider and its options."""
        if not target.on_cuda:
            return _CPU, {}
        # EXHAUSTIVE, because the default choice of convolutions is several times slower.
        return CUDA, {"device_id": str(index(target)), "cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0"}

    def has_built(self, settings: Mapping[str, str]) -> bool:  # noqa: ARG002
        """Whether the provider with these options has nothing left to build that takes long."""
        return True

    def probe(self, target: Target) -> Availability:
        conflict = onnxruntime_conflict()
        if conflict is not None:
            return unavailable(conflict.partition(":")[0], _ONE_OF_BOTH)
        available = check(target, self.backend)
        if available.ok and target.on_cuda and "onnxruntime-gpu" not in distributions():
            return unavailable("the installed onnxruntime has no CUDA provider", _ONE_OF_BOTH)
        return available

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator["OnnxRuntimeSession"]:
        if self.backend.precision == "int8":
            assert target.calibration is not None, "an INT8 engine was opened without asking its probe"
            used = ("torch", "onnxruntime", *PACKAGES)
            bits, tiles = weight_bits(), target.calibration.sha256
            key = key_of(model, target, used, precision="int8", calibration=tiles, weight_bits=bits)
            built = artefact(target, "ort-int8", key, lambda folder: _quantize(model, target, folder))
            path = built.folder / _QUANTIZED
        else:
            path, built = onnx_file(model, target, half=self.backend.precision == "fp16")
        provider, settings = self.provider(model, target)
        cached = built.cached and self.has_built(settings)
        with tempfile.TemporaryDirectory() as folder:
            runtime = _start(path, target, Path(folder) / "profile", provider, settings)
            run = _CudaRunner(runtime, target) if target.on_cuda else _CpuRunner(runtime)
            ran = _profiled(runtime, run, target)
        yield self.session(runtime, run, ran, model, target, cached)


def _quantize(model: "Model", target: Target, folder: Path) -> None:
    from engines.onnx.quantize import quantize

    quantize(onnx_file(model, target)[0], model, target, folder / _QUANTIZED)


def _start(path: Path, target: Target, profile: Path, provider: str, settings: dict[str, str]) -> Any:
    """Load `path` on `provider` and no other.

    Raises:
        EngineError: the runtime chose another.
    """
    if target.on_cuda:
        import torch  # noqa: F401  (loads the CUDA libraries that ONNX Runtime needs)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.log_severity_level = 3
    options.enable_profiling, options.profile_file_prefix = True, str(profile)
    # A spinning pool would take cores from the backend that is being timed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if target.on_cuda:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    runtime = onnxruntime.InferenceSession(str(path), options, providers=[(provider, settings)])
    started = runtime.get_providers()[0]
    if started != provider:
        raise EngineError(f"ONNX Runtime started {started} where {provider} was asked for; its libraries did not load")
    return runtime


def index(target: Target) -> int:
    """Number of the target's CUDA device."""
    return int(target.device.partition(":")[2] or 0)


class _CpuRunner:
    """Hands arrays over without copying; every call returns new outputs."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def __call__(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        import torch

        segmentation, classification = self._runtime.run(list(OUTPUTS), {INPUT: x.contiguous().numpy()})
        return torch.from_numpy(segmentation), torch.from_numpy(classification)


class _CudaRunner:
    """Binds one input and two outputs on the device; every call overwrites them."""

    def __init__(self, runtime: Any, target: Target) -> None:
        import torch

        self._runtime, self._device = runtime, torch.device(target.device)
        self._binding = runtime.io_binding()
        self._input = self._bound(runtime.get_inputs()[0], self._binding.bind_input)
        self._outputs = [self._bound(output, self._binding.bind_output) for output in runtime.get_outputs()]

    def _bound(self, value: Any, bind: Any) -> "Tensor":
        import numpy as np
        import torch

        half = value.type == "tensor(float16)"
        tensor = torch.empty(value.shape, dtype=torch.float16 if half else torch.float32, device=self._device)
        element = np.float16 if half else np.float32
        bind(value.name, "cuda", self._device.index or 0, element, tuple(tensor.shape), tensor.data_ptr())
        return tensor

    def __call__(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        import torch

        self._input.copy_(x)
        # ONNX Runtime has a stream of its own: the copy must have ended before it reads.
        torch.cuda.current_stream(self._device).synchronize()
        self._runtime.run_with_iobinding(self._binding)
        segmentation, classification = (output.float() for output in self._outputs)
        return segmentation, classification


def _profiled(runtime: Any, run: Any, target: Target) -> list[_Node]:
    """Run once and end the profile, so that the session that is timed afterwards is the one that reports what ran."""
    import torch

    run(torch.zeros(target.input_shape, device=target.device))
    events = json.loads(Path(runtime.end_profiling()).read_text())
    return [_node(event["args"]) for event in events if event.get("args", {}).get("op_name")]


def _node(args: Mapping[str, Any]) -> _Node:
    tensors = [next(iter(tensor.items())) for tensor in args.get("input_type_shape", []) if tensor]
    shapes = [shape for _, shape in tensors]
    shapes += [shape for tensor in args.get("output_type_shape", []) for shape in tensor.values()]
    return _Node(args["op_name"], args.get("provider", UNKNOWN), tensors[0][0] if tensors else UNKNOWN, shapes)
