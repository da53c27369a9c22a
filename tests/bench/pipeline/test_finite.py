"""NaN and infinity: no mask and no class is made of them, wherever they come from, and the tiles at fault are named."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.errors import NotFiniteError
from bench.pipeline import tiles
from bench.pipeline.finite import REMEDY, overflow
from bench.pipeline.merge import Merger, classify, vote
from bench.pipeline.nnunet.tiling import HalfMerger
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.stream import Stream
from models.task import PANCREAS

SIDE = 16
SETTINGS = InferenceSettings(
    protocol="sliding-window", tile=(SIDE,) * 3, overlap=0.5, batch=3, roi="none", window=(-1000, 1000),
    foreground_ml=PANCREAS.foreground_ml,
)  # fmt: skip


class Network:
    """Three classes; `value` is a single logit, or all classes of a case, of tiles without spread."""

    def __init__(self, value: float, of_class: bool = False) -> None:
        self._value = value
        self._of_class = of_class

    def infer(self, x):
        segmentation, classification = torch.cat([0.5 - x, x - 0.5, x * 0], 1), x.mean((2, 3, 4)).repeat(1, 3)
        flat = x.amax((1, 2, 3, 4)) == x.amin((1, 2, 3, 4))
        if self._of_class:
            classification[flat] = self._value
        else:
            segmentation[flat, 1, 8, 8, 8] = self._value
        return segmentation, classification

    def sync(self):
        pass


@pytest.fixture
def air(tmp_path):
    """A case of 3 x 11 x 3 tiles, of which those from 24 on along the second axis lie in air: 3 x 8 x 3."""
    hu = np.full((32, 96, 32), -1000, np.int16)
    hu[:, :24] = np.random.default_rng(0).normal(0, 500, (32, 24, 32))
    nib.save(nib.Nifti1Image(hu, np.diag([2, 2, 2, 1])), tmp_path / "air_0000.nii.gz")
    return tmp_path / "air_0000.nii.gz"


NAN = "gave logits that are not finite (NaN)"
INFINITE = "gave logits that are not finite (infinite)"


@pytest.mark.parametrize(
    ("network", "changes", "reason"),
    [
        (Network(float("nan")), {}, f"72 of 99 tiles {NAN}"),
        (Network(float("inf")), {}, f"72 of 99 tiles {INFINITE}"),
        (Network(float("-inf")), {}, f"72 of 99 tiles {INFINITE}"),
        (Network(float("-inf"), of_class=True), {}, f"72 of 99 tiles {INFINITE}"),
        (Network(float("nan")), {"roi": "body"}, f"9 of 36 tiles {NAN}"),
        (Network(float("-inf")), {"roi": "foreground"}, f"16 of 24 tiles {INFINITE}"),
        (Network(float("nan")), {"roi": "coarse"}, f"3 of 4 tiles {NAN}"),
    ],
)  # fmt: skip
def test_a_case_of_values_that_are_not_finite_is_refused(air, tmp_path, network, changes, reason):
    settings = replace(SETTINGS, **changes)
    for run in (Pipeline(network, settings).run, lambda *case: Stream(Pipeline(network, settings), 1).run([case])):
        with pytest.raises(NotFiniteError) as caught:
            run([air], tmp_path / "mask.nii.gz")
        assert str(caught.value).startswith(f"air_0000.nii.gz: {reason}; mend what gives them")
        assert not (tmp_path / "mask.nii.gz").exists()


def test_the_centre_patch_is_looked_at_too(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 20), np.int16), np.eye(4)), tmp_path / "a_0000.nii.gz")
    pipeline = Pipeline(Network(float("nan")), replace(SETTINGS, protocol="center-patch"))
    with pytest.raises(NotFiniteError, match="1 of 1 tiles"):
        pipeline.run([tmp_path / "a_0000.nii.gz"], tmp_path / "a.nii.gz")


def test_classes_that_are_not_asked_for_may_be_anything(air, tmp_path):
    Pipeline(Network(float("nan"), of_class=True), replace(SETTINGS, subtypes=0)).run([air], tmp_path / "mask.nii.gz")


@pytest.mark.parametrize(
    ("kind", "largest", "finish"),
    [(Merger, 3e38, "labels"), (Merger, 3e38, "finalize"), (HalfMerger, 1e4, "finalize")],
)
def test_sums_that_overflow_are_refused(kind, largest, finish):
    """Of logits that are finite themselves; nnU-Net's weights are up to 10."""
    grid, dtype = tiles.sliding_window((24, 16, 16), (16, 16, 16), 0.5), torch.half if kind is HalfMerger else None
    settings = replace(SETTINGS, labels=(0, 1), subtypes=0)
    merger = kind(grid, 10 * tiles.gaussian_weights((16, 16, 16)).to(dtype), settings)
    for box in grid.boxes:
        merger.aggregate([box], torch.full((1, 2, 16, 16, 16), largest), torch.zeros(1, 1))
    name = "float16, in which nnU-Net adds them up" if dtype else "float32"
    with pytest.raises(NotFiniteError, match=f"the sums of its tiles' logits overflow {name}"):
        getattr(merger, finish)()


def test_the_page_of_refusals_quotes_what_is_printed():
    page = (Path(__file__).parents[3] / "docs" / "reference" / "refusals.md").read_text()
    assert f"`FILE: 8 of 20 tiles {NAN}; {REMEDY}`" in page
    assert f"`FILE: {overflow(torch.float16)}`" in page


def test_large_sums_that_are_finite_are_no_fault():
    """Their own sum overflows, which only makes the check look again."""
    grid = tiles.center_patch((16, 16, 16), (16, 16, 16))
    merger = Merger(grid, torch.ones(16, 16, 16), replace(SETTINGS, labels=(0, 1), subtypes=0))
    merger.aggregate(grid.boxes, torch.full((1, 2, 16, 16, 16), 1e38), torch.zeros(1, 1))
    assert not merger.labels().any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_vote_is_taken_of_values_that_are_not_finite(value):
    logits, foreground = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0.5, 0.25])
    assert vote(logits, foreground) == classify(logits, foreground).number == 1
    for place in (0, 1):
        wrong = logits.clone()
        wrong[1, place] = value
        with pytest.raises(NotFiniteError):
            vote(wrong, foreground)
        with pytest.raises(NotFiniteError):
            classify(wrong, foreground)
    with pytest.raises(NotFiniteError):
        vote(logits, torch.tensor([float("nan"), 0.25]))
