"""One backend in a process of its own: what runs inside it, and the messages it exchanges with the harness.

Started as ``python -m bench.worker FD``, FD being its end of a socket pair. It answers every request with one
reply and ends when the other side closes the socket.
"""

import os
import signal
import sys
import time
import traceback
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import engines
from bench.measure import peak_resident_bytes
from engines import Backend
from engines.base import Availability, Session, Target

if TYPE_CHECKING:
    from bench.pipeline.pipeline import Outcome, Pipeline, Recipe

WARM_UP_PASSES = 3


@dataclass(frozen=True)
class Open:
    """Build this backend."""

    name: str
    backend: Backend
    checkpoint: Path
    widen_to: int | None
    target: Target
    recipe: "Recipe"


@dataclass(frozen=True)
class Probe:
    """Say whether this backend could be built."""

    name: str
    backend: Backend
    target: Target


@dataclass(frozen=True)
class Opened:
    """It is built, warmed up, and what ran is what its name says."""

    build_s: float
    cached: bool
    evidence: dict[str, Any]
    peak_memory_bytes: int


@dataclass(frozen=True)
class Predict:
    """Run this case."""

    image: Path
    mask: Path


@dataclass(frozen=True)
class Predicted:
    """The case was run; `cpu_ns` is the processor time of all threads meanwhile."""

    outcome: "Outcome"
    started_unix_s: float
    cpu_ns: int
    peak_memory_bytes: int


@dataclass(frozen=True)
class Broke:
    """An exception ended the request; its traceback is in the worker's log."""

    reason: str


class _Server:
    """Holds the open session between requests."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._pipeline: Pipeline | None = None
        self._device = "cpu"

    def answer(self, request: Open | Probe | Predict) -> Opened | Availability | Predicted | Broke:
        try:
            match request:
                case Open():
                    return self._open(request)
                case Probe():
                    return engines.load(request.name, request.backend).probe(request.target)
                case Predict():
                    return self._predict(request)
        except Exception as error:  # whatever a runtime raises costs this backend's row, not the run
            traceback.print_exc()
            return Broke(_one_line(error))

    def _open(self, request: Open) -> Opened | Availability | Broke:
        engine = engines.load(request.name, request.backend)
        available = engine.probe(request.target)
        if not available.ok:
            return available
        # Only now, so that a backend that cannot run here is skipped in no time.
        import torch

        from bench.pipeline.pipeline import Pipeline
        from models.architecture import load_model

        torch.set_num_threads(request.target.threads)
        torch.manual_seed(0)
        model, _ = load_model(request.checkpoint, request.widen_to)
        self._device = request.target.device
        x = torch.rand(request.target.batch, 1, *request.target.tile).to(self._device)
        start = time.perf_counter()
        session = self._stack.enter_context(engine.open(model, request.target))
        _pass(session, x)
        build_s = time.perf_counter() - start
        for _ in range(WARM_UP_PASSES - 1):
            _pass(session, x)
        evidence = session.evidence()
        wrong = engines.contradiction(request.backend, request.target, evidence)
        if wrong is not None:
            return Broke(wrong)
        self._pipeline = Pipeline(session, request.recipe, self._device)
        return Opened(build_s, bool(evidence.details.get("cached")), asdict(evidence), self._peak_memory())

    def _predict(self, request: Predict) -> Predicted:
        assert self._pipeline is not None, "Predict before Open"
        started, cpu = time.time(), time.process_time_ns()
        outcome = self._pipeline.run(request.image, request.mask)
        return Predicted(outcome, started, time.process_time_ns() - cpu, self._peak_memory())

    def _peak_memory(self) -> int:
        if self._device == "cpu":
            return peak_resident_bytes()
        import torch

        return int(torch.cuda.max_memory_reserved(self._device))


def _pass(session: Session, x: Any) -> None:
    import torch

    with torch.inference_mode():
        session.infer(x)
    session.sync()


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    name = type(error).__name__
    return text if name == "EngineError" and text else f"{name}: {text}" if text else name


def main() -> None:
    """Serve requests until the harness closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the harness decides what an interrupt ends
    with Connection(int(sys.argv[1])) as harness, ExitStack() as stack:
        server = _Server(stack)
        while True:
            try:
                request = harness.recv()
            except EOFError:
                break
            try:
                harness.send(server.answer(request))
            except BrokenPipeError:
                break
    sys.stderr.flush()
    os._exit(0)  # runtimes' threads and exit handlers have nothing to add, and some hang


if __name__ == "__main__":
    # Run under its importable name, so that the classes here are those that the harness pickles.
    from bench.worker import main as _main

    _main()
