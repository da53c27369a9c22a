"""The reader on files that people have."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from models.load import read_checkpoint
from models.networks.unet import MultiTaskUNet
from tests.loading import load
from tests.models.memory import growth, needs_proc

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "checkpoints" / "best_model_w8.pth"
Save = Callable[..., Path]


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.skipif(not REAL.exists(), reason="the real checkpoint does not lie beside the repository")
def test_real_file() -> None:
    model, checkpoint = load(REAL)
    assert (model.width, model.parameters, model.architecture) == (8, 1_609_934, "multitask-unet")
    assert (checkpoint.container, checkpoint.wrappers, checkpoint.epoch) == ("torch-zip", ("model_state_dict",), 3)
    assert (checkpoint.ignored, checkpoint.numpy) == (("optimizer_state_dict",), "2.x")
    assert checkpoint.metrics == pytest.approx(
        {"pancreas_dice": 0.46125, "lesion_dice": 6.8577e-05, "whole_dice": 0.38383, "cls_f1": 1 / 6}, rel=1e-4
    )


def test_reference_file(reference: dict[str, Any], saved: Save) -> None:
    checkpoint = read_checkpoint(saved(reference))
    assert same(dict(checkpoint.state), reference["model_state_dict"])
    assert checkpoint.keys == ("epoch", "model_state_dict", "optimizer_state_dict", "metrics", "cls_f1")
    assert (checkpoint.epoch, checkpoint.dtypes, checkpoint.nonfinite) == (93, ("float32",), ())
    assert checkpoint.metrics == {"pancreas_dice": 0.91, "lesion_dice": 0.62, "whole_dice": 0.9, "cls_f1": 0.71}
    assert all(type(value) is float for value in checkpoint.metrics.values())


def test_file_written_under_numpy_1(reference: dict[str, Any], saved: Save, repickled: Callable[..., Path]) -> None:
    path = repickled(saved(reference), lambda pickled: pickled.replace(b"numpy._core.multi", b"numpy.core.multi"))
    checkpoint = read_checkpoint(path)
    assert (checkpoint.numpy, checkpoint.metrics["cls_f1"]) == ("1.x", 0.71)
    assert same(dict(checkpoint.state), reference["model_state_dict"])


@pytest.mark.parametrize(
    "number",
    [
        np.float16(0.5),
        np.float32(0.25),
        np.float64(1e-9),
        np.int64(-7),
        np.uint8(200),
        np.bool_(True),
        0.3,
        7,
        torch.tensor(0.75),
    ],
)
def test_every_plain_number_is_read(network: MultiTaskUNet, saved: Save, number: Any) -> None:
    checkpoint = read_checkpoint(saved({"state_dict": network.state_dict(), "metrics": {"value": number}}))
    assert checkpoint.metrics == {"value": float(number)}


def test_big_endian_number(network: MultiTaskUNet, saved: Save, repickled: Callable[..., Path]) -> None:
    path = saved({"state_dict": network.state_dict(), "best": np.float64(1.0)})
    swap = b"\x00\x00\x00\x00\x00\x00\xc3\xb0?", b"?\xc3\xb0\x00\x00\x00\x00\x00\x00"  # 1.0, as latin-1 in utf-8
    turned = repickled(path, lambda data: data.replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>").replace(*swap))
    assert read_checkpoint(turned).metrics == {"best": 1.0}


def test_without_optimizer_state(reference: dict[str, Any], saved: Save) -> None:
    whole = read_checkpoint(saved(reference))
    lean = {name: value for name, value in reference.items() if name != "optimizer_state_dict"}
    checkpoint = read_checkpoint(saved(lean, "lean.pth"))
    assert checkpoint.ignored == ()
    assert same(dict(checkpoint.state), dict(whole.state))


@pytest.mark.parametrize("key", ["model_state_dict", "state_dict", "model", "network_weights", "ema", "ema_state_dict"])
def test_wrapper_keys(network: MultiTaskUNet, saved: Save, key: str) -> None:
    checkpoint = read_checkpoint(saved({key: network.state_dict(), "step": 5, "name": "run 1", "loss": 0.5}))
    assert checkpoint.wrappers == (key,)
    assert same(dict(checkpoint.state), network.state_dict())
    assert (checkpoint.metadata, checkpoint.metrics) == ({"step": 5, "name": "run 1"}, {"loss": 0.5})


def test_wrappers_inside_wrappers(network: MultiTaskUNet, saved: Save) -> None:
    held = {"model": {"state_dict": network.state_dict(), "epoch": 4}, "ema": {"decay": 0.99}}
    checkpoint = read_checkpoint(saved(held))
    assert (checkpoint.wrappers, checkpoint.epoch, checkpoint.ignored) == (("model", "state_dict"), 4, ("ema",))


def test_bare_state_dict(network: MultiTaskUNet, saved: Save) -> None:
    checkpoint = read_checkpoint(saved(network.state_dict()))
    assert (checkpoint.keys, checkpoint.wrappers) == ((), ())
    assert same(dict(checkpoint.state), network.state_dict())


def test_modules_wrapped_by_torch(network: MultiTaskUNet, saved: Save) -> None:
    compiled: Any = torch.compile(network)
    lightning = nn.Module()
    lightning.add_module("model", nn.DataParallel(network))
    wrapped: dict[tuple[str, ...], nn.Module] = {
        ("module.",): nn.DataParallel(network),
        ("_orig_mod.",): compiled,
        ("module.", "_orig_mod."): nn.DataParallel(compiled),
        ("model.", "module."): lightning,
    }
    for number, (prefixes, module) in enumerate(wrapped.items()):
        checkpoint = read_checkpoint(saved({"state_dict": module.state_dict()}, f"{number}.pth"))
        assert checkpoint.wrappers == ("state_dict", *prefixes)
        assert same(dict(checkpoint.state), network.state_dict())


def test_averaged_model(network: MultiTaskUNet, saved: Save) -> None:
    checkpoint = read_checkpoint(saved({"ema": AveragedModel(network).state_dict()}))
    assert (checkpoint.wrappers, checkpoint.ignored) == (("ema", "module."), ("n_averaged",))
    assert same(dict(checkpoint.state), network.state_dict())


def test_a_prefix_that_not_all_share_stays(network: MultiTaskUNet, saved: Save) -> None:
    state = {f"net.{name}": tensor for name, tensor in network.state_dict().items()} | {"loss.weight": torch.ones(3)}
    assert "net.enc1.0.weight" in read_checkpoint(saved(state)).state


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(network: MultiTaskUNet, saved: Save, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    model, checkpoint = load(saved(state))
    assert checkpoint.dtypes == (str(dtype).removeprefix("torch."),)
    assert same(model.module.state_dict(), {name: tensor.float() for name, tensor in state.items()})


@pytest.mark.parametrize("name", ["epoch=3-val:0.5.ckpt", "a b.pth", "Modell \u00fc.pt", "..pth", "model.safetensors"])
def test_any_name_of_the_file(saved: Save, name: str) -> None:
    assert read_checkpoint(saved({"a.weight": torch.ones(2)}, name)).state["a.weight"].sum() == 2


def test_legacy_container(reference: dict[str, Any], saved: Save) -> None:
    checkpoint = read_checkpoint(saved(reference, _use_new_zipfile_serialization=False))
    assert (checkpoint.container, checkpoint.metrics["cls_f1"]) == ("torch-legacy", 0.71)
    assert same(dict(checkpoint.state), reference["model_state_dict"])


def test_the_same_as_torch_reads(saved: Save) -> None:
    numbers = torch.arange(48.0).view(2, 3, 8)
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2fnuz, torch.complex64]
    kinds += [torch.complex128, torch.int8, torch.uint16, torch.uint64, torch.bool]
    state = {str(kind): numbers.to(kind) for kind in kinds} | {
        "transposed": numbers.transpose(0, 2),
        "part": numbers[1, :, 2:5],
        "every second": numbers.view(-1)[::2],
        "a column": torch.arange(3000.0).view(3, 1000)[:, 7],
        "tied": numbers,
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(7),
        "parameter": nn.Parameter(numbers),
    }
    state["with attributes"] = nn.Parameter(torch.ones(2))
    state["with attributes"].note = "mine"  # type: ignore[attr-defined]
    beside = {"seen": {1, 2}, "size": torch.Size([1, 2]), "device": torch.device("cuda:1"), "kind": torch.float16}
    for legacy in (False, True):
        if legacy:  # which knows none of the newer types of numbers
            state = {name: tensor for name, tensor in state.items() if "float8" not in name and "uint" not in name}
        path = saved({"state_dict": state} | beside, _use_new_zipfile_serialization=not legacy)
        checkpoint = read_checkpoint(path)
        theirs = torch.load(path, weights_only=True)["state_dict"]
        assert checkpoint.state.keys() == theirs.keys()
        for name, tensor in theirs.items():
            mine = checkpoint.state[name]
            assert (mine.dtype, mine.shape, mine.is_contiguous()) == (tensor.dtype, tensor.shape, True)
            assert mine.view(-1).view(torch.uint8).equal(tensor.contiguous().view(-1).view(torch.uint8))
        assert checkpoint.state["tied"] is checkpoint.state["parameter"]
        assert checkpoint.nonfinite == ()


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.complex64])
def test_nan_and_infinity_are_named(saved: Save, kind: torch.dtype) -> None:
    state = {name: torch.zeros(300_000).to(kind) for name in ("good", "nan", "infinity")}
    state["nan"][299_999] = float("nan")
    state["infinity"][0] = float("-inf")
    assert read_checkpoint(saved(state)).nonfinite == ("nan", "infinity")


def test_weights_are_contiguous_and_outlive_the_file(network: MultiTaskUNet, saved: Save) -> None:
    state = {
        n: t.to(memory_format=torch.channels_last_3d) if t.ndim == 5 else t for n, t in network.state_dict().items()
    }
    path = saved(state)
    checkpoint = read_checkpoint(path)
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert same(dict(checkpoint.state), network.state_dict())
    assert all(tensor.is_contiguous() for tensor in checkpoint.state.values())


def test_damaged_optimizer_state_goes_unnoticed(reference: dict[str, Any], saved: Save) -> None:
    path = saved(reference)
    weights = len(reference["model_state_dict"])
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            _, _, number = entry.filename.partition("/data/")
            if number.isdigit() and int(number) >= weights:  # storages are numbered as they are met
                # local header: 30 bytes, its name's length at 26 and its extra field's at 28
                lengths = data[entry.header_offset + 26 : entry.header_offset + 30]
                start = entry.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
                data[start : start + entry.file_size] = b"\xff" * entry.file_size
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is not None  # reading every byte would notice
    assert same(dict(read_checkpoint(path).state), reference["model_state_dict"])


@needs_proc
def test_memory_grows_by_the_weights_alone_and_never_by_optimizer_state(network: MultiTaskUNet, saved: Save) -> None:
    small = saved({"model_state_dict": network.state_dict()}, "small.pth")
    state = {"exp_avg": torch.zeros(128 * 2**20, dtype=torch.uint8)}
    trained = saved({"model_state_dict": network.state_dict(), "optimizer_state_dict": state}, "trained.pth")
    weights = {str(number): torch.zeros(2**20, 4) for number in range(4)}  # 64 MiB
    weights["turned"] = torch.zeros(4, 2**18).t()
    large = saved({"model_state_dict": weights, "optimizer_state_dict": state}, "large.pth")
    by_state, by_weights = growth(small, trained, large)
    assert by_state < 16 * 1024  # kB, of the 128 MiB
    kilobytes = sum(tensor.nbytes for tensor in weights.values()) / 1024
    assert 0.9 * kilobytes < by_weights < 1.3 * kilobytes


def test_importing_the_package_is_light() -> None:
    code = "import sys, models, models.errors; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
