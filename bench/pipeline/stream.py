"""Many cases through one pipeline: while the network has one, the next are read and finished masks written."""

import itertools
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.data.volume import Volume
from bench.data.write import write_mask
from bench.machine.clock import Stopwatch
from bench.pipeline.pipeline import Labelled, Pipeline, Prepared
from bench.pipeline.settings import CaseTiming

WRITE_BEHIND = 2  # masks that are being written or wait for it; a byte a voxel each


_Read = tuple[Prepared | Volume, Stopwatch, int]  # a case, its stages so far, and when its reading began


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
    """Reads ahead and writes behind, each in a thread of its own and in the order of the cases.

    Beside the case that the network has, at most `read_ahead` cases are being read or wait, at 4 bytes for each voxel
    of their regions, and at most WRITE_BEHIND masks. Reading must not use the session, which serves one thread.
    """

    def __init__(self, pipeline: Pipeline, read_ahead: int) -> None:
        if read_ahead < 1:
            raise ValueError(f"read-ahead of {read_ahead} cases: at least one")
        self._pipeline = pipeline
        self._read_ahead = read_ahead
        self._prepared: deque[Future[_Read]] = deque()
        self._written: deque[Future[CaseTiming]] = deque()
        self._timings: list[CaseTiming] = []

    def run(self, cases: Sequence[tuple[Sequence[Path], Path]]) -> Streamed:
        """Predict every (images, mask).

        The first error ends it: cases before the broken one are finished, and what is being written is written out.

        Raises:
            InputError: an image cannot be read, or a mask not be written.
            NotFiniteError: logits of a case, or their sums, are NaN or infinite.
        """
        start, images = time.perf_counter_ns(), iter([paths for paths, _ in cases])
        self._timings = []
        with ThreadPoolExecutor(1, "write") as writer, ThreadPoolExecutor(1, "read") as reader:

            def read_next(count: int) -> None:
                for paths in itertools.islice(images, count):
                    self._prepared.append(reader.submit(self._prepare, paths))

            try:
                read_next(self._read_ahead)
                for _, mask in cases:
                    read = self._prepared.popleft().result()
                    read_next(1)
                    labelled, watch, started = self._label(*read)
                    del read  # while the next one is waited for, this one is no longer held
                    self._await_writes(WRITE_BEHIND - 1)
                    self._written.append(writer.submit(_write, mask, labelled, watch, started))
                    del labelled
                self._await_writes(0)
            finally:
                reader.shutdown(wait=True, cancel_futures=True)
                writer.shutdown(wait=True)
                self._prepared.clear()
                self._written.clear()
        return Streamed(tuple(self._timings), time.perf_counter_ns() - start)

    def _prepare(self, image_paths: Sequence[Path]) -> _Read:
        started, watch = time.perf_counter_ns(), Stopwatch(lambda: None)
        return self._pipeline.prepare(image_paths, watch), watch, started

    def _label(self, prepared: Prepared | Volume, before: Stopwatch, started: int) -> tuple[Labelled, Stopwatch, int]:
        watch = self._pipeline.stopwatch(before.stages_ns)
        return self._pipeline.label(prepared, watch), watch, started

    def _await_writes(self, at_most: int) -> None:
        """Wait until at most so many masks are still to be written."""
        while len(self._written) > at_most:
            self._timings.append(self._written.popleft().result())


def _write(mask: Path, labelled: Labelled, watch: Stopwatch, started: int) -> CaseTiming:
    with watch.stage("write"):
        write_mask(mask, labelled.labels, labelled.nifti)
    return labelled.timing(time.perf_counter_ns() - started, watch.stages_ns)
