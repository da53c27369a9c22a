"""Scores from files, against MONAI."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric

from bench import parity
from bench.plan import Request, evenly, make_plan
from reports.record import Case, Settings

SHAPE = (20, 18, 12)
SETTINGS = Settings(
    backends=("torch-fp32",), device="cpu", protocol="sliding-window", overlap=0.5, roi="none", tile=(8, 8, 8), batch=1,
    rounds=1, budget_s=1, threads=1, seed=0, min_reduction_pct=10, max_dsc_drop=0.005, max_f1_drop=0.02, required=(),
    timeout_s=1,
)  # fmt: skip


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
    case = Case("a", "a_0000.nii.gz", str(paths[1]), 1, SHAPE, (1.0, 1.0, 1.0))
    found = parity.score(case, SETTINGS, paths[0], paths[2], subtype=2, baseline_subtype=0)
    assert found.whole_dsc == pytest.approx(monai_dice(prediction > 0, truth > 0), abs=1e-6)
    assert found.lesion_dsc == pytest.approx(monai_dice(prediction == 2, truth == 2), abs=1e-6)
    assert (found.voxels, found.differing_voxels) == (prediction.size, int((prediction != baseline).sum()))
    assert (found.subtype, found.baseline_subtype) == (2, 0)


def test_both_empty_is_one_and_one_empty_is_zero():
    nothing, something = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    assert parity.dsc(nothing, nothing) == 1
    assert parity.dsc(nothing, something) == parity.dsc(something, nothing) == 0


def test_center_patch_scores_the_patch_alone(tmp_path):
    truth = np.zeros(SHAPE, np.uint8)
    truth[6:14, 5:13, 2:10] = 1
    prediction = truth.copy()
    truth[0], prediction[-1] = 1, 2  # outside the patch, where nothing was predicted
    paths = [save(tmp_path / f"{i}.nii.gz", labels) for i, labels in enumerate((prediction, truth))]
    case = Case("a", "a_0000.nii.gz", str(paths[1]), None, SHAPE, (1.0, 1.0, 1.0))
    found = parity.score(case, replace(SETTINGS, protocol="center-patch"), paths[0], paths[0], 0, 0)
    assert (found.whole_dsc, found.lesion_dsc, found.voxels) == (1.0, 1.0, 8**3)


def test_without_a_mask_there_is_no_score(tmp_path):
    path = save(tmp_path / "p.nii.gz", np.zeros(SHAPE, np.uint8))
    found = parity.score(Case("a", "", None, None, SHAPE, (1.0, 1.0, 1.0)), SETTINGS, path, path, 0, 0)
    assert (found.whole_dsc, found.lesion_dsc, found.differing_voxels) == (None, None, 0)


def test_a_lesion_is_pancreas_to_a_network_without_a_lesion_class(tmp_path):
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:6], truth[6:8] = 1, 2
    paths = [save(tmp_path / f"{i}.nii.gz", labels) for i, labels in enumerate(((truth > 0).astype(np.uint8), truth))]
    case = Case("a", "a_0000.nii.gz", str(paths[1]), 1, SHAPE, (1.0, 1.0, 1.0))
    found = parity.score(case, SETTINGS, paths[0], paths[0], None, None, finds_lesions=False)
    assert (found.whole_dsc, found.lesion_dsc, found.subtype, found.baseline_subtype) == (1.0, None, None, None)
    assert parity.score(case, SETTINGS, paths[0], paths[0], None, None).lesion_dsc == 0.0


def test_max_cases_spread_over_the_sorted_list():
    found = list(range(36))
    assert evenly(found, 6) == [0, 6, 12, 18, 24, 30]
    assert evenly(found, None) == evenly(found, 99) == found


def test_demo_width_and_checkpoint_exclude_each_other(tmp_path):
    from bench.errors import InputError

    with pytest.raises(InputError, match="--demo-width"):
        make_plan(Request(checkpoint=tmp_path, demo_width=32, backends="torch-amp", device="cpu"), "", "", None)
