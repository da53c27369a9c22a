"""Classification heads of nnU-Net's forks: built where the file tells what they compute, else by the user's code."""

import textwrap

import pytest
import torch
from torch import nn

from models.load import load_model, read_checkpoint
from models.nnunet.plans import find_plans
from models.options import ModelOptions
from tests.loading import load
from tests.nnunet import DATASETS, outputs, planned, plans, refused, segmentation_network, train, weights

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")

X = torch.rand(2, 1, 8, 16, 16, generator=torch.Generator().manual_seed(1))


class Fork(nn.Module):
    """As forks do: the network in another, whose encoder and decoder it names once more."""

    def __init__(self, network: nn.Module, classification_head: nn.Module, inner: str = "base_network") -> None:
        super().__init__()
        self.inner = inner
        setattr(self, inner, network)
        self.classification_head = classification_head
        if inner == "base_network":
            self.encoder, self.decoder = network.encoder, network.decoder

    def forward(self, x):
        skips = getattr(self, self.inner).encoder(x)
        return getattr(self, self.inner).decoder(skips), self.classification_head(skips[-1])


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gap, self.norm, self.classifier = nn.AdaptiveAvgPool3d(1), nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x):
        return self.classifier(self.norm(self.gap(x).flatten(1)))


def pooled(*layers):
    return nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), *layers)


@pytest.mark.parametrize(
    ("head", "name"),
    [(Normed, "Pancreas"), (lambda: pooled(nn.Dropout(0.3), nn.Linear(16, 5)), "BrainRegions")],
    ids=["norm", "linear, four channels and regions"],
)
def test_heads_that_follow_from_names_and_shapes(head, name, tmp_path):
    dataset = DATASETS[name]
    channels = len(dataset["channel_names"])
    path = train(tmp_path, planned(dataset), dataset, wrap=lambda network: Fork(network, head()))
    source = Fork(segmentation_network(plans(), 3, channels), head()).eval()
    source.load_state_dict(weights(path))
    model, _ = load(path)
    x = X.expand(-1, channels, -1, -1, -1)
    with torch.inference_mode():
        segmentation, classification = source(x)
    assert torch.equal(outputs(model, x)[0], segmentation)
    assert torch.equal(outputs(model, x)[1], classification)
    assert (model.subtypes, len(model.task.classes)) == (classification.shape[1],) * 2
    assert "classification head taken for: global average pool of the encoder's deepest features" in model.remarks[-1]


class GeM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gem_p, self.fc = nn.Parameter(torch.tensor(3.0)), nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(x.clamp(min=1e-6).pow(self.gem_p).mean(dim=(2, 3, 4)).pow(1 / self.gem_p))


UNCLEAR = {
    "which activation lies between its 2 Linear layers": (
        "base_network", lambda: pooled(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3))),
    "how its pooling (GeM) masks and clamps": ("segmentation_net", GeM),
    "which features its convolutions take": (
        "unet", lambda: nn.Sequential(nn.Conv3d(16, 8, 1), *pooled(nn.Linear(8, 3)))),
    "what classification_head.2.weight": ("unet", lambda: pooled(nn.BatchNorm1d(16), nn.Linear(16, 3))),
}  # fmt: skip


@pytest.mark.parametrize("said", UNCLEAR)
def test_heads_that_a_file_does_not_tell_are_refused(said, tmp_path):
    inner, head = UNCLEAR[said]
    path = train(tmp_path, wrap=lambda network: Fork(network, head(), inner))
    refused(path, f"and the file does not say {said}")
    refused(path, "name the code that made it with --arch FILE.py:FACTORY")


def test_a_head_on_other_features(copied):
    held = torch.load(copied, weights_only=False)
    held["network_weights"] |= {"cls_head.weight": torch.rand(3, 8), "cls_head.bias": torch.rand(3)}
    torch.save(held, copied)
    refused(copied, "where its 8 features come from; the encoder's deepest are 16")


FACTORY = """
    import torch
    from torch import nn
    from dynamic_network_architectures.architectures.unet import PlainConvUNet


    class MultiTask(nn.Module):
        def __init__(self):
            super().__init__()
            self.base_network = PlainConvUNet(
                INPUTS, 3, (4, 8, 16), nn.Conv3d, [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
                (1, 2, 2), 3, (1, 2), True, nn.InstanceNorm3d, {"eps": 1e-5, "affine": True},
                nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=DEEP,
            )
            self.encoder, self.decoder = self.base_network.encoder, self.base_network.decoder
            self.HEAD = nn.Sequential(
                nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3)
            )

        def forward(self, x):
            skips = self.base_network.encoder(x)
            return {"segmentation": self.base_network.decoder(skips), "classification": self.HEAD(skips[-1])}
    """


@pytest.mark.parametrize(("deep", "name"), [(True, "Pancreas"), (False, "Prostate")])
def test_arch_runs_such_a_network_by_its_plans(deep, name, tmp_path):
    def head():
        return pooled(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3))

    dataset = DATASETS[name]
    channels = len(dataset["channel_names"])
    path = train(tmp_path, planned(dataset), dataset, wrap=lambda network: Fork(network, head()))
    source = Fork(segmentation_network(plans(), 3, channels), head()).eval()
    source.load_state_dict(weights(path))
    code = textwrap.dedent(FACTORY).replace("HEAD", "classification_head").replace("DEEP", str(deep))
    (tmp_path / "network.py").write_text(code.replace("INPUTS", str(channels)))
    options, x = ModelOptions(arch=f"{tmp_path / 'network.py'}:MultiTask"), X.expand(-1, channels, -1, -1, -1)
    with load_model(path, options) as (model, _):
        segmentation, classification = outputs(model, x)
    with torch.inference_mode():
        expected = source(x)
    assert torch.equal(segmentation, expected[0])
    assert torch.equal(classification, expected[1])
    assert (model.tile, model.labels, model.subtypes) == ((8, 16, 16), (0, 1, 2), 3)
    assert len(model.task.channels) == channels
    assert model.plans == find_plans(read_checkpoint(path))
    windowed = ModelOptions(arch=options.arch, window=(-100.0, 240.0), tile=(16, 16, 16), task=model.task)
    model, _ = load(path, windowed)
    assert (model.plans, model.window, model.tile) == (None, (-100.0, 240.0), (16, 16, 16))


def test_a_head_beside_the_network_is_not_passed_by_and_arch_gets_it(copied, tmp_path):
    head = pooled(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3))
    held = torch.load(copied, weights_only=False)
    state = held["network_weights"]
    doubles = {f"{prefix}{name}": tensor for name, tensor in state.items() for prefix in ("base_network.", "")}
    torch.save(held | {"network_weights": doubles, "cls_head_state": head.state_dict()}, copied)
    refused(copied, "has a classification head (cls_head.2.weight")
    code = textwrap.dedent(FACTORY).replace("HEAD", "cls_head").replace("DEEP", "False").replace("INPUTS", "1")
    (tmp_path / "network.py").write_text(code)
    options = ModelOptions(arch=f"{tmp_path / 'network.py'}:MultiTask")
    with load_model(copied, options) as (model, _):
        classification = outputs(model, X)[1]
    source = segmentation_network(plans())
    source.load_state_dict(state)
    with torch.inference_mode():
        assert torch.equal(classification, head(source.encoder(X)[-1]))
