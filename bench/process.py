"""A worker seen from the harness: start it, ask it, notice when it dies or hangs."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Idle workers share the machine with the one that is being timed: their pools must sleep, not spin.
_PARKED = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


class WorkerLostError(Exception):
    """The worker broke, died or hung. The message is one line; its log holds the rest."""


class WorkerProcess:
    """A running ``bench.worker``; stdout and stderr go to `log`."""

    def __init__(self, log: Path, threads: int) -> None:
        ours, theirs = socket.socketpair()
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **_PARKED, "OMP_NUM_THREADS": str(threads)},
                start_new_session=True,  # an interrupt in the terminal is for the harness, and helpers die with it
            )
        theirs.close()
        self._connection = Connection(ours.detach())

    def ask(self, request: Any, timeout_s: float) -> Any:
        """Send a request and wait for its reply.

        Raises:
            WorkerLostError: no reply came.
        """
        try:
            self._connection.send(request)
            if not self._connection.poll(timeout_s):
                self.stop()
                raise WorkerLostError(f"no answer within {timeout_s:g} s; it was stopped (--timeout gives it longer)")
            return self._connection.recv()
        except (EOFError, ConnectionError):
            raise WorkerLostError(self._epitaph()) from None

    def stop(self) -> None:
        """End the process and everything it started; harmless when it is gone already."""
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

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
