"""nnU-Net's networks of every kind: the folder of each is inspected, and gives the masks of nnU-Net's predictor."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import engines
from bench.errors import InputError
from bench.pipeline.pipeline import Pipeline
from engines.base import Target
from engines.probe import check
from models.inspection import inspect
from models.suppress import suppress_output
from tests.bench.pipeline.test_nnunet import Module, load_both, one_thread, settings_of  # noqa: F401
from tests.nnunet import DATASETS, architecture, planned, train

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")

GRAPHS = ("torchscript", "ort-fp32", "openvino-fp32")
AS_GRAPHS = ("Heart", "BrainTumour", "BrainRegions", "Regions, residual")  # those of others differ in their channels
RESIDUAL = architecture("ResidualEncoderUNet", n_blocks_per_stage=[1, 2, 2])
SHAPE = (26, 24, 14)  # x, y, z; the plans ask for 1 x 1 x 3 mm and patches of 16 x 16 x 8
AFFINE = np.diag([-1.0, 1.0, 2.6, 1.0])


def with_lowres(its_plans):
    """The configurations that nnU-Net plans where images are large, of which one is refused."""
    full = its_plans["configurations"]["3d_fullres"]
    lowres = full | {"spacing": [4.0, 1.5, 1.5], "next_stage": "3d_cascade_fullres"}
    flat = full | {"patch_size": [16, 16], "spacing": [1.0, 1.0]}
    cascade = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    configurations = {"2d": flat, "3d_lowres": lowres, "3d_fullres": full, "3d_cascade_fullres": cascade}
    return its_plans | {"configurations": configurations}


def with_configuration(its_plans, name):
    """A configuration that somebody called by a name of their own."""
    changed = {"inherits_from": "3d_fullres", "spacing": [2.0, 1.0, 1.0]}
    return its_plans | {"configurations": its_plans["configurations"] | {name: changed}}


KINDS = {
    **{name: (dataset, planned(dataset), "3d_fullres") for name, dataset in DATASETS.items()},
    "Liver, 3d_lowres": (DATASETS["Liver"], with_lowres(planned(DATASETS["Liver"])), "3d_lowres"),
    "Regions, residual": (
        DATASETS["BrainRegions"], planned(DATASETS["BrainRegions"], architecture=RESIDUAL), "3d_fullres",
    ),
    "Heart, 3d_thin": (DATASETS["Heart"], with_configuration(planned(DATASETS["Heart"]), "3d_thin"), "3d_thin"),
}  # fmt: skip


def write_channels(folder: Path, channels: int, seed: int = 0) -> list[Path]:
    """Smooth blobs, another in each channel, from 0 to 255 as RGB wants, inside a border of zeros."""
    paths = []
    for channel in range(channels):
        noise = gaussian_filter(np.random.default_rng(seed + channel).normal(0, 1, SHAPE), 1.5)
        voxels = np.clip(100 + 300 * noise, 1, 255).astype(np.int16)
        voxels[:3], voxels[:, :1] = 0, 0
        paths.append(folder / f"case_{channel:04}.nii.gz")
        nib.save(nib.Nifti1Image(voxels, AFFINE), paths[-1])
    return paths


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_every_kind(kind, tmp_path):
    dataset, its_plans, configuration = KINDS[kind]
    checkpoint = train(tmp_path, its_plans, dataset, configuration=configuration)
    model, predictor = load_both(checkpoint)
    info = inspect(checkpoint.parent.parent)
    assert info["weights_sha256"] == model.sha256
    assert info["plans"]["configuration"] == configuration
    assert model.channels == len(dataset["channel_names"])
    images = write_channels(tmp_path, model.channels)
    with suppress_output():
        predictor.predict_from_files_sequential([list(map(str, images))], [str(tmp_path / "theirs")])
    theirs = np.asarray(nib.load(tmp_path / "theirs.nii.gz").dataobj)
    assert set(np.unique(theirs)) == {0, *model.labels}, "a mask that says nothing"
    assert set(np.unique(theirs)) <= set(model.task.labels.values())
    tile = torch.rand(1, model.channels, *model.tile, generator=torch.Generator().manual_seed(0))
    target = Target("cpu", model.tile, 1, 1, tmp_path / "cache", channels=model.channels)
    for backend in ("torch-fp32", *(GRAPHS if kind in AS_GRAPHS else ())):
        if not check(target, engines.BACKENDS[backend]).ok:
            continue
        with engines.load(backend).open(model, target) as session, torch.inference_mode():
            torch.testing.assert_close(session.infer(tile)[0], model.module(tile)[0], rtol=0, atol=1e-4)
            Pipeline(session, settings_of(model)).run(images, tmp_path / "ours.nii.gz")
        ours = np.asarray(nib.load(tmp_path / "ours.nii.gz").dataobj)
        for label in model.labels:
            own, expected = ours == label, theirs == label
            others = (own != expected).sum()  # of a small label 0.9999 allows none, and one voxel may lie at a tie
            assert others <= max(1, 0.0001 * (own.sum() + expected.sum())), (backend, label)
        assert backend != "torch-fp32" or np.array_equal(ours, theirs)


def test_an_image_that_a_normalisation_does_not_take(tmp_path):
    dataset = DATASETS["Normalisations"]
    model, _ = load_both(train(tmp_path, planned(dataset), dataset))
    images = write_channels(tmp_path, model.channels)
    nib.save(nib.Nifti1Image(np.full(SHAPE, 256, np.int16), nib.load(images[3]).affine), images[3])
    said = r"^.*case_0000\.nii\.gz: nnU-Net's preprocessing does not take it \(RGB images are uint 8, .*\); give images"
    with pytest.raises(InputError, match=said):
        Pipeline(Module(model.module), settings_of(model)).run(images, tmp_path / "ours.nii.gz")


def raw_regions(root: Path, dataset: dict) -> Path:
    """nnU-Net's raw layout with its dataset.json; a slab of each label."""
    truth = np.zeros(SHAPE, np.uint8)
    for label in sorted({part for value in dataset["labels"].values() for part in np.ravel(value)} - {0}):
        truth[6:14, 6:14, 2 + 2 * label : 8] = label
    for seed in range(2):
        for kind in ("imagesVal", "labelsVal"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        for path in write_channels(root / "imagesVal", len(dataset["channel_names"]), 10 * seed):
            path.rename(path.with_name(path.name.replace("case", f"case_{seed}")))
        nib.save(nib.Nifti1Image(truth, AFFINE), root / "labelsVal" / f"case_{seed}.nii.gz")
    (root / "dataset.json").write_text(json.dumps(dataset))
    return root


def test_a_run_of_channels_and_regions_from_the_folder_of_a_training(bench, tmp_path):
    dataset = DATASETS["BrainRegions"]
    checkpoint = train(tmp_path, planned(dataset), dataset)
    data = raw_regions(tmp_path / "raw", dataset)
    options = ("--checkpoint", checkpoint.parent.parent, "--data", data, "--rounds", 1)
    _, summary, printed = bench(*map(str, options), "--backends", "torch-fp32,peer-nnunet")
    assert {row["status"] for row in summary["variants"]} == {"ok"}, printed
    assert summary["task"]["structures"] == ["whole tumor", "tumor core", "enhancing tumor"]
    _, predictor = load_both(checkpoint)
    for case in ("case_0", "case_1"):
        images = sorted((data / "imagesVal").glob(f"{case}_*"))
        with suppress_output():
            predictor.predict_from_files_sequential([list(map(str, images))], [str(tmp_path / "theirs")])
        theirs = np.asarray(nib.load(tmp_path / "theirs.nii.gz").dataobj)
        for name in ("torch-fp32", "peer-nnunet"):
            (mask,) = Path("run").rglob(f"{name}/**/{case}.nii.gz")
            assert (np.asarray(nib.load(mask).dataobj) != theirs).mean() <= 1e-4, name
