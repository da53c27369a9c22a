"""The table of backends: what it says of each, what importing it costs, and how one is added."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
from torch import Tensor

import engines
from engines.base import Backend, EngineError, Target
from engines.evidence.mismatch import REQUIRED_SHARE, evidence_mismatch
from models.model import Model

ENGINE = """
from torch import Tensor

from engines.pytorch.engine import TorchEngine


class Mirrored(TorchEngine):
    def forward(self, network, target):
        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            segmentation, classification = network(x.flip(2))
            return segmentation.flip(2), classification
        return forward
"""


def test_a_new_backend_is_one_file_and_one_row(
    target: Callable[..., Target], model: Model, tiles: Callable[[int, int], Tensor], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "mirrored.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(engines.BACKENDS, "torch-mirrored", Backend("mirrored:Mirrored", "fp32"))
    here, x = target(), tiles(1, 3)
    engine = engines.load("torch-mirrored")
    assert engine.probe(here).ok
    with engine.open(model, here) as session, torch.inference_mode():
        segmentation, _ = session.infer(x)
        torch.testing.assert_close(segmentation, model.module(x.flip(2))[0].flip(2))
        assert evidence_mismatch(engine.backend, here, session.evidence()) is None


@pytest.mark.parametrize("name", engines.BACKENDS)
def test_every_row_says_all_that_is_asked_of_it(name: str) -> None:
    row = engines.BACKENDS[name]
    assert set(row.devices) <= set(row.runtime.providers)
    assert row.precision in {*REQUIRED_SHARE, "half"}
    if "torch_tensorrt" not in row.engine:  # which cannot be imported without its packages
        assert resolve_name(row.engine)(row).backend == row


@pytest.mark.parametrize("name", engines.BACKENDS)
def test_a_row_keeps_apart_what_runs_a_network_and_what_builds_it(name: str) -> None:
    row = engines.BACKENDS[name]
    assert not {"onnx", "onnxscript", "nncf"} & set(row.to_run)
    assert row.to_build[: len(row.to_run)] == row.to_run
    assert set(row.to_build) - set(row.to_run) == {*row.runtime.builders, *row.builders}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(EngineError, match=r"no backend 'torch-fp64'.*torch-fp32.*openvino-int8"):
        engines.load("torch-fp64")


@pytest.mark.parametrize(
    "module", ["engines", "engines.onnx.runtime", "engines.openvino.engine", "engines.tensorrt.engine"]
)
def test_importing_is_light(module: str) -> None:
    heavy = ("torch", "onnx", "onnxruntime", "openvino", "nncf", "numpy", "tensorrt")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
