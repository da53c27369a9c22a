"""Versions that compute 3D convolutions wrongly, or absurdly slowly: what others have reported, with its source.

A backend whose results would be wrong is refused; a run with one that is merely slow has a note.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from engines.base import TORCH, Availability, Backend
from engines.host import cpu

_GITHUB = "https://github.com/pytorch/pytorch/issues/"


@dataclass(frozen=True, kw_only=True)
class KnownFault:
    """A fault of some versions of a library that PyTorch's convolutions run on.

    Attributes:
        library: ``torch``, ``cudnn`` or ``onednn``; `versions`: of it.
        device: ``cpu`` or ``cuda``. precisions: of the backends that meet it.
        features: instruction sets of which the processor must have one; empty for any processor.
        wrong: the results are; otherwise they take very long. some_shapes: of some convolutions only, so that
            `engines.pytorch.self_check` decides for the network at hand.
        what: the fault, in a few words. fix: what to install. source: where it is reported.
    """

    library: str
    versions: SpecifierSet
    device: str
    precisions: frozenset[str]
    features: frozenset[str] = frozenset()
    wrong: bool
    some_shapes: bool = False
    what: str
    fix: str
    source: str

    def concerns(self, backend: Backend) -> bool:
        """Whether it is of the kind that meets the fault."""
        return backend.runtime == TORCH and backend.precision in self.precisions


KNOWN_FAULTS = (
    KnownFault(
        library="cudnn", versions=SpecifierSet(">=9.8,<9.15"), device="cuda", precisions=frozenset({"half"}),
        wrong=True, what="wrong 3D convolutions in FP16 and BF16", fix="pip install 'nvidia-cudnn-cu12>=9.15'",
        source=f"{_GITHUB}163539",
    ),
    KnownFault(
        library="cudnn", versions=SpecifierSet(">=9.10.2,<=9.15"), device="cuda", precisions=frozenset({"tf32"}),
        wrong=True, what="a broken kernel for 3D convolutions in TF32, for which PyTorch takes FP32",
        fix="pip install 'nvidia-cudnn-cu12>9.15'", source=f"{_GITHUB}167024",
    ),
    KnownFault(
        library="torch", versions=SpecifierSet("==2.9.*"), device="cuda", precisions=frozenset({"half"}), wrong=False,
        what="cuDNN is switched off for 3D convolutions in 16 bits, which take 4 to 20 times as long",
        fix="install another version of PyTorch", source=f"{_GITHUB}166122",
    ),
    KnownFault(
        library="onednn", versions=SpecifierSet("==3.12.0"), device="cpu", precisions=frozenset({"half"}),
        features=frozenset({"AVX-512 BF16", "AMX BF16"}), wrong=True, some_shapes=True,
        what="wrong BF16 convolutions with a stride whose output is one voxel wide",
        fix="install another version of PyTorch", source=f"{_GITHUB}169688",
    ),
    KnownFault(
        library="torch", versions=SpecifierSet("==2.14.0"), device="cpu", precisions=frozenset({"fp16"}), wrong=False,
        what="FP16 matrix products take a thousand times as long", fix="install another version of PyTorch",
        source=f"{_GITHUB}193951",
    ),
)  # fmt: skip


def present(device: str) -> Iterator[KnownFault]:
    """The faults that what is installed here has on `device`."""
    versions = library_versions()
    for fault in KNOWN_FAULTS:
        version = _parsed(versions.get(fault.library))
        features = not fault.features or fault.features & set(cpu.instruction_sets())
        if version and fault.device == device.partition(":")[0] and features and fault.versions.contains(version):
            yield fault


def refusal(backend: Backend, device: str) -> Availability | None:
    """Why the results of `backend` would be wrong here; None where nothing is known against it."""
    if not any(_refuses(fault, backend) and fault.device == device.partition(":")[0] for fault in KNOWN_FAULTS):
        return None  # without asking PyTorch, which takes seconds to import
    fault = next((fault for fault in present(device) if _refuses(fault, backend)), None)
    return None if fault is None else Availability(False, f"{words(fault)} ({fault.source})", fault.fix)


def _refuses(fault: KnownFault, backend: Backend) -> bool:
    return fault.wrong and not fault.some_shapes and fault.concerns(backend)


def words(fault: KnownFault) -> str:
    """The fault on one line, with the version that is installed."""
    checked = ", for which the network's own layers are checked" if fault.some_shapes else ""
    return f"{fault.library} {library_versions()[fault.library]} has a known fault: {fault.what}{checked}"


def library_versions() -> dict[str, str]:
    """Versions of PyTorch and of the libraries that its convolutions run on, by name; what is not there is left out."""
    import torch

    onednn = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+)", torch.__config__.show())
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None  # type: ignore[no-untyped-call]
    return {
        "torch": torch.__version__,
        **({"onednn": onednn[1]} if onednn else {}),
        **({"cudnn": f"{cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}"} if cudnn else {}),
    }


def _parsed(version: str | None) -> Version | None:
    try:
        return Version(version) if version else None
    except InvalidVersion:
        return None
