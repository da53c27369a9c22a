"""DICOM as a loop with other people's parts: is the mask that comes back the one of the NIfTI, voxel by voxel?

    python scripts/dicom_loop.py [--of negated-column,tilted] [--without-network]

A case of the demo is written as a NIfTI by nibabel and as a CT series by pydicom. DCMTK's storescu sends the series to
Orthanc, getscu fetches it; the demo's network predicts both, from file to file; the DICOM segmentation is sent to
Orthanc, fetched again, and read by dcmqi. Its labels are put where dcmqi says that they lie, and held against the
NIfTI's mask as nibabel reads it. So for slices that lie straight, with negated cosines, obliquely, sheared by a tilted
gantry, and with slope and intercept by slice. With --without-network the truth is written in the place of what the
network finds. Orthanc and DCMTK are Debian's `orthanc` and `dcmtk`, dcmqi is PyPI's. Exits with 1 where a voxel
differs, with 2 where a program is missing.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray

import engines
from bench import demo
from bench.data.volume import read_header
from bench.data.write import write_mask
from bench.machine import host
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from bench.plan.cache import cache_folder
from engines.base import Target
from models.load import build_model, read_checkpoint
from models.task import PANCREAS
from tests.bench.data.dicom.made import Made, oblique

SOURCE = Made(spacing=(0.73, 0.73), apart=2.0, intercepts=(-1024.0,), origin=(-60.25, 40.5, -300.0))
LIE = {
    "straight": SOURCE,
    "negated-column": replace(SOURCE, cosines=(1, 0, 0, 0, -1, 0)),
    "negated-row": replace(SOURCE, cosines=(-1, 0, 0, 0, 1, 0)),
    "oblique": replace(SOURCE, cosines=oblique(7)),
    "tilted": replace(SOURCE, step=(0, 0.6, 1.9)),
    "scaled-by-slice": replace(SOURCE, slopes=(1.0, 0.5, 0.25), intercepts=(-1024.0, 0.0)),
}
PROGRAMS = {"Orthanc": "orthanc", "storescu": "dcmtk", "getscu": "dcmtk"}
NAMES = {value: name for name, value in PANCREAS.labels.items()}
WAIT_S = 30
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}  # DCMTK otherwise waits a tenth of a second with every slice

Predict = Callable[[Path, Path], None]
"""From an image to the file of its mask."""


def missing_programs() -> list[str]:
    """Those that are not installed, with what to do."""
    lost = [f"{name} is missing: apt-get install {package}" for name, package in PROGRAMS.items() if not _which(name)]
    return lost + (["dcmqi is missing: pip install dcmqi"] if _which("segimage2itkimage") is None else [])


def _which(name: str) -> str | None:
    """The system's, since pynetdicom installs a storescu of its own beside Python; and dcmqi's beside Python."""
    return shutil.which(name, path=f"/usr/bin:/usr/sbin:/usr/local/bin:{Path(sys.executable).parent}")


def _run(name: str, *arguments: str | Path) -> None:
    done = subprocess.run([str(_which(name)), *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT)
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")


@dataclass(frozen=True)
class Archive:
    """Orthanc, which is asked by DICOM's network protocol alone."""

    port: int

    def send(self, folder: Path) -> None:
        _run("storescu", "-R", "-aec", "ORTHANC", "+sd", "localhost", str(self.port), folder)

    def fetch(self, study: str, series: str, folder: Path) -> Path:
        folder.mkdir(parents=True)
        keys = {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": study, "SeriesInstanceUID": series}
        asked = [part for key, value in keys.items() for part in ("-k", f"{key}={value}")]
        _run("getscu", "-S", "-aec", "ORTHANC", "-od", folder, *asked, "localhost", str(self.port))
        return folder


@contextmanager
def orthanc(folder: Path) -> Iterator[Archive]:
    """A server of its own, with its files in `folder`, until the end of the block."""
    folder.mkdir()
    dicom, http = _free_port(), _free_port()
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "DicomAet": "ORTHANC", "DicomPort": dicom,
        "HttpPort": http, "RemoteAccessAllowed": False, "DicomAlwaysAllowStore": True, "DicomAlwaysAllowGet": True,
        "SyncStorageArea": False,
    }  # fmt: skip
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([str(_which("Orthanc")), str(file)], env=ENVIRONMENT, stdout=log, stderr=log)
    try:
        _await(dicom, process, folder / "log")
        yield Archive(dicom)
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("localhost", 0))
        return int(door.getsockname()[1])


def _await(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"Orthanc does not answer: {log.read_text()[-500:]}")


def as_series(made: Made, hu: NDArray[Any], folder: Path) -> NDArray[np.float32]:
    """Write `hu` as the slices of a series; gives the values that it then has."""
    count = hu.shape[2]
    slopes, intercepts = (np.resize(each, count) for each in (made.slopes, made.intercepts))
    stored = np.round((hu - intercepts) / slopes).astype(np.int16)
    made.write(folder, stored)
    values: NDArray[np.float32] = made.values(stored).astype(np.float32)
    return values


def by_dcmqi(
    segmentation: Path, affine: NDArray[np.float64], shape: tuple[int, ...], folder: Path
) -> NDArray[np.uint8]:
    """Labels ``[x, y, z]`` of an image with this `affine`, put where dcmqi says that each segment lies."""
    folder.mkdir()
    _run("segimage2itkimage", "--inputDICOM", segmentation, "--outputDirectory", folder, "-t", "nrrd")
    labels = np.zeros(shape, np.uint8)
    for path in folder.glob("*.nrrd"):
        image: Any = SimpleITK.ReadImage(str(path))
        voxels = SimpleITK.GetArrayFromImage(image).T > 0
        place = np.linalg.inv(affine) @ np.diag([-1, -1, 1, 1]) @ (*image.GetOrigin(), 1)
        if np.abs(place - np.rint(place)).max() > 1e-2:
            raise RuntimeError(f"dcmqi puts segment {path.stem} beside the voxels of its image")
        x, y, z = np.rint(place[:3]).astype(int)
        part = labels[x : x + voxels.shape[0], y : y + voxels.shape[1], z : z + voxels.shape[2]]
        part[voxels] = int(path.stem)
    return labels


def loop(name: str, archive: Archive, case: demo.DrawnCase, predict: Predict, folder: Path) -> tuple[int, int]:
    """Voxels that have a label in the NIfTI's mask, and voxels that differ from what came back."""
    made = replace(LIE[name], series=f"1.2.826.0.1.3680043.8.498.{1 + list(LIE).index(name)}")
    values, affine = as_series(made, case.image, folder / "series"), made.affine()
    nifti: Any = nib.Nifti1Image(values, affine)  # type: ignore[no-untyped-call]  # nibabel annotates little
    nib.save(nifti, folder / "image.nii.gz")
    predict(folder / "image.nii.gz", folder / "mask.nii.gz")
    archive.send(folder / "series")
    first = pydicom.dcmread(next((folder / "series").iterdir()))
    fetched = archive.fetch(first.StudyInstanceUID, first.SeriesInstanceUID, folder / "fetched")
    (folder / "segmentation").mkdir()
    predict(fetched, folder / "segmentation" / "mask.dcm")
    archive.send(folder / "segmentation")
    seg = pydicom.dcmread(folder / "segmentation" / "mask.dcm")
    (returned,) = archive.fetch(seg.StudyInstanceUID, seg.SeriesInstanceUID, folder / "returned").iterdir()
    expected = np.asarray(nib.load(folder / "mask.nii.gz").dataobj)  # type: ignore[attr-defined]
    back = by_dcmqi(returned, affine, expected.shape, folder / "dcmqi")
    return int((expected > 0).sum()), int((back != expected).sum())


@contextmanager
def network() -> Iterator[Predict]:
    """The demo's."""
    model = build_model(read_checkpoint(demo.CHECKPOINT))
    settings = InferenceSettings.of(model, protocol="sliding-window", batch=1, roi="none")
    target = Target("cpu", settings.tile, 1, host.physical_threads(), cache_folder())
    with engines.load(engines.BASELINE).open(model, target) as session:
        pipeline = Pipeline(session, settings)

        def predict(image: Path, mask: Path) -> None:
            pipeline.run([image], mask)

        yield predict


@contextmanager
def truth(case: demo.DrawnCase) -> Iterator[Predict]:
    """Writes what was drawn."""
    yield lambda image, mask: write_mask(mask, case.labels, read_header(image), NAMES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", default=",".join(LIE), metavar="A,B", help="how slices lie (default: all ways)")
    parser.add_argument("--without-network", action="store_true")
    options = parser.parse_args()
    lost = missing_programs()
    if lost:
        print("; ".join(lost), file=sys.stderr)
        return 2
    case, wrong = demo.draw_case("validation", 0), 0
    with (
        tempfile.TemporaryDirectory() as scratch,
        orthanc(Path(scratch) / "orthanc") as archive,
        truth(case) if options.without_network else network() as predict,
    ):
        for name in options.of.split(","):
            folder = Path(scratch) / name
            folder.mkdir()
            labelled, differ = loop(name, archive, case, predict, folder)
            print(f"{name:16} {labelled:7} voxels with a label, {differ} differ", flush=True)
            wrong += differ or not labelled
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
