"""One backend in a process of its own: what runs inside it.

Started by `WorkerProcess`; its last argument is the descriptor of its end of a socket pair. It answers every request
with one reply and ends when the other side closes the socket.
"""

import errno
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import engines
from bench.errors import CommandError, StorageError
from bench.imports import LightImports
from bench.machine.clock import peak_resident_bytes, processor_ns
from bench.machine.device_lock import to_itself
from bench.machine.gpu import Meter
from bench.machine.process_tree import own_cpu_ns
from bench.worker import allocator
from bench.worker.messages import (
    BatchRan,
    Broke,
    Built,
    Call,
    CommandRan,
    HasDevice,
    MakeReady,
    Open,
    OpenCommand,
    Opened,
    Predict,
    PredictAll,
    PredictBatch,
    Predicted,
    PredictedAll,
    Reply,
    Request,
    Returned,
    RunCommand,
)
from bench.worker.warmup import warm_up
from engines.base import TORCH, Availability, Session
from engines.evidence.mac_counter import own_types
from engines.evidence.mismatch import evidence_mismatch
from engines.layers import Layer
from models.errors import kind_and_line, one_line
from models.user_code.isolation import OURS, our_names
from reports.records.record import CASE, FOLDER, SERVER

if TYPE_CHECKING:
    from bench.commands.runner import Runner
    from bench.pipeline.settings import CasePipeline

_CALLED = {
    CASE: "own command, a process for each case",
    SERVER: "own command, started once",
    FOLDER: "own command, one call for all cases",
}  # by its mode
_WORDED = ("EngineError", "NotFiniteError", "CommandError")  # errors whose message says it all
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class _Server:
    """Holds the open session between requests."""

    def __init__(self, stack: ExitStack, harness: Connection) -> None:
        self._stack = stack
        self._harness = harness
        self._pipeline: CasePipeline | None = None
        self._command: Runner | None = None
        self._warm_up: Callable[[], Opened | Broke] | None = None
        self._device = "cpu"
        self._meter = Meter()
        self._grown_by: int | None = None
        self._by_pytorch = False  # device memory is PyTorch's to give

    def answer(self, request: Request) -> Reply:
        try:
            match request:
                case Open():
                    return self._open(request)
                case MakeReady():
                    assert self._warm_up is not None, "MakeReady before Open"
                    return self._warm_up()
                case OpenCommand():
                    return self._open_command(request)
                case RunCommand():
                    return self._run_command(request)
                case Predict():
                    return self._predict(request)
                case PredictAll():
                    return self._predict_all(request)
                case PredictBatch():
                    return self._predict_batch(request)
                case Call():
                    return Returned(_call(request))
        except Exception as error:  # whatever a runtime raises costs this backend's row, not the run
            with suppress(OSError):  # the log is on the disk that may be full
                if isinstance(error, CommandError):  # the trace would be one of ours, and say nothing of the command
                    print(error, file=sys.stderr, flush=True)
                else:
                    traceback.print_exc()
            reason = one_line(error) if type(error).__name__ in _WORDED else kind_and_line(error)
            return Broke(reason, _no_room(error))

    def _open(self, request: Open) -> Opened | Built | Availability | Broke:
        if request.incompatible is not None:
            return request.incompatible
        engine = engines.load(request.name, request.backend)
        available = engine.probe(request.target)
        if not available.ok:
            return available
        if request.keep_memory and not allocator.keep_freed():
            return Broke("the C library does not let the process keep the memory that it frees; use --allocator system")
        # Only now, so that a backend that cannot run here is skipped in no time.
        with LightImports():
            import torch

            from bench.peers.session import case_pipeline
            from bench.worker.ensemble import open_all
            from bench.worker.networks import load_networks, prepare_device

        self._device = request.target.device
        self._by_pytorch = request.backend.runtime.providers == TORCH.providers  # also a peer's
        models = load_networks(request, self._stack)
        with to_itself(self._device):
            if not request.warm and request.target.on_cuda:
                self._harness.send(HasDevice())
            self._meter = Meter.of(self._device)
            used = self._meter.used_memory_bytes()  # before this process has a context there
            prepare_device(request, models[0], self._stack)
            layers = own_types(models[0], request.target)
            x = torch.rand(request.target.input_shape).to(self._device)
            start = time.perf_counter()
            session = self._stack.enter_context(
                open_all(engine, request.backend, models, request.target, request.settings.merged_apart > 1)
            )
            if request.cold:
                self._pipeline = case_pipeline(session, request.settings, self._device)
                return Opened(time.perf_counter() - start, False, {}, self._peak_memory(), {}, None)
            _pass(session, x)
            build_s = time.perf_counter() - start
            self._grown_by = self._since(used)
            self._pipeline = case_pipeline(session, request.settings, self._device)
            self._warm_up = partial(self._warmed_up, request, session, layers, partial(_pass, session, x), build_s)
            if request.warm:
                return self._warm_up()
            return Built(build_s, self._peak_memory(), self._meter.device_memory())

    def _since(self, used: int | None) -> int | None:
        """How far the device's memory in use has grown from `used`: this process's own while no other builds there.

        None where NVML does not say, or where something else has freed more meanwhile.
        """
        now = self._meter.used_memory_bytes()
        return None if used is None or now is None or now <= used else now - used

    def _warmed_up(
        self,
        request: Open,
        session: Session,
        layers: Sequence[Layer],
        one_pass: Callable[[], None],
        build_s: float,
    ) -> Opened | Broke:
        """Warm up what is built, and say what ran."""
        warmup = warm_up(one_pass)
        evidence = session.evidence()
        wrong = evidence_mismatch(request.backend, request.target, evidence, layers)
        if wrong is not None:
            return Broke(wrong)
        cached, peak, memory = bool(evidence.details.get("cached")), self._peak_memory(), self._meter.device_memory()
        return Opened(build_s, cached, asdict(evidence), peak, warmup, memory)

    def _open_command(self, request: OpenCommand) -> Opened:
        from bench.commands.runner import opened  # without PyTorch, since commands are launched often

        record = request.command.record
        self._command = self._stack.enter_context(opened(request.command))
        details = {"command": record.line, "mode": record.mode, "classes": record.classes}
        evidence = {"provider": _CALLED[record.mode], "mac_share": {}, "details": details}
        return Opened(None, False, evidence, None, {}, None)

    def _run_command(self, request: RunCommand) -> CommandRan:
        assert self._command is not None, "RunCommand before OpenCommand"
        started, cpu_ns = time.time(), own_cpu_ns()
        ran = self._command.run(request.cases, request.folder)
        return CommandRan(ran.ns, ran.classes, started, max(0, own_cpu_ns() - cpu_ns))

    def _predict(self, request: Predict) -> Predicted:
        assert self._pipeline is not None, "Predict before Open"
        self._meter.start()
        started, cpu = time.time(), processor_ns()
        timing = self._pipeline.run(request.images, request.mask)
        cpu_ns = processor_ns() - cpu
        return Predicted(timing, started, cpu_ns, self._peak_memory(), self._meter.state())

    def _predict_all(self, request: PredictAll) -> PredictedAll:
        from bench.pipeline.pipeline import Pipeline
        from bench.pipeline.stream import Stream

        assert isinstance(self._pipeline, Pipeline), "PredictAll before Open, or to a peer"
        cpu = time.process_time_ns()
        streamed = Stream(self._pipeline, request.read_ahead).run(request.cases)
        return PredictedAll(streamed, time.process_time_ns() - cpu, self._peak_memory())

    def _predict_batch(self, request: PredictBatch) -> BatchRan:
        from bench.pipeline.pipeline import Pipeline
        from bench.worker.batch import run_batch

        assert isinstance(self._pipeline, Pipeline), "PredictBatch before Open, or to a peer"
        run_batch(self._pipeline, request, self._harness)
        return BatchRan(self._peak_memory())

    def _peak_memory(self) -> int | None:
        """On a GPU of the device's memory; None where NVML shows none, and a library other than PyTorch takes it."""
        if self._device == "cpu":
            return peak_resident_bytes()
        import torch

        by_nvml = self._meter.process_memory_bytes() or self._grown_by
        if by_nvml is None and not self._by_pytorch:
            return None
        return max(by_nvml or 0, int(torch.cuda.max_memory_reserved(self._device)))


def _call(request: Call) -> Any:
    if request.module.partition(".")[0] not in OURS:
        raise ValueError(f"only functions of ours are called, not {request.module}.{request.function}")
    with our_names():  # also while a network of the user's code is open
        function = getattr(import_module(request.module), request.function)
    return function(*request.arguments)


def _pass(session: Session, x: Any) -> None:
    import torch

    with torch.inference_mode():
        session.infer(x)
    session.sync()


def _no_room(error: BaseException) -> bool:
    return isinstance(error, StorageError) or (isinstance(error, OSError) and error.errno in _NO_ROOM)


def main() -> None:
    """Serve requests until the harness closes its end."""
    faulthandler.enable()  # a crash in a runtime leaves its place in the log
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the harness decides what an interrupt ends
    with Connection(int(sys.argv[-1])) as harness, ExitStack() as stack:
        server = _Server(stack, harness)
        while True:
            try:
                with our_names(), LightImports():  # whose classes need libraries
                    request = harness.recv()
            except EOFError:
                break
            reply = server.answer(request)
            try:
                with our_names():
                    harness.send(reply)
            except BrokenPipeError:
                break
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(0)  # runtimes' threads and exit handlers have nothing to add, and some hang
