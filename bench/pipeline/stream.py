"""Many cases through one pipeline: while the network has one, the next are read and finished masks written."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from bench.data.write import write_mask
from bench.machine.clock import Stopwatch
from bench.pipeline.pipeline import Ahead, Labelled, Pipeline
from bench.pipeline.settings import CaseTiming

WRITE_BEHIND = 2  # masks that are being written or wait for it; a byte a voxel each


Files = tuple[Sequence[Path], Path]  # the images of a case, and where its mask goes
Made = tuple[Labelled, Stopwatch, int]  # a case, its stages so far, and when its reading began


@dataclass(frozen=True)
class Streamed:
    """What cases gave, in their order, and how long all of them took, from the first file to the last mask on disk.

    The `case_ns` of a timing is from the start of its reading to its mask on disk, waits included.
    """

    timings: tuple[CaseTiming, ...]
    wall_ns: int

    @property
    def forward_share(self) -> float:
        """Share of the wall time in which the forward ran."""
        return sum(timing.stages_ns["forward"] for timing in self.timings) / self.wall_ns


class Stream:
    """Reads ahead, in as many threads as the pipeline wants, and writes behind in one, in the order of the cases.

    Beside the case that the network has, at most `read_ahead` cases are being read or wait, at 4 bytes for each voxel
    of their regions, and at most WRITE_BEHIND masks. Reading must not use the session, which serves one thread.

    A subclass may do more at each step, which it gets with the case's number, and decide what a broken case costs.
    """

    def __init__(self, pipeline: Pipeline, read_ahead: int) -> None:
        if read_ahead < 1:
            raise ValueError(f"read-ahead of {read_ahead} cases: at least one")
        self._pipeline = pipeline
        self._read_ahead = read_ahead
        self._prepared: deque[Future[Ahead]] = deque()
        self._written: deque[tuple[int, Future[CaseTiming]]] = deque()

    def run(self, cases: Sequence[Files]) -> Streamed:
        """Predict every (images, mask).

        The first error ends it: cases before the broken one are finished, and what is being written is written out.

        Raises:
            InputError: an image cannot be read, or a mask not be written.
            NotFiniteError: logits of a case, or their sums, are NaN or infinite.
        """
        start = time.perf_counter_ns()
        timings = list[CaseTiming]()
        self.run_all(cases, timings.append)
        return Streamed(tuple(timings), time.perf_counter_ns() - start)

    def run_all(self, cases: Sequence[Files], written: Callable[[CaseTiming], None]) -> None:
        """Predict every case; `written` gets the times of each whose mask is on disk.

        Raises:
            as `run`, but for what `case_failed` takes upon itself
        """
        numbered = iter(enumerate(cases))
        readers = min(self._read_ahead, self._pipeline.readers)
        with ThreadPoolExecutor(1, "write") as writer, ThreadPoolExecutor(readers, "read") as reader:

            def read_next(count: int) -> None:
                for number, (paths, _) in itertools.islice(numbered, count):
                    self._prepared.append(reader.submit(self.read, number, paths))

            try:
                read_next(self._read_ahead)
                for number, (_, mask) in enumerate(cases):
                    read = self._prepared.popleft()
                    wait([read])
                    read_next(1)
                    try:
                        made = self.label(number, read.result())
                    except Exception as error:
                        self.case_failed(number, error)
                        continue
                    finally:
                        del read  # while the next one is waited for, this one is no longer held
                    self._await_writes(WRITE_BEHIND - 1, written)
                    self._written.append((number, writer.submit(self.write, number, mask, *made)))
                    del made
                self._await_writes(0, written)
            finally:
                reader.shutdown(wait=True, cancel_futures=True)
                writer.shutdown(wait=True)
                self._prepared.clear()
                self._written.clear()

    def read(self, number: int, image_paths: Sequence[Path]) -> Ahead:  # noqa: ARG002
        """Read a case, in a thread that reads."""
        return self._pipeline.prepare_ahead(image_paths)

    def label(self, number: int, ahead: Ahead) -> Made:  # noqa: ARG002
        """Run the network over a case, in the thread that called `run`."""
        watch = self._pipeline.stopwatch(ahead.stages_ns)
        return self._pipeline.label(ahead.taken(), watch), watch, ahead.started_ns

    def write(self, number: int, mask: Path, labelled: Labelled, watch: Stopwatch, started: int) -> CaseTiming:  # noqa: ARG002
        """Write a case's mask, in the thread that writes."""
        with watch.stage("write"):
            write_mask(mask, labelled.labels, labelled.nifti, labelled.names)
        return labelled.timing(time.perf_counter_ns() - started, watch.stages_ns)

    def case_failed(self, number: int, error: Exception) -> None:  # noqa: ARG002
        """Decide what it costs that a case could not be read, labelled or written: here all that come after it."""
        raise error

    def _await_writes(self, at_most: int, written: Callable[[CaseTiming], None]) -> None:
        """Wait until at most so many masks are still to be written."""
        while len(self._written) > at_most:
            number, write = self._written.popleft()
            try:
                timing = write.result()
            except Exception as error:
                self.case_failed(number, error)
            else:
                written(timing)
