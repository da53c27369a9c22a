"""A package in this process, which predicts cases that come as bytes: what every server calls."""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

import engines
from bench import __version__
from bench.data.cases import refuse_other_channels
from bench.data.layouts import CaseFiles
from bench.data.write import write_mask
from bench.errors import BenchError, InputError
from bench.machine.device_lock import to_itself
from bench.package.formats.case_tensors import ABOUT, CLASS, MASK, PROBABILITIES, SECONDS
from bench.package.opening import open_package
from bench.pipeline.pipeline import Pipeline
from bench.plan.opening import Opening
from bench.serving.received import MOST_BYTES, write_received
from bench.worker import allocator
from bench.worker.ensemble import open_all
from bench.worker.networks import load_networks, prepare_device
from engines.base import ClassCheck, Evidence, Session, class_check_of
from engines.evidence.mac_counter import own_types
from engines.evidence.mismatch import evidence_mismatch
from models.errors import one_line

if TYPE_CHECKING:
    from torch import Tensor

_TO_TRUST = "allow it by the parameter trust of the model: yes in config.pbtxt, or true in model-settings.json"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where a package is run, and what it takes.

    Attributes:
        device: as of `bench predict`. threads: None for as many as the run of the package had, as far
            as there are CPUs.
        trust: the package's own path, where built code in it may be run.
        most_bytes: of a request, unpacked.
    """

    device: str = "auto"
    threads: int | None = None
    trust: Path | None = None
    most_bytes: int = MOST_BYTES


@dataclass(frozen=True)
class Answer:
    """A predicted case.

    Attributes:
        mask: the content of a gzipped NIfTI file.
        number: of its class; None without a classification. probabilities: of each class.
        seconds: from the files to the mask.
    """

    mask: bytes
    number: int | None
    probabilities: tuple[float, ...]
    seconds: float


class RequestCancelledError(BenchError):
    """Whoever asked for a case does not wait for it any more."""

    def __init__(self) -> None:
        super().__init__("cancelled: nobody waits for it any more")


class ServedModel:
    """A package that is open in this process, for one case at a time.

    Attributes:
        opening: what is run.
    """

    def __init__(self, opening: Opening, session: Session, most_bytes: int) -> None:
        self.opening = opening
        self._session = _Cancellable(session)
        self._pipeline = Pipeline(self._session, opening.open.settings, opening.open.target.device)
        self._most_bytes = most_bytes
        self._turn = threading.Lock()

    def about(self) -> str:
        """JSON with what predicts, for `ABOUT`."""
        task = self.opening.task
        held = {
            "voxbench": __version__,
            "source": self.opening.open.name,
            "identity": dict(self.opening.identity),
            "channels": list(task.channels),
            "classes": list(task.classes),
            "labels": dict(task.labels),
            "most_bytes": self._most_bytes,
        }
        return json.dumps(held)

    def outputs(self, files: Sequence[bytes], cancelled: Callable[[], bool]) -> dict[str, NDArray[Any]]:
        """The tensors of the contract that answer `files`, by name.

        Raises:
            as `predict`
        """
        held = {ABOUT: np.array([[self.about().encode()]], object)}
        if list(files) == [b""]:
            return held
        answer, classes = self.predict(files, cancelled), len(self.opening.task.classes)
        return held | {
            MASK: np.array([[answer.mask]], object),
            CLASS: np.array([[-1 if answer.number is None else answer.number]], np.int32),
            PROBABILITIES: np.array([answer.probabilities or [0.0] * max(1, classes)], np.float32),
            SECONDS: np.array([[answer.seconds]], np.float64),
        }

    def predict(self, files: Sequence[bytes], cancelled: Callable[[], bool] = lambda: False) -> Answer:
        """Predict the case whose channels are `files`, NIfTI each; the next one waits for it.

        `cancelled` is asked before every pass of the network.

        Raises:
            InputError, NotFiniteError: the case cannot be predicted; the message names no file but ``image_0000.nii``.
            RequestCancelledError: it was cancelled.
        """
        with self._turn, tempfile.TemporaryDirectory(prefix="voxbench-") as folder:
            self._session.cancelled = cancelled
            self._session.refuse_cancelled()
            try:
                return self._predict(files, Path(folder))
            except RequestCancelledError:
                raise
            except BenchError as error:
                raise type(error)(one_line(error).replace(f"{folder}/", "")) from None

    def _predict(self, files: Sequence[bytes], folder: Path) -> Answer:
        names = self.opening.task.channels
        paths = write_received(files, folder, self._most_bytes)
        if not paths:
            raise InputError(f"the request has no image; send the NIfTI files of {', '.join(names)}")
        refuse_other_channels(CaseFiles("the case", paths, None, None), len(names), names)
        begin, watch, mask = time.perf_counter(), self._pipeline.stopwatch({}), folder / "mask.nii.gz"
        labelled = self._pipeline.label(self._pipeline.prepare(paths, watch), watch)
        write_mask(mask, labelled.labels, labelled.nifti, labelled.names)
        case_class = labelled.case_class
        return Answer(
            mask=mask.read_bytes(),
            number=None if case_class is None else case_class.number,
            probabilities=() if case_class is None else case_class.probabilities,
            seconds=time.perf_counter() - begin,
        )


@contextmanager
def served(
    package: Path, options: Options, elsewhere: Callable[[Opening], Session] | None = None
) -> Iterator[ServedModel]:
    """Open a package in this process.

    `elsewhere`: makes the session of a network that the server runs by itself, in the place of the package's own.

    Raises:
        InputError and its like: it cannot be opened here.
    """
    opening = open_package(package, options.device, options.threads, options.trust, _TO_TRUST)
    with ExitStack() as stack:
        if elsewhere is None:
            session = _built(opening, stack)
        else:
            torch.set_num_threads(opening.open.target.threads)
            session = elsewhere(opening)
        yield ServedModel(opening, session, options.most_bytes)


def _built(opening: Opening, stack: ExitStack) -> Session:
    """The package's own engine, after a first pass, with what ran as its name says."""
    request = opening.open
    engine = engines.load(request.name, request.backend)
    absent = request.incompatible or engine.probe(request.target)
    if not absent.ok:
        raise InputError(f"{request.name}: {absent.reason}" + (f"; {absent.fix}" if absent.fix else ""))
    if request.keep_memory:
        allocator.keep_freed()
    models = load_networks(request, stack)
    with to_itself(request.target.device):
        prepare_device(request, models[0], stack)
        layers = own_types(models[0], request.target)
        session = stack.enter_context(
            open_all(engine, request.backend, models, request.target, request.settings.merged_apart > 1)
        )
        with torch.inference_mode():
            session.infer(torch.rand(request.target.input_shape).to(request.target.device))
        session.sync()
    wrong = evidence_mismatch(request.backend, request.target, session.evidence(), layers)
    if wrong is not None:
        raise InputError(f"{request.name}: {wrong}")
    return session


class _Cancellable:
    """A session that stops between two passes where nobody waits for the case."""

    def __init__(self, session: Session) -> None:
        self.cancelled: Callable[[], bool] = lambda: False
        self._session = session

    def refuse_cancelled(self) -> None:
        if self.cancelled():
            raise RequestCancelledError

    def infer(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        self.refuse_cancelled()
        return self._session.infer(x)

    def sync(self) -> None:
        self._session.sync()

    def evidence(self) -> Evidence:
        return self._session.evidence()

    @property
    def class_check(self) -> ClassCheck | None:
        return class_check_of(self._session)


def message_of(error: BaseException) -> str:
    """What is said of an error over the network and in a server's log: that of ours, and of any other its kind alone.

    A library may put names of files, or what is in them, into its own.
    """
    return one_line(error) if isinstance(error, BenchError) else f"the case could not be run ({type(error).__name__})"
