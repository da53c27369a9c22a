"""Safetensors files, as the library writes them, and as nobody should."""

import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.errors import CheckpointError
from models.load import read_checkpoint
from models.networks.unet import MultiTaskUNet
from models.options import ModelOptions
from tests.loading import load
from tests.models.memory import growth, needs_proc
from tests.models.sources import answers, as_is, legacy, refused, traced


def test_safetensors(network: MultiTaskUNet, image: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"  # recognised by its content
    wrapped = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    save_file(wrapped, path, metadata={"format": "pt", "epoch": "7"})
    model, checkpoint = load(path)
    assert all(map(torch.equal, answers(model, image), as_is(network, image)))
    assert (checkpoint.container, checkpoint.wrappers) == ("safetensors", ("module.",))
    assert checkpoint.metadata == {"format": "pt", "epoch": "7"}
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert all(map(torch.equal, answers(model, image), as_is(network, image))), "independent of the file"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_safetensors_of_half_precision(network: MultiTaskUNet, image: Tensor, tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "half.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in network.state_dict().items()}, path)
    model, checkpoint = load(path)
    assert checkpoint.dtypes == (str(dtype).removeprefix("torch."),)
    assert all(map(torch.equal, answers(model, image), as_is(network.to(dtype).float(), image)))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}', "invalid shape, data type, or offset"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
         "invalid offset for tensor"),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', "file not fully covered"),
        (b'{"a":' * 400, "recursion limit exceeded"),
    ],
)  # fmt: skip
def test_a_header_that_lies(tmp_path: Path, header: bytes, said: str) -> None:
    path = tmp_path / "lies.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    message = refused(path)
    assert message.startswith("is a damaged safetensors file (")
    assert said in message
    assert message.endswith("; copy or download the file again, or save it anew with safetensors.torch.save_file")


def test_safetensors_in_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text('{"metadata": {"total_size": 8}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    assert refused(path) == (
        "is the index of a safetensors checkpoint in several files; join them: read each with "
        "safetensors.torch.load_file, write all with save_file, and give that file"
    )


@needs_proc
def test_the_weights_are_in_memory_once(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "small")
    save_file({f"{i}.weight": torch.ones(2**20) for i in range(32)}, tmp_path / "large")
    assert growth(tmp_path / "small", tmp_path / "large")[0] < 1.3 * 128 * 1024  # kB


def test_every_reader_refuses_an_old_torch(
    network: MultiTaskUNet, image: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    traced(network, tmp_path / "t.pt", image)
    legacy(network, tmp_path / "g.onnx", image)
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    for name in ("w.safetensors", "t.pt", "g.onnx"):
        with pytest.raises(CheckpointError, match="CVE-2026-24747"):
            read_checkpoint(tmp_path / name, ModelOptions(trust=tmp_path / name))
