"""What probes say where something is missing, broken or in conflict."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import engines
from engines import probe
from engines.base import Target
from engines.host import cuda
from engines.onnx import runtime
from engines.onnx.runtime import distributions, onnxruntime_conflict


def _without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find = probe.find_spec
    monkeypatch.setattr(probe, "find_spec", lambda name: None if name == missing else find(name))


@pytest.mark.parametrize(
    ("name", "missing", "fix"),
    [
        ("ort-fp32", "onnxruntime", 'in the checkout of voxbench: pip install ".[cpu]"'),
        ("ort-fp32", "onnxscript", 'in the checkout of voxbench: pip install ".[cpu]"'),
        ("openvino-fp32", "openvino", 'in the checkout of voxbench: pip install ".[cpu]"'),
        ("openvino-int8", "nncf", 'in the checkout of voxbench: pip install ".[cpu]"'),
    ],
)
def test_a_missing_package_comes_with_its_install_line(
    name: str, missing: str, fix: str, target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, missing)
    available = engines.load(name).probe(target())
    assert not available.ok
    assert available.reason == f"the package {missing} is not installed"
    assert available.fix == fix


def test_a_broken_package_is_not_a_missing_one(tmp_path: Path) -> None:
    """Its ImportError shows when the engine is opened."""
    package = tmp_path / "openvino"
    package.mkdir()
    (package / "__init__.py").write_text("import a_module_that_nobody_has\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import pathlib, torch, engines
from engines.base import Target
from models.model import Model
target = Target("cpu", (16, 16, 16), 1, 1, pathlib.Path({str(tmp_path / "cache")!r}))
module, window = torch.nn.Identity(), (0, 1)
model = Model(module=module, architecture="none", width=1, tile=target.tile, window=window, sha256="0")
for name in ("openvino-bf16", "openvino-fp32"):
    engine = engines.load(name)
    print(engine.probe(target).ok)
    try:
        with engine.open(model, target):
            pass
    except Exception as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[::2] == ["True", "True"]
    assert all("No module named 'a_module_that_nobody_has'" in said for said in ran.stdout.splitlines()[1::2])


@pytest.mark.parametrize("name", ["torch-half", "torch-amp", "torch-compile-half"])
def test_half_precision_needs_a_processor_that_has_it(name: str, target: Callable[..., Target]) -> None:
    """By the processor's own flags: where PyTorch would emulate BF16, a run would take hours."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "flags" not in cpuinfo.read_text():
        pytest.skip("the processor's flags are read from /proc/cpuinfo of x86")
    flags = set(next(line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")).split())
    available = engines.load(name).probe(target())
    if "avx512bw" in flags:
        assert available.ok
    elif "avx512f" not in flags and "avx_ne_convert" not in flags:
        assert (available.ok, available.reason) == (False, "PyTorch has no BF16 kernels for this CPU")
        assert available.fix


@pytest.mark.parametrize("name", [name for name, row in engines.BACKENDS.items() if row.precision == "int8"])
def test_int8_needs_calibration(name: str, target: Callable[..., Target]) -> None:
    available = engines.load(name).probe(target(calibrated=False))
    assert not available.ok
    if "cpu" in engines.BACKENDS[name].devices:
        assert available.reason == "no training cases to calibrate from"
        assert available.fix


@pytest.mark.parametrize("name", engines.BACKENDS)
def test_without_cuda_every_probe_on_it_says_so(
    name: str, target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    available = engines.load(name).probe(target("cuda"))
    assert not available.ok
    assert available.reason
    assert available.fix
    assert "CUDA" in available.reason or "device cuda" in available.reason or "CPU only" in available.reason


@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [
        ("tensorrt-fp16", "tensorrt", "gpu"),
        ("tensorrt-rtx-int8", "tensorrt_rtx", "gpu-rtx"),
        ("torch-tensorrt-fp16", "torch_tensorrt", "gpu"),
        ("ort-fp16", "onnxruntime", "gpu"),
    ],
)
def test_a_missing_gpu_package_names_the_extra_that_has_it(
    name: str, missing: str, extra: str, target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "missing", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    monkeypatch.setattr(probe, "find_spec", lambda name: None if name == missing else object())
    available = engines.load(name).probe(target("cuda"))
    assert available.reason == f"the package {missing} is not installed"
    assert available.fix == f'in the checkout of voxbench: pip install ".[{extra}]"'


def test_ort_tensorrt_says_which_tensorrt_is_there(
    target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.onnx import runtime_tensorrt

    versions = {"tensorrt": "11.0.0.114"}
    monkeypatch.setattr(cuda, "missing", lambda _: None)
    monkeypatch.setattr(runtime, "distributions", lambda: ["onnxruntime-gpu"])
    monkeypatch.setattr(runtime_tensorrt, "distribution_version", versions.get)
    engine = engines.load("ort-tensorrt-fp16")
    available = engine.probe(target("cuda"))
    assert (
        available.reason == "ONNX Runtime's TensorRT provider needs libnvinfer.so.10, and there is TensorRT 11.0.0.114"
    )
    assert available.fix == 'in the checkout of voxbench: pip install ".[gpu-trt10]"'
    versions["tensorrt"] = "10.15.1.29"
    assert engine.probe(target("cuda")).ok


def test_a_missing_compiler_is_the_reason(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    available = engines.load("torch-compile").probe(target())
    assert available.reason == "the C++ compiler no-such-compiler is not there"
    assert available.fix


@pytest.mark.parametrize("name", ["torch-compile", "torch-compile-half", "torch-aoti"])
def test_a_folder_that_the_compiler_does_not_take_is_the_reason(name, target, tmp_path, monkeypatch) -> None:
    """PyTorch's command of the compiler would be split at it, and only an excerpt of that command be the reason."""
    own, engine = target(), engines.load(name)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    said = "PyTorch's compiler takes no folder whose name has spaces or quotes"
    available = engine.probe(replace(own, cache=tmp_path / "my cache"))
    assert (available.reason, available.fix) == (
        f"{said} ({tmp_path}/my cache)",
        "set VOXBENCH_CACHE to another folder",
    )
    assert engine.probe(replace(own, cache=tmp_path / "Größe")).ok
    monkeypatch.setattr(tempfile, "tempdir", "/var/o'hara")
    available = engine.probe(own)
    assert (available.reason, available.fix) == (f"{said} (/var/o'hara)", "set TMPDIR to another folder")


def test_what_was_compiled_elsewhere_needs_no_compiler(target, monkeypatch, tmp_path) -> None:
    """As in a container that only predicts, where a package of the same machine has brought it along."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    engine, with_package = engines.load("torch-aoti"), replace(target(), prebuilt=tmp_path)
    assert engine.probe(with_package).reason == "the C++ compiler no-such-compiler is not there"
    (tmp_path / "aoti-0123").mkdir()
    assert engine.probe(with_package).ok


def test_a_cpu_without_bf16_is_the_reason(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    from engines.openvino import engine

    monkeypatch.setattr(engine, "_has_bf16", lambda: False)
    available = engines.load("openvino-bf16").probe(target())
    assert available.reason == "this CPU has no BF16 instructions"


def install(folder: Path, *names: str) -> None:
    """Put a module `onnxruntime` into `folder`, and what pip leaves beside it of these distributions."""
    (folder / "onnxruntime").mkdir(parents=True)
    (folder / "onnxruntime" / "__init__.py").touch()
    for name in names:
        info = folder / f"{name.replace('-', '_')}-1.30.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.30.0\n")


@pytest.fixture
def import_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Have ``import onnxruntime`` look into a folder first."""
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    return lambda folder: monkeypatch.syspath_prepend(str(folder))


def test_two_onnxruntimes_are_a_conflict(
    target: Callable[..., Target], tmp_path: Path, import_from: Callable[[Path], None]
) -> None:
    install(tmp_path, "onnxruntime", "onnxruntime-gpu")
    import_from(tmp_path)
    conflict = onnxruntime_conflict()
    assert conflict is not None
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install" in conflict
    assert "\n" not in conflict
    available = engines.load("ort-fp32").probe(target())
    assert not available.ok
    assert available.reason == "onnxruntime and onnxruntime-gpu are both installed, and are the same module"
    assert available.fix is not None
    assert available.fix.startswith("pip uninstall")


@pytest.mark.parametrize("names", [("onnxruntime",), ("onnxruntime-gpu",), ()])
def test_one_onnxruntime_is_none(names: tuple[str, ...], tmp_path: Path, import_from: Callable[[Path], None]) -> None:
    install(tmp_path, *names)
    import_from(tmp_path)
    assert onnxruntime_conflict() is None
    assert distributions() == list(names)


def test_one_onnxruntime_ahead_of_another_is_no_conflict(tmp_path: Path, import_from: Callable[[Path], None]) -> None:
    """As where the GPU's was unpacked into a folder of PYTHONPATH, and the system has the CPU's."""
    install(tmp_path / "system", "onnxruntime")
    install(tmp_path / "unpacked", "onnxruntime-gpu")
    import_from(tmp_path / "system")
    import_from(tmp_path / "unpacked")
    assert onnxruntime_conflict() is None
    assert distributions() == ["onnxruntime-gpu"]


def test_the_cpu_package_does_not_do_for_cuda(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "missing", lambda _: None)
    monkeypatch.setattr(probe, "find_spec", lambda name: object())
    monkeypatch.setattr(runtime, "distributions", lambda: ["onnxruntime"])
    available = engines.load("ort-fp16").probe(replace(target(), device="cuda"))
    assert available.reason == "the installed onnxruntime has no CUDA provider"
