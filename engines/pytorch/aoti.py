"""The network compiled ahead of time by AOTInductor: a package on disk that loads at once.

On a GPU it is not proven: on the one machine seen, loading the package crashed (docs/how-to/gpu.md).
"""

import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engines.base import EngineError, Target
from engines.cache import artefact, key_of
from engines.evidence.mac_counter import layers_for
from engines.evidence.onednn import operations as onednn_operations
from engines.placement import placed
from engines.pytorch.compile import AHEAD_OF_TIME, Compile, cache_folder, what_compiling_lacks
from engines.pytorch.session import TorchSession, torch_settings

if TYPE_CHECKING:
    from models.model import Model

_FILE = "network.pt2"
_LOADING = "import sys, torch; torch._inductor.aoti_load_package(sys.argv[1], device_index=int(sys.argv[2]))"


class AheadOfTime(Compile):
    """Compiles as `torch-compile` does, but into a package: the next start loads it in milliseconds.

    A package is native code, and loading one runs it (CVE-2026-4538): only packages that were built here are loaded,
    and only while they are bit for bit what was written into the cache.
    """

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[TorchSession]:
        layers = layers_for(model, target)
        with torch_settings(target):
            key = key_of(model, target, ("torch", "triton"), precision="fp32", threads=target.threads)
            built = artefact(target, AHEAD_OF_TIME, key, lambda folder: _build(model, target, folder))
            compiled = _load(built.folder / _FILE, target)

            def forward(x: Tensor) -> tuple[Tensor, Tensor]:
                segmentation, classification = compiled(x.contiguous())
                return segmentation, classification

            if target.on_cuda:
                yield TorchSession(forward, layers, target, built.cached)
                return
            x = torch.rand(target.input_shape)
            # Its calls of oneDNN pass PyTorch's dispatcher by, and with it the profiler.
            yield TorchSession(
                forward, layers, target, built.cached, lambda: onednn_operations(lambda: forward(x)),
                "oneDNN's own account of the primitives of one pass",
            )  # fmt: skip


def _build(model: "Model", target: Target, folder: Path) -> None:
    if lacking := what_compiling_lacks(replace(target, prebuilt=None)):
        raise EngineError(f"the package holds none for this machine, and here {lacking.reason}; {lacking.fix}")
    x = torch.rand(target.input_shape, device=target.device)
    # As for torch-compile: constant weights let oneDNN's fused convolutions take over.
    settings: dict[str, Any] = {} if target.on_cuda else {"freezing": True}
    with (
        placed(model.module, target.device) as network, torch.no_grad(), cache_folder(target),
        torch._inductor.config.patch(settings), warnings.catch_warnings(),
    ):  # fmt: skip
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (x,))
        made = Path(torch._inductor.aoti_compile_and_package(program, package_path=str(folder / _FILE)))
    if made != folder / _FILE:
        shutil.move(made, folder / _FILE)
    if target.on_cuda:
        _try_loading(folder / _FILE, _index(target))


def _try_loading(path: Path, index: int) -> None:
    """Load a new package in a process of its own: on one machine with a GPU that crashed, and takes all with it.

    Raises:
        EngineError: it cannot be loaded.
    """
    command = [sys.executable, "-P", "-c", _LOADING, str(path), str(index)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        crashed = signal.Signals(-done.returncode).name if done.returncode < 0 else ""
        reason = crashed or (done.stderr.strip().splitlines() or ["it did not say why"])[-1]
        raise EngineError(
            f"PyTorch {torch.__version__} cannot load the package that it built ({reason}); take torch-compile instead"
        )


def _load(path: Path, target: Target) -> Any:
    if not target.on_cuda:
        return torch._inductor.aoti_load_package(str(path))
    return torch._inductor.aoti_load_package(str(path), device_index=_index(target))


def _index(target: Target) -> int:
    return torch.device(target.device).index or 0
