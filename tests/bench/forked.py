"""Workers as forks of a process that has imported already what workers import.

A worker is a process all the same, which runs `bench.worker.server` with its own folder, variables and log, and which
a test may kill. Only its start is another, in hundredths of a second rather than in more than one of a core, it warms
a backend up by the least number of passes, and exports each network once (`shared_exports`). All tests have such but
for those with the fixture `started_workers`, where the start itself is asked about (`test_imports`,
`worker/test_process`, `worker/test_allocator`, `cli/commands/test_doctor`) or a GPU is used. And wherever `bench` is
called as a program its workers are those that users have: in whole runs and predictions that are interrupted and killed
(`end_to_end/test_run`, `predict/test_predict`), in the image (`test_container`) and in scripts, unless the test has the
fixture `quick_processes`.
"""

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import psutil

from bench.imports import HOME, LightImports, environment
from bench.worker import process, warmup

WORKER = "bench.worker.server"
PLACE = "VOXBENCH_TESTS_FORKS"  # a variable for `bench` as a program, whose workers shall be forks as well
# Not OpenVINO and ONNX Runtime, which start threads at once: a fork takes no other thread along.
_PRELOADED = (
    WORKER, "bench.peers.session", "bench.pipeline.stream", "bench.plan.calibration", "bench.worker.ensemble",
    "engines.pytorch.eager", "engines.rewrites", "models.load", "nibabel", "torch", "torch._dynamo",
    "torch.export._trace", "torch.onnx._internal.exporter._core", "onnx", "onnxscript",
)  # fmt: skip
_START = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.bench.forked import serve
del sys.path[0]
serve(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
"""


@contextlib.contextmanager
def forked_workers() -> Iterator[None]:
    """Within it `WorkerProcess` starts forks; on systems other than Linux, processes as ever."""
    popen = Forked if sys.platform == "linux" else subprocess.Popen
    ours = SimpleNamespace(**{**vars(subprocess), "Popen": popen})
    with patch.object(process, "subprocess", ours):
        yield


def running_workers() -> list[psutil.Process]:
    """Workers of this process, however they were started."""
    started = [child for child in psutil.Process().children() if _is_worker(child)]
    forks = psutil.Process(_ForkServer.instance.pid).children() if _ForkServer.instance else []
    return started + [fork for fork in forks if fork.status() != psutil.STATUS_ZOMBIE]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return WORKER in process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return False


def share_exports(folder: Path) -> None:
    """Have the forks from now on share what they export."""
    _ForkServer.exports = str(folder)


class Forked:
    """In the place of `subprocess.Popen`, as far as workers need it."""

    def __init__(self, command: list[str], *, pass_fds: list[int], stdout: Any, env: dict[str, str], **_: Any) -> None:
        assert command[-2] == WORKER, command
        self.returncode: int | None = None
        started = {"env": env, "folder": os.getcwd(), "cores": [*os.sched_getaffinity(0)]}  # noqa: PTH109
        self.pid = _ForkServer.get().ask(started, [*pass_fds, stdout.fileno()])

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(WORKER, timeout or 0)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _ForkServer.get().ask({"poll": self.pid})
        return self.returncode


def place_of_server() -> str:
    """Where other processes find the server of this one: the value for them of the variable `PLACE`."""
    return _ForkServer.get().place


class _ForkServer:
    """The process whose forks workers are, as this process sees it; started once, or found where `PLACE` says."""

    instance: "_ForkServer | None" = None
    exports = ""  # the folder of those that are shared; where there is none each worker exports for itself

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.place = os.environ.get(PLACE, "")
        if self.place:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.connect(f"\0{self.place}")
            self.pid = 0  # it is another's
        else:
            self._start()

    def _start(self) -> None:
        self.place = f"voxbench-tests-{os.getpid()}"  # without a file, and gone with the server
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        others = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        others.bind(f"\0{self.place}")
        others.listen()
        files = (theirs.fileno(), others.fileno())
        command = [sys.executable, "-P", "-c", _START, HOME, *map(str, files), self.exports]
        variables = environment() | {"OMP_NUM_THREADS": "1"}  # else NumPy starts threads
        variables.pop("PYTHONPATH", None)  # each worker has its own
        self._process = subprocess.Popen(
            command, pass_fds=files, stdin=subprocess.DEVNULL, env=variables, start_new_session=True
        )
        theirs.close()
        others.close()
        self.pid = self._process.pid
        atexit.register(self._end)

    @classmethod
    def get(cls) -> "_ForkServer":
        if cls.instance is None or not cls.instance._lives():
            cls.instance = cls()
        return cls.instance

    def _lives(self) -> bool:
        return self._process is None or self._process.poll() is None

    def ask(self, request: dict[str, Any], files: list[int] | None = None) -> Any:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files or [])
            return json.loads(self._socket.recv(100))

    def _end(self) -> None:
        self._socket.close()
        assert self._process is not None
        self._process.wait()


def serve(number: int, listening: int, exports: str) -> None:
    """Fork a worker, or say how one has ended, for each request until the other side closes the socket."""
    harness, others = socket.socket(fileno=number), socket.socket(fileno=listening)
    asking = [harness, others]
    with LightImports():
        for name in _PRELOADED:
            __import__(name)
    if exports:
        from tests.bench.shared_exports import share

        share(Path(exports))
    gc.freeze()  # else each fork would copy what all share
    warmup.MOST = warmup.LEAST  # passes, in hundreds of workers; the rule has tests of its own
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lack the threads of a library"  # noqa: PTH208
    while True:
        for each in select.select(asking, [], [])[0]:
            if each is others:
                asking.append(others.accept()[0])
            elif not _answered(each, asking):
                if each is harness:
                    return
                asking.remove(each)
                each.close()


def _answered(asked: socket.socket, asking: list[socket.socket]) -> bool:
    """Whether there was a request, and not the end of the other side."""
    message, files, _, _ = socket.recv_fds(asked, 1 << 18, 2)
    if not message:
        return False
    request = json.loads(message)
    if "poll" in request:
        pid, status = os.waitpid(request["poll"], os.WNOHANG)
        reply = os.waitstatus_to_exitcode(status) if pid else None
    else:
        reply = os.fork()
        if reply == 0:
            for each in asking:
                each.close()
            _be_a_worker(*files, **request)
        with contextlib.suppress(OSError):  # it does so too: whoever is first
            os.setpgid(reply, reply)
        for file in files:
            os.close(file)
    with contextlib.suppress(BrokenPipeError):  # it was killed meanwhile
        asked.send(json.dumps(reply).encode())
    return True


def _be_a_worker(connection: int, log: int, env: dict[str, str], folder: str, cores: list[int]) -> None:
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.chdir(folder)
        os.sched_setaffinity(0, cores)
        os.environ.clear()
        os.environ.update(env)
        sys.path[:0] = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
        tempfile.tempdir = None
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.argv = ["-c", HOME, WORKER, str(connection)]
        from bench.worker import server

        server.main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
