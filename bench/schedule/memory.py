"""Whether another worker fits beside those that are open."""

_LEAST_RESERVE = 2**30  # bytes


def fits(need: int, available: int, total: int) -> bool:
    """Whether `need` bytes leave a reserve of a tenth of all memory, and of 1 GiB at least."""
    return available >= need + max(total // 10, _LEAST_RESERVE)
