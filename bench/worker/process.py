"""A worker seen from the harness: start it, ask it, notice when it dies or hangs."""

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

from bench.imports import HOME, environment
from bench.machine.process_tree import kill_descendants
from bench.worker.messages import Broke, Call
from models.user_code.isolation import our_names

T = TypeVar("T")

# A process that is waited for without an end can hold its harness up for ever: so it was seen once, in an actor of Ray.
_KILLS, _DEATH_S = 6, 10.0

# The current folder is not on the path (-P), and ours is while `bench` is imported, which then finds its own modules.
_START = """
import sys
sys.path.insert(0, sys.argv[1])
import bench
del sys.path[0]
from importlib import import_module
import_module(sys.argv[2]).main()
"""

# Idle workers share the machine with the one that is being timed. Intel's OpenMP would spin for 0.2 s after a region;
# GNU's, which PyTorch's wheels bring, sleeps after milliseconds and is left as everybody has it: set to sleep at once
# (OMP_WAIT_POLICY=PASSIVE) it made the baseline slower and OpenVINO faster (docs/explanation/baseline.md).
_PARKED = {"KMP_BLOCKTIME": "0"}


def _places(temporary: str) -> dict[str, str]:
    """Variables for libraries that break where a place is missing.

    Native code asks TMPDIR and looks no further, as Python does; and in a container a user may be a mere number,
    without a name and a home.
    """
    try:
        Path.home(), getpass.getuser()
    except (KeyError, OSError, RuntimeError):
        return {"TMPDIR": temporary, "HOME": os.environ.get("HOME") or temporary, "USER": str(os.getuid())}
    return {"TMPDIR": temporary}


class WorkerError(Exception):
    """A worker did not do what it was asked. The message is one line; its log holds the rest."""


class WorkerLostError(WorkerError):
    """The process died or hung."""


class CallError(WorkerError):
    """The function that it was to call raised an exception; the process lives on."""


class WorkerProcess:
    """A running ``bench.worker.server``, stopped where its context ends; stdout and stderr go to `log`."""

    def __init__(self, threads: int, log: Path = Path(os.devnull)) -> None:
        # Of its own, since it is killed in the end and leaves there what it would have deleted.
        self._temporary = tempfile.TemporaryDirectory(prefix="voxbench-", ignore_cleanup_errors=True)
        ours, theirs = socket.socketpair()
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, HOME, "bench.worker.server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment(), **_places(self._temporary.name), **_PARKED, "OMP_NUM_THREADS": str(threads)},
                start_new_session=True,  # an interrupt in the terminal is for the harness, and helpers die with it
            )
        theirs.close()
        self._connection = Connection(ours.detach())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def connection(self) -> Connection:
        """To wait for: it can be read once the process has replied or is gone."""
        return self._connection

    def memory_bytes(self) -> int:
        """Its resident memory; 0 where it is gone."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def ask(
        self, request: Any, timeout_s: float, meanwhile: Callable[[], None] | None = None, every_s: float = 0.1
    ) -> Any:
        """Send a request and wait for its reply; call `meanwhile` each time that `every_s` seconds have gone by.

        Raises:
            WorkerLostError: no reply came.
        """
        self.send(request)
        return self.receive(timeout_s, meanwhile, every_s)

    def send(self, request: Any) -> None:
        """Send a request, whose reply is still to be received.

        Raises:
            WorkerLostError: the process is gone.
        """
        with self._alive(), our_names():  # also while a network of the user's code is loaded here
            self._connection.send(request)

    def receive(self, timeout_s: float, meanwhile: Callable[[], None] | None = None, every_s: float = 0.1) -> Any:
        """Wait for the reply to the request that was sent last; `meanwhile` as of `ask`.

        Raises:
            WorkerLostError: none came.
        """
        if not self._wait(timeout_s, meanwhile, every_s):
            raise self.given_up(timeout_s)
        with self._alive(), our_names():
            return self._connection.recv()

    def given_up(self, timeout_s: float) -> WorkerLostError:
        """Stop the process, which did not reply within so many seconds; returned is what to raise."""
        self.stop()
        return WorkerLostError(f"no answer within {timeout_s:g} s; it was stopped (--timeout gives it longer)")

    def call(
        self,
        function: Callable[..., T],
        *arguments: Any,
        timeout_s: float,
        meanwhile: Callable[[], None] | None = None,
    ) -> T:
        """What `function`, one of `bench.worker.questions`, returns when the worker calls it with `arguments`.

        Raises:
            CallError: it raised an exception.
            WorkerLostError: no reply came.
        """
        reply = self.ask(Call(function.__module__, function.__qualname__, arguments), timeout_s, meanwhile)
        if isinstance(reply, Broke):
            raise CallError(reply.reason)
        value: T = reply.value
        return value

    def _wait(self, timeout_s: float, meanwhile: Callable[[], None] | None, every_s: float) -> bool:
        if meanwhile is None:
            return self._poll(timeout_s)
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            if self._poll(min(left, every_s)):
                return True
            meanwhile()
        return self._poll(0)

    def _poll(self, timeout_s: float) -> bool:
        with self._alive():
            return self._connection.poll(timeout_s)

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        """Say how the process ended where its connection fails; `meanwhile` has connections of its own."""
        try:
            yield
        except (EOFError, ConnectionError):
            raise WorkerLostError(self._epitaph()) from None

    def stop(self) -> None:
        """End the process and everything it started; harmless when it is gone already."""
        self._connection.close()
        for _ in range(_KILLS):
            kill_descendants(self._process.pid)  # also those that left its group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_DEATH_S)
                break
        self._temporary.cleanup()

    def _epitaph(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "the worker closed its connection"
        if code >= 0:
            return f"the worker exited with status {code}"
        name = signal.Signals(-code).name
        hint = "; most often the system ran out of memory" if -code == signal.SIGKILL else ""
        return f"the worker was killed by {name}{hint}"
