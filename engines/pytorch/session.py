"""What the engines that run on PyTorch share: settings, session, and the reading of what ran."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler import profile  # torch.profiler's imports Inductor, which takes seconds

from engines.base import Availability, Backend, EngineError, Evidence, Target
from engines.layers import UNKNOWN, Layer, Operation, Tally
from engines.probe import check, unavailable

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]

_PRECISIONS = {"float": "fp32", "double": "fp64", "c10::Half": "fp16", "c10::BFloat16": "bf16"}
_PRECISIONS |= {"signed char": "int8", "unsigned char": "int8"}
# Inductor names a kernel of its own after all that it stands between, convolutions too; only its templates multiply.
_MULTIPLIES = re.compile(r"^triton_tem|^(?!triton_).*(conv|linear|mm$|_scaled_dot_product\w*_attention|rnn)")


def half_of(target: Target) -> torch.dtype:
    """The 16-bit type that `target`'s device multiplies fastest: FP16 on CUDA, BF16 on a CPU."""
    return torch.float16 if target.on_cuda else torch.bfloat16


def check_half(target: Target, backend: Backend) -> Availability:
    """Ask what `check` asks, and whether the device computes in `half_of`.

    PyTorch leaves BF16 to oneDNN where that has kernels for the processor, and to plain loops elsewhere: there a
    convolution took a hundred times as long as in FP32 (measured on a CPU with AVX2).
    """
    available = check(target, backend)
    if not available.ok or target.on_cuda or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return available
    return unavailable("PyTorch has no BF16 kernels for this CPU", "run on a CPU with AVX512 or AMX")


@contextmanager
def torch_settings(target: Target, tf32: bool = False) -> Iterator[None]:
    """Fix what PyTorch decides by global flags: `tf32`, cudnn.benchmark on, `target.threads` threads."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32, torch.get_num_threads())
    # The older names of the TF32 flags: Inductor reads them, and refuses a mix of both sets.
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, tf32, tf32
    torch.set_num_threads(target.threads)
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before[:3]
        torch.set_num_threads(before[3])


def synchronize(device: str) -> None:
    """Return when `device` has done all that was launched there; on a CPU that is at once."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


class TorchSession:
    """Runs `forward` on the target's device, and reads what ran from a profiler's trace of one pass."""

    def __init__(
        self,
        forward: Forward,
        layers: Sequence[Layer],
        target: Target,
        cached: bool = False,
        operations: Callable[[], list[Operation]] | None = None,
        read_from: str = "shapes and types in a profiler trace",
        details: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._forward = forward
        self._target = target
        self._shape = target.input_shape
        self._layers = layers
        self._cached = cached
        self._operations = operations or self._traced
        self._read_from = read_from
        self._details = details

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            segmentation, classification = self._forward(x.to(self._target.device))
            return segmentation.to(x.device), classification.to(x.device)

    def sync(self) -> None:
        synchronize(self._target.device)

    def evidence(self) -> Evidence:
        tally = Tally(self._layers)
        operations = [each for each in self._operations() if tally.add(each.precision, each.shapes)]
        kernels = sorted({f"{each.name} {each.precision}" for each in operations})
        details = {
            "cached": self._cached,
            "read_from": self._read_from,
            "kernels": kernels,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        return Evidence(f"torch {self._device_name()}", tally.share(), {**details, **_flags(), **self._details()})

    def _traced(self) -> list[Operation]:
        x = torch.rand(self._shape, device=self._target.device)
        return trace(lambda: self.infer(x), self._target.on_cuda)

    def _device_name(self) -> str:
        device = self._target.device
        return f"{device} ({torch.cuda.get_device_name(device)})" if self._target.on_cuda else device


def fp32_as_run(on_cuda: bool, convolution: bool) -> str:
    """The precision in which the backend multiplies float32 tensors under the flags in force."""
    if on_cuda:
        flag = torch.backends.cudnn.allow_tf32 if convolution else torch.backends.cuda.matmul.allow_tf32
        # Before Ampere there are no TF32 units, whatever the flag.
        return "tf32" if flag and torch.cuda.get_device_capability()[0] >= 8 else "fp32"
    # oneDNN lowers float32 work when this variable of its own asks for it.
    mode = os.environ.get("ONEDNN_DEFAULT_FPMATH_MODE", "STRICT").upper()
    return {"STRICT": "fp32", "BF16": "bf16", "F16": "fp16", "TF32": "tf32"}.get(mode, UNKNOWN)


def _flags() -> dict[str, Any]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return {"tf32": bool(cudnn.allow_tf32 or matmul.allow_tf32), "cudnn_benchmark": cudnn.benchmark}


def trace(run: Callable[[], object], on_cuda: bool) -> list[Operation]:
    """Run once under the profiler; list the innermost convolutions and matrix products, in order."""
    with profile(record_shapes=True) as profiler:
        run()
    events = [
        event
        for event in traced_events(profiler)
        if _MULTIPLIES.search(event.get("name", "")) and "Input Dims" in event.get("args", {})
    ]
    events.sort(key=lambda event: (event["tid"], event["ts"], -event["dur"]))
    return [
        operation
        for event, following in zip(events, [*events[1:], None], strict=False)  # without events there is none to follow
        # A call that holds another only passes on: autocast converts in between.
        if following is None or following["tid"] != event["tid"] or following["ts"] >= event["ts"] + event["dur"]
        for operation in _operations(event, on_cuda)
    ]


def traced_events(profiler: Any) -> list[dict[str, Any]]:
    """The events that one of PyTorch's profilers has recorded, as its trace for Chrome has them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        try:
            events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
        except (OSError, ValueError):  # the profiler reports no failure of its own
            raise EngineError(f"{path}: the profiler could not write its trace; make room, or set TMPDIR") from None
        return events


def _operations(event: Mapping[str, Any], on_cuda: bool) -> list[Operation]:
    name, types, shapes = event["name"], event["args"]["Input type"], event["args"]["Input Dims"]
    tensors = [(_PRECISIONS[kind], shape) for kind, shape in zip(types, shapes, strict=True) if kind in _PRECISIONS]
    precision = tensors[0][0] if tensors else UNKNOWN
    if precision == "fp32":
        precision = fp32_as_run(on_cuda, "conv" in name)
    shapes = [shape for _, shape in tensors]
    if "attention" in name:  # two products: of queries and keys, and of the scores and the values
        query, key, value = shapes[:3]
        return [Operation(name, precision, pair) for pair in ((query, key), (value, [*query[:-1], value[-1]]))]
    return [Operation(name, precision, [[0]] if "rnn" in name else shapes)]  # a layer of many products
