"""What predicts on a node: a worker behind a journal of its own, in a folder that is deleted with it."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.cluster.scratch import scratch
from bench.errors import BackendLostError, BenchError
from bench.package.document import write_content
from bench.plan.opening import Opening
from bench.predict.batch import Batch
from bench.predict.inputs import image_file
from bench.predict.journal import Journal
from bench.predict.nodes.transport import Finder, Outcome, Place, SentCase, hidden, packed_labels
from bench.predict.source import Source
from bench.progress import Unshown
from bench.worker.lines import FAILED, OK, Line
from bench.worker.messages import BatchCase, Opened

FACTORY = f"{__name__}:Predictor"

_UNSEEN = "cannot be seen any more as it was when the cases were listed; call again"


@dataclass(frozen=True)
class Predicted:
    """What became of the cases of a call, in `seconds`; the worker has taken so much memory at its peak so far."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    peak_memory_bytes: int | None


class Predictor:
    """Predicts cases that are sent; a `bench.cluster.host.Host` holds it."""

    def __init__(self, salt: bytes, read_ahead: int, timeout_s: float) -> None:
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(scratch("voxbench-node-"))
        self._finder = Finder(salt)
        self._read_ahead = read_ahead
        self._timeout_s = timeout_s
        self._journal: Journal
        self._batch: Batch

    def open(self, source: Source, identity: Mapping[str, str]) -> Opened | None:
        """Open the source where it lies; None where it is not there, or is another one.

        Raises:
            InputError and its like: it cannot be used here.
            BackendLostError: its backend cannot be built.
        """
        if not source.path.exists():
            return None
        opening = source.open(Unshown())
        return self._opened(opening) if dict(opening.identity) == dict(identity) else None

    def receive(self, source: Source, files: Mapping[str, bytes]) -> Opened:
        """Open a package that is sent.

        Raises:
            as `open`
        """
        folder = self._folder / "package"
        write_content(folder, files)
        return self._opened(source.moved(folder).open(Unshown()))

    def sees(self, cases: Sequence[tuple[Place, ...]]) -> tuple[bool, ...]:
        """Whether the files of each case can be read here."""
        return tuple(all(self._finder.find(place) is not None for place in case) for case in cases)

    def predict(self, cases: Sequence[SentCase]) -> Predicted:
        """Predict cases.

        Raises:
            BackendLostError: the worker breaks again and again.
            StorageError: this node's disk is full.
        """
        begun = time.monotonic()
        images = {case.label: self._images(case) for case in cases}
        queue = [_batch_case(label, paths) for label, paths in images.items() if paths]
        try:
            self._batch.go_on(queue)
            outcomes = tuple(self._outcome(label, paths) for label, paths in images.items())
        except BenchError as error:
            every = [path for paths in images.values() for path in paths]
            raise type(error)(hidden(_without_log(error), every)) from None
        finally:
            self._clear(cases)
        return Predicted(outcomes, time.monotonic() - begun, self._batch.peak_memory_bytes)

    def close(self) -> None:
        """Stop the worker, and delete all files."""
        self._stack.close()

    def _opened(self, opening: Opening) -> Opened:
        self._journal = Journal(self._folder / "cases", opening.identity, opening.task.classes)
        self._stack.enter_context(self._journal.opened())
        self._batch = Batch(opening, self._journal, self._read_ahead, self._timeout_s, Unshown())
        self._stack.callback(self._batch.stop)
        try:
            return self._batch.open()
        except BackendLostError as error:
            raise BackendLostError(_without_log(error)) from None

    def _images(self, case: SentCase) -> tuple[Path, ...]:
        """The files of a case; empty where one is not seen any more."""
        paths = list[Path]()
        for number, image in enumerate(case.images):
            if isinstance(image, Place):
                path = self._finder.find(image)
                if path is None:
                    return ()
            else:
                path = self._folder / f"image-{case.label}-{number}{image.ending}"
                path.write_bytes(image.content)
            paths.append(path)
        return tuple(paths)

    def _outcome(self, label: str, images: Sequence[Path]) -> Outcome:
        line = self._journal.lines.get(label)
        if line is None:
            return Outcome(label, Line(case=label, images=(), status=FAILED, reason=f"{{path 0}}: {_UNSEEN}"))
        reason = None if line.reason is None else hidden(line.reason, images)
        outcome = Outcome(label, replace(line, images=(), reason=reason), broke=label in self._batch.broke)
        if line.status != OK:
            return outcome
        shape, labels = packed_labels(self._journal.folder / _mask(label))
        return replace(outcome, shape=shape, labels=labels)

    def _clear(self, cases: Sequence[SentCase]) -> None:
        """Delete what has come and what was made of it, which is somebody's image."""
        for case in cases:
            (self._journal.folder / _mask(case.label)).unlink(missing_ok=True)
            for path in self._folder.glob(f"image-{case.label}-*"):
                path.unlink()


def _without_log(error: BenchError) -> str:
    """The message of an error; the log that it names is deleted with the folder."""
    return str(error).partition("; log: ")[0]


def _batch_case(label: str, images: Sequence[Path]) -> BatchCase:
    return BatchCase(label, tuple(map(image_file, images)), _mask(label))


def _mask(label: str) -> str:
    return f"{label}.nii.gz"
