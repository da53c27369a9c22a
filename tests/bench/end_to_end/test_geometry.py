"""Headers of any kind through `bench run`: scores of the right voxels in the right millimetres, or a refusal."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from bench import accuracy
from bench.data.cases import find_cases
from bench.data.formats import mask_ending
from bench.errors import InputError
from tests.bench.data.headers import pixdim, save

LPS = np.diag([-0.8, -0.8, 2, 1.0])
RAS = np.diag([0.8, 0.8, 2, 1.0])
KEPT = 4


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


@pytest.fixture
def cases(data, tmp_path):
    """Image and mask of four cases, whose truth is what the network says of the voxels as they are stored."""
    files = find_cases(data, "validation")[1][:KEPT]
    folder = tmp_path / "cases" / "validation" / "subtype1"
    pairs = {case.name: (voxels(case.image_path), voxels(case.mask_path)) for case in files}
    for name, (image, mask) in pairs.items():
        save(folder / f"{name}_0000.nii.gz", image, LPS)
        save(folder / f"{name}.nii.gz", mask, LPS)
    return folder, pairs


def test_scores_are_of_the_voxels_that_lie_on_each_other(bench, cases):
    """A mask with its axes exchanged and flipped, two spacings, an axis of length 1, two orientations: all score 1."""
    folder, pairs = cases
    turned, twice, behind, other = pairs
    image, mask = pairs[turned]
    exchanged = nib.Nifti1Image(mask, LPS).as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
    save(folder / f"{turned}.nii.gz", np.asanyarray(exchanged.dataobj), exchanged.affine)
    save(folder / f"{twice}_0000.nii.gz", pairs[twice][0], LPS, pixdim=pixdim(0.8, 0.8, 5))
    save(folder / f"{behind}_0000.nii.gz", pairs[behind][0][..., None], LPS)
    save(folder / f"{behind}.nii.gz", pairs[behind][1][..., None, None], LPS)
    save(folder / f"{other}_0000.nii.gz", pairs[other][0], RAS)
    save(folder / f"{other}.nii.gz", pairs[other][1], RAS)
    options = ("--data", str(folder.parents[1]), "--backends", "peer-script", "--rounds", "1")
    _, summary, printed = bench(*options, "--max-cases", str(KEPT))
    assert [variant["status"] for variant in summary["variants"]] == ["ok"] * 2, printed
    for variant in summary["variants"]:
        for structure in variant["accuracy"]["structures"].values():
            assert (structure["dsc"]["value"], structure["nsd"]["value"]) == (1, 1), variant["name"]
    record = json.loads(Path("run/run.json").read_text())
    assert {tuple(case["spacing_mm"]) for case in record["cases"]} == {(0.8, 0.8, 2.0)}
    assert {tuple(case["shape"]) for case in record["cases"]} == {image.shape}
    for words in (
        f"pixdim and affine give different spacings in 1 of 4 cases ({twice})",
        f"the mask's axes have another order or sign than the image's in 1 of 4 cases ({turned})",
        "orientations differ: LPS in 3 of 4 cases (",
    ):
        assert any(warning.startswith(words) for warning in summary["warnings"]), words
        assert words in printed, "before anything is measured"
    for mask in Path("run/predictions").glob(f"*/{behind}.nii.gz"):
        assert nib.load(mask).shape == image.shape


def test_cases_in_nrrd_and_metaimage(bench, cases):
    """Scores of masks that are written in the format of their images; a peer says why it cannot run them."""
    folder, pairs = cases
    endings = dict(zip(pairs, (".nrrd", ".mha", ".mhd", ".nii.gz"), strict=True))
    for name, ending in endings.items():
        for file in (f"{name}_0000", name):
            nifti, path = nib.load(folder / f"{file}.nii.gz"), folder / f"{file}{ending}"
            if ending != ".nii.gz":
                image = SimpleITK.GetImageFromArray(np.asanyarray(nifti.dataobj).T)
                image.SetSpacing((0.8, 0.8, 2))
                (folder / f"{file}.nii.gz").unlink()
                SimpleITK.WriteImage(image, str(path), True)
    options = ("--data", str(folder.parents[1]), "--backends", "peer-script", "--rounds", "1")
    _, summary, printed = bench(*options, "--max-cases", str(KEPT))
    baseline, peer = summary["variants"]
    assert baseline["status"] == "ok", printed
    for structure in baseline["accuracy"]["structures"].values():
        assert (structure["dsc"]["value"], structure["nsd"]["value"]) == (1, 1)
    assert (peer["status"], peer["reason"]) == (
        "skipped", "it reads and writes NIfTI, and the images are MetaImage and NRRD"
    )  # fmt: skip
    predictions = {path.name for path in Path("run/predictions/torch-fp32").iterdir()} - {"subtype_results.csv"}
    assert predictions == {f"{name}{mask_ending(f'a{ending}')}" for name, ending in endings.items()}


MOVED = LPS.copy()
MOVED[2, 3] = 2


@pytest.mark.parametrize(
    ("ending", "of_type", "affine", "refusal"),
    [
        ("", np.uint8, MOVED, "the mask does not lie on its image: its affine is [-0.8 0 0 0; 0 -0.8 0 0; 0 0 2 2]"),
        ("_0000", np.complex64, LPS, "its voxels are complex numbers, not single real numbers"),
        ("_0000", [("R", "u1"), ("G", "u1"), ("B", "u1")], LPS, "its voxels are colours, not single real numbers"),
        ("_0000", np.int16, np.diag([0.8, 0, 2, 1.0]), "places no voxel"),
    ],
)
def test_refusals_name_the_file_and_come_first(bench, cases, ending, of_type, affine, refusal):
    folder, pairs = cases
    name = next(iter(pairs))
    path = save(folder / f"{name}{ending}.nii.gz", np.zeros(pairs[name][0].shape, of_type), affine)
    code, summary, printed = bench("--data", str(folder.parents[1]), "--backends", "torch-fp32")
    assert (code, summary) == (2, {})
    line = printed.strip().splitlines()[-1]
    assert line.startswith(f"bench: {path}: ")
    assert refusal in line


def test_a_peer_that_places_its_mask_elsewhere_has_failed(bench, monkeypatch):
    score = accuracy.score

    def refusing(case, settings, task, values, prediction, *others):
        if "peer-script" in str(prediction):
            raise InputError(f"{prediction}: the mask does not lie on its image")
        return score(case, settings, task, values, prediction, *others)

    monkeypatch.setattr(accuracy, "score", refusing)
    _, summary, _ = bench("--backends", "peer-script", "--rounds", "1")
    baseline, peer = summary["variants"]
    assert (baseline["status"], peer["status"]) == ("ok", "failed")
    assert peer["reason"].endswith("the mask does not lie on its image")
