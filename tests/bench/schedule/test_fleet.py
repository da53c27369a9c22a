"""How long a build may take, which on a GPU begins once it has the GPU."""

import threading
import time
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.schedule import fleet
from bench.schedule.fleet import Fleet
from bench.worker.messages import Broke, Built, HasDevice, Open

TIMEOUT_S, BUILD_S = 1.5, 0.5
GIB = 2**30


class Queued:
    """A worker whose build waits for the only GPU, takes its time, and may hang."""

    gpu = threading.Lock()

    def __init__(self, *_: object) -> None:
        self.connection, self._far = Pipe()

    def send(self, request: Open) -> None:
        threading.Thread(target=self._build, args=(request.name,), daemon=True).start()

    def _build(self, name: str) -> None:
        with self.gpu:
            self._far.send(HasDevice())
            if name == "stuck":
                time.sleep(2 * TIMEOUT_S)  # until it is killed, which frees the GPU
                return
            time.sleep(BUILD_S)
            self._far.send(Built(BUILD_S, 1, None))

    def receive(self, _: float) -> object:
        return self.connection.recv()

    def given_up(self, timeout_s: float) -> str:
        return f"no answer within {timeout_s:g} s"

    def memory_bytes(self) -> int:
        return 1


class Idle(Queued):
    """Is built at once, and has half a GiB."""

    def _build(self, _: str) -> None:
        self._far.send(Built(0.0, GIB // 2, None))

    def memory_bytes(self) -> int:
        return GIB // 2


@pytest.mark.parametrize("stuck", [False, True])
def test_builds_that_wait_for_a_gpu_have_their_whole_time_once_they_have_it(monkeypatch, stuck):
    monkeypatch.setattr(fleet, "WorkerProcess", Queued)
    workers, names = Fleet((), lambda _: Path("/dev/null"), TIMEOUT_S), ["a", "b", "c", "d"]
    for name in [*(["stuck"] if stuck else []), *names]:
        target = SimpleNamespace(threads=1, on_cuda=True)
        workers.begin(Open(name, SimpleNamespace(), Path(), None, None, target, None))
        time.sleep(0.02)  # so that they queue in this order
    replies = {}
    while workers.building:
        name, replies[name] = workers.built()
    assert {name: replies[name] for name in names} == dict.fromkeys(names, Built(BUILD_S, 1, None))
    assert replies.get("stuck") == (Broke(f"no answer within {TIMEOUT_S:g} s") if stuck else None)


@pytest.mark.parametrize(("keeps", "fit"), [(True, 4), (False, 10)])
def test_workers_that_keep_the_memory_of_a_case_are_counted_with_it(monkeypatch, keeps, fit):
    """On 16 GiB, each takes 0.5 GiB when it is built and 3 GiB more in its largest case."""
    monkeypatch.setattr(fleet, "largest_case", lambda *_: ("largest", 3 * GIB))
    workers = Fleet((), lambda _: Path("/dev/null"), TIMEOUT_S)
    target = SimpleNamespace(threads=1, on_cuda=False)
    monkeypatch.setattr(fleet, "WorkerProcess", Idle)
    opened = 0
    monkeypatch.setattr(fleet.host, "memory", lambda: (16 * GIB - opened * GIB // 2, 16 * GIB))
    for number in range(10):
        request = Open(f"{number}", SimpleNamespace(), Path(), None, None, target, None, keep_memory=keeps)
        if opened and not workers.has_room(request):
            break
        workers.begin(request)
        workers.built()
        opened += 1
    assert opened == fit


def test_a_gpu_is_counted_once_something_is_built_there(monkeypatch):
    """Of 80 GiB each build takes 20, as each says before any is warmed up; a tenth is kept free."""
    built = 0

    class OnGpu(Idle):
        def _build(self, _: str) -> None:
            self._far.send(Built(0.0, 20 * GIB, ((80 - 20 * (built + 1)) * GIB, 80 * GIB)))

    monkeypatch.setattr(fleet, "WorkerProcess", OnGpu)
    monkeypatch.setattr(fleet.host, "memory", lambda: (1000 * GIB, 1000 * GIB))
    workers = Fleet((), lambda _: Path("/dev/null"), TIMEOUT_S)
    target = SimpleNamespace(threads=1, on_cuda=True)
    for number in range(10):
        request = Open(f"{number}", SimpleNamespace(), Path(), None, None, target, None)
        if built and not workers.has_room(request):
            break
        workers.begin(request)
        workers.built()
        built += 1
    assert built == 3
