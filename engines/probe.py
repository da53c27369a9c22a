"""What stands in the way of a backend: the checks that every `probe` shares. Imports nothing heavy."""

import os
import shutil
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

from engines.base import Availability, Backend, EngineError, Target
from engines.host import cuda, known_faults
from models.errors import install, one_line, sides
from models.reader.container import EXPORTED, ONNX, TORCHSCRIPT

if TYPE_CHECKING:
    from torch import nn

    from models.model import Program

_PROGRAMS = {TORCHSCRIPT: "a TorchScript program", EXPORTED: "an exported program", ONNX: "an ONNX graph"}


def unavailable(reason: str, fix: str) -> Availability:
    """An engine that cannot run: what was found, and what to do, one line each."""
    return Availability(False, " ".join(reason.split()), " ".join(fix.split()))


def check(target: Target, backend: Backend, packages: Sequence[str] = ()) -> Availability:
    """Ask whether `backend` exists on the target's device, and has its device, its packages and calibration tiles.

    Packages are `packages`, and those that building takes; where something built came along (`Target.prebuilt`) only
    those that run it. They are looked up and not imported: one that is installed and broken must fail when the engine
    is opened, with its traceback, and not pass for a missing one.
    """
    device = "cuda" if target.on_cuda else "cpu"
    packages = (*(backend.to_build if target.prebuilt is None else backend.to_run), *packages)
    if device not in backend.devices:
        there = " and ".join(name.upper() for name in backend.devices)
        return unavailable(
            f"it exists on {there} only", f"run on a machine with {there}: --device {backend.devices[0]}"
        )
    if target.on_cuda:
        absent = cuda.missing(target.device) or _runtime_too_new(packages)
        if absent is not None:
            return absent
    for package in packages:
        if find_spec(package) is None:
            extra = backend.runtime.extras.get(device)
            return unavailable(
                f"the package {package} is not installed", install(extra) if extra else f"pip install {package}"
            )
    faulty = known_faults.refusal(backend, target.device)
    if faulty is not None:
        return faulty
    if backend.precision == "int8" and target.calibration is None:
        return unavailable("no training cases to calibrate from", "give --data a folder that has a training split")
    return Availability(ok=True, packages=packages)


def incompatible_reason(
    backend: Backend, program: "Program | None", batch: int, rewrites: Sequence[str] = ()
) -> Availability | None:
    """Why `backend` cannot run a file's own `program` with `batch` tiles in a pass, rewritten by `rewrites`.

    None where it can, and where the network is PyTorch code.
    """
    if program is None:
        return None
    what = _PROGRAMS[program.container]
    if program.container not in backend.programs:
        return unavailable(
            f"the checkpoint is {what}, and this backend needs the PyTorch network",
            "give the network's state_dict() as the checkpoint, with --arch FILE.py:FACTORY if its code is your own",
        )
    if program.batch not in (None, batch):
        return unavailable(
            f"the checkpoint is {what} that takes batches of {program.batch} only, and not of {batch}",
            "export it with a dynamic batch axis, or ask for that batch",
        )
    if rewrites:
        return unavailable(
            f"the checkpoint is {what}, and rewrites need the PyTorch network", "leave rewrites out of this recipe"
        )
    return None


def ungraphable_reason(backend: Backend, only_python: str) -> Availability | None:
    """Why `backend` cannot run a network whose forward does what `only_python` says; None where it can."""
    if not only_python or backend.calls_python:
        return None
    return unavailable(
        f"the network's forward {only_python}, of which there is no graph, and this backend needs one",
        "give a forward without branches on values, checks of them, NumPy and gradients",
    )


def refuse_tile(network: "nn.Module", target: Target) -> None:
    """Run `network` once on a tile of the target's size.

    Raises:
        EngineError: it does not take one.
    """
    import torch

    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *target.input_shape[1:]))
    except (RuntimeError, ValueError) as error:
        raise EngineError(
            f"the network does not take tiles of {sides(target.tile)} ({one_line(error)}); choose another tile in the "
            "recipe"
        ) from None


def _runtime_too_new(packages: Sequence[str]) -> Availability | None:
    """NVIDIA's wheels say in the names of their parts for which CUDA they are: ``tensorrt_cu13``."""
    driver = cuda.driver()
    if driver is None:
        return None
    supported = driver.cuda[0]
    for package in packages:
        for newer in (supported + 1, supported + 2):
            if distribution_version(f"{package}_cu{newer}") is not None:
                fix = f"update the driver, or pip install {package.replace('_', '-')}-cu{supported}"
                return unavailable(f"{package} is built for CUDA {newer}, and there is {driver}", fix)
    return None


def compiler_missing() -> Availability | None:
    """What to do where Inductor would find no C++ compiler; None where there is one."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is not None:
        return None
    return unavailable(f"the C++ compiler {compiler} is not there", "apt install g++, or set CXX to a compiler")


def distribution_version(name: str) -> str | None:
    """Version of an installed distribution, None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def versions(*distributions: str) -> dict[str, str]:
    """Versions of those of `distributions` that are installed."""
    installed = {name.replace("_", "-"): distribution_version(name) for name in distributions}
    return {name: version for name, version in installed.items() if version is not None}
