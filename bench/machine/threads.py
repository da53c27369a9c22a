"""PyTorch's threads beside an engine that has threads of its own.

After each operation they wait for the next one in a loop, with libgomp's defaults for milliseconds. On as many cores as
threads the engine's next pass begins beside them: of a small network that took a tenth of OpenVINO's time
(`scripts/benchmark_threads.py`). How many there are holds for the thread that sets it, and for those that begin later.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_BEFORE = ContextVar[int]("before", default=0)  # `one_thread`; 0 outside


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it PyTorch computes in the thread that calls it."""
    before = torch.get_num_threads()
    outer = _BEFORE.set(before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _BEFORE.reset(outer)


@contextmanager
def all_threads() -> Iterator[None]:
    """For work within `one_thread` that is worth them: as many as before it."""
    if not _BEFORE.get():
        yield
        return
    torch.set_num_threads(_BEFORE.get())
    try:
        yield
    finally:
        torch.set_num_threads(1)
