"""`bench run` within this process, its workers as forks of it: what they import is imported already.

A worker is a process all the same, which runs `bench.worker.server`. Only its start is another, in hundredths of a
second rather than in seconds.
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nibabel as nib

from bench import run as bench_run
from bench.cli.main import main
from bench.schedule.limits import DEFAULT
from bench.worker import process


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and all that it printed."""

    code: int
    out: str
    err: str

    @property
    def printed(self) -> str:
        return self.out + self.err


def bench(*arguments: str) -> Ended:
    """Call `bench` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    for handler in nib.imageglobals.logger.handlers:
        handler.setStream(err)  # what nibabel logs goes to stderr
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(arguments))
        except SystemExit as error:  # argparse's
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
            code = 1
    return Ended(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def small_runs(fork: bool = True) -> Iterator[None]:
    """Within it runs are as short as they can be, and workers forks where `fork` says so."""
    limits = replace(DEFAULT, launches=1, peak=False, confirmation=False)
    with (
        patch.object(bench_run, "run", partial(bench_run.run, limits=limits)),
        patch.object(process.subprocess, "Popen", Forked) if fork else contextlib.nullcontext(),
    ):
        yield


class Forked:
    """In the place of `subprocess.Popen`, for workers; any other program is started as ever."""

    def __new__(cls, command: list[str], **options: Any) -> Any:
        return object.__new__(cls) if "bench.worker.server" in command else _POPEN(command, **options)

    def __init__(self, command: list[str], *, pass_fds: list[int], stdout: Any, env: dict[str, str], **_: Any) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _be_a_worker(pass_fds[0], stdout.fileno(), env)
            except BaseException:
                traceback.print_exc(file=sys.__stderr__)
            finally:
                os._exit(1)
        with contextlib.suppress(OSError):  # it does so too: whoever is first
            os.setpgid(self.pid, self.pid)

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            else:
                time.sleep(0.005)
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None


_POPEN = subprocess.Popen


def _be_a_worker(connection: int, log: int, env: dict[str, str]) -> None:
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, connection)
    os.closerange(connection + 1, 1024)
    os.environ.clear()
    os.environ.update(env)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = ["bench.worker.server", str(connection)]
    from bench.worker import server

    server.main()


def preload() -> None:
    """Import what workers import, and compute with one thread from now on: a fork takes no other thread along."""
    import torch

    torch.set_num_threads(1)
    for name in (
        "bench.worker.server",
        "bench.peers.session",
        "engines.rewrites",
        "models.load",
        "engines.pytorch.session",
    ):
        __import__(name)


def runs_folder(folder: Path) -> None:
    """Work in `folder`, caches included."""
    os.chdir(folder)
    os.environ["VOXBENCH_CACHE"] = str(folder / "cache")
