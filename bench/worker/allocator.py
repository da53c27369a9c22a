"""The C library's allocator: whether a worker keeps the memory that it frees, or gives it back to the system.

Glibc hands a large block back as soon as it is freed, and asks for it again at the next layer: the system clears and
maps each page anew, in every pass. That took a fifth of a pass of plain PyTorch, and how many pages it was differed
from process to process (docs/explanation/baseline.md). Runtimes with an arena of their own are spared it, and seem
faster by as much.
"""

import ctypes
import os

KEEP, SYSTEM = ALLOCATORS = ("keep", "system")

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)
_NEVER = -1  # as a size_t, more than there is


def can_keep() -> bool:
    """Whether this process's C library is glibc, the only one that is asked."""
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, OSError, ValueError):  # no confstr at all, or none that knows of glibc
        return False


def keep_freed() -> bool:
    """Have this process keep what it frees from now on, for the next one who asks; False where that was refused."""
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
