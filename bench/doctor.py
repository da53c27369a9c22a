"""Which backends can run here. Each is asked in a worker, since a broken installation can take its process along."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import engines
from bench import host
from bench.cache import cache_folder
from bench.process import WorkerLostError, WorkerProcess
from bench.worker import Broke, Probe
from engines.base import Availability, Calibration, Target

if TYPE_CHECKING:
    from torch import Tensor

_TIMEOUT_S = 120.0


def examine(device: str) -> dict[str, Availability]:
    """Ask every backend whether it can run on `device`."""
    # Whether a data folder has training cases is not the machine's matter: assume them.
    calibration = Calibration(tiles=_no_tiles, sha256="")
    target = Target(device, (64, 64, 64), 1, host.physical_threads(), cache_folder(), calibration)
    found: dict[str, Availability] = {}
    worker = WorkerProcess(Path(os.devnull), target.threads)
    try:
        for name, backend in engines.BACKENDS.items():
            try:
                reply = worker.ask(Probe(name, backend, target), _TIMEOUT_S)
            except WorkerLostError as lost:
                reply = Broke(f"its runtime broke when asked ({lost})")
                worker.stop()
                worker = WorkerProcess(Path(os.devnull), target.threads)
            if isinstance(reply, Broke):
                reply = Availability(False, reply.reason, "reinstall its packages")
            found[name] = reply
    finally:
        worker.stop()
    return found


def _no_tiles() -> "Tensor":
    raise AssertionError("a probe reads no tiles")
