"""What is said of the headers of a run's files, and nothing of sound ones."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data.cases import check_cases, find_cases
from bench.data.remarks import remarks_on, remarks_on_labels
from models.task import PANCREAS
from tests.bench.data.headers import AFFINE, noise, pixdim, save, truth
from tests.bench.values import VALUES


def remarks(root: Path, as_stored: bool = True) -> tuple[str, ...]:
    files = find_cases(root, "validation")[1]
    check_cases(files, PANCREAS, VALUES)
    return remarks_on(files, as_stored)


@pytest.fixture
def case(tmp_path):
    """Write a case whose image, or mask with `of_mask`, has these fields in its header."""

    def write(name: str = "a", of_mask: bool = False, affine: np.ndarray = AFFINE, **fields: object) -> Path:
        for ending, voxels in (("_0000", noise()), ("", truth())):
            changed = fields if of_mask == (ending == "") else {}
            save(tmp_path / "validation" / "subtype0" / f"{name}{ending}.nii.gz", voxels, affine, **changed)
        return tmp_path

    return write


def test_nothing_is_said_of_sound_headers(case):
    case("a")
    case("b", pixdim=pixdim(0.8000001, 0.7, 2.5))
    assert not remarks(case("c", of_mask=True, pixdim=pixdim(1, 1, 1)))


@pytest.mark.parametrize("spacing", [(0.8, 0.7, 5), (0, 0.7, 2.5), (0.8, 0.7, 2.51)])
def test_two_spacings(case, spacing):
    (remark,) = remarks(case(pixdim=pixdim(*spacing)))
    assert remark.startswith("pixdim and affine give different spacings in 1 of 1 cases (a): ")
    assert remark.endswith("and 0.8 x 0.7 x 2.5 mm in a; the affine's is used everywhere")


def test_sform_and_qform(case):
    quaternion = {"qform_code": 1, "quatern_d": 1.0, "qoffset_x": 30, "qoffset_y": -12, "qoffset_z": 7}
    assert not remarks(case("a", **quaternion))
    (remark,) = remarks(case("b", **quaternion | {"qoffset_z": 10}))
    assert remark.startswith("sform and qform differ in 1 of 2 cases (b), by up to 3 mm; the sform is in force")


def test_a_quaternion_that_is_none_is_not_asked(case):
    assert not remarks(case(qform_code=1, quatern_b=3.0))


def test_no_orientation(case):
    root, codes = case(sform_code=0), {"sform_code": 0}
    save(root / "validation" / "subtype0" / "a.nii.gz", truth(), **codes)
    (remark,) = remarks(root)
    assert remark == (
        "the orientation is not known in 1 of 1 cases (a), whose sform and qform codes are 0; nibabel's LAS is taken"
    )


def test_sheared_axes(case):
    affine = AFFINE.copy()
    affine[0, 1] = 0.2
    remark = remarks(case(affine=affine))[-1]
    assert remark.startswith("the axes are not perpendicular in 1 of 1 cases (a)")


def test_orientations_that_differ_and_masks_that_do(case):
    for name in "abcd":
        root = case(name)
    folder = root / "validation" / "subtype0"
    for file in ("d_0000", "d", "c"):
        nib.save(nib.as_closest_canonical(nib.load(folder / f"{file}.nii.gz")), folder / f"{file}.nii.gz")
    orientations = (
        "orientations differ: LPS in 3 of 4 cases (a, b, c), RAS in 1 of 4 cases (d); the network gets the axes as "
        "they are stored"
    )
    mask = (
        "the mask's axes have another order or sign than the image's in 1 of 4 cases (c); it is put onto the image's "
        "grid"
    )
    assert remarks(root) == (mask, orientations)
    assert remarks(root, as_stored=False) == (mask,)


def test_labels_that_no_mask_holds_and_masks_without_any_are_named(tmp_path):
    folder = tmp_path / "validation" / "subtype0"
    for name, mask in {"a": truth() > 0, "b": 0 * truth()}.items():
        save(folder / f"{name}_0000.nii.gz", noise())
        save(folder / f"{name}.nii.gz", mask.astype(np.uint8))
    cases = check_cases(find_cases(tmp_path, "validation")[1], PANCREAS, VALUES)
    assert [case.mask_labels for case in cases] == [(0, 1), (0,)]
    assert list(remarks_on_labels(cases, PANCREAS.labels)) == [
        "1 of 2 masks hold background alone (b)",
        "no mask holds 2 lesion: nothing of it can be lost in these cases",
    ]
    save(folder / "b.nii.gz", truth())
    assert (
        list(remarks_on_labels(check_cases(find_cases(tmp_path, "validation")[1], PANCREAS, VALUES), PANCREAS.labels))
        == []
    )
