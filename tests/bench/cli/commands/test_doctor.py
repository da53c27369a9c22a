"""`bench doctor` beside every kind of broken installation, each made for real on the path of its worker."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import engines
from bench.cli.commands import doctor
from bench.cli.main import main
from engines.base import Availability

pytestmark = pytest.mark.usefixtures("started_workers")

HEALTHY = "torchscript"


@pytest.fixture
def few(monkeypatch):
    """Four rows are enough, and each costs an import of its runtime."""
    rows = {name: engines.BACKENDS[name] for name in (HEALTHY, "openvino-fp32", "ort-fp32", "torch-tf32")}
    monkeypatch.setattr(engines, "BACKENDS", rows)


@pytest.fixture
def broken(few, tmp_path, monkeypatch):
    """Make a package whose import does what is told."""

    def put(package, source):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return put


WAYS = {
    "import a_module_that_nobody_has": "No module named 'a_module_that_nobody_has'",
    "raise OSError('libgomp.so.1: cannot open shared object file')": "OSError: libgomp.so.1: cannot open",
    "raise SystemExit(3)": "exited with status 3",
    "import os; os._exit(7)": "exited with status 7",
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "killed by SIGSEGV",
    "import time; time.sleep(600)": "no answer within 8 s",
}


@pytest.mark.parametrize("sources", zip([*WAYS][::2], [*WAYS][1::2], strict=True))  # two packages are broken at once
def test_a_broken_package_costs_its_own_backends_only(sources, broken, monkeypatch):
    packages = dict(zip(("openvino", "onnxruntime"), sources, strict=True))
    for package, source in packages.items():
        broken(package, source)
    monkeypatch.setattr(doctor, "_TIMEOUT_S", 8 if "sleep" in "".join(sources) else 120)
    result = doctor.examine("cpu")
    assert result.backends[HEALTHY].ok
    for (package, source), backend in zip(packages.items(), ("openvino-fp32", "ort-fp32"), strict=True):
        sick = result.backends[backend]
        assert not sick.ok
        assert f"importing {package} fails" in sick.reason
        assert WAYS[source] in sick.reason
        assert sick.fix == f"pip install --force-reinstall --no-deps {package}"
        assert "\n" not in sick.reason


@pytest.mark.parametrize("source", ["raise ImportError('libcudnn.so.9')", "import os; os.abort()"])
def test_without_pytorch_nothing_runs_and_that_is_told(source, broken, capsys):
    broken("torch", source)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "no CUDA device: PyTorch does not work here" in printed
    assert ("libcudnn.so.9" if "ImportError" in source else "SIGABRT") in printed
    assert "0 of 4 backends can run on cpu" in printed


def test_a_run_with_broken_pytorch_ends_in_one_line(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudnn.so.9: no such file')")
    command = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from bench.cli.main import main; sys.exit(main(['run']))"
    )
    ran = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr == "bench: a package is broken (libcudnn.so.9: no such file); `bench doctor` shows which\n"
    assert [path.name for path in Path(tmp_path).iterdir()] == ["torch"], "nothing was written"


def test_json_says_what_the_text_says(few, capsys):
    assert main(["doctor", "--device", "cpu", "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["device"] == "cpu"
    assert result["backends"][HEALTHY] == {"ok": True, "reason": None, "fix": None, "packages": []}
    assert result["backends"]["openvino-fp32"]["packages"] == ["openvino", "onnx", "onnxscript"]
    assert result["backends"]["torch-tf32"]["fix"]
    assert (result["gpu"] is None) != (result["no_gpu"] is None)


def test_a_fix_that_many_need_is_shown_once():
    row = Availability(False, "it exists on CUDA only", "buy a GPU")
    machine = {
        "processor": "P", "cpu_features": "AVX2", "cores": 1, "memory_bytes": 2**30, "system": "S", "python": "3",
    }  # fmt: skip
    gpu = {
        "gpu": "H200", "gpu_memory_bytes": 141 * 2**30, "compute_capability": "9.0", "power_limit_w": 700.0,
        "driver": "580.95.05 (CUDA up to 13.0)",
    }  # fmt: skip
    text = doctor.text(doctor.Findings(machine, "cuda", gpu, {"torch": "2.13.0"}, {"a": row, "b": row}))
    assert text.startswith("P (AVX2), 1 core, 1.0 GiB; S, Python 3\n")
    assert text.count("buy a GPU") == 1
    assert "H200, 141.0 GiB, compute capability 9.0, limited to 700 W, driver 580.95.05 (CUDA up to 13.0)" in text
