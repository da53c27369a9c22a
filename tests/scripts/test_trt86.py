"""Cases by the command for TensorRT 8.6, with ONNX Runtime in the place of TensorRT, against the pipeline's own.

TensorRT for RTX reads the same graphs. What TensorRT and CUDA's driver are asked is checked on ones that are made up.
"""

import ctypes
import json
import math
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import onnx
import pytest
import torch

from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from engines.base import Calibration, Target
from engines.quantization.sensitivity import Divergence
from engines.tensorrt.builder import build, logger
from models.model import Model, weights_sha256
from models.networks.unet import MultiTaskUNet, Shape
from tests.bench.values import read_labels

ROOT = Path(__file__).resolve().parents[2]
SIDE = 32
SHAPES = {"int16": (40, 33, 20), "float32": (20, 45, 36), "uint8": (32, 32, 32)}  # shorter than a tile, and longer


@pytest.fixture(scope="module")
def export():
    return runpy.run_path(str(ROOT / "scripts/trt86/export.py"))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = MultiTaskUNet(shape=Shape(4, poolings=2)).eval()
    return Model(
        module=network, architecture="multitask-unet", width=4, tile=(SIDE,) * 3, window=(-100.0, 240.0),
        sha256=weights_sha256(network),
    )  # fmt: skip


@pytest.fixture(scope="module")
def settings(model) -> InferenceSettings:
    return InferenceSettings.of(model, protocol="sliding-window", overlap=0.5, batch=1, roi="none")


@pytest.fixture(scope="module")
def folder(export, model, settings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trt86")
    export["write_network"](model, settings, folder / "fp32.onnx")
    (folder / "case.json").write_text(export["case_json"](settings, len(model.labels)))
    return folder


@pytest.fixture
def images(tmp_path) -> list[Path]:
    rng, paths = np.random.default_rng(0), []
    for kind, shape in SHAPES.items():
        voxels = rng.normal(90, 60, shape).clip(0, 250).astype(kind)
        image = nib.Nifti1Image(voxels, np.array([[0, 0.7, 0, 4], [0.8, 0, 0, 2], [0, 0, 2.5, 1], [0, 0, 0, 1]]))
        image.header.set_slope_inter(0.5 if kind == "int16" else 1, 7 if kind == "int16" else 0)
        paths.append(tmp_path / f"{kind}_0000.nii.gz")
        nib.save(image, paths[-1])
    return paths


def answers(folder: Path, questions: list[dict]) -> list[dict]:
    """What the command says to each, with ONNX Runtime."""
    command = [sys.executable, str(ROOT / "scripts/trt86/predict.py"), str(folder), "--runtime", "onnxruntime"]
    lines = "".join(f"{json.dumps(question)}\n" for question in questions)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


class InTorch:
    def __init__(self, model: Model) -> None:
        self._network = model.module

    def infer(self, x):
        with torch.inference_mode():
            return self._network(x)

    def sync(self):
        pass


def test_masks_and_classes_are_those_of_the_pipeline(folder, model, settings, images, tmp_path):
    pipeline = Pipeline(InTorch(model), settings)
    asked = [{"images": [str(image)], "mask": str(tmp_path / f"{image.name[:3]}.nii.gz")} for image in images]
    for image, question, answer in zip(images, asked, answers(folder, asked), strict=True):
        timing = pipeline.run([image], tmp_path / "expected.nii.gz")
        assert answer == {"mask": question["mask"], "class": timing.subtype}
        ours, theirs = nib.load(tmp_path / "expected.nii.gz"), nib.load(question["mask"])
        assert theirs.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(theirs.affine, ours.affine)
        expected, labels = (read_labels(path) for path in (tmp_path / "expected.nii.gz", Path(question["mask"])))
        assert len(np.unique(expected)) > 1
        assert (labels != expected).mean() < 1e-3, "sums are rounded otherwise"


def test_a_case_that_cannot_be_read_is_an_answer_and_costs_no_other(folder, images, tmp_path):
    cut, text, other = tmp_path / "cut.nii.gz", tmp_path / "text.nii.gz", tmp_path / "complex.nii"
    cut.write_bytes(images[0].read_bytes()[:-200])
    text.write_text("no image")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.complex64), np.eye(4)), other)
    wrong = [cut, text, tmp_path / "absent.nii.gz", other]
    mask = tmp_path / "mask.nii.gz"
    asked = [{"images": [str(path)], "mask": str(mask)} for path in wrong]
    *errors, good = answers(folder, [*asked, {"images": [str(images[2])], "mask": str(mask)}])
    assert all(set(answer) == {"error"} and "\n" not in answer["error"] for answer in errors), errors
    assert good["mask"] == str(mask)
    assert mask.exists()
    (several,) = answers(folder, [{"images": [str(images[0])] * 2, "mask": str(mask)}])
    assert several == {"error": "2 images where the network takes 1"}


@pytest.fixture(scope="module")
def int8(export, folder, model, tmp_path_factory) -> Path:
    tiles = torch.rand(3, 1, *model.tile, generator=torch.Generator().manual_seed(0))
    target = Target("cpu", model.tile, 1, 2, tmp_path_factory.mktemp("cache"), Calibration(lambda: tiles, "tiles"))
    with pytest.MonkeyPatch.context() as patch:  # random weights have no classes to keep
        patch.setattr(Divergence, "acceptable", True)
        details = export["write_int8"](model, target, folder / "fp32.onnx", folder / "int8.onnx")
    assert len(details["int8_layers"]) == 9
    return folder / "int8.onnx"


def test_int8_puts_nodes_of_opset_17_around_convolutions(int8):
    graph = onnx.load(str(int8))
    kinds = [node.op_type for node in graph.graph.node]
    assert graph.opset_import[0].version == 17
    assert kinds.count("QuantizeLinear") >= 9
    assert kinds.count("DequantizeLinear") == 2 * kinds.count("QuantizeLinear")
    assert "InstanceNormalization" in kinds


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_tensorrt_for_rtx_reads_the_graphs(folder, int8, precision):
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    assert build(trt, folder / f"{precision}.onnx", logger(trt)).data


class Driver:
    """CUDA's driver, the device's memory being this process's. Its stream does nothing before it is waited for."""

    IDLE = ("cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuStreamCreate")

    def __init__(self) -> None:
        self.kept: list[ctypes.Array] = []
        self.queue: list = []

    def __getattr__(self, name: str):
        if name in self.IDLE:
            return lambda *_: 0
        return {
            "cuDeviceGetName": self.name,
            "cuDriverGetVersion": self.version,
            "cuMemAlloc_v2": self.allocate,
            "cuMemHostAlloc": self.allocate,
            "cuMemcpyHtoDAsync_v2": self.copy,
            "cuMemcpyDtoHAsync_v2": self.copy,
            "cuStreamSynchronize": self.wait,
        }[name]

    def name(self, buffer, size, _device):
        buffer.value = b"NVIDIA H100"[: size - 1]
        return 0

    def version(self, number):
        number._obj.value = 12080
        return 0

    def allocate(self, address, size, flags=0):
        assert flags == 0
        self.kept.append(ctypes.create_string_buffer(size.value))
        address._obj.value = ctypes.addressof(self.kept[-1])
        return 0

    def copy(self, to, source, size, _stream):
        self.queue.append(lambda: ctypes.memmove(to.value, source.value, size.value))
        return 0

    def wait(self, _stream):
        for step in self.queue:
            step()
        self.queue.clear()
        return 0


class Engine:
    """One of TensorRT's, which runs the ONNX file on the addresses that it is given."""

    def __init__(self, path: Path, driver: Driver) -> None:
        import onnxruntime

        self.network = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.driver, self.addresses = driver, {}

    def get_tensor_shape(self, name: str):
        values = [*self.network.get_inputs(), *self.network.get_outputs()]
        return next(value.shape for value in values if value.name == name)

    def create_execution_context(self):
        return self

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, _stream) -> bool:
        self.driver.queue.append(self.run)
        return True

    def run(self) -> None:
        tile = self.at("image").copy()
        names = [output.name for output in self.network.get_outputs()]
        for name, output in zip(names, self.network.run(names, {"image": tile}), strict=True):
            self.at(name)[:] = output

    def at(self, name: str) -> np.ndarray:
        shape = self.get_tensor_shape(name)
        memory = (ctypes.c_float * math.prod(shape)).from_address(self.addresses[name])
        return np.frombuffer(memory, np.float32).reshape(shape)


def test_the_driver_and_tensorrt_are_asked_for_what_they_do(folder, images, tmp_path, monkeypatch):
    predict, driver = runpy.run_path(str(ROOT / "scripts/trt86/predict.py")), Driver()
    trt = SimpleNamespace(__version__="8.6.0", Logger=type("Logger", (), {"WARNING": 1, "__init__": lambda *_: None}))
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: driver)
    build_engine = predict["TensorRT"].__init__.__globals__
    plans = []

    def engine(_trt, _log, graph, plan, precision):
        plans.append(plan)
        assert (graph, precision) == (folder / "fp32.onnx", "fp16")
        return None, Engine(graph, driver)

    monkeypatch.setitem(build_engine, "_engine", engine)
    case, runtime = predict["Case"](folder), predict["TensorRT"](folder, "fp16")
    asked = [{"images": [str(image)], "mask": str(tmp_path / f"{image.name[:3]}.nii.gz")} for image in images]
    machine = "NVIDIA H100, driver for CUDA 12080, TensorRT 8.6.0"
    assert plans == [predict["plan_of"](folder, "fp16", machine)]
    expected = answers(folder, asked)
    for question, answer in zip(asked, expected, strict=True):
        written = Path(question["mask"]).read_bytes()
        assert case.predict(question["images"], question["mask"], runtime) == answer["class"]
        assert Path(question["mask"]).read_bytes() == written


def test_no_engine_or_graph_of_an_earlier_network_is_taken(export, tmp_path):
    plan_of = runpy.run_path(str(ROOT / "scripts/trt86/predict.py"))["plan_of"]
    plans = []
    for content in (b"one", b"two"):
        (tmp_path / "fp32.onnx").write_bytes(content)
        plans.append(plan_of(tmp_path, "fp16", "an H100"))
    assert plans[0] != plans[1]
    (tmp_path / "fp32.onnx").write_bytes(b"one")
    assert plan_of(tmp_path, "fp16", "an H100") == plans[0]
    plans.append(plan_of(tmp_path, "fp16", "an A100"))
    assert plans[2] not in plans[:2], "nor one of another GPU"
    for path in (*plans, tmp_path / "int8.onnx"):
        path.touch()
    export["clear"](tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fp32.onnx"]
