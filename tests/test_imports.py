"""The direction of imports between the packages, and what must stay light."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_import_rules():
    linter = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.fail("import-linter is not installed: run make setup")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "package", ["bench", "engines", "models", "reports", "reports.records.record", "bench.cli.options"]
)
def test_importing_a_package_imports_nothing_heavy(package):
    heavy = "{'torch', 'onnxruntime', 'openvino', 'tensorrt', 'nibabel', 'pandas', 'rich'}"
    code = f"import sys, {package}; found = {heavy} & set(sys.modules); assert not found, found"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
