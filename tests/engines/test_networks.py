"""Networks that are legal Python: the baseline runs whatever a forward does, and its work is counted."""

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import engines
from engines.base import EngineError, Target
from engines.evidence.mac_counter import layers_in, layers_of, own_types
from engines.evidence.mismatch import evidence_mismatch
from engines.placement import copied, placed
from engines.probe import ungraphable_reason
from engines.quantization.fake_quantization import PERCENTILE, calibrate
from engines.quantization.sensitivity import select
from models.model import Model
from models.networks.build import describe_network

SIDE = 32
TILE = (SIDE,) * 3
SHAPE = (1, 1, *TILE)
BODY, SEG, CLS = SIDE**3 * 8 * 27, SIDE**3 * 8 * 3, 8 * 3  # multiply-accumulates of `Plain`


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.LeakyReLU())
        self.seg, self.cls = nn.Conv3d(8, 3, 1), nn.Linear(8, 3)

    def prepare(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> object:
        features = self.body(self.prepare(x))
        return self.seg(features), self.cls(features.mean((2, 3, 4)))


class Checked(Plain):
    def prepare(self, x: Tensor) -> Tensor:
        assert not torch.isnan(x).any()
        return x


class Coordinates(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.grid = torch.linspace(-1, 1, SIDE).view(1, 1, -1, 1, 1)
        self.more = [{"shift": torch.ones(1)}]

    def prepare(self, x: Tensor) -> Tensor:
        return x + self.grid * self.more[0]["shift"]


class ByNumpy(Plain):
    def prepare(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.clip(x.numpy(), 0, 1))


class Locked(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.lock, self.steps = threading.Lock(), (step for step in range(3))


class Normed(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.body[0] = nn.utils.weight_norm(self.body[0])  # a computed weight, which deepcopy refuses


class Hooked(Plain):
    """Its hook holds on to this very network: a copy would read what the last pass of the first has left."""

    def __init__(self) -> None:
        super().__init__()
        self.body.register_forward_hook(lambda _module, _inputs, output: setattr(self, "kept", output))

    def forward(self, x: Tensor) -> object:
        features = self.body(x)
        return self.seg(features), self.cls(self.kept.mean((2, 3, 4)))


class Training(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.body[1] = nn.BatchNorm3d(8)

    def forward(self, x: Tensor) -> object:
        self.body.train()
        return super().forward(x)


class Gradients(Plain):
    def prepare(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x.requires_grad_()
            (slope,) = torch.autograd.grad(x.square().sum(), x)
        return x.detach() + 0.1 * slope


class Lowering(Plain):
    def forward(self, x: Tensor) -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


@dataclasses.dataclass
class Answer:
    segmentation: Tensor
    classification: Tensor


class Doubled(Plain):
    def forward(self, x: Tensor) -> object:
        segmentation, classification = super().forward(x)  # type: ignore[misc]
        return Answer(segmentation.double(), classification.double())


class Functional(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.up = nn.Parameter(torch.randn(8, 1, 3, 3, 3)), nn.Parameter(torch.randn(8, 8, 2, 2, 2))

    def forward(self, x: Tensor) -> object:
        features = functional.conv3d(x, self.first, padding="same")
        features = functional.conv_transpose3d(functional.max_pool3d(features, 2), self.up, stride=2)
        return self.seg(features), self.cls(features.mean((2, 3, 4)))


class Attending(Plain):
    """Of 64 tokens with 8 numbers each, by PyTorch's own function."""

    def forward(self, x: Tensor) -> object:
        features = self.body(x)
        tokens = functional.max_pool3d(features, 8).flatten(2).transpose(1, 2)[:, None]
        attended = functional.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0]
        return self.seg(features), self.cls(attended.mean(1))


class Multiplied(nn.Module):
    """Without a convolution or matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return -(x - self.centres).abs()


PLAIN = BODY + SEG + CLS
READS = "hands values of the image to Python"
NETWORKS = [
    (Checked, PLAIN, READS),
    (ByNumpy, SEG + CLS + BODY, READS),
    (Coordinates, PLAIN, ""),
    (Locked, PLAIN, ""),
    (Normed, PLAIN, ""),
    (Hooked, PLAIN, ""),
    (Training, PLAIN, "has layers in training mode"),
    (Gradients, PLAIN, "computes gradients"),
    (Lowering, PLAIN, ""),
    (Doubled, PLAIN, ""),
    (Functional, BODY + 8 * SIDE**3 * 8 + SEG + CLS, ""),
    (Attending, PLAIN + 2 * 64 * 64 * 8, ""),
    (Multiplied, 0, ""),
]


def described(kind: type[nn.Module]) -> Model:
    torch.manual_seed(1)
    network = kind().eval().requires_grad_(False)
    return describe_network(network, kind.__name__, TILE, (-1000.0, 1000.0))


@pytest.mark.parametrize(("kind", "macs", "only_python"), NETWORKS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_baseline_runs_it_and_counts_its_work(
    kind: type[nn.Module], macs: int, only_python: str, tmp_path: Path
) -> None:
    model = described(kind)
    layers = tuple(layers_in(model, 1, TILE))
    assert sum(layer.macs for layer in layers) == macs
    assert model.only_python == only_python
    target = Target("cpu", TILE, 1, 1, tmp_path, None, layers)
    for seed in (3, 4):
        x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))
        with engines.load("torch-fp32").open(model, target) as session:
            answers = [answer.clone() for answer in session.infer(x.clone())]
            evidence = session.evidence()
        with torch.no_grad():
            expected = model.module.network(x.clone())
        expected = vars(expected).values() if kind is Doubled else expected if kind is not Multiplied else [expected]
        for answer, true in zip(answers, expected, strict=kind is not Multiplied):
            assert answer.dtype == torch.float32
            assert torch.equal(answer, true.float())
    assert evidence_mismatch(engines.BACKENDS["torch-fp32"], target, evidence) is None


@pytest.mark.parametrize("name", ["torchscript", "ort-fp32", "torch-compile", "openvino-int8", "torch-graph"])
def test_what_needs_a_graph_says_why_it_is_left_out(name: str) -> None:
    row = engines.BACKENDS[name]
    why = ungraphable_reason(row, READS)
    assert why is not None
    assert why.reason == (f"the network's forward {READS}, of which there is no graph, and this backend needs one")
    assert ungraphable_reason(row, "") is None
    assert ungraphable_reason(engines.BACKENDS["torch-half"], READS) is None


@pytest.mark.parametrize("backend", ["torchscript", "ort-fp32"])
@pytest.mark.parametrize("kind", [Coordinates, Hooked, Functional, Attending])
def test_graphs_of_what_has_one(kind: type[nn.Module], backend: str, target: Callable[..., Target]) -> None:
    model, here = described(kind), target()
    with engines.load(backend).open(model, here) as session:
        x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3))
        answers = session.infer(x)
        assert evidence_mismatch(engines.BACKENDS[backend], here, session.evidence()) is None
    with torch.no_grad():
        for answer, true in zip(answers, model.module(x), strict=True):
            torch.testing.assert_close(answer, true, rtol=1e-3, atol=1e-4)


def test_random_numbers_and_other_types_are_remarked_on() -> None:
    class Dropping(Plain):
        def prepare(self, x: Tensor) -> Tensor:
            return functional.dropout(x)

    class Idle(Plain):
        def prepare(self, x: Tensor) -> Tensor:
            return functional.dropout(x, training=False)

    assert "its forward draws random numbers (dropout): two passes give two answers" in described(Dropping).remarks
    assert "its forward computes in bfloat16 beside float32" in described(Lowering).remarks
    assert described(Idle).remarks == ("no task is named: its classes are taken for background, pancreas, lesion",)


def test_a_batch_has_as_many_weights_as_tiles_where_they_come_of_the_image() -> None:
    single, double = (layers_of(Attending(), (batch, 1, *TILE)) for batch in (1, 2))
    assert [layer.batched(2) for layer in single] == double


def test_a_network_is_placed_as_a_whole_and_put_back() -> None:
    network = Coordinates()
    weight, grid, shift = network.seg.weight.data, network.grid, network.more[0]["shift"]
    with placed(network, "cpu", torch.bfloat16) as there:
        assert there is network
        assert {network.seg.weight.dtype, network.grid.dtype, network.more[0]["shift"].dtype} == {torch.bfloat16}
    assert network.seg.weight.data_ptr() == weight.data_ptr()
    assert (network.grid is grid, network.more[0]["shift"] is shift) == (True, True)


@pytest.mark.parametrize(("kind", "why"), [(Hooked, "has hooks"), (Locked, "cannot be copied")])
def test_what_is_not_copied_is_not_taken_apart(kind: type[nn.Module], why: str) -> None:
    with pytest.raises(EngineError, match=why):
        copied(kind())


@pytest.mark.parametrize(("kind", "why"), [(Hooked, "has hooks"), (Locked, "cannot be copied")])
def test_int8_is_tried_on_no_copy_that_is_another_network(kind: type[nn.Module], why: str) -> None:
    model = described(kind)
    batches, layers = [torch.rand(SHAPE)], layers_in(model, 1, TILE)
    scales = calibrate(model.module, batches, PERCENTILE, ["network.body.0"])
    with pytest.raises(EngineError, match=why):
        select(model.module, scales, batches, layers)


def test_openvino_leaves_all_of_it_in_int8_where_there_is_no_copy_to_rank_by(target: Callable[..., Target]) -> None:
    """Of one kind: the test before shows that the others are refused alike."""
    pytest.importorskip("nncf")
    here = replace(target(), int8_dice=1.1)  # which nothing reaches, so that layers would go back to float
    with engines.load("openvino-int8").open(described(Hooked), here) as session:
        details = session.evidence().details
    assert (details["layers_in_float"], details["agreement"]) == ([], details["agreement_all_int8"])


def test_a_network_with_types_of_its_own_runs_where_its_layers_were_not_counted_before(tmp_path: Path) -> None:
    """As in a recipe with a tile of its own."""
    model, target = described(Lowering), Target("cpu", (16,) * 3, 1, 1, tmp_path)
    row, layers = engines.BACKENDS["torch-fp32"], own_types(model, target)
    with engines.load("torch-fp32").open(model, target) as session:
        session.infer(torch.rand(target.input_shape))
        evidence = session.evidence()
    assert "in bf16, not all in fp32" in str(evidence_mismatch(row, target, evidence))
    assert evidence_mismatch(row, target, evidence, layers) is None
    assert own_types(described(Plain), target) == (), "no pass for nothing"
