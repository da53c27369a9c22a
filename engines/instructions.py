"""What the processor's instructions mean for INT8."""

import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


def weight_bits() -> int:
    """The most bits that INT8 weights may take for sums to stay whole: 8, or 7 on x86 where no VNNI is told of.

    Without VNNI, x86 adds two products of an unsigned and a signed byte in 16 bits (``vpmaddubsw``) and cuts off the
    rest: 2 x 255 x 127 does not fit, 2 x 255 x 64 does. oneDNN, Nuances of int8 Computations:
    https://oneapi-src.github.io/oneDNN/dev_guide_int8_computations.html
    """
    return 7 if platform.machine() in ("x86_64", "AMD64") and not _has_vnni() else 8


def _has_vnni() -> bool:
    try:
        return "vnni" in CPU_INFO.read_text()
    except OSError:
        return False  # a system that does not tell: 7 bits are safe everywhere
