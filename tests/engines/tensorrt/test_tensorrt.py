"""TensorRT's path as far as it goes without a GPU: built by TensorRT for RTX on the CPU, and the inspector's reports.

The reports are shortened after the examples in NVIDIA's documentation of the engine inspector and after public
listings of trtexec (TensorRT issue 4020); none was made by an engine of this project.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import engines
from engines.base import EngineError, Target
from engines.cache import artefact
from engines.evidence.mac_counter import layers_of
from engines.layers import Tally
from engines.onnx.export import onnx_file
from engines.tensorrt import engine
from engines.tensorrt.inspector import layers_of as inspected
from engines.tensorrt.inspector import operations
from models.model import Model

NAMES = [name for name, row in engines.BACKENDS.items() if "tensorrt" in row.engine]
BEFORE_11 = """{"Layers": [{
  "Name": "Reformatting CopyNode for Input Tensor 0 to conv", "LayerType": "Reformat",
  "Inputs": [{"Name": "image", "Dimensions": [1,1,32,32,32], "Format/Datatype": "Row major linear FP32"}],
  "Outputs": [{"Name": "r", "Dimensions": [1,1,32,32,32], "Format/Datatype": "Row major Int8 format"}]
},{
  "Name": "node_conv3d_1 + relu", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "a", "Dimensions": [1,4,32,32,32],
              "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format."}],
  "Outputs": [{"Name": "b", "Dimensions": [1,4,32,32,32],
               "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
  "ParameterType": "Convolution", "Weights": {"Type": "Int8", "Count": 432},
  "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32"
},{
  "Name": "node_conv3d_2", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "c", "Dimensions": [1,4,16,16,16],
              "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
  "Outputs": [{"Name": "d", "Dimensions": [1,8,16,16,16],
               "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
  "Weights": {"Type": "Half", "Count": 864}, "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32"
}], "Bindings": ["image", "segmentation"]}"""
SINCE_11 = """{"Layers": [{
  "Name": "node_conv3d_1", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "a", "Dimensions": [1,4,32,32,32], "DataType": "Float", "Format": "Row major linear"}],
  "Outputs": [{"Name": "b", "Dimensions": [1,4,32,32,32], "DataType": "Float", "Format": "Row major linear"}],
  "Weights": {"Type": "Float", "Count": 432}, "TacticName": "sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32"
},{
  "Name": "up4", "LayerType": "CaskDeconvolutionV2",
  "Inputs": [{"Name": "a", "Dimensions": [1,64,2,2,2], "DataType": "Half", "Format": "Channel major"}],
  "Outputs": [{"Name": "b", "Dimensions": [1,32,4,4,4], "DataType": "Half", "Format": "Channel major"}]
},{
  "Name": "{ForeignNode[a...b]}", "LayerType": "Myelin",
  "Inputs": [{"Name": "a", "Dimensions": [1,64], "DataType": "Half"}], "Outputs": []
}], "I/O Tensors": [{"Name": "image", "IOMode": "Input"}]}"""


@pytest.fixture(scope="module")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")


@pytest.fixture(scope="module")
def log(rtx: Any) -> Any:
    from engines.tensorrt.builder import logger

    return logger(rtx)


@pytest.mark.parametrize(("half", "precision"), [(False, "fp32"), (True, "fp16")])
def test_builds_what_the_network_is_and_lists_its_types(
    rtx: Any, log: Any, model: Model, target: Callable[..., Target], half: bool, precision: str
) -> None:
    from engines.tensorrt.builder import build

    here = target()
    plan = build(rtx, onnx_file(model, here, half=half)[0], log)
    assert len(plan.data) > 100_000
    tally = Tally(layers_of(model.module, (1, 1, *here.tile)))
    for operation in plan.typed:
        tally.add(operation.precision, operation.shapes)
    assert tally.share() == {precision: 1.0}


def test_multiplies_in_no_tf32(rtx: Any, log: Any, model: Model, target: Callable[..., Target]) -> None:
    """TensorRT's default would make an FP32 engine a TF32 one."""
    from engines.tensorrt.builder import build

    seen = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(rtx, name)

        def Builder(self, log: Any) -> Any:  # noqa: N802
            return SpyBuilder(rtx.Builder(log))

    class SpyBuilder:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            seen.append((config.get_flag(rtx.BuilderFlag.TF32), config.profiling_verbosity))
            return self._real.build_serialized_network(network, config)

    build(Spy(), onnx_file(model, target())[0], log)
    assert seen == [(False, rtx.ProfilingVerbosity.DETAILED)]


def test_a_file_it_cannot_parse_is_one_line(rtx: Any, log: Any, tmp_path: Path) -> None:
    from engines.tensorrt.builder import build

    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x07 this is no network")
    with pytest.raises(EngineError, match=r"^tensorrt_rtx 1\..* cannot parse .*broken.onnx: [^\n]+$"):
        build(rtx, path, log)


def test_timings_are_kept_and_taken_again(
    rtx: Any, log: Any, model: Model, target: Callable[..., Target], tmp_path: Path
) -> None:
    from engines.tensorrt.builder import build

    timings, path = tmp_path / "a" / "timings", onnx_file(model, target(), half=True)[0]
    build(rtx, path, log, timings)
    assert timings.is_file()
    timings.write_bytes(b"of another machine")
    assert build(rtx, path, log, timings).data, "a cache that does not fit is no reason to fail"


def test_a_plan_is_saved_with_its_types(
    rtx: Any, log: Any, model: Model, target: Callable[..., Target], tmp_path: Path
) -> None:
    path = onnx_file(model, target(), half=True)[0]
    built = artefact(
        target(cache=tmp_path),
        "tensorrt",
        {},
        lambda folder: engine._build(rtx, path, log, tmp_path / "timings", folder),
    )
    names = {file.name for file in built.folder.iterdir()}
    assert names == {"engine.plan", "types.json", "manifest.json"}


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (BEFORE_11, [("node_conv3d_1 + relu", "int8", [432]), ("node_conv3d_2", "fp16", [864])]),
        (SINCE_11, [("node_conv3d_1", "tf32", [432]), ("up4", "fp16", [1, 32, 4, 4, 4])]),
        ('{"Layers": ["only a name", "another"]}', []),
        ("[no JSON", []),
        ("[]", []),
    ],
)
def test_reads_the_inspectors_reports(report: str, expected: list[tuple[str, str, list[int]]]) -> None:
    ran = operations(inspected(report))
    assert [(operation.name, operation.precision, list(operation.shapes[-1])) for operation in ran] == expected


def test_the_inspectors_layers_are_the_networks(model: Model) -> None:
    """Matched by their numbers of elements; what the report leaves open stays unknown."""
    layers = layers_of(model.module, (1, 1, 32, 32, 32))
    tally = Tally(layers)
    assert all(tally.add(operation.precision, operation.shapes) for operation in operations(inspected(BEFORE_11)))
    macs = {layer.name: layer.macs for layer in layers}
    share = tally.share()
    assert share["int8"] == pytest.approx(macs["enc1.3"] / sum(macs.values()))
    assert share["fp16"] == pytest.approx(macs["enc2.0"] / sum(macs.values()))
    assert share["unknown"] == pytest.approx(1 - share["int8"] - share["fp16"])


def test_without_cuda_there_is_a_reason_and_nothing_is_imported(tmp_path: Path) -> None:
    """TensorRT's own start on a machine without CUDA raises a TypeError, and crashes in older releases."""
    code = f"""
import sys, pathlib, torch, engines
from engines.base import Target
if torch.cuda.is_available():
    sys.exit(77)
for name in {NAMES!r}:
    for device in ("cuda", "cuda:1", "cpu"):
        available = engines.load(name).probe(Target(device, (32,) * 3, 1, 1, pathlib.Path({str(tmp_path)!r})))
        print(available.ok, available.reason, available.fix, sep="|")
print([module for module in sys.modules if "tensorrt" in module.partition(".")[0]])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    if done.returncode == 77:
        pytest.skip("this machine has CUDA")
    *answers, imported = done.stdout.splitlines()
    assert [line.split("|")[0] for line in answers] == ["False"] * 3 * len(NAMES), done.stderr
    assert all(part and part != "None" for line in answers for part in line.split("|"))
    assert imported == "[]"


def test_an_old_tensorrt_is_named(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "check", lambda *_: engines.base.Availability(True))
    monkeypatch.setattr(engine, "distribution_version", lambda _: "8.6.1")
    available = engines.load("tensorrt-fp16").probe(target("cuda"))
    assert not available.ok
    assert available.reason == "TensorRT 8.6.1 is too old: 10 is the first with strong typing"
