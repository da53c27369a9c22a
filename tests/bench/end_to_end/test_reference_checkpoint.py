"""The reference checkpoint on files that the demo's generator did not write."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from bench.cli.main import main
from tests.loading import load

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.1, -0.2, 0.05) @ np.diag([-0.73, -0.73, 2.0]), [81.5, 60.25, -412.0]
)


@pytest.fixture
def data(tmp_path) -> Path:
    """Quiz layout: int32 images with slope, float64 masks of 1.0000152587890625, an oblique affine, 21 slices."""
    rng = np.random.default_rng(5)
    for number, subtype in ((3, 0), (8, 2)):
        folder = tmp_path / "data" / "validation" / f"subtype{subtype}"
        folder.mkdir(parents=True)
        hu = np.full((90, 70, 21), -900.0)
        hu[8:82, 6:64] = rng.normal(40, 60, (74, 58, 21))
        labels = np.zeros(hu.shape)
        labels[30:60, 25:45, 5:15], labels[40:50, 30:40, 8:12] = 1, 2
        hu += 60 * labels
        image = nib.Nifti1Image(np.round((hu + 1024) / 0.25).astype(np.int32), OBLIQUE)
        image.header.set_slope_inter(0.25, -1024)
        nib.save(image, folder / f"quiz_{subtype}_{number:03}_0000.nii.gz")
        mask = nib.Nifti1Image(labels * 1.0000152587890625, OBLIQUE)
        mask.set_data_dtype(np.float64)
        nib.save(mask, folder / f"quiz_{subtype}_{number:03}.nii.gz")
    return tmp_path / "data"


def test_the_reference_checkpoint_runs_and_its_masks_overlay_the_images(
    reference_checkpoint, data, tmp_path, monkeypatch, capsys, limit
):
    limit(launches=1, confirmation=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    code = main(["run", "--checkpoint", str(reference_checkpoint), "--data", str(data), "--backends", "torchscript",
                 "--device", "cpu", "--rounds", "1"])  # fmt: skip
    assert code == 3, "two cases are too few for any claim"
    assert main(["report", "--format", "json"]) == 0
    printed = capsys.readouterr()
    assert "at least 5 cases" in printed.out
    module = load(reference_checkpoint)[0].module
    for path in sorted(data.rglob("*_0000.nii.gz")):
        name = path.name.removesuffix("_0000.nii.gz")
        image = nib.load(path)
        mask = nib.load(Path("runs/latest/predictions/torch-fp32") / f"{name}.nii.gz")
        assert mask.shape == image.shape
        np.testing.assert_array_equal(mask.affine, image.affine)
        np.testing.assert_allclose(mask.header.get_zooms(), image.header.get_zooms())
        x = (torch.from_numpy(image.get_fdata(dtype=np.float32)).clamp(-1000, 1000) + 1000) / 2000
        with torch.inference_mode():
            logits = sliding_window_inference(x[None, None], (64,) * 3, 1, lambda t: module(t)[0], 0.5, "gaussian")
        expected = logits[0].argmax(0).numpy()
        differing = (mask.get_fdata() != expected).mean()
        assert differing < 1e-4, "but for ties in rounding, voxel by voxel what MONAI gives"
    record = json.loads(Path("runs/latest/run.json").read_text())
    assert record["checkpoint"]["parameters"] == 1_609_934
    assert record["checkpoint"]["training_metrics"]
