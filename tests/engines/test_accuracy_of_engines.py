"""Every backend of the table, on the same inputs, against the module itself in float64."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

import engines
from engines.base import Evidence, Session, Target
from engines.evidence.mismatch import evidence_mismatch
from engines.quantization import sensitivity
from models.model import Model

DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))
# Largest allowed ||output - reference|| / ||reference||, on random weights.
BOUNDS = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 1e-2, "bf16": 5e-2, "half": 5e-2, "int8": 2e-1}
# The least Dice between INT8's labels and FP32's: of random weights, voxels lie near a tie, and 0.935 is reached.
RANDOM_AGREEMENT = 0.9


@dataclass
class Opened:
    """An open session, what it returned for two inputs in turn, and its evidence."""

    name: str
    target: Target
    session: Session
    inputs: list[Tensor]
    outputs: list[tuple[Tensor, Tensor]]
    evidence: Evidence


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shared_target(device: str, target: Callable[..., Target]) -> Target:
    return target(device, 2)  # tiles one by one are asked in `test_tasks` and in whole runs


# A backend is built once: pytest-xdist gives all its tests to one process. That of torch-aoti, which compiles as
# torch-compile does and takes as long, is asked in `test_tasks`.
EVERY = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in engines.BACKENDS if name != "torch-aoti"]


@pytest.fixture(scope="module", params=EVERY)
def opened(
    request: pytest.FixtureRequest, shared_target: Target, model: Model, tiles: Callable[[int, int], Tensor]
) -> Iterator[Opened]:
    name = str(request.param)
    engine = engines.load(name)
    available = engine.probe(shared_target)
    if not available.ok:
        for line in (available.reason, available.fix):
            assert line, "what cannot run says why and what to do"
            assert "\n" not in line
        pytest.skip(f"{available.reason}; {available.fix}")
    inputs = [tiles(shared_target.batch, seed).to(shared_target.device) for seed in (10, 11)]
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(sensitivity, "AGREEMENT", RANDOM_AGREEMENT)
        own = replace(model, module=copy.deepcopy(model.module))
        session = stack.enter_context(engine.open(own, shared_target))
        outputs = []
        for x in inputs:
            segmentation, classification = session.infer(x)
            session.sync()
            outputs.append((segmentation.clone(), classification.clone()))
        yield Opened(name, shared_target, session, inputs, outputs, session.evidence())


def test_matches_the_reference(opened: Opened, model: Model) -> None:
    bound = BOUNDS[engines.BACKENDS[opened.name].precision]
    reference = copy.deepcopy(model.module).double()
    for x, outputs in zip(opened.inputs, opened.outputs, strict=True):
        with torch.inference_mode():
            expected = reference(x.cpu().double())
        for output, true in zip(outputs, expected, strict=True):
            assert output.dtype == torch.float32
            assert output.device == x.device
            assert output.shape == true.shape
            assert float((output.cpu().double() - true).norm() / true.norm()) < bound


def test_evidence_bears_out_the_name(opened: Opened) -> None:
    assert evidence_mismatch(engines.BACKENDS[opened.name], opened.target, opened.evidence) is None
    assert sum(opened.evidence.mac_share.values()) == pytest.approx(1)
    assert isinstance(opened.evidence.details["cached"], bool)
    assert json.loads(json.dumps(dict(opened.evidence.details))) == opened.evidence.details


def test_evidence_fits_no_other_name(opened: Opened) -> None:
    """It is read from the runtime: no FP32 backend passes for a reduced one, nor the other way round."""
    row = engines.BACKENDS[opened.name]
    other = replace(row, precision="int8" if row.precision == "fp32" else "fp32")
    mismatch = evidence_mismatch(other, opened.target, opened.evidence)
    assert mismatch is not None
    assert "multiply-accumulates ran" in mismatch


def test_takes_tensors_of_every_kind(opened: Opened) -> None:
    """Slices of a volume and tensors made under inference mode are as good as any, and recompile nothing."""
    x, before = opened.inputs[0], opened.outputs[0]
    with torch.inference_mode():
        made_there = x.clone()
    for kind in (x.transpose(2, 4).contiguous().transpose(2, 4), made_there):
        segmentation, classification = opened.session.infer(kind)
        opened.session.sync()
        torch.testing.assert_close(segmentation, before[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(classification, before[1], rtol=1e-4, atol=1e-5)
    details = opened.session.evidence().details
    assert (details.get("graphs", 1), details.get("graph_breaks", 0)) == (1, 0)


def test_answers_again_as_before(opened: Opened) -> None:
    """Neither the evidence nor another input in between leaves a trace in the outputs."""
    for x, before in zip(opened.inputs, opened.outputs, strict=True):
        again = opened.session.infer(x.clone())
        opened.session.sync()
        for now, then in zip(again, before, strict=True):
            torch.testing.assert_close(now, then, rtol=1e-4, atol=1e-5)


def test_evidence_sees_what_autocast_does_to_the_baseline(
    target: Callable[..., Target], model: Model, tiles: Callable[[int, int], Tensor]
) -> None:
    here = target()
    with engines.load("torch-fp32").open(model, here) as session, torch.autocast("cpu", torch.bfloat16):
        session.infer(tiles(1, 0))
        evidence = session.evidence()
    assert evidence.mac_share == {"bf16": 1.0}
    assert evidence_mismatch(engines.BACKENDS["torch-fp32"], here, evidence) is not None


def test_evidence_sees_openvinos_own_choice_of_precision(
    target: Callable[..., Target], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = target()
    if not engines.load("openvino-bf16").probe(here).ok:
        pytest.skip("OpenVINO has no BF16 here to choose")
    engine = engines.load("openvino-fp32")
    monkeypatch.setattr(engine, "_hint", lambda: "bf16")
    with engine.open(model, here) as session:
        mismatch = evidence_mismatch(engines.BACKENDS["openvino-fp32"], here, session.evidence())
    assert mismatch == "its multiply-accumulates ran 100.0% in bf16, not all in fp32"
