"""A GPU that one worker at a time has to itself."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.machine.gpu import uuid_of

# Not TMPDIR, which is another folder for every worker, nor a home, which a container may lack or share with other
# machines. Memory comes last: some containers have none.
_SHARED = ("/tmp", "/var/tmp", "/dev/shm")


@contextmanager
def to_itself(device: str) -> Iterator[None]:
    """Wait until no other process of this user holds the GPU, and hold it; a CPU is not held.

    cuDNN, Inductor, TensorRT and ONNX Runtime choose kernels by timing them while they build. Work of another worker on
    the same GPU would have them choose others.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``; ``cuda`` is ``cuda:0``.
    """
    if not device.startswith("cuda"):
        yield
        return
    from filelock import FileLock

    with FileLock(lock_file(device)):
        yield


def lock_file(device: str) -> Path:
    """The file that whoever holds this CUDA device has locked: one for each GPU, whatever its number in a process."""
    name = uuid_of(device) or "cuda-" + (re.sub(r"\D", "", device) or "0")
    folder = next((each for each in _SHARED if os.access(each, os.W_OK | os.X_OK)), tempfile.gettempdir())
    return Path(folder) / f"voxbench-{os.getuid()}-{name}.lock"
