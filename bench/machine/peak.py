"""The fastest that a device multiplies matrices, by precision, and moves memory: the ceiling of any engine.

The product is PyTorch's, and on a CPU OpenVINO's too where that is installed, there also as a convolution: the library
whose kernels are better sets the peak. An engine with still better ones may reach more than 100 % of it.
"""

import time
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

_SIDE = {"cpu": 2048, "cuda": 8192}  # fills the chip, and takes a few tenths of a second at most
# Of one product, or of the copy. On a shared machine a few may all fall into a neighbour's turn. A GPU does ten in some
# milliseconds, in which its clocks have not risen yet: there it is the time that ends them.
_REPEATS = {"cpu": 10, "cuda": 10_000}
_ENOUGH_S = {"cpu": 1.5, "cuda": 0.5}
_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_COPIED = {"cpu": 2**28, "cuda": 2**30}  # bytes; far more than caches hold
_SLOWEST = 0.05  # of FP32: a precision below that is emulated here, and its product would take minutes


def measure(device: str, threads: int) -> dict[str, tuple[float, str]]:
    """Operations a second in each precision that `device` multiplies by hardware, and the library that reached them.

    The best of several products of random square matrices, after one to warm up: a peak is a maximum.
    """
    rates = {precision: (rate, "PyTorch") for precision, rate in _by_pytorch(device).items()}
    if torch.device(device).type == "cpu":
        for precision, rate in _by_openvino(threads).items():
            rates[precision] = max(rates.get(precision, (0.0, "")), (rate, "OpenVINO"))
    return rates


def _by_pytorch(device: str) -> dict[str, float]:
    kind = torch.device(device).type
    rates: dict[str, float] = {}
    for precision in ("fp32", "tf32", "fp16", "bf16", "int8"):
        if precision == "tf32" and kind != "cuda":
            continue
        with suppress(RuntimeError):  # no such product on this device, or in this PyTorch
            rate = _rate(device, precision, rates.get("fp32"))
            if rate is not None:
                rates[precision] = rate
    return rates


def _by_openvino(threads: int) -> dict[str, float]:
    rates: dict[str, float] = {}
    with suppress(ImportError, RuntimeError):  # not installed or broken; no such product on this CPU
        from engines.openvino.matrix_product import products

        for precision in ("fp32", "bf16", "int8"):
            for multiply in products(precision, _SIDE["cpu"], threads):
                rate = _operations(_SIDE["cpu"]) / _shortest_s(multiply, "cpu", _REPEATS["cpu"])
                rates[precision] = max(rates.get(precision, 0.0), rate)
    return rates


def measure_bandwidth(device: str) -> float | None:
    """Bytes a second that `device` reads and writes in a large copy, each counted once; the best of several.

    None where there is no room for it.

    Counted as McCalpin's STREAM does (1995), so that what a cache fetches before it is overwritten does not count.
    """
    with suppress(RuntimeError):
        kind = torch.device(device).type
        source = torch.ones(_COPIED[kind], dtype=torch.uint8, device=device)
        target = torch.empty_like(source)  # whose pages the first copy fetches, which is not counted
        return 2 * source.numel() / _shortest_s(lambda: target.copy_(source), device, _REPEATS[kind])
    return None


def _rate(device: str, precision: str, fp32: float | None) -> float | None:
    kind = torch.device(device).type
    small = _best(device, precision, _SIDE[kind] // 4, 2)
    if fp32 is not None and small < _SLOWEST * fp32:
        return None
    return _best(device, precision, _SIDE[kind], _REPEATS[kind])


def _best(device: str, precision: str, side: int, repeats: int) -> float:
    multiply = _product(device, precision, side)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        return _operations(side) / _shortest_s(multiply, device, repeats)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _operations(side: int) -> int:
    """Of a product of square matrices."""
    return 2 * side**3


def _shortest_s(work: Callable[[], object], device: str, repeats: int) -> float:
    """The shortest time of `work`, in seconds, after once to warm up; of at most so many, as time allows."""
    enough_s = _ENOUGH_S[torch.device(device).type]
    work()
    taken = [_seconds(work, device)]
    while len(taken) < repeats and sum(taken) < enough_s:
        taken.append(_seconds(work, device))
    return min(taken)


def _product(device: str, precision: str, side: int) -> Callable[[], Tensor]:
    if precision == "int8":
        a, b = (torch.randint(-127, 128, (side, side), dtype=torch.int8, device=device) for _ in range(2))
        return lambda: torch._int_mm(a, b.t())
    x, y = (torch.randn(side, side, device=device).to(_DTYPES[precision]) for _ in range(2))
    return lambda: x @ y


def _seconds(work: Callable[[], object], device: str) -> float:
    synchronise = torch.cuda.synchronize if device.startswith("cuda") else lambda _: None
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start
