"""What any network takes and gives, and the task that explains it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.model import Model
from models.networks.build import describe_network
from models.networks.outputs import OutputError
from models.task import PANCREAS, Region, Structure, Task, structures_of

TILE = (8, 8, 8)
LABELS = {"background": 0, "left": 3, "right": 1, "both": 7}
SIDES = Task(name="sides", channels=("T1w", "T2w"), labels=LABELS, structures=structures_of(LABELS))
WHOLE = replace(
    SIDES,
    structures={"whole": Structure(labels=(1, 3, 7)), "left": Structure(labels=(3,))},
    regions=(Region(structure="left", label=3), Region(structure="whole", label=1)),
    painting=(1, 0),
)
SIGMOIDS = "if its channels are sigmoids without a background, list them as [[regions]] in that file"
NAME_IT = "name the task that it was trained for with --task FILE.toml"


class Net(nn.Module):
    """Its decoder is made before its first layer."""

    def __init__(self, channels: int, *classes: int, subtypes: int = 0) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv3d(4, count, 1) for count in classes)
        self.stem = nn.Conv3d(channels, 4, 3, padding=1)
        self.cls = nn.Linear(4, subtypes) if subtypes else None
        for head in self.heads:
            nn.init.constant_(head.bias, -2.0)  # below what a probability can be, whatever the weights are

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.stem(x)
        heads = [head(features) for head in self.heads]
        return heads if self.cls is None else [*heads, self.cls(features.mean((2, 3, 4)))]


class StemFirst(Net):
    def __init__(self, channels: int, *classes: int) -> None:
        super().__init__(channels, *classes)
        self._modules["heads"] = self._modules.pop("heads")


class Named(Net):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return dict(zip(("seg", "cls"), super().forward(x), strict=True))


def described(network: nn.Module, task: Task | None = None) -> Model:
    return describe_network(network.eval().requires_grad_(False), "net", TILE, (0.0, 1.0), task=task)


def test_a_task_says_what_channels_and_classes_are() -> None:
    model = described(Net(2, 4), SIDES)
    assert (model.task, model.channels, model.labels, model.painting) == (SIDES, 2, (0, 1, 3, 7), None)
    assert model.remarks == ()
    model = described(Net(2, 2, subtypes=4), WHOLE)
    assert (model.labels, model.painting, model.subtypes) == ((3, 1), (1, 0), 0)
    assert model.remarks == ("its output 1 [1, 4] is left out: the task names no classes",)
    model = described(Net(1, 3, subtypes=4), PANCREAS)
    assert (model.labels, model.subtypes) == ((0, 1, 2), 0)
    assert model.remarks[0] == "its output 1 [1, 4] is left out: a class needs a logit for each of 0, 1, 2"


def test_one_region_is_enough() -> None:
    single = replace(WHOLE, regions=WHOLE.regions[1:], painting=())
    model = described(Net(2, 1), single)
    assert (model.labels, model.painting) == ((1,), (0,))
    segmentation, placeholder = model.module(torch.rand(3, 2, *TILE))
    assert (segmentation.shape, placeholder.shape) == ((3, 1, *TILE), (3, 1))


def test_of_several_outputs_the_task_says_which() -> None:
    model = described(Net(2, 2, 4, 16), SIDES)
    assert model.module(torch.rand(1, 2, *TILE))[0].shape[1] == 4
    assert described(Net(1, 16, 3)).module(torch.rand(1, 1, *TILE))[0].shape[1] == 3, "as without a task"


def test_without_a_task_it_is_taken_for_one_of_the_pancreas() -> None:
    model = described(Net(1, 2, subtypes=3))
    assert (model.task, model.labels, model.subtypes) == (PANCREAS, (0, 1), 3)
    assert model.remarks == (
        "no task is named: its classes are taken for background, pancreas",
        "it has no lesion class: lesion DSC is not applicable",
    )


class ChannelsFirst(Net):
    """A product of channels, which is no convolution and broadcasts, comes before the first one."""

    def __init__(self) -> None:
        super().__init__(4, 2)
        self._modules["heads"] = self._modules.pop("heads")
        self.weight = nn.Parameter(torch.randn(4, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(torch.einsum("kc,bcxyz->bkxyz", self.weight, x))


def test_without_a_task_a_network_that_runs_on_one_channel_is_given_one() -> None:
    model = described(ChannelsFirst())
    assert model.channels == 1
    assert model.remarks[1:3] == (
        "no task is named: its classes are taken for background, pancreas",
        "it runs on 4 channels too, and is taken for a network of 1",
    )


@pytest.mark.parametrize(
    ("network", "task", "said", "remedy"),
    [
        (StemFirst(2, 3), None, "its network takes 2 channels and gives 3 classes, and nothing says what", NAME_IT),
        (Net(1, 5), None, "its network takes 1 channel and gives 5 classes, and nothing says what they are", NAME_IT),
        (Net(2, 3), None, r"runs neither on 1 nor on 4 channel \(Given groups=1, weight of size",
         "name its channels with --task FILE.toml, or choose another tile with --tile"),
        (StemFirst(1, 4), SIDES, r"its network takes 1 channel, and the task sides has 2 \(T1w, T2w\)", NAME_IT),
        (Net(2, 3), SIDES, r"gives 3 classes, and the task sides has 4 labels \(background, right, left",
         f"{NAME_IT}; {SIGMOIDS}"),
        (Net(2, 2), SIDES, r"gives 2 classes, and the task sides has 4 labels \(background, right, left", NAME_IT),
        (Net(1, 1), None, "takes 1 channel and gives 1 class, and nothing says", f"{NAME_IT}; {SIGMOIDS}"),
        (Net(2, 3), WHOLE, r"gives 3 classes, and the task sides has 2 regions \(left, whole\)", NAME_IT),
        (Named(1, 3, subtypes=4), PANCREAS, r"tells 4 subtypes apart, and the task pancreas has 3 subtypes", NAME_IT),
    ],
)  # fmt: skip
def test_a_task_of_another_network_is_refused(network: nn.Module, task: Task | None, said: str, remedy: str) -> None:
    with pytest.raises(OutputError, match=said) as refused:
        described(network, task)
    assert refused.value.remedy == remedy


class Ended(Net):
    """Ends in what makes probabilities of logits."""

    def __init__(self, end: nn.Module, *arguments: int) -> None:
        super().__init__(*arguments)
        self.end = end

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.end(head) for head in super().forward(x)]


def test_regions_of_probabilities_are_refused() -> None:
    with pytest.raises(OutputError, match="lie between 0 and 1, as probabilities do") as caught:
        described(Ended(nn.Sigmoid(), 2, 2), WHOLE)
    assert caught.value.remedy == "leave the sigmoid at its end out"
    assert described(Net(2, 2), WHOLE).painting is not None


def test_a_softmax_at_the_end_is_a_remark() -> None:
    said = "its outputs add up to 1, as after a softmax"
    assert any(remark.startswith(said) for remark in described(Ended(nn.Softmax(1), 2, 4), SIDES).remarks)
    assert not any(remark.startswith(said) for remark in described(Net(2, 4), SIDES).remarks)
