"""The network compiled by torch.compile, in FP32 and in 16 bits."""

import os
import string
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engines.base import Availability, Target
from engines.cache import device_identity
from engines.evidence.mac_counter import layers_for
from engines.placement import placed
from engines.probe import check, compiler_missing, unavailable
from engines.pytorch.eager import Half
from engines.pytorch.engine import TorchEngine
from engines.pytorch.session import TorchSession, torch_settings, trace

if TYPE_CHECKING:
    from models.model import Model

AHEAD_OF_TIME = "aoti"  # the kind of its artefacts


class Compile(TorchEngine):
    """Compiles the whole module for one shape; compiled code is kept on disk by Inductor's own cache."""

    def probe(self, target: Target) -> Availability:
        available = check(target, self.backend, ("triton",) if target.on_cuda else ())
        return available if not available.ok else what_compiling_lacks(target) or available

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[TorchSession]:
        layers = layers_for(model, target)
        # The settings hold for Dynamo too: as options of torch.compile they reach Inductor only, and freeze nothing.
        with (
            torch_settings(target), cache_folder(target) as folder, torch._inductor.config.patch(_settings(target)),
            placed(model.module, target.device, self.dtype(target)) as network,
        ):  # fmt: skip
            torch._dynamo.reset()
            before, there = _counted(), _binaries(folder)
            compiled = torch.compile(self.forward(network, target), fullgraph=True, dynamic=False)
            # One buffer for all inputs: another stride, or a tensor made under inference mode, would recompile.
            buffer = torch.empty(target.input_shape, device=target.device)

            def forward(x: Tensor) -> tuple[Tensor, Tensor]:
                if target.on_cuda:
                    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
                segmentation, classification = compiled(buffer.copy_(x))
                return segmentation, classification

            with torch.inference_mode():
                forward(torch.zeros_like(buffer))
                # The second call, because a recorded CUDA graph shows no operations when it is replayed.
                operations = trace(lambda: forward(torch.zeros_like(buffer)), target.on_cuda)
            cached = bool(there) and _binaries(folder) == there
            yield TorchSession(
                forward, layers, target, cached, lambda: operations,
                "shapes and types in a profiler trace of the second call", lambda: _since(before),
            )  # fmt: skip


class CompileHalf(Compile, Half):
    """Compiles `torch-half`: FP16 on CUDA, BF16 on a CPU, the conversions of input and logits compiled too."""

    def probe(self, target: Target) -> Availability:
        available = Half.probe(self, target)
        return Compile.probe(self, target) if available.ok else available


def what_compiling_lacks(target: Target) -> Availability | None:
    """What stands in Inductor's way to compile for the target; None where nothing does, or where it has done so.

    Its command of the C++ compiler, which a GPU's kernels do without, has names of folders as they are, unquoted.
    """
    if target.prebuilt is not None and any(target.prebuilt.glob(f"{AHEAD_OF_TIME}-*")):
        return None
    if (missing := compiler_missing()) or target.on_cuda:
        return missing
    for folder, variable in ((str(target.cache), "VOXBENCH_CACHE"), (tempfile.gettempdir(), "TMPDIR")):
        if set(folder) & set(string.whitespace + "'\"\\"):
            reason = f"PyTorch's compiler takes no folder whose name has spaces or quotes ({folder})"
            return unavailable(reason, f"set {variable} to another folder")
    return None


def _settings(target: Target) -> dict[str, Any]:
    if not target.on_cuda:
        # Constant weights let oneDNN's fused convolutions take over; without, it calls the slow plain ones.
        return {"freezing": True}
    # cuDNN's own search finds the convolutions; a template of Triton's does not report in which precision it ran.
    return {
        **torch._inductor.list_mode_options("max-autotune"),
        "max_autotune_conv_backends": "ATEN",
        "max_autotune_gemm_backends": "ATEN",
    }


@contextmanager
def cache_folder(target: Target, compiler: str = "inductor", name: str = "TORCHINDUCTOR_CACHE_DIR") -> Iterator[Path]:
    """Keep a compiler's files under the target's cache; it keys them itself, apart from the device's identity.

    `name`: of the variable that tells it where.
    """
    before = os.environ.get(name)
    device = "".join(letter if letter.isalnum() else "-" for letter in device_identity(target))
    folder = target.cache / compiler / device
    os.environ[name] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _binaries(folder: Path) -> set[Path]:
    """Compiled kernels in `folder`: where a build adds none, all of its came from the cache."""
    return {path for kind in ("*.so", "*.cubin") for path in folder.rglob(kind)}


def _counted() -> Mapping[str, int]:
    from torch._dynamo.utils import counters

    return {
        "graphs": counters["stats"]["unique_graphs"],
        "graph_breaks": sum(counters["graph_break"].values()),
    }


def _since(before: Mapping[str, int]) -> dict[str, int]:
    """Graphs compiled (more than one means a recompilation) and graph breaks since `before`."""
    return {name: count - before[name] for name, count in _counted().items()}
