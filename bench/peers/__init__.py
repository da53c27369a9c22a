"""Reference pipelines: what users run today, as variants of an ordinary run on the same cases and weights.

A peer (`monai`, `nnunet`, `nnunet_stock`, `script`) goes its own whole way from the image's file to the mask's file; of
the pipeline only the tiles' vote over the class is in it, which no library has, and, but for stock nnU-Net, the affine
in force where a header contradicts itself. It is there to be compared with: it makes no claim, is never chosen as the
best, and may be the baseline. `session` opens one where others open an engine. Importing this table imports no peer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.errors import InputError
from engines.base import TORCH, Availability, Backend, Runtime
from engines.probe import unavailable
from models.reader.container import EXPORTED, TORCHSCRIPT

if TYPE_CHECKING:
    from bench.pipeline.settings import InferenceSettings

__all__ = ["PEERS", "Peer", "incompatible_reason", "refuse_setting", "unreadable_reason"]


@dataclass(frozen=True)
class Peer(Backend):
    """A row of the table. Its engine opens a `PeerSession`.

    Attributes:
        cuda_precision: where it is another than `precision` on a CUDA device.
        one_tile: it takes one tile in a pass, whatever the run's batch.
        plans: whether it prepares cases by nnU-Net's plans.
        bundles: whether it prepares cases by the transforms of a MONAI bundle.
        mirrors: it mirrors along the axes that the checkpoint allows, whatever the run does.
        processes: it starts further processes for a case.
    """

    cuda_precision: str | None = None
    one_tile: bool = False
    plans: bool = False
    bundles: bool = False
    mirrors: bool = False
    processes: bool = False
    calls_python: bool = True

    def on(self, device: str) -> "Peer":
        """The row with the precision that it has on `device`."""
        if self.cuda_precision is None or not device.startswith("cuda"):
            return self
        return replace(self, precision=self.cuda_precision)


_CALLED = (TORCHSCRIPT, EXPORTED)  # programs that can be called as a network is
_LIBRARY = Runtime(TORCH.providers, extras={"cpu": "peers", "cuda": "peers"})
_MONAI, _NNUNET = "bench.peers.monai:Monai", "bench.peers.nnunet:NnUNet"

PEERS: Mapping[str, Peer] = {
    "peer-monai-fp32": Peer(_MONAI, "fp32", _LIBRARY, programs=_CALLED, packages=("monai",), bundles=True),
    "peer-monai-amp": Peer(_MONAI, "half", _LIBRARY, programs=_CALLED, packages=("monai",), bundles=True),
    # Its predictor computes under autocast on CUDA, and in FP32 on a CPU.
    "peer-nnunet": Peer(
        _NNUNET, "fp32", _LIBRARY, packages=("nnunetv2",), cuda_precision="fp16", one_tile=True, plans=True
    ),
    "peer-nnunet-stock": Peer(
        "bench.peers.nnunet_stock:StockNnUNet",
        "fp32",
        _LIBRARY,
        packages=("nnunetv2",),
        cuda_precision="fp16",
        one_tile=True,
        plans=True,
        mirrors=True,
        processes=True,
    ),
    "peer-script": Peer("bench.peers.script:Script", "fp32", programs=_CALLED, one_tile=True),
}


def refuse_setting(names: Iterable[str], protocol: str, roi: str) -> None:
    """Refuse a run with peers, called `names`, whose volumes are not tiled as a whole: no peer knows another way.

    Raises:
        InputError: there are peers, and `protocol` or `roi` is another.
    """
    peers = list(names)
    if peers and (protocol, roi) != ("sliding-window", "none"):
        raise InputError(
            f"--backends, --baseline: {', '.join(peers)} would run with --protocol {protocol} --roi {roi}; peers run "
            "with --protocol sliding-window and --roi none only: choose these, or leave the peers out"
        )


def incompatible_reason(backend: Backend, settings: "InferenceSettings", batch: int) -> Availability | None:
    """Why this peer cannot run a case by the run's `settings`; None where it can, and for what is no peer.

    A peer of one tile in a pass leaves the run's batch aside, but not another `batch` that its own name asks for.
    """
    if not isinstance(backend, Peer):
        return None
    if backend.one_tile and batch not in (1, settings.batch):
        return unavailable(f"it runs one tile in a pass, and not {batch}", "leave the batch out of its name")
    if settings.plans is not None and not backend.plans:
        return unavailable("cases of this network are prepared by nnU-Net's plans", "compare with peer-nnunet")
    if settings.bundle is not None:
        if backend.bundles:
            return None
        return unavailable(
            "cases of this network are prepared by its bundle's transforms", "compare with peer-monai-fp32"
        )
    if settings.painting is None and settings.labels != tuple(range(len(settings.labels))):
        labels = ", ".join(map(str, settings.labels))
        return unavailable(
            f"it writes the numbers of classes as labels, and this network's labels are {labels}",
            "train with labels in the order of the classes",
        )
    if backend.plans and settings.painting not in (None, tuple(range(len(settings.labels)))):
        painted = ", ".join(map(str, settings.painting or ()))
        return unavailable(
            f"it paints regions in the order of the network's outputs, and these are painted in the order {painted}",
            "compare with peer-monai-fp32",
        )
    return None


def unreadable_reason(backend: Backend, images: Iterable[str]) -> Availability | None:
    """Why this peer cannot run cases of these `images`; None where it can, and for what is no peer."""
    if not isinstance(backend, Peer):
        return None
    from bench.data.formats import format_of  # which imports nibabel, and `bench --help` must be instant

    others = sorted({format_of(image) for image in images} - {"NIfTI"})
    if not others:
        return None
    return unavailable(
        f"it reads and writes NIfTI, and the images are {' and '.join(others)}", "convert them to .nii.gz"
    )
