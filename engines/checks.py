"""What stands in the way of a backend: the checks that every `probe` shares. Imports nothing heavy."""

import re
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec

from engines import Backend
from engines.base import Availability, Target

# A package's module and the command that installs it, where that is not `pip install MODULE`.
_INSTALL = {
    "onnxruntime": 'pip install "voxbench[{cpu_or_gpu}]"',
    "tensorrt": 'pip install "voxbench[gpu]"',
    "torch_tensorrt": 'pip install "voxbench[gpu]"',
}
READY = Availability(ok=True)


def unavailable(reason: str, fix: str) -> Availability:
    """An engine that cannot run: what was found, and what to do, one line each."""
    return Availability(False, " ".join(reason.split()), " ".join(fix.split()))


def check(target: Target, backend: Backend, packages: Sequence[str] = ()) -> Availability:
    """Ask whether `backend` exists on the target's device, and has its device, `packages` and calibration tiles.

    Packages are looked up and not imported: one that is installed and broken must fail when the engine is
    opened, with its traceback, and not pass for a missing one.
    """
    device = "cuda" if target.on_cuda else "cpu"
    if device not in backend.devices:
        there = " and ".join(name.upper() for name in backend.devices)
        return unavailable(
            f"it exists on {there} only", f"run on a machine with {there}: --device {backend.devices[0]}"
        )
    if target.on_cuda:
        found = _cuda(target)
        if not found.ok:
            return found
    for package in packages:
        if find_spec(package) is None:
            command = _INSTALL.get(package, f"pip install {package}")
            command = command.format(cpu_or_gpu="gpu" if target.on_cuda else "cpu")
            return unavailable(f"the package {package} is not installed", command)
    if backend.precision == "int8" and target.calibration is None:
        return unavailable("no training cases to calibrate from", "give --data a folder that has a training split")
    return READY


def _cuda(target: Target) -> Availability:
    import torch

    if torch.cuda.is_available() and int(target.device.partition(":")[2] or 0) < torch.cuda.device_count():
        return READY
    if torch.version.cuda is None:
        return unavailable(
            f"PyTorch {torch.__version__} is built without CUDA",
            "install PyTorch for CUDA, see pytorch.org/get-started",
        )
    return unavailable(
        f"PyTorch finds no device {target.device}", "check the driver with nvidia-smi, or use --device cpu"
    )


def distribution_version(name: str) -> str | None:
    """Version of an installed distribution, None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def versions(*distributions: str) -> dict[str, str]:
    """Versions of those of `distributions` that are installed."""
    found = {re.sub("_", "-", name): distribution_version(name) for name in distributions}
    return {name: version for name, version in found.items() if version is not None}
