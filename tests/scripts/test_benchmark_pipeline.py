"""The benchmark of the pipeline still fits the pipeline, and both of its ways give the same."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_stage_is_compared_with_the_plain_way():
    command = [sys.executable, "scripts/benchmark_pipeline.py", "--shape", "80,64,64", "--rounds", "1"]
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    rows = re.findall(r"^(\w+) +[\d.]+ ms +[\d.]+ ms +[\d.]+", ran.stdout, re.MULTILINE)
    assert rows == ["read", "preprocess", "stitch", "write"]
