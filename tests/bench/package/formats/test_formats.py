"""Variants of small runs in the forms of other tools, each opened by its own tool."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import engines
from bench.errors import InputError
from bench.package.formats import onnx_graph, torchscript, triton
from bench.package.formats.description import Subject, other_runtime, write_description
from bench.package.opening import open_package
from engines.openvino.core import core
from models.load import load_models
from tests.bench.conftest import SIDE
from tests.bench.package.formats.subjects import subject_of
from tests.loading import load

SHAPE = (1, 1, SIDE, SIDE, SIDE)


@pytest.fixture(scope="session")
def tile() -> np.ndarray:
    """A tile of noise."""
    return np.random.default_rng(7).random(SHAPE, np.float32)


@pytest.fixture(scope="session")
def run(run_and_package) -> Path:
    return run_and_package[0]


@pytest.fixture(scope="session")
def expected(run_and_package, tile) -> list[np.ndarray]:
    """Logits of the package's own backend."""
    opening = open_package(run_and_package[1], threads=1).open
    engine = engines.load(opening.name, opening.backend)
    loaded = load_models([opening.checkpoint], opening.model_options)
    with loaded as (model,), engine.open(model, opening.target) as session:
        return [logits.numpy().copy() for logits in session.infer(torch.from_numpy(tile))]


def assert_close(logits: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for ours, theirs in zip(logits, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def ports(described: list[dict[str, Any]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {each["name"]: (each["type"], tuple(each["shape"])) for each in described}


IMAGE = {"image": ("float32", SHAPE)}
LOGITS = {"segmentation": ("float32", (1, 3, SIDE, SIDE, SIDE)), "classification": ("float32", (1, 3))}


def test_onnx_runtime_opens_the_graph(run, exported, tile, expected):
    import onnx
    import onnxruntime

    folder, said = exported(run, "openvino-fp32", "onnx")
    (file,) = said["networks"]
    onnx.checker.check_model(onnx.load(folder / file), full_check=True)
    session = onnxruntime.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    assert ports(said["inputs"]) == IMAGE
    assert ports(said["outputs"]) == LOGITS
    assert names == list(LOGITS)
    assert_close(session.run(names, {"image": tile}), expected)
    artefact = next((run.parent / "cache").glob("onnx-fp32-*/model.onnx"))
    assert (folder / file).read_bytes() == artefact.read_bytes(), "the graph that ran"


def test_openvino_compiles_the_ir(run, exported, tile, expected):
    folder, said = exported(run, "openvino-fp32", "openvino")
    hint = said["precision"]["openvino_hint"]
    assert (hint, said["precision"]["files"]) == ("f32", "fp32")
    compiled = core().compile_model(str(folder / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": hint})
    assert ports(said["inputs"]) == IMAGE
    assert {port.get_any_name() for port in compiled.outputs} == LOGITS.keys()
    results = compiled({"image": tile})
    assert_close([results[name] for name in LOGITS], expected)
    weights = (folder / "model.bin").stat().st_size
    onnx, _ = exported(run, "openvino-fp32", "onnx")
    assert weights > 0.9 * (onnx / "model.onnx").stat().st_size - 100_000, "not halved to FP16"


LOAD = """
import sys, numpy, torch
network = torch.jit.load(sys.argv[1])
with torch.inference_mode():
    logits = network(torch.from_numpy(numpy.load(sys.argv[2])))
assert not {"bench", "engines", "models", "reports"} & {name.partition(".")[0] for name in sys.modules}
numpy.savez(sys.argv[3], *[each.numpy() for each in logits])
"""


def test_pytorch_loads_the_trace_without_this_project(run, exported, tile, expected, tmp_path):
    folder, said = exported(run, "torch-fp32", "torchscript")
    assert said["code"] is True
    assert "TorchScript is code: load it only where you trust who made it" in said["remarks"]
    np.save(tmp_path / "tile.npy", tile)
    files = (folder / said["networks"][0], tmp_path / "tile.npy", tmp_path / "logits.npz")
    subprocess.run([sys.executable, "-P", "-c", LOAD, *map(str, files)], check=True, cwd=tmp_path)
    with np.load(tmp_path / "logits.npz") as logits:
        assert_close(list(logits.values()), expected)
    assert (ports(said["inputs"]), ports(said["outputs"])) == (IMAGE, LOGITS)
    with zipfile.ZipFile(folder / said["networks"][0]) as archive:
        records = b"".join(map(archive.read, archive.namelist()))
    for path in (str(Path(__file__).parents[4]), str(Path(torch.__file__).parent)):
        assert path.encode() not in records, "a path of whoever made it"


def model_config() -> Any:
    """Triton's schema of config.pbtxt, from its client, without what that needs for a connection."""
    client = importlib.util.find_spec("tritonclient")
    if client is None:
        pytest.skip("tritonclient is not installed")
    file = Path(str(client.origin)).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(folder: Path) -> Any:
    """``config.pbtxt`` by Triton's own schema."""
    from google.protobuf import text_format

    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config().ModelConfig())


@pytest.mark.parametrize(
    ("variant", "backend", "file"),
    [("openvino-fp32", "openvino", "model.xml"), ("torch-fp32", "onnxruntime", "model.onnx")],
)
def test_triton_reads_the_networks(variant, backend, file, run, exported, tile, expected):
    schema = model_config()
    folder, said = exported(run, variant, "triton")
    name = f"pancreas-{variant}-tile"
    assert said["networks"] == [f"{name}/1/{file}"]
    held = config(folder / name)
    assert (held.name, held.backend, held.max_batch_size) == (name, backend, 0)
    types = {schema.TYPE_FP32: "float32"}
    assert {port.name: (types[port.data_type], tuple(port.dims)) for port in held.input} == IMAGE
    assert {port.name: (types[port.data_type], tuple(port.dims)) for port in held.output} == LOGITS
    assert [(group.count, group.kind) for group in held.instance_group] == [(1, schema.ModelInstanceGroup.KIND_CPU)]
    assert list(held.version_policy.specific.versions) == [1]
    assert_close(_inferred(folder / name / "1" / file, tile), expected)
    logits = config(folder / f"pancreas-{variant}-logits")
    (step,) = logits.ensemble_scheduling.step
    assert (step.model_name, [port.name for port in logits.output]) == (name, ["segmentation"])


@pytest.mark.parametrize("variant", ["openvino-fp32", "torch-fp32"])
def test_triton_reads_the_model_of_whole_cases(variant, run, exported):
    """Its package is one; where Triton would run the network otherwise than the run did, it runs it by itself."""
    schema = model_config()
    folder, said = exported(run, variant, "triton")
    held = config(folder / said["served"])
    assert (held.name, held.backend, held.max_batch_size) == (f"pancreas-{variant}", "python", 1)
    assert [(port.name, port.data_type, list(port.dims)) for port in held.input] == [
        ("image", schema.TYPE_STRING, [-1])
    ]
    assert {port.name: (port.data_type, list(port.dims)) for port in held.output} == {
        "mask": (schema.TYPE_STRING, [1]),
        "class": (schema.TYPE_INT32, [1]),
        "probabilities": (schema.TYPE_FP32, [3]),
        "seconds": (schema.TYPE_FP64, [1]),
        "about": (schema.TYPE_STRING, [1]),
    }
    assert held.dynamic_batching.default_queue_policy.max_queue_size == 32
    assert held.parameters["networks"].string_value == ""
    assert held.parameters["threads"].string_value == "0", "as many as the package says, where there are so many CPUs"
    assert f"so pancreas-{variant} runs the network by itself, as the run did" in said["remarks"]
    package = folder / f"pancreas-{variant}" / "1" / "package"
    assert open_package(package).open.name == variant


def _inferred(file: Path, tile: np.ndarray) -> list[np.ndarray]:
    """By the runtime that Triton's backend is."""
    compiled = core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled({"image": tile})
    return [results[name] for name in LOGITS]


def test_the_description_says_how_it_is_used(run, exported):
    folder, said = exported(run, "openvino-fp32", "onnx")
    assert said["channels"] == ["CT"]
    assert (said["preparation"]["by"], said["preparation"]["window"]) == ("window", [-1000, 1000])
    tiles = {"tile": [SIDE] * 3, "overlap": 0.5, "weights": {"mode": "gaussian", "sigma_scale": 0.125}}
    assert said["tiles"] | tiles == said["tiles"]
    assert said["labels"]["of_outputs"] == [0, 1, 2]
    assert said["labels"]["names"] == {"background": 0, "pancreas": 1, "lesion": 2}
    assert said["classes"]["names"] == ["0", "1", "2"]
    assert said["precision"]["ran"] == {"fp32": 1.0}
    proof = said["proof"]
    assert (proof["accuracy"], proof["proven"], proof["equal_cases"]) == ("undecided", False, 1)
    assert proof["headline"].startswith("INCONCLUSIVE: openvino-fp32")
    assert said["files"].keys() == {"model.onnx"}
    assert said["files"]["model.onnx"]["sha256"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert str(run.parent) not in (folder / "model.json").read_text(), "nobody else has these folders"


def test_int8_graphs_are_those_that_ran(quantized_run, exported):
    import onnx

    folder, said = exported(quantized_run, "ort-int8", "onnx")
    assert said["precision"]["files"] == "int8"
    assert not said["remarks"], "of an output without a meaning neither: it has classes"
    kinds = {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    artefact = next((quantized_run.parent / "cache").glob("ort-int8-*/int8.onnx"))
    assert (folder / "model.onnx").read_bytes() == artefact.read_bytes()
    folder, said = exported(quantized_run, "openvino-int8", "openvino")
    assert said["precision"]["files"] == "int8"
    model = core().read_model(str(folder / "model.xml"))
    assert "FakeQuantize" in {operation.get_type_name() for operation in model.get_ops()}
    hint = said["precision"]["openvino_hint"]
    assert any(f"INFERENCE_PRECISION_HINT={hint}" in remark for remark in said["remarks"])
    assert any("a class that INT8 leaves uncertain" in remark for remark in said["remarks"])


def test_a_precision_that_a_format_does_not_carry_is_said(quantized_run, exported):
    _, said = exported(quantized_run, "openvino-int8", "onnx")
    remark = (
        "openvino-int8 ran in int8, which onnx does not carry here: it holds fp32, whose time and masks the run did "
        "not show"
    )
    assert (said["remarks"], said["precision"]["files"]) == ([remark], "fp32")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--variant", "openvino-fp32"], "its accuracy is undecided"),
        (["--variant", "torch-fp32", "--out", "full"], "full: exists and is not empty"),
        (["--variant", "torch-fp32", "--code"], "--code: takes code along in a package, and not with --format onnx"),
        (["--variant", "openvino-bf16"], "--variant openvino-bf16: "),
    ],
)
def test_what_is_refused(options, said, run, bench):
    Path("full").mkdir()
    Path("full/file").write_text("")
    out = () if "--out" in options else ("--out", "out")
    code, _, err = bench("export", run, "--format", "onnx", *out, *options)
    assert code == 2
    assert said in err.splitlines()[-1]
    assert not Path("out").exists()


def test_the_terminal_says_what_it_is(run, exported):
    folder, _ = exported(run, "openvino-fp32", "triton")
    out = (folder.parent / "printed").read_text()
    assert f"{folder}: openvino-fp32 (" in out
    assert "UNPROVEN: its accuracy was undecided in the run" in out
    assert "Triton's OpenVINO backend has no setting for FP32" in out
    assert "so pancreas-openvino-fp32 runs the network by itself, as the run did" in out
    assert f"how it is used: {folder}/model.json" in out


def graph_of(subject: Subject, graph: Path, tmp_path: Path) -> Subject:
    """The subject with a graph as its artefact."""
    artefact = tmp_path / "onnx-fp32-0"
    artefact.mkdir()
    shutil.copyfile(graph / "model.onnx", artefact / "model.onnx")
    return replace(subject, artefacts=(artefact,))


@pytest.mark.parametrize("kind", ["bf16", "gpu"])
def test_triton_is_asked_for_what_ran(kind, run, network, exported, tmp_path):
    schema = model_config()
    backend, device = ("openvino-bf16", "cpu") if kind == "bf16" else ("ort-fp32", "cuda")
    model, _ = load(network[0])
    subject = subject_of(model, network[0], tmp_path, "triton", backend, device, batch=1)
    subject = graph_of(subject, exported(run, "openvino-fp32", "onnx")[0], tmp_path)
    (tmp_path / "out").mkdir()
    said = triton.write(subject, tmp_path / "out")
    name = f"pancreas-{backend}"
    assert said.remarks[1:] == (f"{name} has Triton run {name}-tile",)
    whole = config(tmp_path / "out" / name)
    assert (whole.parameters["networks"].string_value, whole.parameters["tile_type"].string_value) == (
        f"{name}-tile", "float32",
    )  # fmt: skip
    held = config(tmp_path / "out" / f"{name}-tile")
    (group,) = held.instance_group
    assert whole.instance_group[0].kind == group.kind
    if kind == "bf16":
        assert (said.hint, held.parameters["HINT_BF16"].string_value) == ("bf16", "YES")
        assert group.kind == schema.ModelInstanceGroup.KIND_CPU
    else:
        (accelerator,) = held.optimization.execution_accelerators.gpu_execution_accelerator
        assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})
        assert group.kind == schema.ModelInstanceGroup.KIND_GPU


class Branching(nn.Module):
    """Its second output depends on a value of the image, which a trace does not see."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x.mean() * (1 if x[0, 0, 0, 0, 0] > 0.48 else 2)


def test_a_trace_that_answers_otherwise_is_refused(network, tmp_path):
    model, _ = load(network[0])
    subject = subject_of(model, network[0], tmp_path, "torchscript")
    for name, refused in (("torchscript", torchscript), ("onnx", onnx_graph)):
        reading = replace(subject, format=name, models=(replace(model, only_python="computes gradients"),))
        with pytest.raises(InputError, match=f"^--format {name}: as for .*, the network's forward computes gradients"):
            refused.refuse(reading)
    with pytest.raises(InputError, match="the trace of this network answers otherwise than it does"):
        torchscript.write_trace(subject, Branching(), (1, 1, 8, 8, 8), tmp_path / "model.ts")


def test_a_graph_of_ones_own_has_no_torchscript(tmp_path):
    """One that no PyTorch network is known for: it goes as a graph, with the shapes and names of all others."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    sides = [1, 1, 8, 8, 8], [1, 3, 8, 8, 8]
    image, logits = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip("xy", sides, strict=True))
    weight = numpy_helper.from_array(np.array([1, -2, 3], np.float32).reshape(3, 1, 1, 1, 1), "w")
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "own", [image], [logits], [weight])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "own.onnx"
    )
    model, _ = load(tmp_path / "own.onnx")
    subject = subject_of(model, tmp_path / "own.onnx", tmp_path, "torchscript", "ort-fp32", batch=1)
    with pytest.raises(InputError, match=r"^--format torchscript: as for torchscript, the checkpoint is an ONNX graph"):
        torchscript.refuse(subject)
    onnx_graph.refuse(subject)
    (tmp_path / "out").mkdir()
    said = onnx_graph.write(subject, tmp_path / "out")
    assert {each.name: each.shape for each in said.outputs} == {
        "segmentation": (1, 3, 8, 8, 8),
        "classification": (1, 1),
    }
    described = write_description(tmp_path / "out", subject, said, created="")
    line = "the network has no classes: its output classification is a logit of a voxel, and says nothing of the case"
    assert line in described["remarks"]


@pytest.mark.parametrize(("backend", "said"), [("ort-fp16", 0), ("ort-fp32", 0), ("ort-tensorrt-fp16", 1)])
def test_triton_runs_by_onnx_runtime_what_ran_by_its_own_provider(backend, said):
    subject = SimpleNamespace(settings=SimpleNamespace(backend=backend))
    assert len(other_runtime(subject, *triton._ONNX_RUNTIME)) == said
