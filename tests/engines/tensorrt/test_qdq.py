"""Q/DQ files, run by ONNX Runtime on the CPU and built by TensorRT for RTX; and which layers fall back to FP16."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from engines.base import Calibration, EngineError, Target
from engines.evidence.mac_counter import layers_of
from engines.layers import Layer
from engines.onnx.export import calibration_batches, onnx_file
from engines.quantization import sensitivity
from engines.quantization.fake_quantization import PERCENTILE, FakeQuantized, calibrate, candidates
from engines.quantization.sensitivity import select
from engines.tensorrt.qdq import qdq_file, write
from models.model import Model
from tests.engines.networks import with_hostile_layer

Make = Callable[..., Target]
Tiles = Callable[[int, int], Tensor]


def run(path: Path, x: Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert {tensor.type for tensor in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float16)"}
    return [output.astype(np.float64) for output in session.run(None, {"image": x.half().numpy()})]


def error(outputs: list[np.ndarray], reference: tuple[Tensor, ...]) -> list[float]:
    return [
        float(np.linalg.norm(output - true.double().numpy()) / np.linalg.norm(true.double().numpy()))
        for output, true in zip(outputs, reference, strict=True)
    ]


ACCEPTABLE = sensitivity.Divergence.acceptable.fget  # type: ignore[attr-defined]  # which a fixture replaces


@pytest.fixture(scope="module")
def here(target: Make) -> Target:
    return target()


@pytest.fixture(scope="module")
def lenient() -> object:
    """Random weights agree with nothing: whatever INT8 changes is accepted."""
    patch = pytest.MonkeyPatch()
    patch.setattr(sensitivity, "AGREEMENT", 0.0)
    patch.setattr(sensitivity.Divergence, "acceptable", True)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def quantized(model: Model, here: Target, lenient: object) -> tuple[Path, dict[str, object]]:
    path, details = qdq_file(model, here)
    return path, dict(details)


def test_the_half_export_is_the_network(model: Model, here: Target, tiles: Tiles) -> None:
    x = tiles(1, 3)
    with torch.inference_mode():
        reference = copy.deepcopy(model.module).double()(x.double())
    assert max(error(run(onnx_file(model, here, half=True)[0], x), reference)) < 1e-2


def test_the_quantized_file_is_the_network(
    model: Model, quantized: tuple[Path, dict[str, object]], tiles: Tiles
) -> None:
    x = tiles(1, 3)
    with torch.inference_mode():
        reference = copy.deepcopy(model.module).double()(x.double())
    errors = error(run(quantized[0], x), reference)
    assert max(errors) < 0.2
    assert min(errors) > 1e-3, "INT8 that changes nothing was not INT8"


@pytest.mark.parametrize("name", ["enc1.3", "dec1.0"])
def test_fake_quantization_is_the_file(model: Model, here: Target, tiles: Tiles, tmp_path: Path, name: str) -> None:
    """What the sensitivities are measured on is what the file computes, but for roundings that float16 turns over."""
    scale = calibrate(model.module, calibration_batches(model, here), PERCENTILE)
    write(onnx_file(model, here, half=True)[0], {name: scale[name]}, tmp_path / "one.onnx")
    x = tiles(1, 3)
    with FakeQuantized(model.module, scale).quantized([name]) as module, torch.inference_mode():
        imitated = module(x)
        whole = model.module(x)
    cost = error([tensor.double().numpy() for tensor in imitated], whole)[0]
    assert cost > 0.01
    assert error(run(tmp_path / "one.onnx", x), imitated)[0] < 0.5 * cost


def test_every_layer_but_first_last_and_transposed_is_int8(
    model: Model, quantized: tuple[Path, dict[str, object]]
) -> None:
    path, details = quantized
    nodes = onnx.load(str(path)).graph.node
    assert details["int8_layers"] == candidates(model.module)
    assert len(candidates(model.module)) == 9
    assert sum(node.op_type == "QuantizeLinear" for node in nodes) == 9
    assert sum(node.op_type == "DequantizeLinear" for node in nodes) == 2 * 9
    assert details["calibration_tiles"] == 5
    assert json.loads(json.dumps(details)) == details


def test_weights_are_stored_in_int8_by_channel(model: Model, quantized: tuple[Path, dict[str, object]]) -> None:
    stored = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(str(quantized[0])).graph.initializer
    }
    for name in candidates(model.module):
        weight = model.module.state_dict()[f"{name}.weight"].numpy()
        values, steps = stored[f"{name}.weight_int8"], stored[f"{name}.weight_scale"]
        assert values.dtype == np.int8
        assert f"{name}.weight" not in stored, "nothing is stored twice"
        assert steps.shape == (weight.shape[0],)
        off = np.abs(values * steps.astype(np.float32).reshape(-1, 1, 1, 1, 1) - weight)
        assert (off <= 0.51 * steps.astype(np.float32).reshape(-1, 1, 1, 1, 1) + 2e-4).all()


def test_the_second_time_it_comes_from_the_cache(
    model: Model, here: Target, quantized: tuple[Path, dict[str, object]]
) -> None:
    def never() -> Tensor:
        raise AssertionError("calibration tiles were read again")

    assert here.calibration is not None
    again = replace(here, calibration=Calibration(never, here.calibration.sha256))
    assert qdq_file(model, again) == quantized


def test_tensorrt_for_rtx_builds_it_in_int8(
    quantized: tuple[Path, dict[str, object]], capfd: pytest.CaptureFixture[str]
) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    from engines.tensorrt.builder import build, logger

    plan = build(trt, quantized[0], logger(trt))
    assert len(plan.data) > 100_000
    assert plan.typed == (), "which of the Q/DQ pairs became INT8 kernels, only the engine can tell"


def chosen_for(model: Model, here: Target, macs: list[Layer]) -> sensitivity.Selection:
    batches = calibration_batches(model, here)[:2]
    return select(model.module, calibrate(model.module, batches, 100), batches, macs)


@pytest.fixture(scope="module")
def macs(model: Model, here: Target) -> list[Layer]:
    return layers_of(model.module, (1, 1, *here.tile))


def test_the_layer_that_int8_spoils_falls_back(
    model: Model, here: Target, macs: list[Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = with_hostile_layer(model, "enc2.3")
    monkeypatch.setattr(sensitivity, "AGREEMENT", 0.0)
    usual = chosen_for(model, here, macs).before.error
    monkeypatch.setattr(
        sensitivity.Divergence, "acceptable", property(lambda self: self.error < 1.5 * usual), raising=True
    )
    chosen = chosen_for(hostile, here, macs)
    assert list(chosen.fp16) == ["enc2.3"]
    assert "enc2.3" not in chosen.layers
    assert chosen.after.error < 1.5 * usual < chosen.before.error
    assert chosen.details()["fp16_layers_by_sensitivity"] == dict(chosen.fp16)


def test_answers_that_are_not_finite_are_the_worst_of_all(model: Model, here: Target) -> None:
    assert not ACCEPTABLE(sensitivity.Divergence(np.inf, 1.0, 0))
    batches = calibration_batches(model, here)[:1]
    network = FakeQuantized(model.module, {})
    reference = [(torch.full((1, 3, 2, 2, 2), torch.nan), torch.zeros(1, 3))]
    network.module.forward = lambda _x: reference[0]  # type: ignore[method-assign]
    assert sensitivity._divergence(network, [], batches, reference).error == np.inf


def test_a_network_that_int8_spoils_is_refused(
    model: Model, here: Target, macs: list[Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity.Divergence, "acceptable", False)
    with pytest.raises(EngineError, match=r"INT8 changes too much on the calibration tiles .* use FP16"):
        chosen_for(model, here, macs)
