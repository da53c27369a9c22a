"""A fixed piece of work, again and again: its times show how steady the machine is."""

import time

_SIDE = 1024  # of the matrices: 2.1 GFLOP a product, tens of milliseconds on one thread
_FIRST = 3  # products that warm up


def repeat(seconds: float) -> list[int]:
    """Nanoseconds of each product of two matrices that fits into `seconds`, by NumPy on the threads it was given."""
    import numpy as np

    a, b = np.random.default_rng(0).random((2, _SIDE, _SIDE), dtype=np.float32)
    times: list[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < _FIRST + 2:
        start = time.perf_counter_ns()
        a @ b
        times.append(time.perf_counter_ns() - start)
    return times[_FIRST:]
