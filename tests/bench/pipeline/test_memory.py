"""What a case takes of memory, in a process of its own: at most what `Pipeline` and its forecast say."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
SIDE = 192
STATED = 18  # bytes a voxel with three classes
SLACK = 2.5  # pages, arenas, the packed mask

# glibc keeps blocks under 32 MiB when they are freed, unless asked not to; those of large volumes it never keeps.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}

# Of a process that runs a small case and then a large one; `settings` and `session` are made in between.
BEGIN = """
import sys
from pathlib import Path
import torch
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.preparation import case_bytes
from bench.pipeline.settings import InferenceSettings
from bench.worker.ensemble import EnsembleSession

class Network:
    def __init__(self, classes, side):
        self.logits = torch.rand(1, classes, side, side, side)
    def infer(self, x):
        return self.logits, self.logits[:, :, 0, 0, 0]
    def sync(self):
        pass

def memory(what):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(what))
"""
END = """
pipeline = Pipeline(session, settings)
pipeline.run([Path("small_0000.nii.gz")], Path("small.nii.gz"))
now = memory("VmRSS")
pipeline.run([Path("large_0000.nii.gz")], Path("large.nii.gz"))
print(memory("VmHWM") - now)
"""
CHILD = f"""{BEGIN}
session = Network(3, 64)
settings = InferenceSettings(
    protocol="sliding-window", tile=(64, 64, 64), overlap=0.0, batch=1, roi="none", window=(-1000, 1000)
)
{END}"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no peak of memory")
@pytest.mark.parametrize("scaling", [(1, 0), (0.5, -1000)])
def test_a_case_takes_no_more_than_stated(tmp_path, scaling):
    for name, side in (("small", 64), ("large", SIDE)):
        values = np.random.default_rng(0).integers(0, 500, (side,) * 3).astype(np.int16)
        image = nib.Nifti1Image(values, np.eye(4))
        image.header.set_slope_inter(*scaling)
        nib.save(image, tmp_path / f"{name}_0000.nii.gz")
    run = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)} | GIVE_BACK,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    per_voxel = int(run.stdout) / SIDE**3
    assert 12 < per_voxel < STATED + SLACK, per_voxel


MANY = f"""{BEGIN}
CLASSES, SIDE, NETWORKS, OVERLAP = 120, 144, int(sys.argv[1]), float(sys.argv[2])
settings = InferenceSettings(
    protocol="sliding-window", tile=(48, 48, 48), overlap=OVERLAP, batch=1, roi="none", window=(-1000, 1000),
    labels=tuple(range(CLASSES)), subtypes=0, networks=NETWORKS, mirror_axes=(0,) if NETWORKS > 1 else (),
)
networks = [Network(CLASSES, 48) for _ in range(NETWORKS)]
session = networks[0] if NETWORKS == 1 else EnsembleSession(networks)
{END}
print(case_bytes(settings, (SIDE,) * 3, (1.0, 1.0, 1.0)), 4 * CLASSES * SIDE**3)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no peak of memory")
@pytest.mark.parametrize(("networks", "overlap"), [(1, 0.5), (3, 0.0)], ids=["plain", "ensemble, mirrored"])
def test_many_classes_take_no_more_than_forecast(tmp_path, networks, overlap):
    """1.4 GB of sums, of which a part is held at a time."""
    for name, side in (("small", 48), ("large", 144)):
        values = np.random.default_rng(0).integers(0, 500, (side,) * 3).astype(np.int16)
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}_0000.nii.gz")
    run = subprocess.run(
        [sys.executable, "-c", MANY, str(networks), str(overlap)], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | GIVE_BACK, capture_output=True, text=True, check=True,
    )  # fmt: skip
    taken, forecast, whole = map(int, run.stdout.split())
    assert taken <= 1.1 * forecast
    assert forecast < whole / 2
