"""The module in FP16, recorded once as a CUDA graph and replayed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engines.base import Target
from engines.layers import Layer
from engines.pytorch.eager import Half
from engines.pytorch.session import Forward, TorchSession, trace

_WARM_UP_PASSES = 3  # cuDNN must have made its choices, and the allocator its blocks, before anything is recorded


class CudaGraph(Half):
    """`torch-half` without the cost of launching its kernels one by one: the same operations, replayed."""

    def session(self, forward: Forward, layers: Sequence[Layer], target: Target) -> TorchSession:
        return graph_session(forward, layers, target)


def graph_session(
    forward: Forward, layers: Sequence[Layer], target: Target, details: Mapping[str, Any] | None = None
) -> TorchSession:
    """A session that replays `forward`; what ran is read from the passes before it was recorded.

    A replay shows no operations to the profiler, and repeats the recorded ones by construction.
    """
    shape = target.input_shape
    x = torch.rand(shape, device=target.device)
    with torch.inference_mode():
        forward(x)  # cuDNN tries its algorithms in the first pass, and the trace must show the one it chose
        operations = trace(lambda: forward(x), on_cuda=True)
    replay = capture(forward, shape, target.device)
    read_from = "shapes and types in a profiler trace of the pass that was recorded as a CUDA graph"
    return TorchSession(
        replay, layers, target, operations=lambda: operations, read_from=read_from, details=lambda: details or {}
    )


def capture(forward: Forward, shape: Sequence[int], device: str) -> Forward:
    """Record `forward` for float32 inputs of `shape` on `device`; the outputs are overwritten by every replay.

    What it returns keeps `forward` alive, since the graph reads and writes the tensors that `forward` holds by their
    addresses alone.

    Warms up on a stream of its own first, as https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs asks.
    """
    buffer = torch.zeros(tuple(shape), device=device)
    with torch.cuda.device(device), torch.inference_mode():
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_PASSES):
                forward(buffer)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = forward(buffer)

    return _Replay(forward, graph, buffer, outputs, device)


@dataclass(frozen=True)
class _Replay:
    """A recorded graph with everything whose memory it uses."""

    recorded: Forward
    graph: Any
    buffer: Tensor
    outputs: tuple[Tensor, Tensor]
    device: str

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.cuda.device(self.device):
            self.buffer.copy_(x)
            self.graph.replay()
        return self.outputs
