"""OpenVINO: the tiles of a batch as requests side by side; the weights of INT8."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import engines
from engines.base import Target, class_check_of
from engines.host.cpu import weight_bits
from models.model import Model, weights_sha256
from models.networks.unet import MultiTaskUNet
from models.networks.widening import widen
from tests.engines.networks import SegmentsOnly

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the shared network in INT8 from the first test on, since to quantize takes long."""
    return tmp_path_factory.mktemp("quantized")


def whole(target: Target) -> Target:
    """One for which all layers stay in INT8, whatever that does to the masks; `test_quantize` has the others."""
    return replace(target, int8_dice=0.0)


@pytest.mark.parametrize(("batch", "streams"), [(1, 1), (2, 2), (3, 2)])
def test_every_tile_of_a_batch_gets_its_own_result(
    model: Model, target: Callable[..., Target], tiles: Callable[[int, int], Tensor], batch: int, streams: int
) -> None:
    with engines.load("openvino-fp32").open(model, target(batch=batch)) as session, torch.inference_mode():
        for seed in (2, 3):  # the second call overwrites what the first one gave
            x = tiles(batch, seed)
            for output, expected in zip(session.infer(x), model.module(x), strict=True):
                assert output.shape == expected.shape
                torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-4)
        evidence = session.evidence()
    assert (evidence.details["streams"], evidence.details["threads"]) == (streams, 2)
    assert evidence.mac_share == {"fp32": 1.0}


def test_what_was_built_for_one_tile_serves_every_batch(model: Model, target: Callable[..., Target]) -> None:
    here = target()
    cached = []
    for batch in (1, 4):
        with engines.load("openvino-fp32").open(model, target(batch=batch, cache=here.cache)) as session:
            cached.append(session.evidence().details["cached"])
    assert cached == [False, True]


def test_int8_keeps_sums_whole(
    model: Model, target: Callable[..., Target], tiles: Callable[[int, int], Tensor]
) -> None:
    """Channels that are copies of their neighbours make the largest sums of two products.

    With 8 bits the segmentation's logits were 11.8 % off on a processor without VNNI, with 7 they are 4.7 %.
    """
    assert isinstance(model.module, MultiTaskUNet)
    network = widen(model.module, 8)
    wide = replace(model, module=network, width=8, sha256=weights_sha256(network))
    with engines.load("openvino-int8").open(wide, whole(target())) as session, torch.inference_mode():
        x = tiles(1, 3)
        for output, expected in zip(session.infer(x), network(x), strict=True):
            assert float((output - expected).norm() / expected.norm()) < 0.08
        assert session.evidence().details["weight_bits"] == weight_bits()


@pytest.mark.parametrize(
    ("machine", "flags", "bits"),
    [("x86_64", "fma avx2", 7), ("x86_64", "avx2 avx_vnni", 8), ("AMD64", "avx512_vnni", 8), ("aarch64", "asimd", 8)],
)
def test_weights_take_the_bits_that_the_processor_adds_whole(
    machine: str, flags: str, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("engines.host.cpu.CPU_INFO", cpu_info)
    assert weight_bits() == bits


def test_a_system_that_reports_no_instructions_gets_seven_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("engines.host.cpu.CPU_INFO", tmp_path / "nothing")
    assert weight_bits() == 7


@pytest.mark.parametrize(("there", "here"), [("bf16", "f32"), ("f32", "bf16")])
def test_int8_of_a_package_runs_where_bf16_is_not_as_it_was(
    there: str, here: str, model: Model, target: Callable[..., Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The IR is data; in which precision the rest runs is said when it is compiled."""
    if not engines.load("openvino-bf16").probe(target()).ok:
        pytest.skip("OpenVINO has no BF16 here to choose")
    engine, made = engines.load("openvino-int8"), whole(target(cache=tmp_path / "made"))
    monkeypatch.setattr(engine, "_hint", lambda: there)
    with engine.open(model, made):
        pass
    monkeypatch.setattr(engine, "_hint", lambda: here)
    packed = replace(made, cache=tmp_path / "cache", prebuilt=made.cache)
    with engine.open(model, packed) as session:
        evidence = session.evidence()
    assert (evidence.details["cached"], evidence.details["hint"]) == (True, here)
    assert set(evidence.mac_share) == {"int8", {"bf16": "bf16", "f32": "fp32"}[here]}


@pytest.mark.parametrize("batch", [1, 2])
def test_int8_checks_classes_that_it_leaves_uncertain(
    model: Model, target: Callable[..., Target], tiles: Callable[[int, int], Tensor], quantized: Path, batch: int
) -> None:
    """Uncertain is what lies nearer to a tie than INT8 has moved any two logits of a calibration tile."""
    with (
        engines.load("openvino-int8").open(model, whole(target(batch=batch, cache=quantized))) as session,
        torch.inference_mode(),
    ):
        check = class_check_of(session)
        assert check is not None
        x = tiles(batch, 3)
        torch.testing.assert_close(check.infer(x), model.module(x)[1], rtol=1e-3, atol=1e-4)
        changes = []
        for tile in tiles(5, 1).split(1):
            change = session.infer(tile.expand(batch, -1, -1, -1, -1))[1][:1] - model.module(tile)[1]
            changes.append(float(change.max() - change.min()))
        rounding = 0.1 if batch == 1 else 0.3  # BF16 between layers rounds otherwise in a batch
        assert check.lead == pytest.approx(max(changes), rel=rounding)
        assert session.evidence().details["class_check_below"] == check.lead


def test_a_network_without_a_classification_has_no_class_to_check(model: Model, target: Callable[..., Target]) -> None:
    segments = replace(model, module=SegmentsOnly(model.module), subtypes=0)
    with engines.load("openvino-int8").open(segments, whole(target())) as session:
        assert class_check_of(session) is None
        assert "class_check_below" not in session.evidence().details
    with engines.load("openvino-fp32").open(model, target()) as session:
        assert class_check_of(session) is None
