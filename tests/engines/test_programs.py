"""Networks that are a file's own program or graph: which backends run them, and what they answer and report."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import engines
from engines.base import Target
from engines.evidence.mac_counter import layers_in, layers_of
from engines.evidence.mismatch import evidence_mismatch
from engines.probe import incompatible_reason
from models.model import Model
from models.options import ModelOptions
from models.reader.container import EXPORTED, ONNX, TORCHSCRIPT
from tests.loading import load
from tests.models.sources import SIDE, TILE, Other, as_is, dynamic, dynamo, exported, frozen, scripted

WRITERS = {"graph.onnx": dynamic, "script.pt": scripted, "frozen.pt": frozen, "program.pt2": exported}
BOUNDS = {"fp32": 1e-4, "int8": 0.3}


@pytest.fixture(scope="module")
def source() -> Other:
    return Other()


@pytest.fixture(scope="module")
def programs(source: Other, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("programs")
    models = {}
    for name, write in WRITERS.items():
        write(source, folder / name, torch.rand(1, 1, *TILE))
        models[name], _ = load(folder / name, options=ModelOptions(tile=TILE, trust=folder / name))
    return models


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("graph.onnx", "ort-fp32"),
        ("graph.onnx", "ort-int8"),
        ("graph.onnx", "openvino-fp32"),
        ("graph.onnx", "openvino-int8"),
        ("script.pt", "torch-fp32"),
        ("script.pt", "torchscript"),
        ("frozen.pt", "torch-fp32"),
        ("frozen.pt", "torchscript"),
        ("program.pt2", "torch-fp32"),
        ("program.pt2", "torchscript"),
        ("program.pt2", "torch-compile"),
        ("program.pt2", "openvino-fp32"),
    ],
)
def test_answers_as_the_source_module(
    programs: dict[str, Model], source: Other, target: Callable[..., Target], tiles: Callable[[int, int], Tensor],
    name: str, backend: str,
) -> None:  # fmt: skip
    batch = 1 if name == "program.pt2" else 2
    here, x, row = target(batch=batch), tiles(batch, 7), engines.BACKENDS[backend]
    engine = engines.load(backend)
    available = engine.probe(here)
    if not available.ok:
        pytest.skip(f"{available.reason}; {available.fix}")
    assert incompatible_reason(row, programs[name].program, batch) is None
    with engine.open(programs[name], here) as session:
        for output, true in zip(session.infer(x), as_is(source, x), strict=True):
            assert float((output - true).norm() / true.norm()) < BOUNDS[row.precision]
        assert evidence_mismatch(row, here, session.evidence()) is None


def test_a_graph_that_only_segments(target: Callable[..., Target], tmp_path: Path) -> None:
    network, x = Other(head=False, deep=True), torch.rand(1, 1, *TILE)
    dynamo(network, tmp_path / "graph.onnx", x)
    model, _ = load(tmp_path / "graph.onnx")
    here = target()
    for backend in ("ort-fp32", "openvino-fp32"):
        with engines.load(backend).open(model, here) as session:
            segmentation, placeholder = session.infer(x)
            torch.testing.assert_close(segmentation, as_is(network, x)[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(placeholder, segmentation[:, :1, 0, 0, 0])
            assert session.evidence().mac_share == {"fp32": 1.0}, "what leads to no output is neither run nor counted"


def test_layers_are_those_of_the_source(programs: dict[str, Model], source: Other) -> None:
    expected = sorted((layer.macs, layer.sizes[2]) for layer in layers_of(source, (1, 1, *TILE)))
    assert sum(macs for macs, _ in expected) == SIDE**3 * 4 * 27 + (SIDE // 2) ** 3 * 4 * 16 + SIDE**3 * 6 + 12
    for model in programs.values():
        layers = [(layer.macs, layer.sizes[2]) for layer in layers_in(model, 1, TILE)]
        assert sorted(layers) == expected


@pytest.mark.parametrize("name", WRITERS)
def test_layers_that_reach_no_output_are_left_out(programs: dict[str, Model], tmp_path: Path, name: str) -> None:
    WRITERS[name](Other(deep=True), tmp_path / name, torch.rand(1, 1, *TILE))
    model, _ = load(tmp_path / name, options=ModelOptions(tile=TILE, trust=tmp_path / name))
    deep, plain = (
        [(layer.macs, layer.sizes) for layer in layers_in(each, 1, TILE)] for each in (model, programs[name])
    )
    assert sorted(deep) == sorted(plain)


def test_what_cannot_run_a_program_says_so(programs: dict[str, Model]) -> None:
    fix = "give the network's state_dict() as the checkpoint, with --arch FILE.py:FACTORY if its code is your own"
    for name, what in (
        ("graph.onnx", "an ONNX graph"), ("script.pt", "a TorchScript program"), ("program.pt2", "an exported program"),
    ):  # fmt: skip
        program = programs[name].program
        refused = {backend: incompatible_reason(row, program, 1) for backend, row in engines.BACKENDS.items()}
        reason = f"the checkpoint is {what}, and this backend needs the PyTorch network"
        assert {(why.reason, why.fix) for why in refused.values() if why} == {(reason, fix)}
        assert refused["torch-fused"] is not None
        assert refused["tensorrt-int8"] is not None, "it takes the network's layers apart"
        assert refused[engines.baseline_for(program.container if program else None)] is None
        assert all(incompatible_reason(row, None, 4) is None for row in engines.BACKENDS.values())
    graph = {backend for backend, row in engines.BACKENDS.items() if ONNX in row.programs}
    assert graph == {
        "ort-fp32", "ort-int8", "openvino-fp32", "openvino-bf16", "openvino-int8", "tensorrt-fp32", "tensorrt-rtx-fp32",
    }  # fmt: skip
    assert {EXPORTED, TORCHSCRIPT} <= set(engines.BACKENDS[engines.BASELINE].programs)


def test_a_program_of_one_batch_takes_no_other(programs: dict[str, Model]) -> None:
    why = incompatible_reason(engines.BACKENDS["torch-fp32"], programs["program.pt2"].program, 4)
    assert why is not None
    assert (why.reason, why.fix) == (
        "the checkpoint is an exported program that takes batches of 1 only, and not of 4",
        "export it with a dynamic batch axis, or ask for that batch",
    )


def test_a_graph_is_fixed_once_and_comes_from_the_cache(
    programs: dict[str, Model], target: Callable[..., Target]
) -> None:
    here = target()
    cached = []
    for _ in range(2):
        with engines.load("ort-fp32").open(programs["graph.onnx"], here) as session:
            cached.append(session.evidence().details["cached"])
    assert cached == [False, True]


def test_a_program_is_not_rewritten(programs):
    program = programs["program.pt2"].program
    baseline = engines.BACKENDS["torch-fp32"]
    reason = incompatible_reason(baseline, program, 1, ("drop-biases",))
    assert reason is not None
    assert not reason.ok
    assert reason.reason.endswith("and rewrites need the PyTorch network")
    assert incompatible_reason(baseline, program, 1) is None
    assert incompatible_reason(baseline, None, 1, ("drop-biases",)) is None
