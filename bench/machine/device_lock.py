"""A GPU that one worker at a time has to itself."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def to_itself(device: str) -> Iterator[None]:
    """Wait until no other worker of this user holds the GPU, and hold it; a CPU is not held.

    cuDNN, Inductor, TensorRT and ONNX Runtime choose kernels by timing them while they build. Work of another worker on
    the same GPU would have them choose others.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``; ``cuda`` is ``cuda:0``.
    """
    if not device.startswith("cuda"):
        yield
        return
    from filelock import FileLock

    number = re.sub(r"\D", "", device) or "0"
    with FileLock(Path(tempfile.gettempdir()) / f"voxbench-{os.getuid()}-cuda-{number}.lock"):
        yield
