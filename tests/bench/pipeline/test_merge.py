"""Sums of tile logits: their labels are the plain argmax, whatever the slabs, the threads and the labels' order."""

import gc
import weakref
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.machine.clock import Stopwatch
from bench.pipeline import tiles
from bench.pipeline.merge import Merger
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
