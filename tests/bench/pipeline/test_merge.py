"""Sums of tile logits: their labels are the plain argmax, whatever the slabs, the threads and the labels' order."""

import gc
import weakref
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.errors import NotFiniteError
from bench.machine.clock import Stopwatch
from bench.machine.threads import one_thread
from bench.pipeline import tiles
from bench.pipeline.merge import Merger, most_held
from bench.pipeline.nnunet.tiling import HalfMerger
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from tests.bench.pipeline.whole_volume import logits_of

TILE = (64, 64, 64)
SETTINGS = InferenceSettings(
    protocol="sliding-window", tile=TILE, overlap=0.5, batch=3, roi="none", window=(-1000, 1000), subtypes=0
)


def merged(shape, labels=(0, 1, 2)) -> tuple[Merger, torch.Tensor]:
    """A merger of random tiles with many ties, and the sums as the plain formula gives them."""
    grid, weights = tiles.sliding_window(shape, TILE, 0.5), tiles.gaussian_weights(TILE)
    merger, sums = Merger(grid, weights, replace(SETTINGS, labels=labels)), torch.zeros(len(labels), *grid.padded)
    generator = torch.Generator().manual_seed(0)
    for box in grid.boxes:
        logits = torch.randint(-2, 3, (1, len(labels), *TILE), generator=generator).float()
        merger.aggregate([box], logits, torch.zeros(1, 1))
        sums[(slice(None), *box)] += logits[0] * weights
    return merger, sums[(slice(None), *grid.interior)]


@pytest.mark.parametrize(("shape", "labels"), [((130, 70, 50), (0, 1, 2)), ((64, 90, 64), (0, 2, 1, 1))])
@pytest.mark.parametrize("threads", [1, 2])
def test_labels_are_the_first_of_the_largest_sums(shape, labels, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    merger, sums = merged(shape, labels)
    result = merger.labels()
    torch.set_num_threads(before)
    assert result.dtype == torch.uint8
    assert (sums[0] == sums[1:].amax(0)).any(), "no tie to decide"
    assert torch.equal(result, torch.tensor(labels, dtype=torch.uint8)[sums.argmax(0)])


def test_logits_are_the_sums_over_the_weights_and_end_the_merger():
    merger, sums = merged((90, 64, 50))
    grid, weights, total = tiles.sliding_window((90, 64, 50), TILE, 0.5), tiles.gaussian_weights(TILE), None
    total = torch.zeros(grid.padded)
    for box in grid.boxes:
        total[box] += weights
    assert torch.equal(merger.finalize(), sums / total[grid.interior])
    with pytest.raises(AssertionError):
        merger.labels()


class Echo:
    """Gives its input as logits, and remembers where each input lay and what it was."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, torch.Tensor]] = []

    def infer(self, x):
        self.seen.append((x.data_ptr(), x.clone()))
        return torch.cat([0.2 - x, x - 0.2, x * 0], 1), x[:, 0, 0, 0, :1]

    def sync(self):
        pass


def test_all_batches_are_cut_into_one_tensor():
    volume, session = torch.rand(1, 130, 70, 64, generator=torch.Generator().manual_seed(0)), Echo()
    logits_of(session, SETTINGS, volume)
    boxes = tiles.sliding_window((130, 70, 64), TILE, 0.5).boxes
    assert len(boxes) % SETTINGS.batch, "the last batch is full"
    assert len({pointer for pointer, _ in session.seen}) == 1
    boxes += boxes[-1:] * (-len(boxes) % SETTINGS.batch)
    expected = torch.stack([volume[:, *box] for box in boxes]).split(SETTINGS.batch)
    assert all(torch.equal(x, batch) for (_, x), batch in zip(session.seen, expected, strict=True))


def test_a_prepared_case_holds_no_voxels_as_stored(tmp_path, monkeypatch):
    nib.save(nib.Nifti1Image(np.zeros(TILE, np.int16), np.eye(4)), tmp_path / "a_0000.nii.gz")
    pipeline, held = Pipeline(Echo(), SETTINGS), []
    read = pipeline._preprocessor.read

    def remember(path):
        volume = read(path)
        held.append(weakref.ref(volume.intensities))
        return volume

    monkeypatch.setattr(pipeline._preprocessor, "read", remember)
    prepared = pipeline.prepare([tmp_path / "a_0000.nii.gz"], Stopwatch(lambda: None))
    gc.collect()
    assert prepared.volume.shape == (1, *TILE)
    assert held[0]() is None


class Kept:
    """A receiver that keeps what it gets."""

    def __init__(self, cuts: tuple[int, ...]) -> None:
        self.cuts = cuts
        self.parts: list[tuple[tiles.Box, torch.Tensor]] = []

    def receive(self, box, logits):
        self.parts.append((box, logits.clone()))


@pytest.mark.parametrize("kind", [Merger, HalfMerger])
@pytest.mark.parametrize("cuts", [(0,), (0, 1, 2), (1,)])
@pytest.mark.parametrize(("shape", "overlap"), [((40, 21, 16), 0.5), ((33, 16, 9), 0.25), ((37, 40, 25), 0.7)])
def test_parts_hold_what_the_whole_holds(kind, cuts, shape, overlap):
    tile = (16, 16, 16)
    grid, weights = tiles.sliding_window(shape, tile, overlap), tiles.gaussian_weights(tile)
    weights = weights.half() if kind is HalfMerger else weights
    settings = replace(SETTINGS, tile=tile)
    whole, kept = kind(grid, weights, settings), Kept(cuts)
    by_parts = kind(grid, weights, settings, kept)
    generator, held = torch.Generator().manual_seed(0), []
    for box in grid.boxes:
        logits = torch.randn(1, 3, *tile, generator=generator)
        for merger in (whole, by_parts):
            merger.aggregate([box], logits, torch.zeros(1, 1))
        held.append(sum(part.sum[0].numel() for part in by_parts._parts if part.sum is not None))
    expected = whole.finalize() if kind is HalfMerger else whole._whole().accumulated()[(slice(None), *grid.interior)]
    seen = torch.zeros(shape)
    for box, logits in kept.parts:
        assert torch.equal(logits, expected[:, *box])
        assert all(box[axis] == slice(0, shape[axis]) for axis in range(3) if axis not in cuts)
        seen[box] += 1
    assert (seen == 1).all()
    assert not any(part.sum is not None for part in by_parts._parts)
    assert max(held) <= most_held(grid, cuts) <= len(weights) ** 3 * 8 * len(grid.boxes)
    if cuts == (0,):
        starts = [box[0].start for box, _ in kept.parts]
        assert starts == sorted(starts)


def test_what_receives_a_part_has_all_threads_again():
    grid, seen = tiles.sliding_window((16, 16, 16), (16, 16, 16), 0.5), []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        kept = Kept((0,))
        kept.receive = lambda *_: seen.append(torch.get_num_threads())
        merger = Merger(grid, tiles.gaussian_weights((16, 16, 16)), replace(SETTINGS, tile=(16, 16, 16)), kept)
        with one_thread():
            merger.aggregate(grid.boxes, torch.zeros(1, 3, 16, 16, 16), torch.zeros(1, 1))
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert seen == [3]


def test_parts_take_less_memory_than_slabs_and_these_less_than_the_whole():
    starts = (0, 54, 109, 163, 218, 272), range(0, 385, 64), range(0, 385, 64)  # as nnU-Net spreads them
    grid = tiles.grid_of((400, 512, 512), (128, 128, 128), starts)
    held = [most_held(grid, cuts) for cuts in ((), (0,), (0, 1, 2))]
    assert held[0] == 400 * 512 * 512
    assert held[1] <= 128 * 512 * 512
    assert held[2] <= 0.75 * held[1]


def test_sums_of_a_part_that_are_not_finite_end_the_case():
    grid = tiles.sliding_window((40, 16, 16), (16, 16, 16), 0.5)
    merger = Merger(grid, tiles.gaussian_weights((16, 16, 16)), replace(SETTINGS, tile=(16, 16, 16)), Kept((0,)))
    logits = torch.full((1, 3, 16, 16, 16), torch.nan)
    with pytest.raises(NotFiniteError):
        merger.aggregate(grid.boxes[:1], logits, torch.zeros(1, 1))  # which alone reaches into the first part
