"""What the harness asks of a worker, and what that answers. A request gets one reply.

`peak_memory_bytes` of a reply is the most memory that the worker has taken, on a GPU of the device's; None where nobody
can tell.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.worker.lines import FAILED, ImageFile, Line
from engines.base import Availability, Backend, Target
from models.options import ModelOptions
from reports.records.record import GpuState

if TYPE_CHECKING:
    from bench.commands.command import Command
    from bench.commands.runner import CommandCase
    from bench.pipeline.settings import CaseTiming, InferenceSettings
    from bench.pipeline.stream import Streamed


@dataclass(frozen=True)
class Open:
    """Build this backend; or say why the checkpoint's network is none for it, where `incompatible` says so.

    `further_checkpoints`: of the other networks of an ensemble.
    `rewrites`: of the network, by their names in `engines.rewrites`.
    `keep_memory`: what the worker frees stays with it (`bench.worker.allocator`).
    With `cold`, neither is it warmed up nor does it tell what ran: it is there for one case and that case's latency.
    Without `warm`, it then waits for `MakeReady`, so that others may be built meanwhile.
    """

    name: str
    backend: Backend
    checkpoint: Path
    widen_to: int | None
    model_options: ModelOptions
    target: Target
    settings: "InferenceSettings"
    incompatible: Availability | None = None
    rewrites: tuple[str, ...] = ()
    cold: bool = False
    warm: bool = True
    keep_memory: bool = False
    further_checkpoints: tuple[Path, ...] = ()


@dataclass(frozen=True)
class HasDevice:
    """Sent before the reply to an `Open` that is not to `warm` up: the GPU is free for this build, which begins now."""


@dataclass(frozen=True)
class MakeReady:
    """Warm up what was `Built`; the reply is that of an `Open` that does both."""


@dataclass(frozen=True)
class OpenCommand:
    """Make this own command ready; `target` says on how many threads the worker itself runs, and where the run does."""

    name: str
    command: "Command"
    target: Target


@dataclass(frozen=True)
class RunCommand:
    """Have the command predict these cases, a single one but in a call over all; `folder` is for links to them."""

    cases: tuple["CommandCase", ...]
    folder: Path


@dataclass(frozen=True)
class CommandRan:
    """It did, in `case_ns`, of whose stages nothing is known. `cpu_ns` is the processor time of all its processes.

    What memory they took is read from outside.
    """

    case_ns: int
    classes: dict[str, int | None]
    started_unix_s: float
    cpu_ns: int

    @property
    def stages_ns(self) -> dict[str, int]:
        """None."""
        return {}


@dataclass(frozen=True)
class Call:
    """Call this function of ours, which has no state; the reply is `Returned`."""

    module: str
    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Returned:
    """What the function returned."""

    value: Any


@dataclass(frozen=True)
class Built:
    """It is built, and waits for `MakeReady`; `device_memory` as of `Opened`."""

    build_s: float
    peak_memory_bytes: int | None
    device_memory: tuple[int, int] | None


@dataclass(frozen=True)
class Opened:
    """It is built, warmed up, and what ran is what its name says; `device_memory`: free and total bytes, by NVML.

    Of an own command neither a build nor the memory is known.
    """

    build_s: float | None
    cached: bool
    evidence: dict[str, Any]
    peak_memory_bytes: int | None
    warmup: dict[str, float]
    device_memory: tuple[int, int] | None


@dataclass(frozen=True)
class Predict:
    """Run this case, whose channels are `images`."""

    images: tuple[Path, ...]
    mask: Path


@dataclass(frozen=True)
class Predicted:
    """The case was run; `cpu_ns` is the processor time of all threads meanwhile, and of ended children."""

    timing: "CaseTiming"
    started_unix_s: float
    cpu_ns: int
    peak_memory_bytes: int | None
    gpu: GpuState | None

    @property
    def case_ns(self) -> int:
        """Nanoseconds from file to file."""
        return self.timing.case_ns

    @property
    def stages_ns(self) -> dict[str, int]:
        """Of it, by stage."""
        return self.timing.stages_ns


@dataclass(frozen=True)
class PredictAll:
    """Run these cases (images, mask), at most `read_ahead` of them read before their turn."""

    cases: tuple[tuple[tuple[Path, ...], Path], ...]
    read_ahead: int


@dataclass(frozen=True)
class PredictedAll:
    """All of them were run; `cpu_ns` is the processor time of all threads meanwhile."""

    streamed: "Streamed"
    cpu_ns: int
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class BatchCase:
    """A case of a batch: its channels, and the name of its mask's file."""

    name: str
    images: tuple[ImageFile, ...]
    mask: str

    def failed(self, reason: object) -> Line:
        """Its line where it failed."""
        return Line(case=self.name, images=self.images, status=FAILED, reason=" ".join(str(reason).split()))


@dataclass(frozen=True)
class PredictBatch:
    """Run these cases in a stream that no broken case ends; masks go into `folder`, and a line of each into `journal`.

    `in_flight`: the file in which it stands which cases are in hand. `channels` and `classes` are the network's, by
    name.
    """

    cases: tuple[BatchCase, ...]
    folder: Path
    journal: Path
    in_flight: Path
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    read_ahead: int


@dataclass(frozen=True)
class BatchRan:
    """Every case has its line."""

    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Broke:
    """An exception ended the request; its traceback is in the worker's log.

    `no_room`: what failed was to write a file, which says nothing of the backend.
    """

    reason: str
    no_room: bool = False


Request = Open | MakeReady | OpenCommand | Predict | PredictAll | PredictBatch | RunCommand | Call
Reply = Opened | Built | Availability | Predicted | PredictedAll | BatchRan | CommandRan | Returned | Broke
