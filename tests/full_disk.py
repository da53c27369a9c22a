"""A disk on which a file cannot grow further."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def most_bytes_in_a_file(number: int) -> Iterator[None]:
    """Where a file must not grow further, a write stops midway and fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it, whatever a library has made of it
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler if handler is not None else signal.SIG_IGN)
