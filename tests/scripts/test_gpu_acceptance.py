"""The acceptance script, tried without a GPU: it must not fail on a user's machine for a reason of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench import demo

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("claim", "scenarios", "kernels", "trt86", "coarse", "bodies", "tests", "all")


@pytest.fixture
def cache(tmp_path) -> Path:
    """A cache with the demo's first case, cut to one tile, which the script takes for the demo."""
    drawn = demo.draw_case("validation", 0)
    middle = np.argwhere(drawn.labels).mean(0).astype(int)
    part = tuple(slice(max(0, at - 32), at + 32) for at in middle)
    folder = tmp_path / "cache" / f"demo-{demo.VERSION}" / "validation" / "subtype0"
    folder.mkdir(parents=True)
    for name, values in (("quiz_0_600_0000", drawn.image.astype(np.int16)), ("quiz_0_600", drawn.labels)):
        nib.save(nib.Nifti1Image(values[part], np.diag((*drawn.spacing, 1))), folder / f"{name}.nii.gz")
    return tmp_path / "cache"


@pytest.fixture
def accept(tmp_path, cache, quick_processes):
    """Call the script on the CPU, with little to do, and with time for it on any machine."""

    def call(**settings: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {
            "PYTHON": sys.executable, "DEVICE": "cpu", "WIDTH": "8", "CASES": "1", "BODIES": "1", "BUDGET": "1",
            "BODIES_DEMO": "pancreas", "SECONDS_EACH": "400", "VOXBENCH_CACHE": str(cache),
            "BACKENDS": "torch-fp32", "TRT86": sys.executable, "TRT86_PRECISIONS": "fp16",
        } | settings  # fmt: skip
        command = ["bash", str(ROOT / "scripts/gpu_acceptance.sh"), str(tmp_path / "accepted")]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    return call


@pytest.mark.long
def test_every_stage_leaves_what_can_be_committed_and_is_not_run_again(accept, tmp_path):
    stopped = accept(STAGES="claim", SECONDS_EACH="1")
    assert "not ended; run the script again to go on" in stopped.stdout
    first = accept()  # goes on
    kept, run = tmp_path / "accepted-kept", tmp_path / "accepted" / "run.json"
    assert first.stdout.count("\n== ") == len(STAGES) + 1, first.stdout + first.stderr
    assert not re.search("^not (ended|begun|run|measured)", first.stdout, re.MULTILINE), first.stdout + first.stderr
    expected = {
        "accepted": {"torch-fp32"}, "accepted-trt86": {"torch-fp32", "openvino-fp32", "trt86-fp16"},
        "accepted-coarse": {"torch-fp32", "openvino-fp32"},
    }  # fmt: skip
    for name, variants in expected.items():
        summary = json.loads((kept / name / "summary.json").read_text())
        assert {row["name"]: row["status"] for row in summary["variants"]}.items() >= dict.fromkeys(
            variants, "ok"
        ).items()
    for name in ("accepted", "accepted-trt86", "accepted-coarse", "accepted-bodies", "accepted-all"):
        assert {"run.json", "cases.csv", "samples", "variants", "report.md"} <= {
            p.name for p in (kept / name).iterdir()
        }
    assert json.loads((kept / "offline.json").read_text())["backend"] == "torch-fp32"
    assert "torch-fused" in (kept / "doctor.txt").read_text()
    assert "skipped" in (kept / "tests.txt").read_text()

    measured = samples(tmp_path)
    run.write_text(run.read_text().replace('"status": "complete"', '"status": "running"'))
    (tmp_path / "accepted-logs" / "claim.ended").unlink()
    again = accept()
    assert again.returncode == first.returncode, again.stdout + again.stderr
    assert again.stdout.count("has ended before") == len(STAGES) - 1
    assert '"status": "complete"' in run.read_text()
    assert samples(tmp_path) == measured, "what a run has measured is not measured again"


def samples(folder: Path) -> list[str]:
    """Those that count."""
    return [line for line in (folder / "accepted" / "cases.csv").read_text().splitlines() if ",warmup," not in line]


def test_every_gpu_test_is_run():
    marked = {path for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()} - {Path(__file__)}
    script = (ROOT / "scripts/gpu_acceptance.sh").read_text()
    assert {str(path.relative_to(ROOT)) for path in marked} == set(re.findall(r"tests/\S+\.py", script))


def test_no_stage_is_begun_that_cannot_end_in_what_is_left(accept, tmp_path):
    kept = tmp_path / "accepted-kept"
    kept.mkdir()
    (kept / "doctor.txt").write_text("of an earlier call, as it lies there")
    done = accept(LIMIT="100")
    assert done.stdout.count("not begun") == len(STAGES)
    assert done.returncode == 3
    assert "of an earlier call" in done.stdout, "nor is the doctor asked again"
    assert not (tmp_path / "accepted").exists()


def test_says_which_package_is_missing(accept, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')  # without its site-packages
    python.chmod(0o755)
    refused = accept(PYTHON=str(python))
    assert refused.returncode == 2
    assert "has no package torch; see docs/how-to/gpu.md" in refused.stderr
    assert not list(tmp_path.glob("accepted*"))
