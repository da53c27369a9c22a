"""Which backends say that they cannot run here, all asked in one process: one for each would take seconds to start."""

from collections.abc import Sequence
from contextlib import suppress

from bench.worker.messages import Open, OpenCommand
from bench.worker.process import CallError, WorkerLostError, WorkerProcess
from bench.worker.questions import probe
from engines.base import Availability


def unavailable(requests: Sequence[Open | OpenCommand], timeout_s: float) -> dict[str, Availability]:
    """The answers of those that cannot run, by name.

    Where the asking breaks, those that are left are not among them: to open them tells what broke.
    """
    backends = [request for request in requests if isinstance(request, Open)]
    absent = {request.name: request.incompatible for request in backends if request.incompatible is not None}
    asked = [request for request in backends if request.name not in absent]
    if len(asked) < 2:  # to open the one takes no longer
        return absent
    with WorkerProcess(asked[0].target.threads) as worker, suppress(WorkerLostError):
        for request in asked:
            with suppress(CallError):
                answer = worker.call(probe, request.name, request.backend, request.target, timeout_s=timeout_s)
                if not answer.ok:
                    absent[request.name] = answer
    return absent
