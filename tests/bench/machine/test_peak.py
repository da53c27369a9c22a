"""The device's peaks, and the work that is held against them."""

import sys

import pytest
from torch import nn

from bench.machine import peak
from bench.plan.controlled_settings import work_of_a_tile
from engines.evidence.mac_counter import layers_of


def test_a_copy_reads_and_writes_every_byte_once(monkeypatch):
    copies = []

    def seconds(copy, device):
        copies.append(copy())
        return 0.2 if len(copies) == 3 else 0.4

    monkeypatch.setattr(peak, "_seconds", seconds)
    monkeypatch.setitem(peak._COPIED, "cpu", 4096)
    assert peak.measure_bandwidth("cpu") == 2 * 4096 / 0.2, "the best of several"
    assert len(copies) == 5, "until they have taken long enough"
    assert all(int(copied.sum()) == 4096 for copied in copies), "the ones are really there"


def test_without_room_for_a_copy_there_is_no_bandwidth(monkeypatch):
    monkeypatch.setitem(peak._COPIED, "cpu", 2**60)
    assert peak.measure_bandwidth("cpu") is None


@pytest.mark.parametrize("batch", [1, 2])
def test_the_work_of_a_tile_is_counted_layer_by_layer(batch):
    module = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 3, 2, stride=2))
    work = work_of_a_tile(tuple(layers_of(module, (batch, 1, 8, 6, 4))), batch)
    voxels = 8 * 6 * 4
    assert work == {
        "macs_per_tile": 2 * voxels * 27 + 3 * voxels // 8 * 2 * 8,
        "activations_per_tile": voxels * (1 + 2) + voxels * 2 + voxels // 8 * 3,
        "layer_weights": 2 * 27 + 3 * 2 * 8,
    }
    weights = sum(p.numel() for p in module.parameters() if p.dim() > 1)
    assert work["layer_weights"] == weights
    assert work_of_a_tile((), batch) == {}


def test_the_faster_library_sets_the_peak_on_a_cpu(monkeypatch):
    monkeypatch.setattr(peak, "_by_pytorch", lambda _: {"fp32": 3.0, "bf16": 9.0})
    monkeypatch.setattr(peak, "_by_openvino", lambda threads: {"fp32": 4.0 * threads, "bf16": 8.0, "int8": 20.0})
    result = {"fp32": (8.0, "OpenVINO"), "bf16": (9.0, "PyTorch"), "int8": (20.0, "OpenVINO")}
    assert peak.measure("cpu", 2) == result


@pytest.mark.parametrize(
    ("device", "seconds", "calls"),
    [("cpu", 0.1, 10), ("cpu", 0.6, 3), ("cpu", 40.0, 1), ("cuda:1", 0.001, 500), ("cuda", 40.0, 1)],
)
def test_a_peak_is_the_best_of_some_time_and_on_a_cpu_of_at_most_ten(device, seconds, calls, monkeypatch):
    taken = []
    monkeypatch.setattr(peak, "_seconds", lambda *_: taken.append(seconds * (1 - 1e-6 * len(taken))) or taken[-1])
    assert peak._shortest_s(lambda: None, device, peak._REPEATS[device.partition(":")[0]]) == taken[-1]
    assert len(taken) == pytest.approx(calls, abs=1)


def test_without_openvino_the_peak_is_pytorchs(monkeypatch):
    monkeypatch.setitem(sys.modules, "engines.openvino.matrix_product", None)  # as if it could not be imported
    monkeypatch.setitem(peak._SIDE, "cpu", 256)
    result = peak.measure("cpu", 1)
    assert result["fp32"][0] > 0
    assert {library for _, library in result.values()} == {"PyTorch"}


def test_both_libraries_are_asked(monkeypatch):
    monkeypatch.setitem(peak._SIDE, "cpu", 256)
    assert peak._by_openvino(1).keys() >= {"fp32", "int8"}
    assert "fp32" in peak._by_pytorch("cpu")
