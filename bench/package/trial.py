"""A backend in a process of its own, tried before it is packed and where it is unpacked."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.data.volume import MaskValues, read_mask
from bench.errors import BackendLostError, InputError
from bench.worker.messages import Broke, Open, Opened, Predict, Predicted
from bench.worker.process import WorkerError, WorkerProcess
from engines.base import Availability
from models.task import Task

Expected = TypeVar("Expected")

ELSEWHERE = 0.01
"""Share of a case's voxels that may be labelled otherwise on another processor or GPU, on more or fewer threads, or by
other versions: sums are made in another order there, and the noise of a golden case is near a border everywhere."""
ON_CUDA = 0.001
"""The same share on CUDA: cuDNN, Inductor, ONNX Runtime and our own choice of convolutions time kernels anew in a new
process, and take others. On an H100 every backend in FP16, whatever its kernels, labelled at most 0.004 % of a case's
voxels otherwise than FP32 did, and another pipeline 0.6 % (docs/results/gpu-h100-first); of golden cases, whose noise
is near more borders, two ways of rounding `torch-fused` in FP16 labelled 0.006 % otherwise."""


@dataclass(frozen=True)
class Answer:
    """A predicted case."""

    mask: Path
    subtype: int | None


class Trial:
    """A worker that has opened a backend.

    Attributes:
        opened: what it said of that.
    """

    def __init__(self, worker: WorkerProcess, opening: Open, timeout_s: float) -> None:
        self._worker, self._name, self._timeout_s = worker, opening.name, timeout_s
        self.opened = self._ask(opening, Opened)

    def predict(self, images: Sequence[Path], mask: Path) -> Answer:
        """Predict a case into `mask`.

        Raises:
            BackendLostError, InputError: it failed, or an image cannot be used.
        """
        reply = self._ask(Predict(tuple(images), mask), Predicted)
        return Answer(mask, reply.timing.subtype)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of ours returns in the worker."""
        try:
            return self._worker.call(function, *arguments, timeout_s=self._timeout_s)
        except WorkerError as error:
            raise BackendLostError(f"{self._name} failed: {error}") from None

    def _ask(self, request: Open | Predict, expected: type[Expected]) -> Expected:
        try:
            reply = self._worker.ask(request, self._timeout_s)
        except WorkerError as error:
            raise BackendLostError(f"{self._name} failed: {error}") from None
        if isinstance(reply, Availability):
            raise InputError(f"{self._name}: {reply.reason}" + (f"; {reply.fix}" if reply.fix else ""))
        if isinstance(reply, Broke):
            kind, _, problem = reply.reason.partition(": ")
            if kind in ("InputError", "StorageError"):
                raise InputError(problem)
            raise BackendLostError(f"{self._name} failed: {reply.reason}")
        assert isinstance(reply, expected), reply
        return reply


@contextmanager
def trial(opening: Open, timeout_s: float, log: Path) -> Iterator[Trial]:
    """Open a backend in a worker, whose output goes to `log`.

    Raises:
        BackendLostError, InputError: it cannot be opened.
    """
    with WorkerProcess(opening.target.threads, log) as worker:
        yield Trial(worker, opening, timeout_s)


def differing_voxels(mask: Path, other: Path, task: Task) -> tuple[int, int]:
    """Voxels that two masks of one case label otherwise, and all of them."""
    values = MaskValues.of(task)
    labels, other_labels = (read_mask(path, None, values) for path in (mask, other))
    if labels.shape != other_labels.shape:
        return labels.size, labels.size
    return int((labels != other_labels).sum()), labels.size


def share_allowed(device: str, *, elsewhere: bool = False) -> float:
    """Share of a case's voxels that a new process may label otherwise than one before it, of the same variant.

    None on the same CPU, whose libraries choose by rules and give the same bits again.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        elsewhere: processor, GPU or versions are others than they were.
    """
    if elsewhere:
        return ELSEWHERE
    return ON_CUDA if device.startswith("cuda") else 0.0


def allowed_words(share: float) -> str:
    """To go behind what differs: how much may, and why; empty where nothing may."""
    if not share:
        return ""
    elsewhere = "here sums are made in another order"
    reason = elsewhere if share == ELSEWHERE else "a GPU's kernels are chosen anew each time"
    return f", where {100 * share:g} % may: {reason}"
