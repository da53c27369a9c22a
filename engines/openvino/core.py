"""The OpenVINO core of this process."""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino


@functools.cache
def core() -> "openvino.Core":
    """The one core, which is never destroyed.

    With the first network for the CPU a core gives the calling thread another stack for its signals, and frees it when
    it is destroyed, by whatever thread and in whatever order. A signal to the first thread was a segmentation fault
    afterwards (OpenVINO 2026.4.1).
    """
    import openvino

    return openvino.Core()
