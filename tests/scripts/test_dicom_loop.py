"""The loop through Orthanc, DCMTK and dcmqi brings back the mask of the NIfTI."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = "scripts/dicom_loop.py"


@pytest.fixture(scope="module", autouse=True)
def programs():
    missing = runpy.run_path(str(ROOT / SCRIPT))["missing_programs"]()
    if missing:
        pytest.skip("; ".join(missing))


def looped(*arguments: str) -> dict[str, tuple[int, int]]:
    """Voxels with a label, and voxels that differ, by how slices lie."""
    ran = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = re.findall(r"^(\S+) +(\d+) voxels with a label, (\d+) differ$", ran.stdout, re.MULTILINE)
    return {name: (int(labelled), int(differ)) for name, labelled, differ in rows}


def test_every_way_that_slices_lie():
    rows = looped("--without-network")
    assert list(rows) == ["straight", "negated-column", "negated-row", "oblique", "tilted", "scaled-by-slice"]
    assert all(labelled > 1000 and differ == 0 for labelled, differ in rows.values()), rows


def test_with_the_demo_s_network():
    ((labelled, differ),) = looped("--of", "negated-column").values()
    assert labelled > 1000
    assert differ == 0
