"""Widening keeps the function."""

import pytest
import torch

from models.networks.unet import BATCH, INSTANCE, MultiTaskUNet, Shape
from models.networks.widening import widen


@pytest.mark.parametrize(("narrow", "wide"), [(1, 3), (2, 2), (2, 4), (2, 6), (3, 12)])
def test_logits_stay_in_float64(narrow: int, wide: int) -> None:
    torch.manual_seed(narrow)
    module = MultiTaskUNet(narrow).double().eval()
    image = torch.rand(1, 1, 32, 32, 48, dtype=torch.float64)
    with torch.inference_mode():
        for before, after in zip(module(image), widen(module, wide)(image), strict=True):
            assert (after - before).abs().max() <= 1e-10 * before.abs().max()


def test_logits_stay_to_float32_rounding() -> None:
    torch.manual_seed(0)
    module = MultiTaskUNet(2).eval()
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.inference_mode():
        for before, after in zip(module(image), widen(module, 8)(image), strict=True):
            assert torch.allclose(after, before, rtol=1e-4, atol=1e-5)


def test_the_reference_width_has_the_reference_size() -> None:
    module = MultiTaskUNet(8)
    wide = widen(module, 32)
    assert sum(p.numel() for p in wide.parameters()) == 22_970_150
    assert wide.training
    assert all(p.requires_grad for p in wide.parameters())
    assert {n: t.shape for n, t in wide.state_dict().items()} == {
        n: t.shape for n, t in MultiTaskUNet(32).state_dict().items()
    }


@pytest.mark.parametrize("width", [-2, 0, 1, 3, 5])
def test_other_widths_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"width {width} is not a multiple of the network's width 2"):
        widen(MultiTaskUNet(2), width)


def test_other_depths_and_affine_norms() -> None:
    torch.manual_seed(0)
    module = MultiTaskUNet(shape=Shape(2, 2, INSTANCE, affine=True)).double().eval()
    for norm in [layer for layer in module.modules() if isinstance(layer, torch.nn.InstanceNorm3d)]:
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.normal_()
    image = torch.rand(1, 1, 8, 8, 12, dtype=torch.float64)
    with torch.inference_mode():
        for before, after in zip(module(image), widen(module, 6)(image), strict=True):
            assert (after - before).abs().max() <= 1e-10 * before.abs().max()


def test_batch_norms_are_not_widened() -> None:
    with pytest.raises(ValueError, match="only networks with instance norms"):
        widen(MultiTaskUNet(shape=Shape(2, 2, BATCH)), 4)
