"""Logits returned in whatever a forward returns."""

from collections import namedtuple

import pytest
import torch
from torch import Tensor, nn

from models.networks.outputs import OutputError, Pair, find_outputs

TILE = (8, 8, 4)
Both = namedtuple("Both", "mask label")


def volume(channels: int, side: int = 1) -> Tensor:
    return torch.rand(1, channels, *(n // side for n in TILE))


SEG, CLS = volume(3), torch.rand(1, 4)


class Returns(nn.Module):
    def __init__(self, returned: object) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, x: Tensor) -> object:
        return self.returned


@pytest.mark.parametrize(
    "returned",
    [
        {"segmentation": SEG, "classification": CLS},
        {"classification": CLS, "segmentation": SEG},
        (SEG, CLS),
        [CLS, SEG],
        Both(SEG, CLS),
        {"logits": {"seg": SEG, "cls": CLS}},
        ([SEG, volume(3, 2), volume(3, 4)], CLS),  # deep supervision
        [[volume(3, 4), volume(3, 2), SEG], {"subtype": CLS}],
        {"seg": SEG, "decoder": volume(16), "loss": torch.tensor(0.5), "cls": CLS},
        {"out": SEG, "aux": volume(3), "cls": CLS, "embedding": torch.rand(1, 256)},
        {"segmentation": SEG, "argmax": SEG.argmax(1, keepdim=True).expand(1, 3, *TILE), "classification": CLS},
        (SEG, torch.rand(1, 1), CLS, None, "text"),  # a severity of one number is no classification
    ],
)
def test_the_pair_is_recognised_by_shape_and_by_name(returned):
    segmentation, classification = Pair(Returns(returned), *find_outputs(returned, TILE))(torch.zeros(1, 1, *TILE))
    assert segmentation is SEG
    assert classification is CLS


@pytest.mark.parametrize("returned", [SEG, [SEG], (SEG, volume(3, 2)), {"out": SEG}, {"a": {"b": (SEG,)}}])
def test_a_segmentation_alone_has_a_placeholder_beside_it(returned):
    path, none = find_outputs(returned, TILE)
    assert none is None
    segmentation, placeholder = Pair(Returns(returned), path, None)(torch.zeros(1, 1, *TILE))
    assert segmentation is SEG
    assert placeholder.tolist() == [[SEG[0, 0, 0, 0, 0].item()]]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (CLS, r"no float \[1, classes, 8, 8, 4\] tensor but \[1, 4\]"),
        ((volume(3, 2), CLS), r"tensor but \[1, 3, 4, 4, 2\], \[1, 4\]"),
        (None, "tensor but NoneType"),
        ({}, "tensor but dict"),
        ((SEG, volume(3)), r"several tensors that could be the segmentation \(0, 1\); name one 'segmentation'"),
        ({"a": SEG, "b": {"c": SEG}}, r"could be the segmentation \(a, b.c\)"),
        ((SEG, CLS, CLS), r"several tensors that could be the classification \(1, 2\); name one 'classification'"),
    ],
)
def test_outputs_that_leave_no_choice_or_too_much(returned, said):
    with pytest.raises(OutputError, match=said):
        find_outputs(returned, TILE)
