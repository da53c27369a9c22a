"""Calls an own command, in a worker of its own below which everything stays that the command starts.

The clock runs from the call to the end of the command's own process, or to the line with which a server says that a
mask is on disk. What is left of a process that has ended is killed then, and a server with all that is below it where
its worker ends. A command that takes too long is killed with all that it has started, and so it is where the harness is
gone.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.commands.class_file import ClassFile
from bench.commands.command import Command, filled, with_values
from bench.errors import CommandError, InputError
from bench.machine.process_tree import keep_orphans, kill_descendants, reap
from reports.records.record import CASE, FOLDER, SERVER

_EVERY_S = 0.1  # the deadline is looked at


@dataclass(frozen=True)
class CommandCase:
    """A case for a command: its name, the files of its channels, and where its mask goes."""

    name: str
    images: tuple[Path, ...]
    mask: Path


@dataclass(frozen=True)
class Ran:
    """How long a call took, and the class of each of its cases; None where the command gives none."""

    ns: int
    classes: dict[str, int | None]


class Runner(ABC):
    """Calls a command in one of its modes."""

    def __init__(self, command: Command) -> None:
        self._command = command

    @abstractmethod
    def run(self, cases: Sequence[CommandCase], folder: Path) -> Ran:
        """Have the command predict `cases`, a single one unless its mode is `FOLDER`, and time it.

        `folder` is for the links to the images of a call, and for its masks.

        Raises:
            CommandError: it failed, took too long, or wrote no mask or no class.
        """

    def _start(self, arguments: Sequence[str], **streams: Any) -> "subprocess.Popen[bytes]":
        """What it prints goes where this process prints, which is the variant's log."""
        try:
            return subprocess.Popen(
                arguments, cwd=self._command.record.folder, env=dict(self._command.environment), **streams
            )
        except OSError as error:
            raise CommandError(f"it cannot be started: {arguments[0]}: {error.strerror}") from None

    def _call(self, arguments: Sequence[str], timeout_s: float) -> int:
        """Nanoseconds that a process of its own took from its start to its end."""
        with Deadline(timeout_s) as deadline:
            start = time.perf_counter_ns()
            process = self._start(arguments, stdin=subprocess.DEVNULL)
            status = process.wait()
            ns = time.perf_counter_ns() - start
        kill_descendants(os.getpid())
        reap()
        deadline.refuse_passed()
        if status:
            raise CommandError(_ending(status))
        return ns

    def _class_file(self, mask: Path, masks: Path) -> ClassFile | None:
        named = self._command.record.classes
        if not named:
            return None
        path = Path(self._command.record.folder) / with_values(named, {"mask": str(mask), "masks_dir": str(masks)})
        return ClassFile(path, self._command.class_names)


class CaseRunner(Runner):
    """A process for each case, from its start to its end."""

    def run(self, cases: Sequence[CommandCase], folder: Path) -> Ran:
        (case,) = cases
        with _named(case.name):
            case.mask.unlink(missing_ok=True)
            class_file = self._class_file(case.mask, folder)
            arguments = filled(self._command.arguments, case.images, case.mask)
            ns = self._call(arguments, self._command.timeout_s)
            _refuse_missing(case.mask)
            return Ran(ns, class_file.read([case.name]) if class_file else {case.name: None})


class ServerRunner(Runner):
    """A process that is started once; the clock runs from a line to the line that answers it."""

    def __init__(self, command: Command) -> None:
        super().__init__(command)
        self._process = self._start(command.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._unread = b""

    def run(self, cases: Sequence[CommandCase], folder: Path) -> Ran:
        (case,) = cases
        with _named(case.name):
            case.mask.unlink(missing_ok=True)
            class_file = self._class_file(case.mask, folder)
            self._refuse_unasked()
            question = json.dumps({"images": list(map(str, case.images)), "mask": str(case.mask)})
            with Deadline(self._command.timeout_s) as deadline:
                start = time.perf_counter_ns()
                self._write(question)
                answer = self._answer()
                ns = time.perf_counter_ns() - start
            deadline.refuse_passed()
            if answer is None:
                raise CommandError(f"{_ending(self._process.wait())} before it answered")
            if "error" in answer:
                raise CommandError(f"it answers with an error: {_one_line(answer['error'])}")
            _refuse_missing(case.mask)
            if class_file:
                return Ran(ns, class_file.read([case.name]))
            return Ran(ns, {case.name: self._class_of(answer.get("class"), case.name)})

    def _class_of(self, value: Any, case: str) -> int | None:
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        from bench.data.class_table import class_of  # as in `class_file`

        try:
            return class_of(value, case, "its answer", self._command.class_names)
        except InputError as error:
            raise CommandError(str(error)) from None

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, which reading will show

    def _refuse_unasked(self) -> None:
        """Take in what it has printed since its last answer, among which there must be none: it would be the next."""
        assert self._process.stdout is not None
        while select.select([self._process.stdout], [], [], 0)[0]:
            part = os.read(self._process.stdout.fileno(), 2**16)
            if not part:
                break
            self._unread += part
        while b"\n" in self._unread:
            if self._parsed(self._next_line() or b"") is not None:
                raise CommandError("it has answered more often than it was asked")

    def _answer(self) -> dict[str, Any] | None:
        """Its next line that is a JSON object; None where it ends. Other lines are for the log."""
        while (line := self._next_line()) is not None:
            answer = self._parsed(line)
            if answer is not None:
                return answer
        return None

    def _next_line(self) -> bytes | None:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            part = os.read(self._process.stdout.fileno(), 2**16)
            if not part:
                return None
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    @staticmethod
    def _parsed(line: bytes) -> dict[str, Any] | None:
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        except RecursionError:
            raise CommandError("its answer is JSON nested too deeply to be read; answer with a flat object") from None
        if isinstance(answer, dict):
            return answer
        print(line.decode(errors="replace"), flush=True)
        return None


class FolderRunner(Runner):
    """A call over all cases, from the start of its process to its end."""

    def run(self, cases: Sequence[CommandCase], folder: Path) -> Ran:
        shutil.rmtree(folder, ignore_errors=True)
        images, masks = folder / "images", folder / "masks"
        images.mkdir(parents=True)
        masks.mkdir()
        for case in cases:
            _link(case, images)
        class_file = self._class_file(masks, masks)
        values = {"images_dir": str(images), "masks_dir": str(masks)}
        arguments = [with_values(argument, values) for argument in self._command.arguments]
        ns = self._call(arguments, self._command.timeout_s * len(cases))
        for case in cases:
            with _named(case.name):
                written = masks / case.mask.name
                _refuse_missing(written)
                written.replace(case.mask)
        names = [case.name for case in cases]
        classes: dict[str, int | None] = class_file.read(names) if class_file else dict.fromkeys(names)
        shutil.rmtree(folder, ignore_errors=True)
        return Ran(ns, classes)


_RUNNERS: dict[str, type[Runner]] = {CASE: CaseRunner, SERVER: ServerRunner, FOLDER: FolderRunner}


@contextmanager
def opened(command: Command) -> Iterator[Runner]:
    """The runner of a command, whose processes are all gone behind it.

    Raises:
        CommandError: it cannot be started.
    """
    keep_orphans()
    signal.signal(signal.SIGINT, lambda *_: None)  # one that is ignored would be ignored by the command too
    try:
        yield _RUNNERS[command.record.mode](command)
    finally:
        kill_descendants(os.getpid())
        reap()


class Deadline:
    """Within it everything below this process is killed once the time is over, or once nobody waits for it any more."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._passed = False
        self._parent = os.getppid()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def refuse_passed(self) -> None:
        """
        Raises:
            CommandError: the time was over.
        """
        if self._passed:
            raise CommandError(
                f"not done within {self._seconds:g} s; it was killed with all that it had started "
                "(--timeout gives it longer)"
            )

    def _watch(self) -> None:
        end = time.monotonic() + self._seconds
        while not self._over.wait(max(0.0, min(_EVERY_S, end - time.monotonic()))):
            self._passed = time.monotonic() >= end
            if self._passed or os.getppid() != self._parent:
                kill_descendants(os.getpid())
                return


@contextmanager
def _named(case: str) -> Iterator[None]:
    """Errors within it name the case."""
    try:
        yield
    except CommandError as error:
        raise CommandError(f"{case}: {error}") from None


def _refuse_missing(mask: Path) -> None:
    if not mask.is_file():
        raise CommandError(f"it wrote no mask, which should be {mask.name}")


def _link(case: CommandCase, folder: Path) -> None:
    """Its files under nnU-Net's names, ``NAME_0000.nii.gz``; the file of a MetaImage's voxels keeps its own."""
    from bench.data.formats import ending_of, files_of

    for number, image in enumerate(case.images):
        (folder / f"{case.name}_{number:04}{ending_of(image.name)}").symlink_to(image)
        for voxels in files_of(image)[1:]:
            (folder / voxels.name).symlink_to(voxels)


def _ending(status: int) -> str:
    if status >= 0:
        return f"it ended with exit status {status}"
    hint = "; most often the system ran out of memory" if -status == signal.SIGKILL else ""
    return f"it was killed by signal {-status} ({signal.strsignal(-status)}){hint}"


def _one_line(value: object) -> str:
    return " ".join(str(value).split())[:200]
