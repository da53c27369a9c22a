"""nnU-Net's preprocessing and way back on tensors, against nnU-Net's own functions, over plans, spacings and shapes."""

from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_fill_holes, gaussian_filter

from bench.errors import InputError
from bench.pipeline.nnunet.official import OfficialPreprocessor
from bench.pipeline.nnunet.preparation import PlansPreprocessor, _filled, covered
from bench.pipeline.nnunet.tiling import NnUNetTiling
from bench.pipeline.preparation import preparation_of
from bench.pipeline.region import Geometry, Region, full_box
from bench.pipeline.settings import InferenceSettings
from models.model import Plans
from tests.nnunet import DATASET, DATASETS, planned, plans

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")

TILE = (8, 16, 16)
SPLINES = "resample_data_or_seg_to_shape"
FUNCTIONS = {
    "splines": {},
    "no separate axis": {"force_separate_z": False},
    "always a separate axis": {"force_separate_z": True},
    "linear": {"order": 1},
    "linear between slices": {"order_z": 1},
    "torch": "resample_torch_fornnunet",
    "none": "no_resampling_hack",
}
MM = st.sampled_from([0.7, 1.0, 1.5, 3.0, 5.0])
COUNT = st.integers(9, 26)


def resampling(kind: str) -> dict:
    """Entries of a configuration."""
    named, changed = FUNCTIONS[kind], {}
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        options = {"is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": None}
        options |= named if isinstance(named, dict) else {}
        other = isinstance(named, str)
        changed[f"resampling_fn_{what}"] = named if other else SPLINES
        changed[f"resampling_fn_{what}_kwargs"] = {"is_seg": what == "seg"} if other else options
    if kind == "none":
        changed |= {f"resampling_fn_{what}_kwargs": {} for what in ("data", "seg", "probabilities")}
    return changed


def settings_of(its_plans: Plans, labels: tuple[int, ...], painting=None, channels: int = 1) -> InferenceSettings:
    return InferenceSettings(
        protocol="sliding-window", tile=TILE, overlap=0.5, batch=1, roi="none", window=(0, 1), labels=labels,
        painting=painting, channels=channels, subtypes=0, plans=its_plans,
    )  # fmt: skip


def write_image(path: Path, shape, mm, seed: int, dtype=np.int16, scaling=None) -> Path:
    """Blobs with a border of zeros, and holes of zeros in it."""
    rng = np.random.default_rng(seed)
    hu = gaussian_filter(rng.normal(0, 1, shape), 1.5) * 900 + 80
    hu[:3], hu[:, -2:] = 0, 0
    hu[5:7, 3:6, 2:5] = 0
    image = nib.Nifti1Image(hu.astype(dtype), np.diag([*mm, 1.0]))
    if scaling:
        image.header.set_slope_inter(*scaling)
    nib.save(image, path)
    return path


def both(its_plans: Plans, images: list[Path], given_settings: InferenceSettings):
    """Volumes as prepared by us and by nnU-Net, their properties, and what prepared them."""
    results = []
    for preprocessor in (
        PlansPreprocessor(its_plans, given_settings.classes, torch.device("cpu")), OfficialPreprocessor(its_plans),
    ):  # fmt: skip
        volume = preprocessor.read(images)
        prepared, _ = preprocessor.prepare(volume)
        geometry = Geometry(volume.nifti, Region.of(full_box(volume.intensities.shape[1:])), volume.properties)
        results.append((preprocessor, prepared, geometry))
    return results


def mask_of(preprocessor, geometry, prepared: torch.Tensor, given_settings: InferenceSettings, seed: int):
    """The mask out of made-up logits of its tiles."""
    tiling = NnUNetTiling(given_settings, torch.device("cpu"))
    grid = tiling.grid(tuple(prepared.shape[1:]))
    merger = tiling.merger(grid, preprocessor.receiver(geometry, grid))
    made_up = logits_of(len(grid.boxes), len(given_settings.labels), seed)
    for box, logits in zip(grid.boxes, made_up, strict=True):
        merger.aggregate([box], logits[None].clone(), torch.empty(1, 0))
    return preprocessor.restore(geometry, merger)


@lru_cache(maxsize=1)  # both preprocessors are given the same ones
def logits_of(tiles: int, labels: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Smooth ones ``[labels, *TILE]`` of each tile, so that structures have borders."""
    noise = np.random.default_rng(seed).normal(0, 1, (tiles, labels, *TILE))
    return tuple(torch.from_numpy(gaussian_filter(each, (0, 2, 2, 2)).astype(np.float32)) * 40 for each in noise)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(COUNT, COUNT, COUNT), mm=st.tuples(MM, MM, MM), spacing=st.tuples(MM, MM, MM),
    kind=st.sampled_from(list(FUNCTIONS)), seed=st.integers(0, 99),
    forward=st.sampled_from([[0, 1, 2], [1, 2, 0], [2, 0, 1], [1, 0, 2]]),
    reader=st.sampled_from(["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"]),
    name=st.sampled_from(["Pancreas", "BrainTumour", "BrainRegions", "Normalisations", "Scribbles"]),
    masked=st.booleans(), dtype=st.sampled_from([np.int16, np.uint8, np.float32]),
    scaling=st.sampled_from([None, None, (0.5, -20)]),
)  # fmt: skip
def test_volumes_and_masks_are_nnunets(
    tmp_path, shape, mm, spacing, kind, seed, forward, reader, name, masked, dtype, scaling
):
    dataset = DATASETS[name]
    channels = len(dataset["channel_names"])
    if name == "Normalisations":  # RGB takes nothing else
        dtype, scaling = np.uint8, None
    held = planned(dataset, spacing=list(spacing), patch_size=list(TILE), **resampling(kind))
    if masked:
        held["configurations"]["3d_fullres"]["use_mask_for_norm"] = [True] * channels
    back = [forward.index(axis) for axis in range(3)]
    held |= {"transpose_forward": forward, "transpose_backward": back, "image_reader_writer": reader}
    its_plans = Plans(held, dataset, "3d_fullres")
    regions = dataset.get("regions_class_order")
    labels = tuple(regions) if regions else tuple(range(sum(each != "ignore" for each in dataset["labels"])))
    given_settings = settings_of(its_plans, labels, tuple(range(len(regions))) if regions else None, channels)
    images = [
        write_image(tmp_path / f"a_{number:04}.nii.gz", shape, mm, seed + number, dtype, scaling)
        for number in range(channels)
    ]
    (ours, prepared, geometry), (theirs, expected, their_geometry) = both(its_plans, images, given_settings)
    assert prepared.shape == expected.shape
    largest = float(expected.abs().max())
    torch.testing.assert_close(prepared, expected, rtol=1e-6, atol=1e-6 * largest)
    for key in ("shape_before_cropping", "bbox_used_for_cropping", "shape_after_cropping_and_before_resampling"):
        assert np.array_equal(geometry.properties[key], their_geometry.properties[key]), key
    mask = mask_of(ours, geometry, prepared, given_settings, seed)
    their_mask = mask_of(theirs, their_geometry, expected, given_settings, seed)
    assert mask.shape == their_mask.shape == shape
    assert (mask != their_mask).mean() <= (2e-4 if mask.size > 5000 else 1e-3)  # ties of float16
    if kind == "none" or list(spacing) == [mm[2 - axis] for axis in forward]:
        assert torch.equal(prepared, expected)
        assert np.array_equal(mask, their_mask)


def test_splines_of_logits_are_left_to_nnunet(tmp_path):
    cubic = plans()
    cubic["configurations"]["3d_fullres"]["resampling_fn_probabilities_kwargs"]["order"] = 3
    for held, preprocessor in ((plans(), PlansPreprocessor), (cubic, OfficialPreprocessor)):
        its_plans = Plans(held, DATASET, "3d_fullres")
        assert covered(its_plans) == (preprocessor is PlansPreprocessor)
        chosen, _ = preparation_of(settings_of(its_plans, (0, 1, 2)), torch.device("cpu"))
        assert type(chosen) is preprocessor


@pytest.mark.parametrize("kind", [PlansPreprocessor, OfficialPreprocessor])
def test_a_slice_of_which_nothing_is_left_is_refused(tmp_path, kind):
    path = write_image(tmp_path / "a_0000.nii.gz", (12, 12, 1), (1, 1, 1), 0)
    held = plans()
    held["configurations"]["3d_fullres"]["spacing"] = [2.5, 0.8, 0.8]
    its_plans = Plans(held, DATASET, "3d_fullres")
    given_settings = settings_of(its_plans, (0, 1, 2))
    preprocessor = (
        OfficialPreprocessor(its_plans)
        if kind is OfficialPreprocessor
        else PlansPreprocessor(its_plans, given_settings.classes, torch.device("cpu"))
    )
    with pytest.raises(InputError, match=r"a_0000\.nii\.gz: too thin for the plans' spacing of 2\.5 x 0\.8 x 0\.8 mm"):
        preprocessor.prepare(preprocessor.read([path]))
    assert preprocessor.forecast((12, 12, 1), (1.0, 1.0, 1.0)).prepared[0] == 0


def test_voxels_that_are_not_finite_are_named(tmp_path):
    path = write_image(tmp_path / "a_0000.nii.gz", (12, 12, 12), (1, 1, 3), 0, np.float32)
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[4, 4, 4] = np.nan
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    its_plans = Plans(plans(), DATASET, "3d_fullres")
    with pytest.raises(InputError, match=r"a_0000\.nii\.gz: the image has voxels that are NaN"):
        PlansPreprocessor(its_plans, settings_of(its_plans, (0, 1, 2)).classes, torch.device("cpu")).read([path])


@settings(max_examples=60, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 12)] * 3), share=st.floats(0.2, 0.9), seed=st.integers(0, 99))
def test_holes_are_filled_as_by_scipy(shape, share, seed):
    mask = np.random.default_rng(seed).random(shape) < share
    np.testing.assert_array_equal(_filled(mask), binary_fill_holes(mask))
