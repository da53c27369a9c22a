"""What oneDNN ran, by its own account.

The lines are those of oneDNN's verbose mode, version 1:
https://uxlfoundation.github.io/oneDNN/dev_guide_verbose.html
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod

import torch

from engines.layers import UNKNOWN, Operation

_MULTIPLY = ("convolution", "deconvolution", "inner_product", "matmul")
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "s8": "int8", "u8": "int8", "tf32": "tf32"}
_NUMBERS = re.compile(r"(mb|ic|oc|id|od|ih|oh|iw|ow|g)(\d+)")


def operations(run: Callable[[], object]) -> list[Operation]:
    """Call `run` once and list the convolutions and matrix products that oneDNN executed meanwhile."""
    with tempfile.TemporaryFile() as account:
        verbose = torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON)  # type: ignore[no-untyped-call]
        with _stdout_into(account.fileno()), verbose:
            run()
        account.seek(0)
        lines = account.read().decode(errors="replace").splitlines()
    return [ran for line in lines if (ran := _operation(line.split(","))) is not None]


@contextmanager
def _stdout_into(file: int) -> Iterator[None]:
    """Send what this process writes to its standard output, oneDNN's C code included, into `file`."""
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(file, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(before, 1)
        os.close(before)


def _operation(fields: list[str]) -> Operation | None:
    """One line: ``onednn_verbose,v1,primitive,exec,cpu,KIND,IMPLEMENTATION,PROPAGATION,TYPES,...,PROBLEM,MS``."""
    if "exec" not in fields[:5] or not any(field in _MULTIPLY for field in fields):
        return None
    at = next(i for i, field in enumerate(fields) if field in _MULTIPLY)
    types = next((field for field in fields[at:] if "src" in field), "")
    source = re.search(r"\bsrc[^:]*:(\w+)", types)
    precision = _PRECISIONS.get(source[1], UNKNOWN) if source else UNKNOWN
    return Operation(f"onednn {fields[at]} {fields[at + 1]}", precision, _shapes(fields[-2]))


def _shapes(problem: str) -> list[list[int]]:
    """Shapes of input and output, from ``mb1_ic8oc8_id64od64kd3...`` or ``1x128:128x512``."""
    if ":" in problem:
        a, b = ([int(side) for side in part.split("x")] for part in problem.split(":")[:2])
        return [a, b, [prod(a) // a[-1], b[-1]]]
    size = {name: int(number) for name, number in _NUMBERS.findall(problem)}
    batch = size.get("mb", 1)
    return [
        [batch, size.get(f"{side}c", 1), *(size[f"{side}{axis}"] for axis in "dhw" if f"{side}{axis}" in size)]
        for side in "io"
    ]
