"""`predictions.jsonl`: a first line that says what predicts, then a line for each case that ended.

A case is done where its last line says so and its mask is on disk. The line is there before the mask has its name, so
that no case whose mask is on disk is computed again. A line without its mask, and one that a kill has cut off, count as
nothing.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.data.write import unfinished_of
from bench.errors import InputError
from bench.predict.header import Header, ShardHeader, first_difference
from bench.progress import Progress
from bench.schedule.run_directory import locked, write_text
from bench.worker.lines import FAILED, OK, ImageFile, Line, append
from bench.worker.messages import BatchCase

NAME, LOG, IN_FLIGHT = "predictions.jsonl", "worker.log", ".in-flight"
_REMEDY = "choose another --out"
_LAST_BREATH_S = 30.0  # that the worker of a call which was killed may take to notice it


@dataclass(frozen=True)
class Sorted:
    """The cases of a call, by what is still to be done for them.

    Attributes:
        done: their lines.
        fresh: that have no line, or whose mask or image is another.
        failed: the last time; they are tried again.
    """

    done: tuple[Line, ...]
    fresh: tuple[BatchCase, ...]
    failed: tuple[BatchCase, ...]


def read_lines(path: Path) -> dict[str, Line]:
    """The last line of each case in a journal that no process writes to; one that was cut off counts as nothing."""
    _, *lines = path.read_bytes().partition(b"\0")[0].rpartition(b"\n")[0].split(b"\n")
    decoded = (Line.decoded(each) for each in lines)
    return {line.case: line for line in decoded if line is not None}


class Journal:
    """The folder of predictions, whose `identity` all calls have in common.

    Attributes:
        lines: the last of each case, by its name.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, str], classes: Sequence[str], shard: ShardHeader | None = None
    ) -> None:
        self.folder = folder
        self.path = folder / NAME
        self.lines: dict[str, Line] = {}
        self._header = Header(dict(identity), tuple(classes), shard)
        self._read = 0  # bytes

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder where it is not there, keep others out of it, and read its lines.

        Raises:
            InputError: it cannot be made, holds other files or predictions of something else, or a process works in it.
            StorageError: it cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be created ({error.strerror}); choose another --out") from None
        with locked(self.folder, "another process predicts into this folder; wait until it ends"):
            self._begin()
            yield

    def sort(self, cases: Iterable[BatchCase]) -> Sorted:
        """What is done and what is not; masks of cases whose images have changed or that failed are removed, and
        unfinished ones.

        Raises:
            InputError: a case of this name was predicted from files that lie elsewhere.
        """
        done, fresh, failed, changed = list[Line](), list[BatchCase](), list[BatchCase](), list[BatchCase]()
        for case in cases:
            line = self.lines.get(case.name)
            if line is None or line.status != OK:
                (fresh if line is None else failed).append(case)
            elif not (self.folder / (line.mask or case.mask)).is_file():
                fresh.append(case)
            elif _paths(line.images) != _paths(case.images):  # of equal size and date it may be another patient's
                raise InputError(
                    f"{case.images[0].path}: {self.folder} holds the prediction of another file as {case.name} "
                    f"({line.images[0].path}); rename one, or choose another --out"
                )
            elif _content(line.images) == _content(case.images) or any(i.size is None for i in case.images):
                done.append(line)  # also where the image was taken away since
            else:
                fresh.append(case)
                changed.append(case)
        for case in (*changed, *failed):  # before the first is computed: an old mask must never stand beside a new line
            (self.folder / case.mask).unlink(missing_ok=True)
        for case in (*fresh, *failed):
            unfinished_of(self.folder / case.mask).unlink(missing_ok=True)
        return Sorted(tuple(done), tuple(fresh), tuple(failed))

    def fail(self, case: BatchCase, reason: object) -> None:
        """Remove the mask of a case, if it has one, and put its line behind the worker's, which must be gone or idle.

        Raises:
            StorageError: it cannot be written.
        """
        before = self.lines.get(case.name)
        for mask in {case.mask, Path((before and before.mask) or case.mask).name}:
            (self.folder / mask).unlink(missing_ok=True)
        append(self.path, case.failed(reason).encoded())

    def follow(self) -> list[Line]:
        """The lines that were added since it was last asked; of one that is being written the rest comes later."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        lines = [line for each in whole.splitlines() if (line := Line.decoded(each)) is not None]
        self.lines |= {line.case: line for line in lines}
        return lines

    def show(self, progress: Progress) -> list[Line]:
        """As `follow`, and say of each of them what became of its case."""
        lines = self.follow()
        for line in lines:
            progress.advance(line.case)
            if line.status == FAILED:
                progress.note(f"{line.case} failed: {line.reason}")
        return lines

    def _begin(self) -> None:
        if not self.path.is_file() and any(not path.name.startswith(".") for path in self.folder.iterdir()):
            raise InputError(
                f"{self.folder}: exists, is not empty, and holds no {NAME} to go on with; choose another --out"
            )
        if not self.path.is_file():
            self._write_header()
        with locked(self.path, "the worker of an earlier call still writes here; end it", _LAST_BREATH_S):
            whole = self._whole()
            if whole:
                Header.read(self.path, _REMEDY)  # a foreign file is left as it is
                os.truncate(self.path, whole)  # later lines would be glued to one that was cut off
            else:
                self._begin_anew()
            self._refuse_other()
            self.follow()

    def _begin_anew(self) -> None:
        """Write the first line again, which a kill or a power cut may have left in part, or as zeros."""
        if not self._header.text.encode().startswith(self.path.read_bytes().rstrip(b"\0")):
            raise InputError(f"{self.path}: its first line does not say what predicted; {_REMEDY}")
        self._write_header()

    def _write_header(self) -> None:
        write_text(self.path, self._header.text)

    def _whole(self) -> int:
        """Bytes of the lines that are whole; a power cut may leave zeros behind them."""
        content = self.path.read_bytes().partition(b"\0")[0]
        return content.rfind(b"\n") + 1

    def _refuse_other(self) -> None:
        with self.path.open("rb") as file:
            first = file.readline()
        self._read = len(first)
        difference = first_difference(Header.read(self.path, _REMEDY).identity, self._header.identity)
        if difference is None:
            return
        if self.path.stat().st_size == len(first):  # of a call that predicted nothing
            self._write_header()
            self._read = self.path.stat().st_size
            return
        key, was, now = difference
        raise InputError(f"{self.folder}: holds predictions of something else ({key} is {was}, here {now}); {_REMEDY}")


def _content(images: Sequence[ImageFile]) -> list[tuple[int | None, int | None]]:
    return [image.content for image in images]


def _paths(images: Sequence[ImageFile]) -> list[str]:
    return [image.path for image in images]
