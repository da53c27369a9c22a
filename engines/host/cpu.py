"""The processor: its name, which instructions it has for a network's arithmetic, and what they mean for INT8."""

import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
# Linux's names of them: on x86 in the line "flags", on Arm in "Features".
_SETS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_fp16": "AVX-512 FP16",
    "amx_int8": "AMX INT8",
    "amx_bf16": "AMX BF16",
    "amx_fp16": "AMX FP16",
    "asimddp": "dot product",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
}


def processor() -> str:
    """Name of the processor, as the system reports it; empty where it does not."""
    return _field("model name") or platform.processor()


def instruction_sets() -> tuple[str, ...]:
    """Those that decide how fast FP32, BF16 and INT8 are, since one processor's name may stand for several of them.

    Empty where the system reports none.
    """
    flags = set(_field("flags", "Features").split())
    return tuple(name for flag, name in _SETS.items() if flag in flags)


def weight_bits() -> int:
    """The most bits that INT8 weights may take for sums to stay whole: 8, or 7 on x86 where no VNNI is reported.

    Without VNNI, x86 adds two products of an unsigned and a signed byte in 16 bits (``vpmaddubsw``) and cuts off the
    rest: 2 x 255 x 127 does not fit, 2 x 255 x 64 does. oneDNN, Nuances of int8 Computations:
    https://oneapi-src.github.io/oneDNN/dev_guide_int8_computations.html
    """
    vnni = "vnni" in _field("flags", "Features")
    return 7 if platform.machine() in ("x86_64", "AMD64") and not vnni else 8  # where nothing is reported, 7 are safe


def _field(*names: str) -> str:
    """What the system reports of the first processor under one of these names."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), "")
