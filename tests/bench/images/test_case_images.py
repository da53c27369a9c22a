"""What a page gets to show of a case: the right voxels in the right place, and no word of the files."""

import gzip
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.images.case_images import case_images
from reports.render.cases.images import MissingCase, PackedCase
from reports.summary.summarise import summarise
from tests.bench.data.dicom import made as dicom
from tests.bench.images.made import (
    AFFINE,
    AROUND_HU,
    LABELS,
    PATIENT,
    SHAPE,
    TISSUE_HU,
    VARIANT,
    image_of,
    masks,
    prediction,
    write_dicom_run,
    write_made_run,
)
from tests.reports.factory import BASELINE, TASK


def packs(run):
    images = case_images(run, summarise(run).worst_cases, VARIANT, 2**30)
    return list(images.packs)


def volume(packed: bytes):
    return nib.Nifti1Image.from_bytes(gzip.decompress(packed))


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "run", tmp_path / "data"


def test_a_voxel_of_the_page_lies_where_it_lay_in_the_file(folders):
    (pack,) = packs(write_made_run(*folders, cases=1))
    truth, baseline, variant = masks(0)
    image = volume(pack.channels["MR 0"])
    offset = np.rint(np.linalg.inv(AFFINE) @ image.affine)[:3, 3].astype(int)
    box = tuple(slice(first, first + side) for first, side in zip(offset, image.shape, strict=True))
    for name, mask in (("truth", truth), ("baseline", baseline), ("variant", variant)):
        np.testing.assert_array_equal(volume(pack.masks[name]).get_fdata(), mask[box])
        assert mask.sum() == mask[box].sum()  # nothing of it is cut off
    expected = image_of(truth).astype(np.int16)[box]
    near = np.abs(expected - TISSUE_HU) < 30
    step = image.dataobj.slope
    np.testing.assert_allclose(image.get_fdata()[near], expected[near], atol=0.51 * step)
    assert step < (TISSUE_HU - AROUND_HU) / 64, "tissue and fat are many steps apart"


def test_the_difference_says_what_was_added_and_what_was_removed(folders):
    (pack,) = packs(write_made_run(*folders, cases=1))
    difference = volume(pack.masks["difference"]).get_fdata()
    baseline, variant = (volume(pack.masks[name]).get_fdata() for name in ("baseline", "variant"))
    assert set(np.unique(difference)) == {0, 1, 2}
    np.testing.assert_array_equal(difference == 1, (baseline == 0) & (variant > 0))
    np.testing.assert_array_equal(difference == 2, (baseline > 0) & (variant == 0))
    at = np.rint(np.linalg.inv(volume(pack.masks["difference"]).affine) @ [*pack.focus_mm, 1])[:3].astype(int)
    assert difference[tuple(at)] > 0, "the first look falls on a difference"


@pytest.mark.parametrize("name", [PATIENT, *PATIENT.split("^")])
def test_no_word_of_a_header_goes_into_the_page(folders, name):
    (pack,) = packs(write_made_run(*folders, cases=1, channels=2))
    assert len(pack.channels) == 2
    for content in (*pack.channels.values(), *pack.masks.values()):
        unpacked = gzip.decompress(content)
        assert name.encode() not in unpacked
        held = volume(content)
        assert not held.header.extensions
        assert b"".join(held.header[field].item() for field in ("descrip", "aux_file", "intent_name", "db_name")) == b""
        assert np.frombuffer(content[4:8], np.uint32) == 0, "nor the time when it was packed"


def test_no_word_of_a_dicom_series_goes_into_the_page(folders):
    (pack,) = packs(write_dicom_run(*folders))
    assert isinstance(pack, PackedCase)
    contents = [gzip.decompress(content) for content in (*pack.channels.values(), *pack.masks.values())]
    for word in (*dicom.PATIENT.split("^"), dicom.BORN, dicom.ID, "1.2.826"):
        assert not any(word.encode() in content for content in contents if word)
    assert set(np.unique(volume(pack.masks["variant"]).get_fdata())) == {0, 1, 2}


def test_a_large_case_is_made_coarser_and_says_so_and_shows_every_change(folders, monkeypatch):
    def one_voxel(_):
        truth, baseline, variant = masks(0)
        variant = baseline.copy()
        variant[25, 29, 12] = 2 - variant[25, 29, 12]
        return truth, baseline, variant

    monkeypatch.setattr("bench.images.view.View.of.__func__.__defaults__", (4000,))
    (pack,) = packs(write_made_run(*folders, cases=1, of=one_voxel))
    difference = volume(pack.masks["difference"])
    assert np.prod(difference.shape) <= 4000
    assert np.count_nonzero(difference.get_fdata()) == 1
    at = np.argwhere(difference.get_fdata())[0]
    distance = np.abs(difference.affine @ [*at, 1] - AFFINE @ [25, 29, 12, 1])[:3]
    assert (distance < np.array(difference.header.get_zooms()) / 2).all()
    assert "each of" in pack.note


def of_first(run, variant):
    return prediction(run.folder, variant, run.record.cases[0])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda run: of_first(run, VARIANT).unlink(), "the variant's mask is not there"),
        (lambda run: of_first(run, BASELINE).write_bytes(b"x" * 400), "the baseline's mask cannot be read"),
        (lambda run: Path(run.record.cases[0].image).unlink(), "its image is not where the run read it"),
        (lambda run: os.truncate(run.record.cases[0].image, 3000), "its image cannot be read"),
        (lambda run: Path(run.record.cases[0].mask).unlink(), "the mask of its truth is not there"),
    ],
)
def test_a_case_that_cannot_be_shown_says_why_without_a_path(folders, damage, reason):
    run = write_made_run(*folders)
    case = run.record.cases[0]
    damage(run)
    missing = {pack.case: pack for pack in packs(run)}[case.name]
    assert isinstance(missing, MissingCase)
    assert missing.reason.startswith(reason)
    assert "/" not in missing.reason
    assert sum(isinstance(pack, PackedCase) for pack in packs(run)) == 1, "the other case is shown"


def test_what_is_ignored_in_the_truth_does_not_widen_the_view(folders):
    def ignoring(_):
        truth, baseline, variant = masks(0, (48, 40, 40))
        truth[:, :, 0] = 3
        return truth, baseline, variant

    (pack,) = packs(write_made_run(*folders, cases=1, of=ignoring, task=replace(TASK, labels=LABELS, ignore=3)))
    assert volume(pack.masks["truth"]).shape[2] < 40


def test_of_a_patch_only_the_patch_is_shown(folders):
    run = write_made_run(*folders, cases=1)
    settings = replace(run.record.settings, protocol="center-patch", tile=(16, 16, 16))
    (pack,) = packs(replace(run, record=replace(run.record, settings=settings)))
    held = np.argwhere(volume(pack.masks["variant"]).get_fdata())
    assert (np.ptp(held, axis=0) < 16).all()


def test_empty_masks_show_the_whole_image(folders):
    def nothing(_):
        return (np.zeros(SHAPE, np.uint8),) * 3

    (pack,) = packs(write_made_run(*folders, cases=1, of=nothing))
    assert volume(pack.masks["difference"]).shape == SHAPE
    assert not volume(pack.masks["difference"]).get_fdata().any()


def test_a_run_from_before_labels_were_recorded_can_be_shown(folders):
    run = write_made_run(*folders, cases=1)
    old = replace(run, record=replace(run.record, task=replace(run.record.task, labels={}, channels=())))
    (pack,) = packs(old)
    assert list(pack.channels) == ["image"]
