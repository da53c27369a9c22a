"""Whole runs on networks that are no PyTorch checkpoint, through the command line and real workers."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

FEW = ("--rounds", "1", "--max-cases", "2")


class Hidden(nn.Module):
    """A network whose weights are known inside it, and which answers otherwise."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core

    def forward(self, x):
        segmentation, classification = self.core(x)
        return {"seg": segmentation, "cls": 2 * classification}


@pytest.fixture
def hidden(network) -> nn.Module:
    return Hidden(network[1]).eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 1, 32, 32, 32)


def rows(summary: dict) -> dict[str, dict]:
    return {backend["name"]: backend for backend in summary["variants"]}


def test_an_onnx_graph_runs_against_onnxruntime(bench, hidden, image, tmp_path):
    path = tmp_path / "graph.onnx"
    torch.onnx.export(hidden, (image,), path, dynamo=True, external_data=False, verbose=False)
    _, summary, printed = bench("--checkpoint", str(path), "--backends", "all", *FEW)
    assert Path("run/report.md").is_file(), printed
    record = json.loads(Path("run/run.json").read_text())
    assert record["baseline"] == "ort-fp32"
    assert record["checkpoint"]["remarks"][0].startswith("the ONNX graph itself is run: ")
    assert record["checkpoint"]["macs_per_tile"] > 10**6
    result = rows(summary)
    for name in ("torch-fp32", "torch-compile", "ort-fp16", "tensorrt-fp16"):
        assert result[name]["status"] == "skipped"
        assert result[name]["reason"] == "the checkpoint is an ONNX graph, and this backend needs the PyTorch network"
        assert "--arch FILE.py:FACTORY" in result[name]["fix"]
    assert {name for name, row in result.items() if row["status"] == "ok"} >= {"ort-fp32", "openvino-fp32"}
    assert result["openvino-fp32"]["accuracy"]["voxel_disagreement"] < 1e-3


def test_a_trusted_torchscript_program_runs(bench, hidden, image, tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.trace(hidden, image, strict=False).save(str(path))
    backends = ("--backends", "torchscript,torch-amp,torch-compile,ort-fp32,openvino-int8")
    code, summary, printed = bench("--checkpoint", str(path), *backends, *FEW)
    assert (code, summary) == (2, {})
    assert printed == (
        f"bench: {path}: is a TorchScript archive, and reading one runs the code in it; if you trust its source, add "
        f"--trust {path}; else save the network's state_dict() with torch.save\n"
    )
    _, summary, printed = bench("--checkpoint", str(path), "--trust", str(path), *backends, *FEW)
    assert Path("run/report.md").is_file(), printed
    result = rows(summary)
    assert (result["torch-fp32"]["status"], result["torchscript"]["status"]) == ("ok", "ok")
    assert result["torchscript"]["accuracy"]["voxel_disagreement"] < 1e-3
    for name in ("torch-compile", "ort-fp32", "openvino-int8"):
        assert result[name]["status"] == "skipped"
        assert result[name]["reason"].startswith("the checkpoint is a TorchScript program, and this backend needs")


def test_a_program_of_one_batch_is_refused_another(bench, hidden, image, tmp_path):
    path = tmp_path / "program.pt2"
    torch.export.save(torch.export.export(hidden, (image,)), path)
    code, _, printed = bench("--checkpoint", str(path), "--trust", str(path), "--batch", "2", *FEW)
    assert code == 2
    assert printed == "bench: --batch 2: the checkpoint is a program that takes batches of 1 only; give --batch 1\n"
