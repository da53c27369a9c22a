"""The acceptance script, tried without a GPU: it must not fail on a user's machine for a reason of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Without what takes seconds and is no matter of the script: the device's peak, and a warm-up beyond the least.
QUICK = """
from dataclasses import replace
from bench.schedule import limits
from bench.worker import warmup
limits.DEFAULT = replace(limits.DEFAULT, peak=False)
warmup.MOST = warmup.LEAST
"""


def accept(out: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {
        "PYTHON": sys.executable, "DEVICE": "cpu", "WIDTH": "8", "CASES": "1", "BUDGET": "1", "TESTS": "no",
        "BACKENDS": "torch-fp32",
    } | settings  # fmt: skip
    command = ["bash", str(ROOT / "scripts/gpu_acceptance.sh"), str(out)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=500)


def test_runs_all_steps_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "sitecustomize.py").write_text(QUICK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "quick"), str(ROOT)]))
    out = tmp_path / "accepted"
    first = accept(out)
    summary = json.loads((out / "summary.json").read_text())
    assert {row["name"]: row["status"] for row in summary["variants"]} == {"torch-fp32": "ok"}
    assert (out / "report.md").is_file()
    assert "torch-fused" in (tmp_path / "accepted-logs" / "doctor.txt").read_text()

    measured = (out / "cases.csv").read_text()
    again = accept(out)
    assert again.returncode == first.returncode
    assert (out / "cases.csv").read_text() == measured, "a complete run is not measured again"


def test_says_which_package_is_missing(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')  # without its site-packages
    python.chmod(0o755)
    refused = accept(tmp_path / "out", PYTHON=str(python))
    assert refused.returncode == 2
    assert "has no package torch; see docs/how-to/gpu.md" in refused.stderr
    assert not list(tmp_path.glob("out*"))
