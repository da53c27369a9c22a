"""Many cases through one pipeline inside the worker, each with a line in the journal; no case ends the others."""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from bench.data.cases import refuse_other_channels
from bench.data.layouts import CaseFiles
from bench.data.write import write_mask
from bench.errors import InputError, NotFiniteError, StorageError
from bench.machine.clock import Stopwatch
from bench.pipeline.pipeline import Ahead, Labelled, Pipeline
from bench.pipeline.settings import CaseTiming
from bench.pipeline.stream import Made, Stream
from bench.worker.in_flight import LABEL, READ, WRITE, Noted
from bench.worker.lines import OK, Line, append

if TYPE_CHECKING:
    from bench.worker.messages import PredictBatch

_OF_THE_CASE = (InputError, NotFiniteError)  # what a broken case raises; anything else may have broken the session


def run_batch(pipeline: Pipeline, request: "PredictBatch", harness: Connection) -> None:
    """Predict the cases, and end this process where the harness ends: nobody else may begin them meanwhile.

    Raises:
        StorageError: a mask or a line cannot be written.
        and whatever a runtime raises, for the case that the network had
    """
    with ended_with(harness), _held(request.journal), closing(Noted(request.in_flight)) as noted:
        batch = _Batch(pipeline, request, noted)
        files = [
            (tuple(Path(image.path) for image in case.images), request.folder / case.mask) for case in request.cases
        ]
        batch.run_all(files, lambda _: None)


class _Batch(Stream):
    def __init__(self, pipeline: Pipeline, request: "PredictBatch", noted: Noted) -> None:
        super().__init__(pipeline, request.read_ahead)
        self._request = request
        self._noted = noted

    def read(self, number: int, image_paths: Sequence[Path]) -> Ahead:
        case, names = self._request.cases[number], self._request.channels
        with self._in_hand(READ, number):
            refuse_other_channels(CaseFiles(case.name, tuple(image_paths), None, None), len(names), names)
            return super().read(number, image_paths)

    def label(self, number: int, ahead: Ahead) -> Made:
        with self._in_hand(LABEL, number):
            return super().label(number, ahead)

    def write(self, number: int, mask: Path, labelled: Labelled, watch: Stopwatch, started: int) -> CaseTiming:
        """Write a case's line, and only then give its mask its name: a case whose mask is there has its line."""
        begun = time.perf_counter_ns()

        def write_line(content: bytes) -> None:
            now = time.perf_counter_ns()
            stages_ns = {**watch.stages_ns, "write": now - begun, "case": now - started}
            self._put(self._line(number, mask, content, labelled, stages_ns))

        with self._in_hand(WRITE, number):
            write_mask(mask, labelled.labels, labelled.nifti, labelled.names, write_line)
        return labelled.timing(time.perf_counter_ns() - started, watch.stages_ns)

    def case_failed(self, number: int, error: Exception) -> None:
        if not isinstance(error, _OF_THE_CASE) or isinstance(error, StorageError):
            raise error
        self._put(self._request.cases[number].failed(error))

    def _put(self, line: Line) -> None:
        append(self._request.journal, line.encoded())

    def _line(self, number: int, mask: Path, content: bytes, labelled: Labelled, stages_ns: dict[str, int]) -> Line:
        case, case_class = self._request.cases[number], labelled.case_class
        return Line(
            case=case.name,
            images=case.images,
            status=OK,
            mask=mask.name,
            mask_sha256=hashlib.sha256(content).hexdigest(),
            number=None if case_class is None else case_class.number,
            class_name=None if case_class is None else self._request.classes[case_class.number],
            probabilities=() if case_class is None else case_class.probabilities,
            seconds={stage: round(ns * 1e-9, 6) for stage, ns in stages_ns.items()},
            roi_fallback=None if labelled.roi is None else labelled.roi.fallback,
        )

    @contextmanager
    def _in_hand(self, stage: str, number: int) -> Iterator[None]:
        """Not with `finally`: what ends the process, or the session, must be seen to have had the case."""
        place = self._noted.take(stage, number)
        try:
            yield
        except _OF_THE_CASE:
            self._noted.leave(place)
            raise
        self._noted.leave(place)


@contextmanager
def _held(journal: Path) -> Iterator[None]:
    """Lock the journal, for whoever asks whether a worker of a call that was killed still writes here."""
    file = os.open(journal, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextmanager
def ended_with(harness: Connection) -> Iterator[None]:
    """Within it this process ends at once where the harness ends, which says nothing else meanwhile."""
    done, finished = Pipe(duplex=False)

    def watch() -> None:
        if harness in wait([harness, done]):
            os._exit(1)

    watcher = Thread(target=watch, name="harness", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.close()
        watcher.join()
        done.close()
