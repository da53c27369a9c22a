"""The frozen trace on disk (`test_cache` has its way there and back)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import engines
from engines.base import Target
from engines.cache import Artefact
from engines.pytorch import torchscript
from models.model import Model


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
