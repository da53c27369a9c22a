"""Which backends say that they cannot run here, all asked in one process: one for each would take seconds to start."""

import os
from collections.abc import Sequence
from pathlib import Path

from bench.worker.messages import Open, Probe
from bench.worker.process import WorkerLostError, WorkerProcess
from engines.base import Availability


def unavailable(requests: Sequence[Open], timeout_s: float) -> dict[str, Availability]:
    """The answers of those that cannot run, by name.

    Where the asking breaks, those that are left are not among them: to open them tells what broke.
    """
    found = {request.name: request.unfit for request in requests if request.unfit is not None}
    asked = [request for request in requests if request.unfit is None]
    if len(asked) < 2:  # to open the one takes no longer
        return found
    worker = WorkerProcess(Path(os.devnull), asked[0].target.threads)
    try:
        for request in asked:
            reply = worker.ask(Probe(request.name, request.backend, request.target), timeout_s)
            if isinstance(reply, Availability) and not reply.ok:
                found[request.name] = reply
    except WorkerLostError:
        pass
    finally:
        worker.stop()
    return found
