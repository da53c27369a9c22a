"""What the harness asks of a backend: the row that describes it, engine and session, and the values they exchange."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engines.layers import Layer

if TYPE_CHECKING:
    from torch import Tensor

    from models.model import Model


class EngineError(Exception):
    """A backend cannot be built, or does not run as its name says. The message is one line for the user."""


@dataclass(frozen=True)
class Runtime:
    """The library that runs the networks of one or more backends.

    Attributes:
        providers: how the provider in its evidence begins, for each device that it supports.
        packages: modules that it needs beside torch to run what was built.
        extras: the extra of this project that installs all of them, by device.
        builders: modules that it needs beside those to build a network.
    """

    providers: Mapping[str, str]
    packages: tuple[str, ...] = ()
    extras: Mapping[str, str] = field(default_factory=dict)
    builders: tuple[str, ...] = ()


TORCH = Runtime({"cpu": "torch cpu", "cuda": "torch cuda"})


@dataclass(frozen=True)
class Backend:
    """A row of the table of backends. Every backend runs a network of PyTorch code.

    Attributes:
        engine: the class that builds it, a subclass of `Engine`, as ``module:Class``.
        precision: in which it multiplies; ``half`` is FP16 on CUDA and BF16 on a CPU.
        runtime: the library that runs it.
        devices: where it exists.
        programs: the containers whose own program it can run too.
        packages: modules that it needs beside those of its runtime to run what was built.
        builders: modules that it needs beside those of its runtime to build a network.
        unknown_share: fraction of the multiply-accumulates whose precision its evidence may leave open.
        calls_python: in every pass the network's own Python code runs, and not a graph of it.
    """

    engine: str
    precision: str
    runtime: Runtime = TORCH
    devices: tuple[str, ...] = ("cpu", "cuda")
    programs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    builders: tuple[str, ...] = ()
    unknown_share: float = 1e-4
    calls_python: bool = False

    @property
    def to_run(self) -> tuple[str, ...]:
        """Modules beside torch, without which nothing that was built can run."""
        return (*self.runtime.packages, *self.packages)

    @property
    def to_build(self) -> tuple[str, ...]:
        """Those, and the modules that building needs: all that a run needs."""
        return (*self.to_run, *self.runtime.builders, *self.builders)


@dataclass(frozen=True)
class Calibration:
    """Tiles of training cases, from which INT8 engines take their ranges.

    Attributes:
        tiles: reads the preprocessed tiles, float32 ``[N, channels, D, H, W]``, only when an engine must be built.
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
        channels: images that go in together.
        streams: requests that OpenVINO runs side by side; None for as many as a batch has tiles.
        int8_dice: what INT8 must keep of FP32's masks of the calibration tiles; below it layers stay in float. None for
            the usual, `engines.quantization.sensitivity.AGREEMENT`.
        prebuilt: folder of artefacts that came with an exported package, taken before those of `cache`; never changed.
        layers: those of the network in a pass over one tile, where they are known: to find them takes seconds.
    """

    device: str
    tile: tuple[int, int, int]
    batch: int
    threads: int
    cache: Path
    calibration: Calibration | None = None
    layers: tuple[Layer, ...] | None = None
    channels: int = 1
    prebuilt: Path | None = None
    streams: int | None = None
    int8_dice: float | None = None

    @property
    def input_shape(self) -> tuple[int, int, int, int, int]:
        """``[B, C, D, H, W]`` of every input."""
        return (self.batch, self.channels, *self.tile)

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


@dataclass(frozen=True)
class ClassCheck:
    """The network's classification in FP32, for cases whose class a lower precision leaves uncertain.

    Attributes:
        lead: of the likeliest class over the next, in logits; with less of it the class is uncertain.
        infer: maps float32 ``[batch, channels, D, H, W]`` to the logits of the classification, float32 ``[batch, K]``.
    """

    lead: float
    infer: "Callable[[Tensor], Tensor]"


class Session(Protocol):
    """A built engine, ready to infer.

    One of a lower precision may also have a `class_check`, see `class_check_of`; one whose threads are not PyTorch's
    says so by `own_threads`, see `has_own_threads`.
    """

    def infer(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        """Map float32 ``[batch, channels, D, H, W]`` to float32 logits.

        These are ``[batch, classes, D, H, W]`` and ``[batch, K]``, on x's device. The outputs may be overwritten by the
        next call.
        """
        ...

    def sync(self) -> None:
        """Return when everything that was launched has finished."""
        ...

    def evidence(self) -> Evidence:
        """Report what ran. Called once, after the first `infer` and outside every timed region."""
        ...


def class_check_of(session: Session) -> ClassCheck | None:
    """What checks the classes that `session` gives; None where it needs none, or has none."""
    check: ClassCheck | None = getattr(session, "class_check", None)
    return check


def has_own_threads(session: object) -> bool:
    """Whether `session` computes on the processor's cores with other threads than PyTorch's."""
    return bool(getattr(session, "own_threads", False))


class Engine(ABC):
    """A way of running a model, as a row of the table describes it. It never times itself."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @abstractmethod
    def probe(self, target: Target) -> Availability:
        """Say whether `open` can work on `target`, without importing more than needed and without raising."""

    @abstractmethod
    def open(self, model: "Model", target: Target) -> AbstractContextManager[Session]:
        """Build the engine, or take it from the cache.

        Raises:
            EngineError: it cannot be built.
        """
