"""Warming a backend up: until its times no longer fall, by a stated rule rather than a count."""

import statistics
import time
from collections.abc import Callable

LEAST, MOST = 3, 20  # passes
MOST_S = 20.0
WINDOW = 3  # passes in each of the two medians
TOLERANCE = 0.03  # of the earlier median


def warm_up(one_pass: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Repeat `one_pass`, which waits for the device, until the medians of the last 3 and of the 3 before are 3 % apart.

    At least 3 passes are made, and then no more than fit into 20 passes and 20 s. The very first pass of a backend
    belongs to its build and not in here: engines may compile in it.

    Returns:
        ``passes``, ``seconds``, and ``stable``: 1 where the rule was met, else 0.
    """
    times: list[float] = []
    begin = clock()
    while len(times) < LEAST or not (stable(times) or len(times) == MOST or clock() - begin >= MOST_S):
        start = clock()
        one_pass()
        times.append(clock() - start)
    return {"passes": len(times), "seconds": clock() - begin, "stable": float(stable(times))}


def stable(times: list[float]) -> bool:
    """Whether the last times are those of before, within the tolerance."""
    if len(times) < 2 * WINDOW:
        return False
    before, last = statistics.median(times[-2 * WINDOW : -WINDOW]), statistics.median(times[-WINDOW:])
    return abs(last - before) <= TOLERANCE * before
