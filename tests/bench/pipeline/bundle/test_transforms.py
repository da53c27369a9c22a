"""Numbers of classes and masks out of what a network and MONAI's transforms after it gave."""

from types import SimpleNamespace

import pytest
import torch

from bench.pipeline.bundle.transforms import PREDICTION, built, labels_of, monai_module
from bench.pipeline.label_map import paint
from bench.pipeline.settings import Classes

SCORES = torch.randn(5, 7, 6, 4, generator=torch.Generator().manual_seed(3)).round()  # many are equal


def settings(labels: tuple[int, ...], painting: tuple[int, ...] | None = None) -> SimpleNamespace:
    return SimpleNamespace(labels=labels, painting=painting, classes=Classes(labels, painting))


@pytest.mark.parametrize("options", [{}, {"to_onehot": 5}, {"rounding": "torchrounding"}, {"threshold": 2.0}])
def test_an_argmax_is_monais(options) -> None:
    def theirs(scores):
        return monai_module("transforms").AsDiscreted(PREDICTION, argmax=True, **options)({PREDICTION: scores})

    placed = monai_module("data").MetaTensor(SCORES.clone(), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    ours = built((("AsDiscreted", {"argmax": True, **options}),), (PREDICTION,))({PREDICTION: placed})[PREDICTION]
    expected = theirs(placed)[PREDICTION]
    assert len(expected.unique()) > 1
    assert ours.dtype == expected.dtype
    assert ours.meta["affine"].equal(expected.meta["affine"])
    assert ours.as_tensor().equal(expected.as_tensor())


@pytest.mark.parametrize("labels", [(0, 1, 2, 3, 4), (0, 9, 2, 200, 7)])
def test_scores_and_numbers_of_classes_give_the_same_labels(labels) -> None:
    classes = SCORES.argmax(0)
    expected = torch.tensor(labels, dtype=torch.uint8)[classes]
    assert labels_of(SCORES, settings(labels)).equal(expected)
    assert labels_of(classes[None].float() + 0.4, settings(labels)).equal(expected), "what was interpolated is rounded"


def test_regions_are_painted_in_their_order() -> None:
    masks = (SCORES[:2] > 0).float()
    expected = torch.where(masks[0] > 0, 3, torch.where(masks[1] > 0, 8, 0)).to(torch.uint8)
    assert labels_of(masks, settings((3, 8), (1, 0))).equal(expected)
    assert paint(masks, (3, 8), (1, 0), torch.ones(7, 6, 4)).equal(expected.float()), "in the type that a peer asks for"
