"""OpenVINO's matrix products: right, and in the precision that was asked for."""

import numpy as np
import pytest

from engines.openvino.core import core
from engines.openvino.matrix_product import products

SIDE = 128


@pytest.fixture(scope="module")
def exact():
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    return left @ right


@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-6), ("int8", 0.05)])
def test_products_in_this_precision(precision, error, exact):
    matrices = [next(iter(multiply().values())).reshape(SIDE, SIDE) for multiply in products(precision, SIDE, 1)]
    assert len(matrices) == 2, "every x86 processor has both"
    for matrix, expected in zip(matrices, (exact, exact.T), strict=True):
        deviation = np.linalg.norm(matrix - expected) / np.linalg.norm(exact)
        assert deviation < error
        assert (deviation > 1e-3) == (precision == "int8"), "it really was quantized"


def test_no_product_in_bf16_without_the_instructions():
    able = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert bool(products("bf16", SIDE, 1)) == able
