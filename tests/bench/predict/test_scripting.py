"""The script in the documents that drives all of `bench`, as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.conftest import CASES, SIDE

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.long
def test_the_documented_script_goes_from_a_checkpoint_to_masks(network, data, tmp_path, quick_processes):
    text = (ROOT / "docs/reference/scripting.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "drive.py").write_text(code)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VOXBENCH_CACHE": str(tmp_path / "cache"),
    }
    options = ["--tile", f"{SIDE},{SIDE},{SIDE}", "--max-cases", "2", "--rounds", "1", "--threads", "1"]
    options += ["--backends", "torch-fp32"]  # the last one counts; more would take longer and drive nothing more
    command = [sys.executable, "drive.py", network[0], data, "out", *options, "--device", "cpu"]
    done = subprocess.run([*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, verdict, last = done.stdout.splitlines()
    assert first.endswith("parameters; trying torch-fp32, ort-fp32, openvino-fp32")
    assert verdict.startswith("INCONCLUSIVE: ")
    assert last == f"{CASES} cases by torch-fp32, 0 failed"
    assert len(list((tmp_path / "out" / "masks").glob("*.nii.gz"))) == CASES
