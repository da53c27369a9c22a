"""Networks of other images and labels than the pancreas's, in every backend, against the module itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import engines
from engines.base import Calibration, Target
from engines.evidence.mac_counter import layers_in
from engines.evidence.mismatch import evidence_mismatch
from engines.onnx.export import onnx_file
from engines.pytorch import aoti
from engines.quantization import sensitivity
from engines.quantization.fake_quantization import FakeQuantized, calibrate
from engines.rewrites import rewritten
from models.errors import CheckpointError
from models.model import Model
from models.networks.build import describe_network
from models.options import ModelOptions
from models.task import Region, Structure, Task, structures_of
from tests.loading import load
from tests.models.sources import dynamo, exported, refused, traced

SIDE = 16
TILE = (SIDE,) * 3
# Largest allowed ||output - reference|| / ||reference||, on random weights.
BOUNDS = {"fp32": 1e-4, "half": 5e-2, "bf16": 5e-2, "int8": 3e-1}


def parts(count: int) -> dict[str, int]:
    return {"background": 0} | {f"part {label}": label for label in range(1, count)}


def task(channels: int, labels: dict[str, int], regions: tuple[Region, ...] = (), classes: int = 0) -> Task:
    return Task(
        name="other",
        channels=tuple(f"image {number}" for number in range(channels)),
        labels=labels,
        structures={region.structure: Structure(labels=(region.label,)) for region in regions} or structures_of(labels),
        regions=regions,
        painting=tuple(reversed(range(len(regions)))),
        classes=tuple(f"class {number}" for number in range(classes)),
    )


REGIONS = tuple(Region(structure=f"region {label}", label=label) for label in (1, 2, 3))
TASKS = {
    "2 channels, 5 labels, 2 classes": task(2, parts(5), classes=2),
    "4 channels, 3 regions": task(4, parts(4), REGIONS),
    "105 labels": task(1, parts(105)),
}


class Small(nn.Module):
    """Two levels, so that INT8 has something to do beyond the first and last convolution."""

    def __init__(self, of: Task) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv3d(len(of.channels), 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True), nn.LeakyReLU(0.01),
            nn.Conv3d(8, 16, 3, stride=2, padding=1), nn.InstanceNorm3d(16, affine=True), nn.LeakyReLU(0.01),
            nn.Conv3d(16, 16, 3, padding=1), nn.LeakyReLU(0.01),
        )  # fmt: skip
        self.up, self.seg = nn.ConvTranspose3d(16, 8, 2, 2), nn.Conv3d(8, len(of.output_labels), 1)
        self.cls = nn.Linear(16, len(of.classes)) if of.classes else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.down(x)
        segmentation: Tensor = self.seg(self.up(features))
        return segmentation if self.cls is None else (segmentation, self.cls(features.mean((2, 3, 4))))


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    made = {}
    for name, of in TASKS.items():
        torch.manual_seed(0)
        network = Small(of).eval().requires_grad_(False)
        segmentation = network(tiles(1, len(of.channels), 2))
        logits = segmentation[0] if of.classes else segmentation
        network.seg.bias -= logits.mean((0, 2, 3, 4))  # so that each region is somewhere
        made[name] = describe_network(network, "small", TILE, (-100.0, 240.0), task=of)
    return made


def tiles(count: int, channels: int, seed: int) -> Tensor:
    coarse = torch.rand(count, channels, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    return interpolate(coarse, size=TILE, mode="trilinear")


def target_for(model: Model, cache: Path, batch: int = 1) -> Target:
    calibration = Calibration(lambda: tiles(3, model.channels, 1), f"tiles-{model.channels}")
    return Target("cpu", TILE, batch, 1, cache, calibration, channels=model.channels)


@pytest.mark.parametrize("name", TASKS)
def test_a_model_says_what_its_task_says(models: dict[str, Model], name: str) -> None:
    model, of = models[name], TASKS[name]
    assert (model.task, model.channels, model.subtypes) == (of, len(of.channels), len(of.classes))
    assert (model.labels, model.painting) == (of.output_labels, (2, 1, 0) if of.regions else None)
    assert sum(layer.macs for layer in layers_in(model, 1, TILE)) == (
        SIDE**3 * 8 * 27 * model.channels + (SIDE // 2) ** 3 * (16 * 27 * (8 + 16) + 16 * 8 * 8)
        + SIDE**3 * 8 * len(of.output_labels) + 16 * len(of.classes)
    )  # fmt: skip


# Compilers take long: one network must do, and those of torch.compile are asked in `test_accuracy_of_engines`.
FIRST = next(iter(TASKS))
EVERY = [
    (backend, name) for backend, row in engines.BACKENDS.items() for name in TASKS
    if "cpu" in row.devices and not backend.startswith("torch-compile") and (backend != "torch-aoti" or name == FIRST)
]  # fmt: skip


@pytest.mark.parametrize(("backend", "name"), EVERY)
def test_every_backend_gives_the_same_logits(models: dict[str, Model], tmp_path: Path, name: str, backend: str) -> None:
    model, row, engine = models[name], engines.BACKENDS[backend], engines.load(backend)
    here = target_for(model, tmp_path, batch=2 if name == FIRST and backend != "torch-aoti" else 1)
    available = engine.probe(here)
    if not available.ok:
        pytest.skip(f"{available.reason}; {available.fix}")
    x = tiles(here.batch, model.channels, 7)
    with torch.inference_mode():
        expected = model.module(x)
    with engine.open(model, here) as session:
        outputs = [output.clone() for output in session.infer(x)]
        for again, output in zip(session.infer(x.transpose(2, 4).contiguous().transpose(2, 4)), outputs, strict=True):
            torch.testing.assert_close(again, output, rtol=1e-4, atol=1e-5)
        assert evidence_mismatch(row, here, session.evidence()) is None
    if backend == "torch-aoti":
        package = next(tmp_path.rglob("*.pt2"))
        aoti._try_loading(package, -1)  # in a process of its own, as it is done on a GPU
        for options in (None, ModelOptions(trust=package)):  # here, since it takes long to make one
            assert refused(package, options) == (
                "is an AOTInductor package: native code for one kind of machine, which runs as it is loaded; give the "
                "checkpoint it was compiled from; torch-aoti compiles it here"
            )
    assert [output.shape for output in outputs] == [true.shape for true in expected]
    if not model.subtypes:  # then it is a logit of the segmentation, near 0 perhaps
        assert torch.equal(outputs[1], outputs[0][:, :1, 0, 0, 0])
    for output, true in zip(outputs[: 1 + bool(model.subtypes)], expected, strict=False):
        assert float((output - true).norm() / true.norm()) < BOUNDS[row.precision]


@pytest.mark.parametrize(
    ("file", "write", "backend"),
    [
        ("graph.onnx", dynamo, "ort-fp32"),
        ("graph.onnx", dynamo, "openvino-fp32"),
        ("script.pt", traced, "torchscript"),
        ("program.pt2", exported, "torch-fp32"),
    ],
)
def test_a_program_of_several_channels(
    models: dict[str, Model], tmp_path: Path, file: str, write: Callable[[nn.Module, Path, Tensor], None], backend: str
) -> None:
    name, x = "2 channels, 5 labels, 2 classes", tiles(1, 2, 7)
    network: Any = models[name].module.network
    write(network, tmp_path / file, x)
    options = ModelOptions(tile=TILE, trust=tmp_path / file, task=TASKS[name])
    model, _ = load(tmp_path / file, options=options)
    assert model.program is not None
    here, row = target_for(model, tmp_path), engines.BACKENDS[backend]
    if not engines.load(backend).probe(here).ok:
        pytest.skip(f"{backend} is not here")
    with engines.load(backend).open(model, here) as session, torch.inference_mode():
        for output, true in zip(session.infer(x), models[name].module(x), strict=True):
            torch.testing.assert_close(output, true, rtol=1e-3, atol=1e-4)
        assert evidence_mismatch(row, here, session.evidence()) is None
    with pytest.raises(CheckpointError, match="its network takes 2 channels and gives 5 classes, and nothing says"):
        load(tmp_path / file, options=replace(options, task=None))
    with pytest.raises(CheckpointError, match=r"takes 2 channels, and the task other has 4 \(image 0"):
        load(tmp_path / file, options=replace(options, task=TASKS["4 channels, 3 regions"]))


# By each way to a graph, and without one; in INT8 the head is quantized. The other backends take one of these graphs.
@pytest.mark.parametrize("backend", ["torchscript", "openvino-fp32", "torch-half", "ort-int8"])
def test_one_logit_of_two_classes_becomes_two(tmp_path: Path, backend: str) -> None:
    of = TASKS["2 channels, 5 labels, 2 classes"]
    torch.manual_seed(0)
    network = Small(replace(of, classes=("yes",))).eval().requires_grad_(False)
    model = describe_network(network, "small", TILE, (-100.0, 240.0), task=of)
    if not engines.load(backend).probe(target_for(model, tmp_path)).ok:
        pytest.skip(f"{backend} is not here")
    x = tiles(1, 2, 7)
    with torch.inference_mode():
        logit = network(x)[1]
    with engines.load(backend).open(model, target_for(model, tmp_path)) as session:
        torch.testing.assert_close(session.infer(x)[1], torch.cat((-logit, logit), 1) / 2, rtol=0.1, atol=2e-2)
    assert model.subtypes == 2


@pytest.mark.parametrize(
    ("file", "write", "backend"), [("graph.onnx", dynamo, "ort-fp32"), ("script.pt", traced, "torchscript")]
)
def test_one_logit_of_a_program_becomes_two(
    tmp_path: Path, file: str, write: Callable[[nn.Module, Path, Tensor], None], backend: str
) -> None:
    of, x = TASKS["2 channels, 5 labels, 2 classes"], tiles(1, 2, 7)
    network = Small(replace(of, classes=("yes",))).eval().requires_grad_(False)
    write(network, tmp_path / file, x)
    model, _ = load(tmp_path / file, options=ModelOptions(tile=TILE, trust=tmp_path / file, task=of))
    with engines.load(backend).open(model, target_for(model, tmp_path)) as session, torch.inference_mode():
        logit = network(x)[1]
        torch.testing.assert_close(session.infer(x)[1], torch.cat((-logit, logit), 1) / 2, rtol=1e-3, atol=1e-4)


def test_int8_of_regions_is_held_to_each_of_them(models: dict[str, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    model = models["4 channels, 3 regions"]
    monkeypatch.setattr(sensitivity, "AGREEMENT", 0)
    batches = [tiles(1, 4, seed) for seed in (1, 2)]
    scales = calibrate(model.module, batches, 99.99)
    assert list(scales) == ["network.down.3", "network.down.6"], "and not what reads the image"
    chosen = sensitivity.select(model.module, scales, batches, layers_in(model, 1, TILE), regions=True)
    with FakeQuantized(model.module, scales).quantized(scales) as network, torch.inference_mode():
        pairs = [(network(batch)[0] > 0, model.module(batch)[0] > 0) for batch in batches]
    both = sum((a & r).sum((0, 2, 3, 4)) for a, r in pairs)
    each = sum(a.sum((0, 2, 3, 4)) + r.sum((0, 2, 3, 4)) for a, r in pairs)
    assert chosen.after.agreement == pytest.approx(float((2 * both / each).min()), abs=1e-6)


def test_an_artefact_is_of_one_number_of_channels_and_outputs(models: dict[str, Model], tmp_path: Path) -> None:
    model = models["105 labels"]
    here = target_for(model, tmp_path)
    first, again = onnx_file(model, here)[1], onnx_file(model, here)[1]
    assert (first.cached, again.cached, first.folder) == (False, True, again.folder)
    other = replace(model, labels=model.labels[:4])
    assert onnx_file(other, here)[1].folder != first.folder


def test_rewrites_keep_the_function_of_several_channels(models: dict[str, Model]) -> None:
    model = models["2 channels, 5 labels, 2 classes"]
    x = tiles(1, 2, 3)
    other = rewritten(model, ["drop-biases", "shuffle-upsampling"])
    with torch.inference_mode():
        for output, true in zip(other.module(x), model.module(x), strict=True):
            torch.testing.assert_close(output, true, rtol=1e-3, atol=1e-4)
