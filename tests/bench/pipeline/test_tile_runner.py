"""Tiles and their mirrors through a session that takes one batch size."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bench.machine.clock import Stopwatch
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tile_runner import TileRunner
from bench.pipeline.tiles import sliding_window

TILE = (8, 6, 4)
SETTINGS = InferenceSettings(
    protocol="sliding-window", tile=TILE, overlap=0.5, batch=1, roi="none", window=(0, 1), mirror_axes=(0, 1, 2)
)
BOXES = sliding_window((13, 6, 6), TILE, 0.5).boxes
VOLUME = torch.rand(2, 13, 6, 6, generator=torch.Generator().manual_seed(0))


class Session:
    """A network that tells each direction of each axis apart; every call overwrites the outputs of the last."""

    def __init__(self, batch: int) -> None:
        self.inputs: list[Tensor] = []
        self._outputs = torch.empty(batch, 3, *TILE), torch.empty(batch, 4)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self._network = torch.nn.Conv3d(2, 3, 3, padding=1).requires_grad_(False)

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.inputs.append(x.clone())
        segmentation, classification = self._outputs
        segmentation.copy_(self._network(x))
        classification.copy_(x[:, 0, 0, 0, :].exp())
        return segmentation, classification

    def sync(self) -> None:
        pass


def run(batch: int, **changes) -> tuple[TileRunner, Session, list[tuple]]:
    """The runner, the session, and for each tile box and logits."""
    session, seen = Session(batch), []
    runner = TileRunner(
        session, replace(SETTINGS, batch=batch, **changes), torch.device("cpu"), Stopwatch(lambda: None)
    )
    runner.run(
        VOLUME, BOXES, lambda boxes, *logits: seen.extend(zip(boxes, *(each.clone() for each in logits), strict=True))
    )
    return runner, session, seen


@pytest.mark.parametrize(("batch", "axes"), [(1, (0, 1, 2)), (2, (0, 1)), (3, (1, 2)), (8, (0, 1, 2)), (5, (2,))])
def test_logits_are_the_mean_over_all_mirrors_as_nnunets_predictor_takes_it(batch, axes):
    predictor_module = pytest.importorskip("nnunetv2.inference.predict_from_raw_data")
    predictor = predictor_module.nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.allowed_mirroring_axes, session = axes, Session(1)
    predictor.network = lambda x: session.infer(x)[0].clone()
    _, _, seen = run(batch, mirror_axes=axes)
    assert [box for box, *_ in seen] == BOXES
    for box, segmentation, classification in seen:
        tile = VOLUME[(slice(None), *box)][None]
        expected = predictor._internal_maybe_mirror_and_predict(tile)[0]
        torch.testing.assert_close(segmentation, expected, rtol=0, atol=0 if batch == 1 else 1e-6)
        mirrors = [tile.flip([2 + axis for axis in flip]) for flip in replace(SETTINGS, mirror_axes=axes).flips]
        votes = torch.stack([mirror[0, 0, 0, 0].exp() for mirror in mirrors]).mean(0)
        torch.testing.assert_close(classification, votes)


@pytest.mark.parametrize(("batch", "batches"), [(8, 6), (2, 24), (5, 10)])
def test_mirrors_of_a_tile_share_a_batch_and_each_is_a_tile_of_the_count(batch, batches):
    runner, session, _ = run(batch)
    assert (len(BOXES), runner.tiles, runner.batches) == (6, 48, batches)
    if batch == 8:
        for box, x in zip(BOXES, session.inputs, strict=True):
            tile = VOLUME[(slice(None), *box)]
            for mirror, axes in zip(x, SETTINGS.flips, strict=True):
                assert torch.equal(mirror, tile.flip([1 + axis for axis in axes]))


def test_without_mirroring_logits_are_handed_on_as_they_come():
    runner, session, seen = run(4, mirror_axes=())
    assert (runner.tiles, runner.batches, len(seen)) == (6, 2, 6)
    assert torch.equal(session.inputs[1][2], session.inputs[1][1]), "the last tile completes the batch"


@pytest.mark.parametrize("own", [True, False])
def test_beside_an_engines_own_threads_pytorch_takes_one(own):
    before, seen = torch.get_num_threads(), set()
    torch.set_num_threads(3)
    try:
        session = Session(1)
        session.own_threads = own
        runner = TileRunner(session, replace(SETTINGS, mirror_axes=()), torch.device("cpu"), Stopwatch(lambda: None))
        runner.run(VOLUME, BOXES, lambda *_: seen.add(torch.get_num_threads()))
        assert seen == {1 if own else 3}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
