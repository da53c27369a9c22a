"""NVIDIA's driver, asked by NVML, and why PyTorch sees no device of it."""

import re
from dataclasses import dataclass

from engines.base import Availability

_ENVIRONMENTS = "docs/how-to/gpu.md says which versions fit together"


@dataclass(frozen=True)
class Driver:
    """What is installed.

    Attributes:
        version: e.g. ``580.95.05``.
        cuda: major and minor of the newest CUDA it runs.
        gpus: how many it sees.
    """

    version: str
    cuda: tuple[int, int]
    gpus: int

    def __str__(self) -> str:
        return f"driver {self.version} (CUDA up to {self.cuda[0]}.{self.cuda[1]})"


def driver() -> Driver | None:
    """The driver of this machine; None where none answers."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            number = pynvml.nvmlSystemGetCudaDriverVersion_v2()  # 12080 is 12.8
            cuda = number // 1000, number % 1000 // 10
            return Driver(str(pynvml.nvmlSystemGetDriverVersion()), cuda, pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no package, no library, no driver, or one that does not answer: all the same here
        return None


def missing(device: str) -> Availability | None:
    """Why PyTorch cannot compute on `device`, ``cuda`` or ``cuda:N``, and what to do; None where it can."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        return _no_device()
    if int(device.partition(":")[2] or 0) < count:
        return _no_kernels(device)
    names = ", ".join(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(count))
    return Availability(False, f"there is no {device}; PyTorch sees {names}", f"--device {names.partition(' ')[0]}")


def _no_device() -> Availability:
    import torch

    built, installed = f"PyTorch {torch.__version__}", driver()
    if torch.version.cuda is None:
        there = "" if installed is None else f", and there is {installed}"
        return Availability(
            False, f"{built} is built without CUDA{there}", "install PyTorch for CUDA: pytorch.org/get-started"
        )
    if installed is None:
        return Availability(
            False,
            f"{built} finds no NVIDIA driver",
            "install NVIDIA's driver, or give the container its GPUs (docker run --gpus all); or use --device cpu",
        )
    # Within a major version older drivers run newer libraries
    # (https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html).
    if installed.cuda[0] < int(torch.version.cuda.partition(".")[0]):
        return Availability(
            False,
            f"{built} is built for CUDA {torch.version.cuda}, and there is {installed}",
            f"update the driver, or install PyTorch for CUDA {installed.cuda[0]}; {_ENVIRONMENTS}",
        )
    return Availability(
        False,
        f"{built} finds no device, and {installed} has {installed.gpus}",
        "look at CUDA_VISIBLE_DEVICES; after an update of the driver, restart the machine",
    )


def _no_kernels(device: str) -> Availability | None:
    """Whether PyTorch was built for this GPU: binary code of its major version, or code that the driver translates."""
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    listed = torch.cuda.get_arch_list()
    built = [(kind, int(number)) for kind, number in re.findall(r"(sm|compute)_(\d+)", " ".join(listed))]
    for kind, number in built:
        if number <= 10 * major + minor and (kind == "compute" or number // 10 == major):
            return None
    if not built:  # a build that does not say
        return None
    name = torch.cuda.get_device_name(device)
    return Availability(
        False,
        f"{name} has compute capability {major}.{minor}, and PyTorch {torch.__version__} is built for "
        f"{', '.join(listed)}",
        f"install a PyTorch that is built for it; {_ENVIRONMENTS}",
    )
