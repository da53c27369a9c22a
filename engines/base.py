"""What the harness asks of a backend: two protocols and the values they exchange."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from engines.evidence.mac_counter import Layer
    from models.model import Model


class EngineError(Exception):
    """A backend cannot be built, or does not run as its name says. The message is one line for the user."""


@dataclass(frozen=True)
class Calibration:
    """Tiles of training cases, from which INT8 engines take their ranges.

    Attributes:
        tiles: reads the preprocessed tiles, float32 ``[N, 1, D, H, W]``, only when an engine must be built.
        sha256: identifies the tiles' content; part of the cache key of whatever is built from them.
    """

    tiles: "Callable[[], Tensor]"
    sha256: str


@dataclass(frozen=True)
class Target:
    """Where and how an engine must run.

    Attributes:
        device: ``cpu`` or ``cuda`` (or ``cuda:N``).
        tile: D, H, W of every input, in voxels.
        batch: tiles in every input; the harness never sends another number.
        threads: size of the CPU thread pool.
        cache: folder that keeps built artefacts between runs.
        calibration: None where no training cases are at hand; engines that need it are then unavailable.
        layers: those of the network in a pass over one tile, where they are known: to find them takes seconds.
    """

    device: str
    tile: tuple[int, int, int]
    batch: int
    threads: int
    cache: Path
    calibration: Calibration | None = None
    layers: "tuple[Layer, ...] | None" = None

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run on a target; if not, `reason` says what was found and `fix` what to do.

    If it can, `packages` are those that it will import beside torch: found, but not tried.
    """

    ok: bool
    reason: str | None = None
    fix: str | None = None
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What really ran, read from the runtime and not from what was asked for.

    Attributes:
        provider: the runtime and its device, e.g. ``CPUExecutionProvider`` or ``openvino CPU``.
        mac_share: fraction of the multiply-accumulates that ran in each precision
            (``fp32``, ``tf32``, ``fp16``, ``bf16``, ``int8``); sums to 1.
        details: anything else worth keeping, JSON values only.
    """

    provider: str
    mac_share: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)


class Session(Protocol):
    """A built engine, ready to infer."""

    def infer(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        """Map float32 ``[batch, 1, D, H, W]`` to float32 logits, ``[batch, classes, D, H, W]`` and ``[batch, K]``.

        They are on x's device. The outputs may be overwritten by the next call.
        """
        ...

    def sync(self) -> None:
        """Return when everything that was launched has finished."""
        ...

    def evidence(self) -> Evidence:
        """Tell what ran. Called once, after the first `infer` and outside every timed region."""
        ...


class Engine(Protocol):
    """A way of running a model. It never times itself."""

    def probe(self, target: Target) -> Availability:
        """Say whether `open` can work on `target`, without importing more than needed and without raising."""
        ...

    def open(self, model: "Model", target: Target) -> AbstractContextManager[Session]:
        """Build the engine, or take it from the cache.

        Raises:
            EngineError: it cannot be built.
        """
        ...
