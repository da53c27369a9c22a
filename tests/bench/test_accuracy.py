"""Scores from files, against MONAI."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric, compute_surface_dice

from bench import accuracy
from bench.plan.plan import evenly, make_plan
from bench.plan.request import Request
from models.task import PANCREAS
from reports.records.record import Case, Roi, Settings

SHAPE = (20, 18, 12)
SETTINGS = Settings(
    variants={}, device="cpu", protocol="sliding-window", overlap=0.5, roi="none", tile=(8, 8, 8), batch=1,
    rounds=1, budget_s=1, threads=1, seed=0, min_reduction_pct=10, max_dsc_drop=0.005, max_nsd_drop=0.01,
    max_f1_drop=0.02, required=(), timeout_s=1, allocator="system",
)  # fmt: skip
WHOLE, LESION = "whole pancreas", "lesion"
TASK, ORGAN = (accuracy.task_of(PANCREAS, labels, 3) for labels in ((0, 1, 2), (0, 1)))


def save(path, labels):
    nib.save(nib.Nifti1Image(labels, np.eye(4)), path)
    return path


def monai_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """MONAI's Dice of two boolean volumes; where the truth is empty it is 1 or 0 with `ignore_empty` off."""
    metric = DiceMetric(include_background=True, ignore_empty=False)
    metric(torch.from_numpy(prediction)[None, None].float(), torch.from_numpy(truth)[None, None].float())
    return float(metric.aggregate())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("in_prediction", "in_truth"), [((0, 1, 2), (0, 1, 2)), ((0, 1), (0, 1, 2)), ((0,), (0, 1))])
def test_dsc_is_monais(tmp_path, seed, in_prediction, in_truth):
    rng = np.random.default_rng(seed)
    prediction = rng.choice(in_prediction, SHAPE).astype(np.uint8)
    truth = rng.choice(in_truth, SHAPE).astype(np.uint8)
    baseline = rng.choice((0, 1, 2), SHAPE).astype(np.uint8)
    paths = [save(tmp_path / f"{i}.nii.gz", labels) for i, labels in enumerate((prediction, truth, baseline))]
    case = Case("a", str(paths[1]), str(paths[1]), 1, SHAPE, (1.0, 1.0, 1.0))
    result = accuracy.score(case, SETTINGS, TASK, (), paths[0], paths[2], subtype=2, baseline_subtype=0)
    assert result.structures[WHOLE].dsc == pytest.approx(monai_dice(prediction > 0, truth > 0), abs=1e-6)
    assert result.structures[LESION].dsc == pytest.approx(monai_dice(prediction == 2, truth == 2), abs=1e-6)
    assert (result.voxels, result.differing_voxels) == (prediction.size, int((prediction != baseline).sum()))
    assert (result.subtype, result.baseline_subtype) == (2, 0)


def test_both_empty_is_one_and_one_empty_is_zero():
    nothing, something = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    assert accuracy.dsc(nothing, nothing) == 1
    assert accuracy.dsc(nothing, something) == accuracy.dsc(something, nothing) == 0


def blobs(rng, shape=(24, 20, 16)) -> np.ndarray:
    """A few random balls that may touch the volume's sides."""
    grid = np.indices(shape)
    mask = np.zeros(shape, bool)
    for _ in range(3):
        centre, radius = rng.uniform(0, shape)[:, None, None, None], rng.uniform(2, 7)
        mask |= ((grid - centre) ** 2).sum(0) < radius**2
    return mask


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.8, 2.5)])
@pytest.mark.parametrize("tolerance", [2.0, 5.0])
def test_nsd_is_monais(seed, spacing, tolerance):
    """MONAI's knows neither FLARE's rule for a small DSC nor a value for two empty masks."""
    rng = np.random.default_rng(seed)
    truth = blobs(rng)
    prediction = np.roll(truth, rng.integers(-3, 4, 3), (0, 1, 2)) | (rng.random(truth.shape) < 0.002)
    predicted, true = (torch.from_numpy(mask)[None, None] for mask in (prediction, truth))
    theirs = float(compute_surface_dice(predicted, true, [tolerance], include_background=True, spacing=spacing))
    rule = accuracy.dsc(prediction, truth) >= 0.2
    assert accuracy.nsd(prediction, truth, spacing, tolerance) == pytest.approx(theirs if rule else 0, abs=1e-6)


def cube(first: int, last: int) -> np.ndarray:
    mask = np.zeros((30, 30, 30), bool)
    mask[first:last, 5:15, 5:15] = True
    return mask


def test_nsd_of_known_shapes():
    nothing, something = np.zeros((30, 30, 30), bool), cube(5, 15)
    assert accuracy.nsd(nothing, nothing, (1, 1, 1), 2) == accuracy.nsd(something, something, (1, 1, 1), 0) == 1
    assert accuracy.nsd(nothing, something, (1, 1, 1), 5) == accuracy.nsd(something, nothing, (1, 1, 1), 5) == 0
    assert accuracy.nsd(something, cube(7, 17), (1, 1, 1), 2) == 1, "a shift by the tolerance is within it"
    assert accuracy.nsd(something, cube(7, 17), (1.1, 1, 1), 2) < 1
    # Moved by 3 along x. Of a cube's 2 x 100 + 8 x 36 surface voxels those of the outer face are 3 from the other cube,
    # and of the face inside it the middle 4 x 4 are at least 3 from its sides.
    assert accuracy.nsd(something, cube(8, 18), (1, 1, 1), 2) == pytest.approx(1 - 2 * (100 + 16) / (2 * 488))
    assert accuracy.nsd(something, cube(14, 24), (1, 1, 1), 20) == 0, "the overlap is too small for a surface to count"


def test_nsd_goes_with_the_dsc(tmp_path):
    """With the case's spacing, 5 mm for the pancreas and 2 mm for the lesion; a part of a long pancreas is moved."""
    truth = np.zeros((40, 18, 12), np.uint8)
    truth[4:34, 4:14, 2:10], truth[10:24, 6:12, 4:8] = 1, 2
    prediction = np.roll(truth, 2, axis=0)
    paths = [save(tmp_path / f"{i}.nii.gz", labels) for i, labels in enumerate((prediction, truth))]
    case = Case("a", str(paths[1]), str(paths[1]), None, truth.shape, (2.0, 1.0, 1.0))
    result = accuracy.score(case, SETTINGS, TASK, (), paths[0], paths[0], None, None)
    assert result.structures[WHOLE].nsd == 1, "4 mm"
    assert result.structures[LESION].nsd == pytest.approx(accuracy.nsd(prediction == 2, truth == 2, (2, 1, 1), 2))
    assert result.structures[LESION].nsd < 1
    result = accuracy.score(case, SETTINGS, ORGAN, (), paths[0], paths[0], None, None)
    assert (result.structures[WHOLE].nsd, result.structures[LESION].dsc, result.structures[LESION].nsd) == (
        1,
        None,
        None,
    )
    result = accuracy.score(replace(case, mask=None), SETTINGS, TASK, (), paths[0], paths[0], None, None)
    assert (result.structures[WHOLE].dsc, result.structures[WHOLE].nsd, result.structures[LESION].nsd) == (
        None,
        None,
        None,
    )


def test_center_patch_scores_the_patch_alone(tmp_path):
    truth = np.zeros(SHAPE, np.uint8)
    truth[6:14, 5:13, 2:10] = 1
    prediction = truth.copy()
    truth[0], prediction[-1] = 1, 2  # outside the patch, where nothing was predicted
    paths = [save(tmp_path / f"{i}.nii.gz", labels) for i, labels in enumerate((prediction, truth))]
    case = Case("a", str(paths[1]), str(paths[1]), None, SHAPE, (1.0, 1.0, 1.0))
    result = accuracy.score(case, replace(SETTINGS, protocol="center-patch"), TASK, (), paths[0], paths[0], 0, 0)
    assert (result.structures[WHOLE].dsc, result.structures[LESION].dsc, result.voxels) == (1.0, 1.0, 8**3)


def test_without_a_mask_there_is_no_score(tmp_path):
    path = save(tmp_path / "p.nii.gz", np.zeros(SHAPE, np.uint8))
    case = Case("a", str(path), None, None, SHAPE, (1.0, 1.0, 1.0))
    result = accuracy.score(case, SETTINGS, TASK, (), path, path, 0, 0)
    assert (result.structures[WHOLE].dsc, result.structures[LESION].dsc, result.differing_voxels) == (None, None, 0)


def test_a_lesion_is_pancreas_to_a_network_without_a_lesion_class(tmp_path):
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:6], truth[6:8] = 1, 2
    paths = [save(tmp_path / f"{i}.nii.gz", labels) for i, labels in enumerate(((truth > 0).astype(np.uint8), truth))]
    case = Case("a", str(paths[1]), str(paths[1]), 1, SHAPE, (1.0, 1.0, 1.0))
    result = accuracy.score(case, SETTINGS, ORGAN, (), paths[0], paths[0], None, None)
    assert (result.structures[WHOLE].dsc, result.structures[LESION].dsc, result.subtype, result.baseline_subtype) == (
        1.0,
        None,
        None,
        None,
    )
    assert accuracy.score(case, SETTINGS, TASK, (), paths[0], paths[0], None, None).structures[LESION].dsc == 0.0


def test_max_cases_spread_over_the_sorted_list():
    cases = list(range(36))
    assert evenly(cases, 6) == [0, 6, 12, 18, 24, 30]
    assert evenly(cases, None) == evenly(cases, 99) == cases


def test_demo_width_and_checkpoint_exclude_each_other(tmp_path):
    from bench.errors import InputError

    with pytest.raises(InputError, match="--demo-width"):
        make_plan(Request(checkpoint=tmp_path, demo_width=32, backends="torch-amp", device="cpu"), "", "", None)


def test_voxels_of_the_truth_outside_the_region_are_counted(tmp_path):
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:6, 2:4, 2:4], truth[10:14, 2:4, 2:4] = 1, 2
    paths = [save(tmp_path / f"{i}.nii.gz", labels) for i, labels in enumerate((truth, truth))]
    case = Case("a", str(paths[1]), str(paths[1]), 1, SHAPE, (1.0, 1.0, 1.0))
    roi = Roi(((0, 4, 0, 18, 0, 12), (11, 20, 0, 3, 0, 12)), False, 0, 0, 0)
    result = accuracy.score(case, SETTINGS, ORGAN, (), paths[0], paths[0], 0, 0, roi=roi)
    lesion = 4 + 3 * 2  # the first slice, and of three slices the half past the box
    assert (result.structures[WHOLE].outside, result.structures[LESION].outside) == (8 + lesion, lesion)
    result = accuracy.score(case, SETTINGS, TASK, (), paths[0], paths[0], 0, 0)
    assert (result.structures[WHOLE].outside, result.structures[LESION].outside) == (None, None)
    result = accuracy.score(replace(case, mask=None), SETTINGS, TASK, (), paths[0], paths[0], 0, 0, roi=roi)
    assert (result.structures[WHOLE].outside, result.structures[LESION].outside) == (None, None)
