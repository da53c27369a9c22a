"""What of a case is on its way: neither names nor headers; and what a node makes of it."""

import pickle
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.predict.inputs import image_file
from bench.predict.nodes.transport import Finder, Outcome, Sender, hidden, packed_labels, shown
from bench.worker.lines import OK, Line
from bench.worker.messages import BatchCase
from tests.bench.data.dicom.made import Made, labels, noise


@pytest.fixture
def case(tmp_path) -> BatchCase:
    """Of two channels, in a folder called after a patient."""
    folder = tmp_path / "Muster^Erika"
    folder.mkdir()
    paths = [folder / f"K-4711_000{channel}.nii.gz" for channel in (0, 1)]
    for path in paths:
        nib.save(nib.Nifti1Image(noise(), np.eye(4)), path)
    return BatchCase("K-4711", tuple(map(image_file, paths)), "K-4711.nii.gz")


def paths_of(case: BatchCase) -> list[Path]:
    return [Path(image.path) for image in case.images]


@pytest.mark.parametrize("seen", [True, False])
def test_nothing_that_is_sent_holds_a_name(case, seen):
    sender = Sender()
    sent = pickle.dumps((sender.sent("7-0", case, seen), sender.places(case)))
    for secret in (b"Muster", b"Erika", b"4711"):
        assert secret not in sent


def test_a_node_finds_the_files_that_it_sees_by_the_hashes_of_their_paths(case):
    sender = Sender()
    finder = Finder(sender.salt)
    assert [finder.find(place) for place in sender.places(case)] == paths_of(case)
    above = paths_of(case)[0].parent / ".." / paths_of(case)[0].parent.name / paths_of(case)[0].name
    assert finder.find(sender.places(replace(case, images=(image_file(above),)))[0]) == above
    assert Finder(Sender().salt).find(sender.places(case)[0]) is None, "the salt is another"


def test_a_file_of_another_date_or_size_is_not_the_same(case):
    sender = Sender()
    place = sender.places(case)[0]
    size, date = place.content
    for content in ((size + 1, date), (size, date + 1), (None, None)):
        assert Finder(sender.salt).find(replace(place, content=content)) is None
    paths_of(case)[0].unlink()
    assert Finder(sender.salt).find(place) is None


def test_names_are_hidden_and_shown_again(case, tmp_path):
    images = paths_of(case)
    reason = f"{images[1]}: it is 7 voxels, and {images[0].name} 0; see path 0"
    assert hidden(reason, images) == "{path 1}: it is 7 voxels, and {name 0} 0; see path 0"
    assert shown(hidden(reason, images), images) == reason
    series = Made().write(tmp_path / "Erika", noise())
    reason = f"{series}: damaged or cut short (IM0003: unpacked)"
    assert hidden(reason, [series]) == "{path 0}: damaged or cut short ({file 0 3}: unpacked)"
    assert shown(hidden(reason, [series]), [series]) == reason


def test_of_a_mask_only_its_labels_come_back(tmp_path):
    image = nib.Nifti1Image(labels(), np.eye(4))
    image.header["descrip"] = "Muster"
    nib.save(image, tmp_path / "m.nii.gz")
    outcome = Outcome("7-0", Line(case="7-0", images=(), status=OK), *packed_labels(tmp_path / "m.nii.gz"))
    assert b"Muster" not in pickle.dumps(outcome)
    np.testing.assert_array_equal(outcome.mask(), labels())
    assert outcome.mask().flags.f_contiguous
