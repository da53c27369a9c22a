"""Series that are no volume, or cannot be read rightly: one line each, and nothing of the patient in it."""

import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from bench.data.volume import read_image
from bench.errors import InputError
from tests.bench.data.dicom.made import BORN, ENHANCED_CT, ID, MR, PATIENT, Made, noise

Change = Callable[[int, Dataset], Any]


def line_of(path: Path) -> str:
    """What is said of it, in a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as refused:
            read_image((path,))
    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    assert not any(part in line for part in (*PATIENT.split("^")[:2], ID, BORN, "20240229", "20240301", "1964"))
    return line.removeprefix(str(path))


def refused(tmp_path: Path, change: Change = lambda _index, _dataset: None, made: Made | None = None) -> str:
    return line_of((made or Made()).write(tmp_path / "a", noise(), change))


def setting(where: int | None = None, **elements: Any) -> Change:
    """Of one slice, or of all."""

    def change(index: int, dataset: Dataset) -> None:
        for name, value in elements.items():
            if where in (None, index):
                setattr(dataset, name, value)

    return change


def test_a_missing_slice_is_named_by_its_gap(tmp_path):
    line = refused(tmp_path, lambda index, _: index != 3)
    assert line == (
        ": 5 mm between the slices at 1012 and 1017 mm along their normal, and 2.5 mm between others: 1 slice is "
        "missing; copy or export the whole series"
    )


@pytest.mark.parametrize(("kept", "missing"), [((0, 2, 3), "1 slice is"), ((0, 1, 4), "2 slices are")])
def test_so_it_is_in_a_short_series(tmp_path, kept, missing):
    line = refused(tmp_path, lambda index, _: index in kept)
    assert f"and 2.5 mm between others: {missing} missing; copy or export the whole series" in line


def test_uneven_slices(tmp_path):
    line = refused(tmp_path, setting(2, ImagePositionPatient=["-101.25", "12.5", "1013"]))
    assert "3.5 mm between the slices at 1009.5 and 1013 mm" in line
    line = line_of(Made().write(tmp_path / "b", noise(), setting(2, ImagePositionPatient=["-99", "12.5", "1012"])))
    assert ": its slices lie up to 2.25 mm beside a straight line; resample it onto an even grid, as NIfTI" in line
    positions = [0, 2.5, 5.1, 7.9, 10.9]

    def growing(index: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = ["0", "0", str(positions[index])]

    assert "they are uneven" in line_of(Made().write(tmp_path / "c", noise(), growing))


def test_several_images_at_a_place(tmp_path):
    path = Made().write(tmp_path / "a", noise())
    for file in list(path.iterdir()):
        dataset = pydicom.dcmread(file)
        dataset.SOPInstanceUID += ".5"
        dataset.save_as(file.with_name(f"phase2_{file.name}"))
    assert line_of(path) == (
        ": 10 slices lie at 5 places, so it holds several images, such as phases, echoes or time points; put each into "
        "a folder of its own"
    )
    (path / "phase2_IM0001").write_bytes((path / "IM0000").read_bytes())
    assert line_of(path) == ": IM0000 and phase2_IM0001 are copies of one image; take one of them out"


def test_two_series(tmp_path):
    path = Made(order=(0, 1)).write(tmp_path / "a", noise())
    for name in ("IM0000", "IM0001"):
        (path / name).rename(path / f"b{name}")
    Made(series="1.2.3.20240229.4").write(path, noise(), setting(SeriesNumber=7))
    assert line_of(path) == (
        ": holds 2 series: CT 7 (5 files, IM0000 the first) and CT 3 (2 files, bIM0000 the first); put each into a "
        "folder of its own"
    )


def test_nothing_but_localizers_and_others(tmp_path):
    path = Made().write(tmp_path / "a", noise(), setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    Made(series="1.2.3").write(tmp_path / "b", noise((7, 6, 1)), setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2"))
    (tmp_path / "b" / "IM0000").rename(path / "dose")
    assert line_of(path) == (
        ": holds no CT, MR or PET slices (5 localizers, 1 of RT Dose Storage); give the folder of a series"
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (setting(1, Rows=7, PixelData=b"\0" * 98), ": its slices are 7 x 6 and 7 x 7 voxels; put each size into"),
        (setting(1, PixelSpacing=["0.8", "0.9"]), ": its slices have several spacings of voxels (2); put each"),
        (
            setting(1, ImageOrientationPatient=["1", "0", "0", "0", "0", "-1"]),
            ": its slices have several directions (2)",
        ),
        (setting(1, FrameOfReferenceUID="1.2.3"), ": its slices are of several frames of reference; put each"),
    ],
)
def test_slices_that_differ(tmp_path, change, line):
    assert line in refused(tmp_path, change)


@pytest.mark.parametrize(
    ("elements", "line"),
    [
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "its voxels are colours (RGB), not single"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "its voxels are colours (PALETTE COLOR)"),
        ({"HighBit": 11}, "its voxels have 16 of 16 bits up to bit 11, which is not read"),
        ({"ImagePositionPatient": None}, "it has no ImagePositionPatient, so its place is not known; export it again"),
        ({"PixelSpacing": ["0.8"]}, "its PixelSpacing is not 2 numbers; export it again"),
        ({"PixelSpacing": ["0.8", "-0.7"]}, "its PixelSpacing is 0.8 and -0.7 mm; export the series again"),
        ({"PixelSpacing": ["0", "0"]}, "its PixelSpacing is 0 and 0 mm"),
        ({"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]}, "1 0 0 1 0 0 is no pair of perpendicular unit"),
        ({"RescaleSlope": "0"}, "its RescaleSlope is 0, which leaves nothing of its values"),
        ({"NumberOfFrames": "2"}, "it has 2 frames where its kind has a single slice"),
        ({"Rows": 0}, "it has no voxels (7 x 0)"),
        ({"Rows": 65535, "Columns": 65535}, "damaged or cut short ("),
        ({"FrameOfReferenceUID": "none"}, "its FrameOfReferenceUID is none; export it again"),
        ({"SeriesInstanceUID": None}, "it has no SeriesInstanceUID; export it again"),
        ({"ModalityLUTSequence": [Dataset()]}, "its values come from a table (Modality LUT), which is not read"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_cannot_be_read_rightly(tmp_path, elements, line):
    assert line in refused(tmp_path, setting(**elements))


def test_mr_that_may_be_inverted(tmp_path):
    line = refused(tmp_path, setting(PhotometricInterpretation="MONOCHROME1"), Made(kind=MR))
    assert "(MONOCHROME1), and whether its values are inverted too is not said; convert it to MONOCHROME2" in line


def test_a_text_where_a_number_belongs(tmp_path):
    path = Made().write(tmp_path / "a", noise())
    file = path / "IM0002"
    file.write_bytes(file.read_bytes().replace(b"1012", b"Erik"))
    line = line_of(path)
    assert line == "/IM0002: its ImagePositionPatient is not 3 numbers; export it again"


def test_frames_that_are_not_described(tmp_path):
    path = Made().write_frames(tmp_path / "a" / "IM1", noise(), setting(NumberOfFrames=2**31 - 1))
    assert line_of(path.parent) == "/IM1: it says 2147483647 frames and describes 5; export it again"
    Made(series="1.2.4").write_frames(path, noise())
    Made(series="1.2.4").write_frames(path.with_name("IM2"), noise(), setting(SOPInstanceUID="1.2.5"))
    assert "its frames are in 2 files of several frames" in line_of(path.parent)


def test_syntaxes_that_nothing_unpacks(tmp_path, monkeypatch):
    path = Made().write(tmp_path / "a", noise())
    held = {file: file.read_bytes() for file in path.iterdir()}
    for uid, line in (
        ("1.2.840.10008.9.9.9", "its transfer syntax 1.2.840.10008.9.9.9 is not known; write it uncompressed"),
        ("1.2.840.10008.1.2.1.99", "its data set is deflated; write it uncompressed, with dcmconv +te"),
    ):
        for file, content in held.items():
            file.write_bytes(content.replace(_element("1.2.840.10008.1.2.1"), _element(uid)))
        assert line in line_of(path)
    for file in Made(syntax="1.2.840.10008.1.2.4.80").write(path, noise((16, 16, 5), np.uint16)).iterdir():
        assert b"1.2.840.10008.1.2.4.80" in file.read_bytes()
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    line = line_of(path)
    assert "its voxels are packed as JPEG-LS Lossless Image Compression, which nothing installed here unpacks" in line
    assert 'pip install ".[dicom]"' in line


def _element(uid: str) -> bytes:
    text = uid.encode() + b"\0" * (len(uid) % 2)
    return b"\x02\x00\x10\x00UI" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("kept", [0, 100, 200, 700, -20, -100])
def test_files_cut_short(tmp_path, kept):
    path = Made().write(tmp_path / "a", noise())
    file = path / "IM0004"
    file.write_bytes(file.read_bytes()[:kept])
    file.rename(path / "IM0004.dcm")
    assert line_of(path).startswith("/IM0004.dcm: ")


def test_packed_voxels_that_are_damaged(tmp_path):
    path = Made(syntax="1.2.840.10008.1.2.4.80").write(tmp_path / "a", noise((16, 16, 5), np.uint16))
    file = path / "IM0001"
    content = file.read_bytes()
    file.write_bytes(content[:-300] + b"\0" * 300)
    assert line_of(path).startswith(": damaged or cut short (IM0001: ")


def test_sequences_within_sequences_without_end(tmp_path):
    path = Made().write(tmp_path / "a", noise())
    file = path / "IM0001"
    dataset = pydicom.dcmread(file)
    begin = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    content = file.read_bytes()
    at = content.index(b"\x28\x00\x02\x00US")  # sequences of group 0040 there are out of order, which nobody minds
    file.write_bytes(content[:at] + begin * 100_000 + content[at:])
    assert dataset.PatientName == PATIENT
    assert line_of(path).startswith("/IM0001: not a readable DICOM file (")


def test_other_multi_frame_images_are_named(tmp_path):
    path = Made().write_frames(tmp_path / "a" / "IM1", noise(), setting(SamplesPerPixel=3))
    assert "its voxels are colours" in line_of(path.parent)
    assert ENHANCED_CT in path.read_bytes().decode("latin-1")


@pytest.mark.filterwarnings("ignore")
def test_any_damage_is_a_line_or_leaves_a_volume(tmp_path):
    """Bytes of a slice changed at random, 200 times."""
    path, draw = Made().write(tmp_path / "a", noise()), np.random.default_rng(0)
    file = path / "IM0002"
    whole, refusals = file.read_bytes(), 0
    for _ in range(200):
        content = bytearray(whole)
        for at in draw.integers(132, len(content), draw.integers(1, 6)):
            content[at] = draw.integers(256)
        file.write_bytes(content)
        said = ""
        try:
            assert read_image((path,)).intensities.shape[0] == 1
        except InputError as error:
            refusals, said = refusals + 1, str(error)
        assert not any(part in said for part in ("\n", "Muster", ID, BORN))
    assert refusals > 50
