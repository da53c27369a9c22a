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
_REPEATS = 10  # on a shared machine a few may all fall into a neighbour's turn
_ENOUGH_S = 1.5  # of products in one precision
_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_COPIED = {"cpu": 2**28, "cuda": 2**30}  # bytes; far more than caches hold
_COPIES = 5
_SLOWEST = 0.05  # of FP32: a precision below that is emulated here, and its product would take minutes


def measure(device: str, threads: int) -> dict[str, tuple[float, str]]:
    """Operations a second in each precision that `device` multiplies by hardware, and the library that reached them.

    The best of at most ten products of random square matrices, after one to warm up: a peak is a maximum.
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
                rate = _fastest(multiply, "cpu", _SIDE["cpu"], _REPEATS)
                rates[precision] = max(rates.get(precision, 0.0), rate)
    return rates


def measure_bandwidth(device: str) -> float | None:
    """Bytes a second that `device` reads and writes in a large copy, each counted once; the best of several.

    None where there is no room for it.

    Counted as McCalpin's STREAM does (1995), so that what a cache fetches before it is overwritten does not count.
    """
    with suppress(RuntimeError):
        source = torch.ones(_COPIED[torch.device(device).type], dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        target.copy_(source)  # now each page of both is there, and none is the system's one page of zeros
        return 2 * source.numel() / min(_seconds(lambda: target.copy_(source), device) for _ in range(_COPIES))
    return None


def _rate(device: str, precision: str, fp32: float | None) -> float | None:
    kind = torch.device(device).type
    small = _best(device, precision, _SIDE[kind] // 4, 2)
    if fp32 is not None and small < _SLOWEST * fp32:
        return None
    return _best(device, precision, _SIDE[kind], _REPEATS)


def _best(device: str, precision: str, side: int, repeats: int) -> float:
    multiply = _product(device, precision, side)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        return _fastest(multiply, device, side, repeats)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _fastest(multiply: Callable[[], object], device: str, side: int, repeats: int) -> float:
    multiply()
    taken = [_seconds(multiply, device)]
    while len(taken) < repeats and sum(taken) < _ENOUGH_S:
        taken.append(_seconds(multiply, device))
    return 2 * side**3 / min(taken)


def _product(device: str, precision: str, side: int) -> Callable[[], Tensor]:
    if precision == "int8":
        a, b = (torch.randint(-127, 128, (side, side), dtype=torch.int8, device=device) for _ in range(2))
        return lambda: torch._int_mm(a, b.t())
    x, y = (torch.randn(side, side, device=device).to(_DTYPES[precision]) for _ in range(2))
    return lambda: x @ y


def _seconds(multiply: Callable[[], object], device: str) -> float:
    synchronise = torch.cuda.synchronize if device.startswith("cuda") else lambda _: None
    synchronise(device)
    start = time.perf_counter()
    multiply()
    synchronise(device)
    return time.perf_counter() - start
