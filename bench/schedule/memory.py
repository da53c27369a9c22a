"""Whether another worker fits beside those that are open."""

import psutil

_LEAST_RESERVE = 2**30  # bytes


def machine() -> tuple[int, int]:
    """Bytes of memory that can be had now without swapping, and of all."""
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def fits(need: int, available: int, total: int) -> bool:
    """Whether `need` bytes leave a reserve of a tenth of all memory, and of 1 GiB at least."""
    return available >= need + max(total // 10, _LEAST_RESERVE)
