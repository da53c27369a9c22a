"""Checkpoints written by the tools people train with, read back: outputs are the source network's, bit for bit."""

import argparse
import collections
import datetime
import decimal
import logging
import pathlib
import pickle
import random
import subprocess
import sys
import types
import uuid
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from models.errors import CheckpointError
from models.inspection import inspect
from models.load import read_checkpoint
from models.networks.unet import MultiTaskUNet
from models.reader.torch_pickle.placeholders import PLACEHOLDERS, Placeholder
from tests.loading import load

ROOT = Path(__file__).parents[3]
IMAGE = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
Save = Callable[..., Path]


def assert_same_outputs(path: Path, source: nn.Module) -> None:
    model, _ = load(path)
    with torch.inference_mode():
        assert all(map(torch.equal, model.module(IMAGE), source.eval()(IMAGE)))


@pytest.mark.parametrize(
    ("package", "attribute"),
    [("lightning.pytorch", "model"), ("lightning.pytorch", "unet"), ("pytorch_lightning", "net")],
)
def test_lightning(package: str, attribute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pl: Any = import_module(package)
    logging.getLogger(package).setLevel(logging.ERROR)

    class Trained(pl.LightningModule):
        def __init__(self, lr: float, args: argparse.Namespace, where: Path, criterion: nn.Module) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.add_module(attribute, MultiTaskUNet(2))
            self.criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
            self.register_buffer("confusion", torch.zeros(3, 3))  # as a metric keeps its state

        def training_step(self, batch: Any, _index: int) -> Any:
            segmentation, classification = getattr(self, attribute)(batch[0])
            loss = segmentation.square().mean() + classification.square().mean()
            self.log("val_dice", 1 - loss.detach())
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    monkeypatch.chdir(tmp_path)
    callbacks = pl.callbacks
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[callbacks.ModelCheckpoint(tmp_path, monitor="val_dice"), callbacks.EarlyStopping("val_dice")],
    )  # fmt: skip
    inner = argparse.Namespace(depth=4)
    args = argparse.Namespace(batch=2, data=Path("/data/ct"), inner=inner, gpus=[0, 1])
    module = Trained(1e-3, args, Path("runs"), nn.CrossEntropyLoss(torch.ones(3)))
    trainer.fit(module, DataLoader(TensorDataset(IMAGE)))
    path = tmp_path / "trained.ckpt"
    trainer.save_checkpoint(path)
    assert_same_outputs(path, getattr(module, attribute))
    info = inspect(path)
    assert (info["epoch"], info["architecture"], info["nonfinite"]) == (1, "multitask-unet", [])
    assert info["metrics"]["val_dice"] == pytest.approx(float(trainer.callback_metrics["val_dice"]))
    settings = {name: value for name, value in info["metadata"].items() if name.startswith("hyper_parameters.")}
    assert settings == {
        "hyper_parameters.lr": 1e-3, "hyper_parameters.args.batch": 2, "hyper_parameters.args.data": "/data/ct",
        "hyper_parameters.args.inner.depth": 4, "hyper_parameters.where": "runs",
    }  # fmt: skip
    assert "hyper_parameters.criterion (torch.nn.modules.loss.CrossEntropyLoss)" in info["ignored"]
    assert info["remarks"] == [
        f"its weights are those under {attribute}. of the file; not used beside them: confusion, criterion.weight"
    ]


DDP = """
import sys, torch, torch.distributed as dist
from models.networks.unet import MultiTaskUNet
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=0, world_size=1)
torch.manual_seed(0)
network = torch.nn.parallel.DistributedDataParallel(MultiTaskUNet(2))
torch.save({"epoch": 3, "model": network.state_dict(), "args": None}, sys.argv[1])
dist.destroy_process_group()
"""


def test_distributed_data_parallel(network: MultiTaskUNet, tmp_path: Path) -> None:
    path = tmp_path / "ddp.pth"
    subprocess.run([sys.executable, "-c", DDP, path, tmp_path / "rendezvous"], cwd=ROOT, check=True, timeout=120)
    assert read_checkpoint(path).wrappers == ("model", "module.")
    assert_same_outputs(path, network)


def test_data_parallel_and_compile(network: MultiTaskUNet, saved: Save) -> None:
    compiled: Any = torch.compile(network)
    for number, module in enumerate((nn.DataParallel(network), compiled, nn.DataParallel(compiled))):
        assert_same_outputs(saved({"state_dict": module.state_dict()}, f"{number}.pth"), network)


@pytest.mark.parametrize("key", ["ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model"])
def test_averaged_weights(network: MultiTaskUNet, saved: Save, key: str) -> None:
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for parameter in network.parameters():
        parameter.data += 0.1
    averaged.update_parameters(network)
    alone = saved({key: averaged.state_dict(), "epoch": 2}, "alone.pth")
    assert_same_outputs(alone, averaged.module)
    assert inspect(alone)["other_weights"] == []
    both = saved({key: averaged.state_dict(), "model": network.state_dict()}, "both.pth")
    assert_same_outputs(both, network)
    info = inspect(both)
    assert (info["wrappers_removed"], info["other_weights"]) == (["model"], [key])


def test_averages_without_names_are_not_mistaken_for_weights(network: MultiTaskUNet, saved: Save) -> None:
    shadow = {"decay": 0.99, "num_updates": 3, "shadow_params": list(network.parameters())}  # as torch-ema keeps them
    assert_same_outputs(saved({"ema": shadow, "model": network.state_dict()}), network)
    with pytest.raises(CheckpointError, match="holds no tensors"):
        load(saved({"ema": shadow}))


def test_student_beside_its_teacher(network: MultiTaskUNet, saved: Save) -> None:
    teacher = MultiTaskUNet(2)
    both = nn.ModuleDict({"teacher": teacher, "student": network})
    path = saved({"state_dict": both.state_dict()})
    assert_same_outputs(path, network)
    assert (
        "those under student. of the file; not used beside them: teacher.enc1.0.weight" in inspect(path)["remarks"][0]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(network: MultiTaskUNet, saved: Save, dtype: torch.dtype) -> None:
    path = saved({"state_dict": network.to(dtype).state_dict()})
    assert inspect(path)["dtypes"] == [str(dtype).removeprefix("torch.")]
    assert_same_outputs(path, network.float())


def what_scripts_save() -> dict[str, Any]:
    return {
        "args": argparse.Namespace(lr=0.1, data=Path("/d/e"), names=["a"], inner=argparse.Namespace(depth=3)),
        "config": collections.defaultdict(list, {"batch": 2, "sides": [64, 64, 64]}),
        "started": datetime.datetime.now(datetime.UTC),
        "took": datetime.timedelta(hours=3),
        "run": uuid.UUID(int=5),
        "share": decimal.Decimal("0.5"),
        "last": collections.deque([0.1, 0.2], 5),
        "extra": types.SimpleNamespace(seed=7),
        "torch": torch.__version__,
        "folder": pathlib.PureWindowsPath("C:/runs"),
        "curve": np.arange(3.0),
        "texts": np.array(["a", "bc"]),
        "mixed": np.array([1, "x", None], dtype=object),
        "written": np.datetime64("2024-01-01"),
        "numpy_rng": np.random.RandomState(0).get_state(),
        "generator": np.random.default_rng(0),
        "python_rng": random.getstate(),
        "torch_rng": torch.get_rng_state(),
        "classes": frozenset(["a"]),
        "criterion_weight": torch.ones(3),
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_what_scripts_save_beside_the_weights(network: MultiTaskUNet, saved: Save, legacy: bool) -> None:
    state = nn.DataParallel(network).state_dict()
    held = {"arch": "unet", "epoch": 7, "best_prec1": np.float64(0.9), "state_dict": state, **what_scripts_save()}
    path = saved(held, _use_new_zipfile_serialization=not legacy)
    assert_same_outputs(path, network)
    checkpoint = read_checkpoint(path)
    assert (checkpoint.epoch, checkpoint.wrappers) == (7, ("state_dict", "module."))
    assert checkpoint.metrics == {"best_prec1": 0.9}
    assert checkpoint.metadata == {
        "arch": "unet", "args.lr": 0.1, "args.data": "/d/e", "args.inner.depth": 3, "config.batch": 2, "share": "0.5",
        "extra.seed": 7, "torch": torch.__version__, "folder": "C:/runs",
    }  # fmt: skip
    assert set(checkpoint.ignored) == {
        "args.names", "config.sides", "started (datetime.datetime)", "took (datetime.timedelta)", "run (uuid.UUID)",
        "last", "curve (numpy.ndarray)", "texts (numpy.ndarray)", "mixed (numpy.ndarray)", "written (numpy.ndarray)",
        "numpy_rng", "generator (numpy.random._pickle.__generator_ctor)", "python_rng", "torch_rng",
        "classes (builtins.frozenset)", "criterion_weight",
    }  # fmt: skip


def test_placeholders_do_nothing_whatever_they_receive() -> None:
    endless: list[Any] = []
    endless.append(endless)
    calls: tuple[tuple[Any, ...], ...] = ((), (10**300,), (endless,) * 40, (float("nan"), {}, None), ("x" * 10**6,))
    for name, kind in PLACEHOLDERS.items():
        for arguments in calls:
            for made in (kind(*arguments), kind.__new__(kind, *arguments)):
                assert type(made) is kind, name
                made.__setstate__(endless)
                assert vars(kind).keys() <= {"__slots__", "__module__", "__doc__", "kind"}, name
                assert isinstance(made, Placeholder) or (isinstance(made, dict | list) and len(made) == 0)
        with pytest.raises(pickle.UnpicklingError, match="an object made of 41 arguments"):
            kind(*range(41))


HARMFUL_USE = [
    # a path of which the parts are a list that holds itself
    b"\x80\x02cpathlib\nPosixPath\n]q\x00h\x00a\x85R.",
    # attributes set on a class rather than an object
    b"\x80\x02cargparse\nNamespace\n}X\x01\x00\x00\x00xK\x01sb.",
    # a namespace as the weights
    b"\x80\x02}X\x05\x00\x00\x00modelcargparse\nNamespace\n)\x81}X\x01\x00\x00\x00xK\x01sbs.",
    # a placeholder called, subscripted and used as a dict's key
    b"\x80\x02}cdatetime\ndatetime\n)RK\x01s.",
    b"\x80\x02cdatetime\ndatetime\n)R)R.",
    # a default factory that would be called for any key
    b"\x80\x02ccollections\ndefaultdict\ncbuiltins\nlist\n\x85RK\x01K\x02s.",
    # an array of a gigabyte that stores nothing
    b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85X\x01\x00\x00\x00b\x87R"
    b"(K\x01J\x00\x00\x00\x7f\x85cnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87R\x89X\x00\x00\x00\x00tb.",
]


@pytest.mark.parametrize("pickled", HARMFUL_USE)
def test_stand_ins_misused(tmp_path: Path, pickled: bytes) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert str(caught.value).isprintable()


def test_classes_beside_those_stood_in_for_stay_refused(network: MultiTaskUNet, saved: Save) -> None:
    class Odd:
        def __reduce__(self) -> Any:
            return getattr, (argparse.Namespace(), "x")

    with pytest.raises(CheckpointError, match=r"it wants builtins\.getattr"):
        load(saved({"state_dict": network.state_dict(), "args": Odd()}))
    for name in PLACEHOLDERS:
        assert name.partition(".")[0] not in ("os", "posix", "sys", "subprocess", "importlib", "runpy"), name
