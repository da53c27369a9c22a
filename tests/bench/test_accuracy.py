"""Scores from files, against MONAI, nnU-Net's evaluation, and the same formulas over one structure at a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric, compute_surface_dice
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from scipy import ndimage
from scipy.spatial import KDTree

from bench import accuracy
from bench.plan.plan import evenly, make_plan
from bench.plan.request import Request
from models.task import PANCREAS, Structure, Task
from reports.records.record import Case, Roi, Score, StructureRecord, StructureScore, TaskRecord
from tests.reports.factory import make_settings

SHAPE = (20, 18, 12)
SETTINGS = make_settings({}, tile=(8, 8, 8))
WHOLE, LESION = PANCREAS.structures
TASK, ORGAN = (accuracy.task_of(PANCREAS, labels, 3) for labels in ((0, 1, 2), (0, 1)))
TUMOUR = Task(  # as BraTS has it: regions of which each holds the next
    name="brain",
    channels=("T1", "FLAIR"),
    labels={"background": 0, "edema": 1, "necrosis": 2, "enhancing": 3},
    structures={
        "whole tumour": Structure(labels=(1, 2, 3)),
        "tumour core": Structure(labels=(2, 3)),
        "enhancing": Structure(labels=(3,)),
    },
    ignore=4,
)
REGIONS = accuracy.task_of(TUMOUR, (0, 1, 2, 3), 0)


def nsd(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> float | None:
    """Of one structure."""
    task = TaskRecord(structures={"it": StructureRecord(labels=(1,), nsd_tolerance_mm=tolerance)}, classes=0)
    masks = (mask.astype(np.uint8) for mask in (prediction, truth))
    return accuracy.structure_scores(*masks, task, spacing)["it"].nsd


def save(path: Path, labels: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Path:
    nib.save(nib.Nifti1Image(labels, np.diag([*spacing, 1.0])), path)
    return path


def scored(
    folder: Path,
    prediction: np.ndarray,
    truth: np.ndarray | None,
    *,
    baseline: np.ndarray | None = None,
    task: TaskRecord = TASK,
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    roi: Roi | None = None,
    **settings: Any,
) -> Score:
    volumes = (prediction, prediction if baseline is None else baseline, prediction if truth is None else truth)
    paths = [save(folder / f"{i}.nii.gz", labels, spacing) for i, labels in enumerate(volumes)]
    case = Case("a", str(paths[2]), None if truth is None else str(paths[2]), 1, prediction.shape, spacing)
    own = replace(SETTINGS, **settings)
    return accuracy.score(case, own, task, (), *paths[:2], subtype=2, baseline_subtype=0, roi=roi)


# --- against the baseline's mask -------------------------------------------------------------------------------------


def test_by_agreement_the_scores_are_those_to_the_baselines_mask_whatever_the_truth_is(tmp_path: Path) -> None:
    masks = {name: np.zeros((24, 20, 16), np.uint8) for name in ("baseline", "eroded")}
    masks["baseline"][4:14, 5:15, 3:13] = 1
    masks["eroded"][5:13, 6:14, 4:12] = 1
    score = scored(tmp_path, masks["eroded"], np.ones((24, 20, 16), np.uint8), baseline=masks["baseline"],
                   accuracy="agreement", roi=Roi(((0, 1, 0, 1, 0, 1),), False, 1, 1, 0))  # fmt: skip
    whole, lesion = (score.structures[name] for name in (WHOLE, LESION))
    assert (whole.dsc, lesion.absent, whole.outside) == (pytest.approx(2 * 8**3 / (8**3 + 10**3)), True, None)
    assert whole.nsd == 1.0, "one voxel of 1 mm is within the tolerance"
    assert scored(tmp_path, masks["baseline"], None, accuracy="agreement").structures[WHOLE].dsc == 1.0


# --- the same, a structure at a time ---------------------------------------------------------------------------------


def single_nsd(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> float:
    """Over the whole volume, every voxel of both surfaces looked up."""
    overlap = accuracy.dsc(prediction, truth)
    if overlap in (0.0, 1.0) or overlap < 0.2:
        return float(overlap == 1)
    (box,) = ndimage.find_objects((prediction | truth).view(np.uint8))
    surfaces = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing for mask in (prediction[box], truth[box])]
    bound = tolerance * (1 + 1e-9)
    near = [KDTree(b).query(a, distance_upper_bound=bound)[0] for a, b in (surfaces, surfaces[::-1])]
    return sum(int(np.isfinite(each).sum()) for each in near) / sum(map(len, surfaces))


def blobs(rng: np.random.Generator, shape: tuple[int, ...] = (24, 20, 16), count: int = 3) -> np.ndarray:
    """A few random balls that may touch the volume's sides."""
    grid = np.indices(shape)
    mask = np.zeros(shape, bool)
    for _ in range(count):
        centre, radius = rng.uniform(0, shape)[:, None, None, None], rng.uniform(2, 7)
        mask |= ((grid - centre) ** 2).sum(0) < radius**2
    return mask


@pytest.mark.parametrize("seed", range(12))
def test_one_pass_over_all_structures_gives_the_figures_of_each_to_the_last_bit(seed: int) -> None:
    rng, spacing = np.random.default_rng(seed), (0.7, 0.8, 2.5)
    truth = np.zeros((24, 20, 16), np.uint8)
    for label in (1, 2, 3):
        truth[blobs(rng, count=2)] = label
    prediction = np.roll(truth, rng.integers(-2, 3, 3), (0, 1, 2))
    prediction[rng.random(truth.shape) < 0.002] = 1
    prediction[prediction == 3] = 3 * (seed % 4 > 0)
    truth[truth == 2] = 2 * (seed % 6 > 0)
    task = accuracy.task_of(replace(TUMOUR, ignore=None), (0, 1, 2, 3), 0)
    scores = accuracy.structure_scores(prediction, truth, task, spacing)
    for name, structure in TUMOUR.structures.items():
        masks = [np.isin(mask, structure.labels) for mask in (prediction, truth)]
        assert scores[name] == StructureScore(
            dsc=accuracy.dsc(*masks), nsd=single_nsd(*masks, spacing, 2.0), absent=not np.any(masks)
        )


def monai_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """MONAI's Dice of two boolean volumes; where the truth is empty it is 1 or 0 with `ignore_empty` off."""
    metric = DiceMetric(include_background=True, ignore_empty=False)
    metric(torch.from_numpy(prediction)[None, None].float(), torch.from_numpy(truth)[None, None].float())
    return float(metric.aggregate())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("in_prediction", "in_truth"), [((0, 1, 2), (0, 1, 2)), ((0, 1), (0, 1, 2)), ((0,), (0, 1))])
def test_dsc_is_monais(tmp_path, seed, in_prediction, in_truth):
    rng = np.random.default_rng(seed)
    prediction, truth, baseline = (
        rng.choice(values, SHAPE).astype(np.uint8) for values in (in_prediction, in_truth, (0, 1, 2))
    )
    result = scored(tmp_path, prediction, truth, baseline=baseline)
    assert result.structures[WHOLE].dsc == pytest.approx(monai_dice(prediction > 0, truth > 0), abs=1e-6)
    assert result.structures[LESION].dsc == pytest.approx(monai_dice(prediction == 2, truth == 2), abs=1e-6)
    assert (result.voxels, result.differing_voxels) == (prediction.size, int((prediction != baseline).sum()))
    assert (result.subtype, result.baseline_subtype) == (2, 0)


def test_both_empty_is_one_and_one_empty_is_zero():
    nothing, something = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    assert accuracy.dsc(nothing, nothing) == 1
    assert accuracy.dsc(nothing, something) == accuracy.dsc(something, nothing) == 0


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
    assert nsd(prediction, truth, spacing, tolerance) == pytest.approx(theirs if rule else 0, abs=1e-6)


def cube(first: int, last: int) -> np.ndarray:
    mask = np.zeros((30, 30, 30), bool)
    mask[first:last, 5:15, 5:15] = True
    return mask


def test_nsd_of_known_shapes():
    nothing, something = np.zeros((30, 30, 30), bool), cube(5, 15)
    assert nsd(nothing, nothing, (1, 1, 1), 2) == nsd(something, something, (1, 1, 1), 0) == 1
    assert nsd(nothing, something, (1, 1, 1), 5) == nsd(something, nothing, (1, 1, 1), 5) == 0
    assert nsd(something, cube(7, 17), (1, 1, 1), 2) == 1, "a shift by the tolerance is within it"
    assert nsd(something, cube(7, 17), (1.1, 1, 1), 2) < 1
    # Moved by 3 along x. Of a cube's 2 x 100 + 8 x 36 surface voxels those of the outer face are 3 from the other cube,
    # and of the face inside it the middle 4 x 4 are at least 3 from its sides.
    assert nsd(something, cube(8, 18), (1, 1, 1), 2) == pytest.approx(1 - 2 * (100 + 16) / (2 * 488))
    assert nsd(something, cube(14, 24), (1, 1, 1), 20) == 0, "the overlap is too small for a surface to count"


def test_nsd_has_the_cases_spacing_and_the_structures_tolerance(tmp_path):
    """5 mm for the pancreas and 2 mm for the lesion; a part of a long pancreas is moved by 4 mm."""
    truth = np.zeros((40, 18, 12), np.uint8)
    truth[4:34, 4:14, 2:10], truth[10:24, 6:12, 4:8] = 1, 2
    prediction, spacing = np.roll(truth, 2, axis=0), (2.0, 1.0, 1.0)
    scores = scored(tmp_path, prediction, truth, spacing=spacing).structures
    assert scores[WHOLE].nsd == 1
    assert scores[LESION].nsd == nsd(prediction == 2, truth == 2, spacing, 2)
    assert scores[LESION].nsd < 1
    scores = scored(tmp_path, prediction, truth, spacing=spacing, task=ORGAN).structures
    assert (scores[WHOLE].nsd, scores[LESION]) == (1, StructureScore())
    scores = scored(tmp_path, prediction, None, spacing=spacing).structures
    assert scores == {WHOLE: StructureScore(), LESION: StructureScore()}


# --- overlapping structures, what is absent, what is ignored ---------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_regions_and_ignored_voxels_count_as_in_nnunets_evaluation(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:15, 3:14, 2:10], truth[5:10, 5:10, 4:8] = 1, 2 + seed % 2
    prediction = np.roll(truth, 1, axis=seed % 3)
    truth[rng.random(SHAPE) < 0.3] = 4
    result = scored(tmp_path, prediction, truth, baseline=np.zeros_like(truth), task=REGIONS)
    regions = [structure.labels for structure in TUMOUR.structures.values()]
    files = [str(tmp_path / name) for name in ("2.nii.gz", "0.nii.gz")]
    theirs = compute_metrics(*files, NibabelIO(), regions, ignore_label=4)["metrics"]
    for (name, structure), own in zip(TUMOUR.structures.items(), result.structures.values(), strict=True):
        dice = theirs[structure.labels]["Dice"]
        assert own.absent == np.isnan(dice), name
        assert own.dsc == pytest.approx(1.0 if own.absent else dice, abs=1e-12)
    assert result.structures["enhancing"].absent == (seed % 2 == 0)
    assert result.differing_voxels == (prediction > 0).sum(), "ignored ones too"


def test_a_slice_between_ignored_ones_has_the_surface_of_its_outline(tmp_path):
    """Of three slices one is annotated, as in sparse annotations; the slices are further apart than the tolerance."""
    spacing = (1.0, 1.0, 4.0)
    truth = np.zeros(SHAPE, np.uint8)
    truth[3:15, 3:14, 1:11], truth[6:10, 5:9, 3:9] = 1, 3
    prediction = np.roll(np.roll(truth, 3, axis=0), 1, axis=1)
    prediction[..., 5], truth[..., np.arange(SHAPE[2]) % 3 > 0] = 3, 4  # whatever is predicted in a slice without truth
    scores = scored(tmp_path, prediction, truth, task=REGIONS, spacing=spacing).structures
    for name, structure in TUMOUR.structures.items():
        near, total = 0.0, 0
        for z in range(0, SHAPE[2], 3):
            masks = [np.isin(mask[..., z], structure.labels) for mask in (prediction, truth)]
            size = sum(int((mask & ~ndimage.binary_erosion(mask)).sum()) for mask in masks)
            near, total = near + (size * single_nsd(*masks, spacing[:2], 2.0) if size else 0), total + size
        assert (scores[name].nsd, scores[name].absent) == (pytest.approx(near / total), False), name
        assert scores[name].nsd < 1


def test_a_structure_that_neither_holds_is_absent(tmp_path):
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:6] = 1
    one = StructureScore(dsc=1.0, nsd=1.0)
    assert scored(tmp_path, truth, truth).structures == {WHOLE: one, LESION: replace(one, absent=True)}
    false = truth.copy()
    false[0, 0, 0] = 2
    assert scored(tmp_path, false, truth).structures[LESION] == StructureScore(dsc=0.0, nsd=0.0)
    assert scored(tmp_path, truth, false).structures[LESION] == StructureScore(dsc=0.0, nsd=0.0)


# --- parts of a volume -----------------------------------------------------------------------------------------------


def test_center_patch_scores_the_patch_alone(tmp_path):
    truth = np.zeros(SHAPE, np.uint8)
    truth[6:14, 5:13, 2:10] = 1
    prediction = truth.copy()
    truth[0], prediction[-1] = 1, 2  # outside the patch, where nothing was predicted
    result = scored(tmp_path, prediction, truth, protocol="center-patch")
    assert (result.structures[WHOLE].dsc, result.structures[LESION].absent, result.voxels) == (1.0, True, 8**3)


def test_without_a_mask_there_is_no_score(tmp_path):
    result = scored(tmp_path, np.zeros(SHAPE, np.uint8), None)
    assert (result.structures[WHOLE].dsc, result.structures[LESION].dsc, result.differing_voxels) == (None, None, 0)


def test_a_lesion_is_pancreas_to_a_network_without_a_lesion_class(tmp_path):
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:6], truth[6:8] = 1, 2
    prediction = (truth > 0).astype(np.uint8)
    scores = scored(tmp_path, prediction, truth, task=ORGAN).structures
    assert (scores[WHOLE].dsc, scores[LESION]) == (1.0, StructureScore())
    assert scored(tmp_path, prediction, truth).structures[LESION].dsc == 0.0


def test_voxels_of_the_truth_outside_the_region_are_counted(tmp_path):
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:6, 2:4, 2:4], truth[10:14, 2:4, 2:4] = 1, 2
    roi = Roi(((0, 4, 0, 18, 0, 12), (11, 20, 0, 3, 0, 12)), False, 0, 0, 0)
    lesion = 4 + 3 * 2  # the first slice, and of three slices the half past the box

    def outside(**options: Any) -> list[int | None]:
        return [own.outside for own in scored(tmp_path, truth, **options).structures.values()]

    assert outside(truth=truth, task=ORGAN, roi=roi) == [8 + lesion, lesion]
    assert outside(truth=truth) == outside(truth=None, roi=roi) == [None, None]


# --- which cases -----------------------------------------------------------------------------------------------------


def test_max_cases_spread_over_the_sorted_list():
    cases = list(range(36))
    assert evenly(cases, 6) == [0, 6, 12, 18, 24, 30]
    assert evenly(cases, None) == evenly(cases, 99) == cases


def test_demo_width_and_checkpoint_exclude_each_other(tmp_path):
    from bench.errors import InputError

    with pytest.raises(InputError, match="--demo-width"):
        make_plan(Request(checkpoint=tmp_path, demo_width=32, backends="torch-amp", device="cpu"), "", "", None)
