"""Logits returned in whatever a forward returns."""

from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.networks.outputs import OutputError, Outputs, Pair, find_outputs
from models.task import Task, structures_of

TILE = (8, 8, 4)
Both = namedtuple("Both", "mask label")


def volume(channels: int, side: int = 1) -> Tensor:
    return torch.rand(1, channels, *(n // side for n in TILE))


SEG, CLS = volume(3), torch.rand(1, 4)


LABELS = {"background": 0, "core": 1, "edema": 2}
PLAIN = Task(name="brain", channels=("MR",), labels=LABELS, structures=structures_of(LABELS))
GRADED = replace(PLAIN, classes=("low grade", "high"))


class Returns(nn.Module):
    def __init__(self, returned: object) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, x: Tensor) -> object:
        return self.returned


def through_pair(returned: object, outputs: Outputs) -> tuple[Tensor, Tensor]:
    pair = Pair(Returns(returned), outputs.segmentation, outputs.classification, binary=outputs.binary)
    return pair(torch.zeros(1, 1, *TILE))


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
    segmentation, classification = through_pair(returned, find_outputs(returned, TILE))
    assert segmentation is SEG
    assert classification is CLS


@pytest.mark.parametrize("returned", [SEG, [SEG], (SEG, volume(3, 2)), {"out": SEG}, {"a": {"b": (SEG,)}}])
def test_a_segmentation_alone_has_a_placeholder_beside_it(returned):
    outputs = find_outputs(returned, TILE)
    assert outputs.classification is None
    segmentation, placeholder = through_pair(returned, outputs)
    assert segmentation is SEG
    assert placeholder.tolist() == [[SEG[0, 0, 0, 0, 0].item()]]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (CLS, r"no float \[1, classes, 8, 8, 4\] tensor but \[1, 4\] of float32"),
        ((volume(3, 2), CLS), r"tensor but \[1, 3, 4, 4, 2\] of float32, \[1, 4\] of float32"),
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


EMBEDDING = torch.rand(1, 8)


@pytest.mark.parametrize(
    ("returned", "task", "path", "remarks"),
    [
        ({"out": SEG, "embedding": EMBEDDING}, PLAIN, None,
         ("its output embedding [1, 8] is left out: the task names no classes",)),
        ((SEG, EMBEDDING, torch.rand(1, 1)), PLAIN, None,
         ("its outputs 1 [1, 8], 2 [1, 1] are left out: the task names no classes",)),
        ({"out": SEG, "cls": CLS}, PLAIN, ("cls",), ()),
        ((SEG, EMBEDDING), GRADED, None,
         ("its output 1 [1, 8] is left out: a class needs a logit for each of low grade, high",)),
        ((SEG, EMBEDDING, torch.rand(1, 2)), GRADED, (2,), ()),
        ((SEG, EMBEDDING, torch.rand(1, 1)), GRADED, (2,),
         ("its output 2 [1, 1] is taken for the logit of high: leave out a sigmoid at its end",)),
        ((SEG, torch.rand(1, 1), torch.rand(1, 1)), GRADED, None,
         ("its outputs 1 [1, 1], 2 [1, 1] are left out: a class needs a logit for each of low grade, high",)),
        ((SEG, torch.rand(1, 1)), replace(GRADED, classes=("a", "b", "c")), None,
         ("its output 1 [1, 1] is left out: a class needs a logit for each of a, b, c",)),
    ],
)  # fmt: skip
def test_the_task_says_what_is_no_classification(
    returned: object, task: Task, path: tuple[object, ...] | None, remarks: tuple[str, ...]
) -> None:
    outputs = find_outputs(returned, TILE, task)
    assert (outputs.classification, outputs.remarks) == (path, remarks)


def test_one_logit_is_that_of_the_second_of_two_classes() -> None:
    logit = torch.tensor([[0.7]])
    outputs = find_outputs((SEG, logit), TILE, GRADED)
    _, logits = through_pair((SEG, logit), outputs)
    torch.testing.assert_close(logits.softmax(1), torch.cat((1 - logit.sigmoid(), logit.sigmoid()), 1))
    assert torch.equal(logits, outputs.logits((SEG, logit))[1])


@pytest.mark.parametrize("labels", [SEG.argmax(1, keepdim=True), SEG.argmax(1), SEG > 0])
def test_a_network_that_ends_in_labels_says_so(labels: Tensor) -> None:
    with pytest.raises(OutputError, match=r"tensor but \[1.*8, 8, 4\] of (int64|bool)") as caught:
        find_outputs({"mask": labels}, TILE)
    assert caught.value.remedy == "leave the argmax at its end out: logits are needed"
