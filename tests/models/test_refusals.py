"""The second table of refusals in the docs, held against what `bench run` prints for such files."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from monai.bundle import init_bundle
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bench.cli.main import main
from models.networks.unet import MultiTaskUNet
from tests.nnunet import change, plans, train

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "refusals.md"
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=3, subtypes=3):
        super().__init__()
        self.seg = nn.Conv3d(1, classes, 1)
        self.cls = nn.Linear(classes, subtypes)

    def forward(self, x):
        seg = self.seg(x)
        return seg, self.cls(seg.mean((2, 3, 4)))

def make():
    return Net()

def wide():
    return Net(subtypes=4)
"""
UNET = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2],
}  # fmt: skip
SCALE = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -87, "a_max": 199, "b_min": 0, "b_max": 1}
WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=absent)

absent = sys.argv.pop(1)
sys.meta_path.insert(0, Absent())
from bench.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


class TwoLinears(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.base_network = network
        self.classification_head = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3)
        )

    def forward(self, x: torch.Tensor) -> Any:
        skips = self.base_network.encoder(x)  # type: ignore[operator]
        return self.base_network.decoder(skips), self.classification_head(skips[-1])  # type: ignore[operator]


class Dropping(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x.repeat(1, 3, 1, 1, 1), 0.5, training=True)


def test_the_docs_show_what_is_printed(marker: Path, capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    def said(*argv: str) -> str:
        assert main(["run", "--checkpoint", *argv]) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        return alike(printed.err)

    commands = [*_unets(), *_nnunets(trained), *_own(), *_programs(), *_graphs(), *_bundles()]
    printed = [said(*argv) for argv in commands] + [alike(text) for text in _without(trained)]
    table = DOCS.read_text().partition("## Networks that do not fit")[2].partition("\n## ")[0]
    shown = [alike(text) for text in re.findall(r"^\| [^|]+ \| `(.+)` \|$", table, re.MULTILINE)]
    assert not marker.with_name("runs").exists()
    assert len(shown) > 20
    assert [text for text in shown if not any(line.endswith(f": {text}") for line in printed)] == []
    assert [line for line in printed if not any(line.endswith(f": {text}") for text in shown)] == []


def alike(said: str) -> str:
    """The text without its numbers and the folder it is in, which need not be those of the docs."""
    return re.sub(r"\d+", "N", re.sub(r"--trust /[^,]+", "--trust FOLDER", said.strip()))


def _unets() -> Iterator[list[str]]:
    state = MultiTaskUNet(2).state_dict()
    others = {name: tensor for name, tensor in state.items() if name not in ("enc2.0.weight", "seg_out.bias")}
    torch.save(others | {"attention.weight": torch.rand(3)}, "other.pth")
    yield ["other.pth"]
    torch.save(state | {name: state[name] * torch.nan for name in ("up1.weight", "dec1.0.bias")}, "diverged.pth")
    yield ["diverged.pth"]
    torch.save({"student": state, "teacher": state}, "two.pth")
    yield ["two.pth"]
    torch.save({f"{side}.{name}": state[name] for side in ("online", "target") for name in state}, "beside.pth")
    yield ["beside.pth"]
    torch.save(state, "unet.pth")
    yield ["unet.pth", "--tile", "24,64,64"]


def _nnunets(trained: Path) -> Iterator[list[str]]:
    def changed(file: str, how: Callable[[dict[str, Any]], object]) -> list[str]:
        folder = Path(shutil.copytree(trained.parent.parent, f"results{len(list(Path().glob('results*')))}"))
        change(folder / "fold_0" / trained.name, file, how)
        return [str(folder / "fold_0" / trained.name)]

    def configuration(held: dict[str, Any]) -> dict[str, Any]:
        fullres: dict[str, Any] = held["configurations"]["3d_fullres"]
        return fullres

    torch.save(torch.load(trained, weights_only=False)["network_weights"], "bare.pth")
    yield ["bare.pth"]
    named = {"network_class_name": "os.system"}
    yield changed("plans.json", lambda held: configuration(held)["architecture"].update(named))
    layer = {"conv_op": "subprocess.Popen"}
    yield changed("plans.json", lambda held: configuration(held)["architecture"]["arch_kwargs"].update(layer))
    yield changed("plans.json", lambda held: configuration(held).update(patch_size=[16, 16]))
    yield changed("plans.json", lambda held: configuration(held).update(spacing=[1.0, 1.0, 1.0]))
    yield [str(train(Path("fork"), plans(), wrap=TwoLinears))]


def _of_classes(name: str, classes: int) -> None:
    """Write a network of the user's code, and its weights."""
    code, space = NET.replace("classes=3", f"classes={classes}"), dict[str, Any](__name__="theirs")
    exec(code, space)
    torch.save(space["Net"]().state_dict(), f"{name}.pth")
    Path(f"{name}.py").write_text(code)


def _own() -> Iterator[list[str]]:
    _of_classes("net", 3)
    yield ["net.pth", "--arch", "net.py:nett"]
    yield ["net.pth", "--arch", "net.py:wide"]
    Path("broken.py").write_text("import no_such_package\n")
    yield ["net.pth", "--arch", "broken.py:make"]
    Path("twice.py").write_text(NET.replace("return seg, self", "return seg, seg + 1, self"))
    yield ["net.pth", "--arch", "twice.py:make"]
    _of_classes("many", 5)
    yield ["many.pth", "--arch", "many.py:make"]
    Path("small.toml").write_text('channels = ["CT"]\n[labels]\nbackground = 0\norgan = 1\n')
    yield ["many.pth", "--arch", "many.py:make", "--task", "small.toml"]
    Path("labels.py").write_text(NET.replace("return seg, self.cls(seg.mean((2, 3, 4)))", "return seg.argmax(1, True)"))
    yield ["net.pth", "--arch", "labels.py:make"]
    _of_classes("single", 1)
    yield ["single.pth", "--arch", "single.py:make", "--task", "small.toml"]


def _programs() -> Iterator[list[str]]:
    torch.jit.script(Dropping()).save("dropping.pt")
    yield ["dropping.pt", "--trust", "dropping.pt", "--tile", "32,32,32"]
    exported = torch.export.export(nn.Conv3d(1, 3, 1), (torch.rand(1, 1, 32, 32, 32),))
    torch.export.save(exported, "fixed.pt2")
    yield ["fixed.pt2", "--trust", "fixed.pt2", "--tile", "64,64,64"]
    with zipfile.ZipFile("compiled.pt2", "w") as archive:
        archive.writestr("compiled/data/aotinductor/model/model.wrapper.so", b"native code")
    yield ["compiled.pt2"]
    Path("shards.json").write_text(json.dumps({"metadata": {"total_size": 8}, "weight_map": {"a": "model-1"}}))
    yield ["shards.json"]


def _graphs() -> Iterator[list[str]]:
    def graph(name: str, weight: TensorProto, domain: str = "") -> list[str]:
        sides = [1, 1, 32, 32, 32]
        ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, sides) for end in ("image", "seg")]
        node = helper.make_node("Conv", ["image", weight.name], ["seg"], domain=domain)
        made = helper.make_graph([node], "graph", ends[:1], ends[1:], [weight])
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        Path(name).write_bytes(helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString())
        return [name]

    weight = numpy_helper.from_array(torch.ones(1, 1, 1, 1, 1).numpy(), "conv.weight")
    yield graph("foreign.onnx", weight, "com.microsoft")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.extend([onnx.StringStringEntryProto(key="location", value="../foreign")])
    yield graph("outside.onnx", weight)


def _bundles() -> Iterator[list[str]]:
    from monai.networks.nets import UNet

    def bundle(name: str, network: dict[str, Any], *before: str, after: Any = (), outputs: Any = None) -> list[str]:
        transforms = [SCALE | {"clip": True}, *({"_target_": step, "keys": "image"} for step in before)]
        config = {
            "network_def": network,
            "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32]},
            "preprocessing": {"_target_": "Compose", "transforms": transforms},
            "postprocessing": {"_target_": "Compose", "transforms": list(after)},
        }
        metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": outputs}}}}
        made = UNet(**{name: value for name, value in UNET.items() if name != "_target_"})
        init_bundle(Path(name), network=made, inference_str=config, metadata_str=metadata)
        return [name]

    yield bundle("expression", UNET | {"norm": "$__import__('os').system('touch MARKER')"})
    yield bundle("target", {"_target_": "os.system", "command": "touch MARKER"})
    [empty] = bundle("empty", UNET)
    Path(empty, "models", "model.pt").unlink()
    yield [empty]
    yield bundle("transform", UNET, "scripts.my_transforms.ConcatImages")
    yield bundle("sigmoid", UNET, after=[{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}])
    yield bundle("disagreeing", UNET, outputs={"0": "background", "1": "spleen"})


def _without(trained: Path) -> Iterator[str]:
    """What is printed where a package is not installed."""
    for package, path in (("nnunetv2", str(trained)), ("monai", "transform")):
        command = [sys.executable, "-c", WITHOUT, package, "run", "--checkpoint", path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        yield done.stderr
