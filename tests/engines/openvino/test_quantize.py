"""INT8 for OpenVINO: which layers stay in float, and how masks are compared."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import engines
from engines.base import Target
from engines.openvino import quantize
from engines.quantization import sensitivity
from models.model import Model
from tests.engines.networks import SegmentsOnly, with_hostile_layer

pytest.importorskip("openvino")
pytest.importorskip("nncf")

HOSTILE = "enc2.3"


def details_of(model: Model, target: Target) -> dict[str, Any]:
    with engines.load("openvino-int8").open(model, target) as session:
        evidence = session.evidence()
    assert sum(evidence.mac_share.values()) == pytest.approx(1)
    return dict(evidence.details) | {"int8": evidence.mac_share.get("int8", 0.0)}


@pytest.fixture(scope="module")
def hostile(model: Model, target: Callable[..., Target]) -> dict[str, Any]:
    """With a layer that INT8 spoils, which no agreement that is required has put back to float."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity, "AGREEMENT", 0.0)
        return details_of(with_hostile_layer(model, HOSTILE), target())


def test_layers_that_int8_spoils_stay_in_float(
    model: Model, target: Callable[..., Target], hostile: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "AGREEMENT", 0.0)
    usual = details_of(model, target())
    assert usual["layers_in_float"] == hostile["layers_in_float"] == []
    assert hostile["agreement"] < usual["agreement"], "what the layer costs"
    between = (hostile["agreement"] + usual["agreement"]) / 2
    monkeypatch.setattr(sensitivity, "AGREEMENT", between)
    mended = details_of(with_hostile_layer(model, HOSTILE), target())
    assert mended["layers_in_float"][0] == HOSTILE, "the one that costs most"
    assert mended["agreement_all_int8"] == pytest.approx(hostile["agreement"])
    assert mended["agreement"] >= mended["agreement_required"] == between
    assert mended["int8"] < hostile["int8"]


def test_channels_of_unlike_ranges_are_brought_nearer(
    model: Model, target: Callable[..., Target], hostile: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "AGREEMENT", 0.0)
    monkeypatch.setattr(quantize, "SMOOTHING", -1)  # off
    assert hostile["agreement"] > details_of(with_hostile_layer(model, HOSTILE), target())["agreement"]


def test_where_half_of_the_network_does_not_suffice_all_stays_in_int8(
    model: Model, target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "AGREEMENT", 1.1)  # which nothing reaches
    details = details_of(model, target())
    assert details["layers_in_float"] == []
    assert details["agreement"] == details["agreement_all_int8"] < 1


def test_layers_of_a_network_without_a_classification_are_ranked(
    model: Model, tiles: Callable[[int, int], Tensor]
) -> None:
    network = SegmentsOnly(model.module)
    names = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv3d)]
    ranked = sensitivity.ranking(network, [tiles(1, 1)], dict.fromkeys(names, 1000))
    assert sorted(ranked) == sorted(names)


@pytest.mark.parametrize("regions", [False, True])
def test_the_least_dice_is_that_of_the_worst_label_or_region(regions: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.randn(2, 4, 5, 5, 5, generator=generator), torch.randn(2, 4, 5, 5, 5, generator=generator))
             for _ in range(3)]  # fmt: skip

    def present(logits: Tensor, number: int) -> Tensor:
        return logits[:, number] > 0 if regions else logits.argmax(1) == number

    expected = []
    for number in range(0 if regions else 1, 4):
        both = sum(int((present(a, number) & present(b, number)).sum()) for a, b in pairs)
        each = sum(int(present(a, number).sum() + present(b, number).sum()) for a, b in pairs)
        expected.append(2 * both / each)
    masks = [(sensitivity.masks_of(a, regions), sensitivity.masks_of(b, regions)) for a, b in pairs]
    assert sensitivity.least_dice(masks) == pytest.approx(min(expected))
    nothing = torch.zeros(1, 5, 5, 5, dtype=torch.long)
    assert sensitivity.least_dice([(nothing, nothing)]) == 1
