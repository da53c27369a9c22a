"""OpenVINO: the tiles of a batch as requests side by side."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import engines
from engines.base import Target
from models.model import Model

pytest.importorskip("openvino")


@pytest.mark.parametrize(("batch", "streams"), [(1, 1), (2, 2), (3, 2)])
def test_every_tile_of_a_batch_gets_its_own_result(
    model: Model, target: Callable[..., Target], tiles: Callable[[int, int], Tensor], batch: int, streams: int
) -> None:
    with engines.load("openvino-fp32").open(model, target(batch=batch)) as session, torch.inference_mode():
        for seed in (2, 3):  # the second call overwrites what the first one gave
            x = tiles(batch, seed)
            for found, expected in zip(session.infer(x), model.module(x), strict=True):
                assert found.shape == expected.shape
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        evidence = session.evidence()
    assert (evidence.details["streams"], evidence.details["threads"]) == (streams, 2)
    assert evidence.mac_share == {"fp32": 1.0}


def test_what_was_built_for_one_tile_serves_every_batch(model: Model, target: Callable[..., Target]) -> None:
    here = target()
    cached = []
    for batch in (1, 4):
        with engines.load("openvino-fp32").open(model, target(batch=batch, cache=here.cache)) as session:
            cached.append(session.evidence().details["cached"])
    assert cached == [False, True]
