"""The fuzz target, for a few seconds."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_short_run_is_clean(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/fuzz_checkpoints.py", "--random", "--inputs", "300", "--seed", "1"]
    run = subprocess.run(
        [*command, "--out", tmp_path],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "300 inputs clean, seed 1" in run.stdout
    assert not list(tmp_path.glob("failure*"))
