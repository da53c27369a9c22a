"""The frozen trace on disk (`test_cache` has its way there and back), and networks that are hard to trace."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import engines
from engines.base import Target
from engines.cache import Artefact
from engines.evidence.mismatch import evidence_mismatch
from engines.pytorch import torchscript
from engines.pytorch.tracing import save_trace, trace_network
from models.model import Model
from models.networks.build import describe_network

TILE = (8, 8, 8)


class Attached(nn.Module):
    """Like a LightningModule, which has a trainer only while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Conv3d(4, 3, 1))
        self.register_buffer("scale", torch.rand(1), persistent=False)

    @property
    def trainer(self) -> object:
        raise RuntimeError("is not attached to a Trainer")

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x) * self.scale
        return logits


class NormOfTheBatch(nn.Sequential):
    def __init__(self) -> None:
        norm = nn.BatchNorm3d(4, track_running_stats=False)
        super().__init__(nn.Conv3d(1, 4, 3, padding=1), norm, nn.LeakyReLU(), nn.Conv3d(4, 3, 1))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Attached, "weights in the graph that the interpreter ran"),
        (NormOfTheBatch, "weights in the graph that the interpreter ran; frozen, and not optimised for inference ("),
    ],
)
def test_it_runs_with_the_network_s_logits(kind: type[nn.Module], said: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = describe_network(kind().eval().requires_grad_(False), "net", TILE, (0.0, 1.0))
    x, target = torch.rand(1, 1, *TILE), Target("cpu", TILE, 1, 1, tmp_path)
    with engines.load("torchscript").open(model, target) as session, torch.inference_mode():
        torch.testing.assert_close(session.infer(x)[0], model.module(x)[0], rtol=1e-4, atol=1e-5)
        evidence = session.evidence()
    assert evidence.details["read_from"].startswith(said)
    assert evidence_mismatch(engines.BACKENDS["torchscript"], target, evidence) is None


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU()], ids=["version 3", "version 10"])
def test_a_trace_is_read_again_whatever_version_its_operators_need(activation: nn.Module, tmp_path: Path) -> None:
    network, x = nn.Sequential(nn.Conv3d(1, 2, 3), activation).eval(), torch.rand(1, 1, *TILE)
    save_trace(trace_network(network, x), tmp_path / "net.ts")
    trace = torch.jit.load(tmp_path / "net.ts")  # type: ignore[no-untyped-call]
    assert torch.equal(trace(x), network(x))


def test_a_trace_holds_the_weights_of_what_cannot_be_read(tmp_path: Path) -> None:
    network = Attached().eval()
    trace_network(network, torch.rand(1, 1, *TILE)).save(str(tmp_path / "net.ts"))
    trace, x = torch.jit.load(tmp_path / "net.ts"), torch.rand(1, 1, *TILE)  # type: ignore[no-untyped-call]
    assert torch.equal(trace(x), network(x))
    assert {"body.0.weight", "body.1.running_mean", "body.2.bias"} <= set(trace.state_dict())
    with torch.no_grad():
        dict(trace.named_parameters())["body.2.bias"].zero_()
        network.body[2].bias.zero_()
    assert torch.equal(trace(x), network(x))


def test_a_trace_is_of_the_device_that_it_was_made_on(
    target: Callable[..., Target], model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It holds the number as a constant; two GPUs of one name and driver, which are not here, have one each."""
    keys = list[dict[str, object]]()

    class AskedError(Exception):
        pass

    def ask(_target: Target, _kind: str, key: dict[str, object], _build: object) -> Artefact:
        keys.append(key)
        raise AskedError

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torchscript, "artefact", ask)
    for device in ("cuda", "cuda:0", "cuda:1", "cpu"):
        with pytest.raises(AskedError):
            engines.load("torchscript").open(model, replace(target(cache=tmp_path), device=device)).__enter__()
    assert keys[0] == keys[1]
    assert keys[1] != keys[2]
    assert "number" not in keys[3]


def test_why_a_traced_forward_keeps_its_device(tmp_path: Path) -> None:
    class Made(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made = torch.zeros(x.shape[-1], device=x.device)
            made[:1] = 1
            return x * made

    traced = torch.jit.trace(Made().eval(), torch.rand(1, 4), check_trace=False)  # type: ignore[no-untyped-call]
    path = tmp_path / "made.pt"
    torch.jit.save(traced, path)  # type: ignore[no-untyped-call]
    loaded = torch.jit.load(path)  # type: ignore[no-untyped-call]
    assert 'Device = prim::Constant[value="cpu"]' in str(loaded.inlined_graph)
