"""MONAI bundles: written by MONAI, read as data, and the network is the one that MONAI's own parser makes."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ConfigParser, init_bundle
from monai.networks import nets
from torch import nn

from models.errors import CheckpointError
from models.inspection import inspect
from models.monai.build import NETWORKS
from models.options import ModelOptions
from tests.loading import load

Write = Callable[..., Path]
UNET = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8, 16],
    "strides": [2, 2], "num_res_units": 2, "norm": "batch",
}  # fmt: skip
SEGRESNET = {
    "_target_": "monai.networks.nets.SegResNet", "spatial_dims": 3, "in_channels": "@input_channels",
    "out_channels": "@output_classes", "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1], "dropout_prob": 0.2,
}  # fmt: skip
DYNUNET = {
    "_target_": "DynUNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 16],
    "norm_name": ["INSTANCE", {"affine": True}], "deep_supervision": True, "deep_supr_num": 1,
}  # fmt: skip
UNETR = {
    "_target_": "monai.networks.nets.unetr.UNETR", "in_channels": 1, "out_channels": 3, "img_size": "@sizes",
    "feature_size": 4, "hidden_size": 24, "mlp_dim": 32, "num_heads": 2, "_desc_": "a transformer",
}  # fmt: skip
ATTENTION = {
    "_target_": "AttentionUnet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8],
    "strides": [2],
}  # fmt: skip
SWIN = {"_target_": "SwinUNETR", "in_channels": 1, "out_channels": 3, "feature_size": 12, "depths": [1, 1, 1, 1]}
STEPS = [
    {"_target_": "LoadImaged", "keys": "@image_key"},
    {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
    {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
    {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [1, 1, 1], "mode": "bilinear"},
    {
        "_target_": "ScaleIntensityRanged", "keys": "@image_key",
        "a_min": -87, "a_max": 199, "b_min": 0, "b_max": 1, "clip": True,
    },
    {"_target_": "EnsureTyped", "keys": "@image_key"},
]  # fmt: skip
CHANNELS = {"0": "background", "1": "pancreas", "2": "pancreatic tumor"}


def inference(network: Any, **changed: Any) -> dict[str, Any]:
    """An inference.json like those of MONAI's model zoo; its expressions are what every such file has."""
    return {
        "imports": ["$import glob", "$import os"],
        "input_channels": 1,
        "output_classes": 3,
        "sizes": [32, 32, 32],
        "image_key": "image",
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$list(sorted(glob.glob('/data/*.nii.gz')))",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": STEPS},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@sizes", "sw_batch_size": 4, "overlap": 0.625},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "softmax": True}, {"_target_": "AsDiscreted", "argmax": True}],
        },
        "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network", "amp": True},
        **changed,
    }


def parsed(config: dict[str, Any]) -> nn.Module:
    """The network as MONAI makes it."""
    torch.manual_seed(0)
    network: nn.Module = ConfigParser(json.loads(json.dumps(config))).get_parsed_content("network_def")
    return network.eval()


@pytest.fixture
def bundle(tmp_path: Path) -> Write:
    """Write a bundle with MONAI's init_bundle, with the weights of `network` or of what its configuration makes."""

    def write(config: dict[str, Any], network: nn.Module | None = None, channels: Any = CHANNELS) -> Path:
        outputs = {"pred": {"type": "image", "num_channels": 3}}
        outputs["pred"] |= {} if channels is None else {"channel_def": channels}
        metadata = {"version": "0.0.1", "monai_version": "1.5.0", "network_data_format": {"outputs": outputs}}
        root = tmp_path / f"bundle{len(list(tmp_path.glob('bundle*')))}"
        init_bundle(root, network=network or parsed(inference(UNET)), metadata_str=metadata, inference_str=config)
        return root

    return write


@pytest.mark.parametrize(
    "definition", [UNET, SEGRESNET, DYNUNET, UNETR, ATTENTION], ids=lambda network: str(network["_target_"])
)
def test_outputs_are_those_of_the_network_that_monai_makes(definition: dict[str, Any], bundle: Write) -> None:
    config = inference(definition)
    source = parsed(config)
    root = bundle(config, source)
    image = torch.rand(1, 1, 32, 32, 32)
    for path in (root, root / "models" / "model.pt"):
        model, checkpoint = load(path)
        with torch.inference_mode():
            assert torch.equal(model.module(image)[0], source(image))
        assert checkpoint.path == root / "models" / "model.pt"
        assert (model.tile, model.overlap, model.labels, model.task.name) == (
            (32, 32, 32),
            0.625,
            (0, 1, 2),
            "pancreas",
        )
        assert (model.subtypes, model.architecture) == (0, f"MONAI {type(source).__name__}")
    assert model.remarks == (
        "it has no classification: F1 is not applicable",
        "its postprocessing does not undo Orientationd, Spacingd: masks are brought back by nearest neighbours",
    )
    assert model.evidence.startswith("network_def in configs/inference.json; its arguments: {")


def test_older_swin_transformers(bundle: Write) -> None:
    source = parsed(inference(SWIN))
    root = bundle(inference(SWIN | {"img_size": 96}, sizes=[64, 64, 64]), source)
    made: Any = load(root)[0].module.network
    state = source.state_dict()
    assert type(made) is nets.SwinUNETR
    assert all(torch.equal(tensor, state[name]) for name, tensor in made.state_dict().items())


def test_files_that_training_saves(bundle: Write) -> None:
    source = parsed(inference(UNET))
    root = bundle(inference(UNET))
    wrapped = nn.Module()
    wrapped.add_module("network", source)
    wrapped.register_buffer("loss_weight", torch.ones(3))
    image = torch.rand(1, 1, 32, 32, 32)
    states = (source.state_dict(), nn.DataParallel(source).state_dict(), wrapped.state_dict())
    for state in states:
        torch.save({"model": state, "optimizer": {"state": {}}, "trainer": {"epoch": 3}}, root / "models" / "model.pt")
        model, _ = load(root)
        with torch.inference_mode():
            assert torch.equal(model.module(image)[0], source(image))
    assert "its weights are those under network. of the file; not used beside them: loss_weight" in model.remarks


def test_yaml_and_training_configurations(bundle: Write) -> None:
    config = inference(DYNUNET)
    config["validate"] = {"preprocessing": config.pop("preprocessing"), "inferer": config.pop("inferer")}
    config["validate"]["preprocessing"]["transforms"] = "%steps"
    config["steps"] = [*STEPS, {"_target_": "RandFlipd", "keys": "image"}, {"_target_": "Lambdad", "keys": "label"}]
    source = parsed(config)
    root = bundle(config, source)
    (root / "configs" / "inference.json").unlink()
    (root / "configs" / "train.yaml").write_text(yaml.safe_dump(config))
    model, _ = load(root)
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model.module(image)[0], source(image))
    assert (model.tile, model.overlap) == ((32, 32, 32), 0.625)
    assert [name for name, _ in model.bundle.preprocessing] == ["Orientationd", "Spacingd", "ScaleIntensityRanged"]
    assert "configs/train.yaml" in model.evidence


def test_what_the_user_gives_comes_first(bundle: Write) -> None:
    config = inference(UNET, preprocessing="$monai.transforms.Compose([])", inferer={"_target_": "SimpleInferer"})
    model, _ = load(bundle(config), options=ModelOptions(tile=(16, 16, 32), window=(-100.0, 240.0)))
    assert (model.tile, model.window, model.bundle, model.overlap) == ((16, 16, 32), (-100.0, 240.0), None, 0.5)
    assert "--window takes the place of its own transforms: volumes run as they are stored" in model.remarks
    assert "its inferer (SimpleInferer) is no sliding window: tiles overlap by half and have Gaussian weights" in (
        model.remarks
    )


def test_inspected(bundle: Write) -> None:
    root = bundle(inference(SEGRESNET), parsed(inference(SEGRESNET)))
    info = inspect(root)
    assert (info["file"], info["container"]) == (str(root / "models" / "model.pt"), "torch-zip")
    assert (info["labels"], info["subtypes"], info["tile"], info["code_run"]) == ([0, 1, 2], 0, [32, 32, 32], [])


def refused(path: Path, *said: str, options: ModelOptions | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path, options)
    message = str(caught.value)
    assert message.isprintable()
    assert "; " in message
    for words in said:
        assert words in message, message
    return message


WINDOW = {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32]}
TOUCH = "$__import__('os').system('touch MARKER')"
CALL = {"_target_": "os.system", "command": "touch MARKER"}
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "expression": ({"network_def": TOUCH}, "its network_def is an expression, \"$__import__('os').system("),
    "in an argument": ({"network_def": UNET | {"norm": TOUCH}}, "its network_def::norm is an expression"),
    "deep in an argument": ({"network_def": UNET | {"norm": ["batch", {"eps": TOUCH}]}}, "network_def::norm::1::eps"),
    "behind a reference": ({"x": {"y": [TOUCH]}, "network_def": UNET | {"act": "@x::y::0"}}, "its x::y::0 is an exp"),
    "behind an old reference": ({"x": {"y": TOUCH}, "network_def": UNET | {"act": "@x#y"}}, "its x::y is an expr"),
    "behind a macro": ({"x": TOUCH, "network_def": UNET | {"act": "%x"}}, "its x is an expression"),
    "expression as target": ({"network_def": {"_target_": TOUCH}}, "its network_def::_target_ is no class but"),
    "reference as target": ({"x": "os.system", "network_def": {"_target_": "@x"}}, "_target_ is no class but '@x'"),
    "target": ({"network_def": CALL}, "its network_def::_target_ is os.system, not one of MONAI's segmentation net"),
    "process": ({"network_def": {"_target_": "subprocess.Popen", "args": "touch MARKER"}}, "is subprocess.Popen, not"),
    "built-in": ({"network_def": {"_target_": "builtins.eval", "source": TOUCH[1:]}}, "is builtins.eval, not one of"),
    "argument with a target": ({"network_def": UNET | {"act": CALL}}, "network_def::act is to be made by 'os.system'"),
    "made elsewhere": ({"x": CALL, "network_def": UNET | {"act": "@x"}}, "its x is to be made by 'os.system'"),
    "name of another module": ({"network_def": UNET | {"_target_": "os.monai.networks.nets.UNet"}}, "is os.monai.net"),
    "no network": ({"network_def": {"_target_": "monai.networks.nets.dints.np"}}, "is monai.networks.nets.dints.np, n"),
    "function": ({"network_def": {"_target_": "monai.networks.nets.resnet10"}}, "is monai.networks.nets.resnet10, not"),
    "opens files": ({"network_def": {"_target_": "CellSamWrapper", "checkpoint": "x"}}, "CellSamWrapper, not one of"),
    "downloads": ({"network_def": {"_target_": "HoVerNet", "pretrained_url": "http://x"}}, "is HoVerNet, not one of"),
    "asks for weights": (
        {"network_def": {"_target_": "FlexibleUNet", "in_channels": 1, "out_channels": 3, "pretrained": True}},
        "its network_def::pretrained downloads weights",
    ),
    "requires": ({"network_def": UNET | {"_requires_": TOUCH}}, "its network_def::_requires_ is"),
    "debugger": ({"network_def": UNET | {"_mode_": "debug"}}, "its network_def::_mode_ is 'debug'"),
    "circle": ({"x": "@y", "y": "@x", "network_def": UNET | {"act": "@x"}}, "refers to itself"),
    "circle through a list": ({"x": ["@x"], "network_def": UNET | {"channels": "@x"}}, "its x is too large or too"),
    "growth": (
        {f"x{i}": [f"@x{i + 1}"] * 10 for i in range(12)} | {"x12": 1, "network_def": UNET | {"channels": "@x0"}},
        "is too large or too deep",
    ),
    "nowhere": ({"network_def": UNET | {"act": "@secret::key"}}, "refers to '@secret::key', which is not there"),
    "huge number": ({"network_def": UNET | {"num_res_units": 10**12}}, "num_res_units has the number 1000"),
    "infinite number": ({"network_def": UNET | {"dropout": float("nan")}}, "network_def::dropout has the number nan"),
    "huge window": ({"network_def": SWIN | {"window_size": 60}}, "network_def::window_size has the number 60"),
    "endless layers": ({"network_def": UNET | {"channels": [1] * 3, "num_res_units": 4000}}, "far more layers than"),
    "huge weights": ({"network_def": UNET | {"channels": [4096] * 3}}, "has far more parameters than the file has wei"),
    "too much memory": ({"network_def": UNET | {"kernel_size": 4095, "channels": [4096] * 3}}, "cannot be made: UNet"),
    "another network": ({"network_def": UNET | {"channels": [4, 8, 12]}}, "its weights are not those of UNet"),
    "wrong arguments": ({"network_def": UNET | {"depth": 3}}, "cannot be made: UNet: TypeError: UNet.__init__"),
    "four channels": ({"network_def": UNET | {"in_channels": 4}}, "are not those of UNet"),
    "tile": ({"inferer": {"_target_": "SlidingWindowInferer", "roi_size": TOUCH}}, "its inferer::roi_size is an expr"),
    "overlap": ({"inferer": WINDOW | {"overlap": TOUCH}}, "its inferer::overlap is an expression"),
    "another inferer": ({"inferer": {**WINDOW, "_target_": "scripts.SlidingWindowInferer"}}, "scripts.SlidingWindow"),
    "inferer's weights": ({"inferer": WINDOW | {"roi_weight_map": [1]}}, "its inferer::roi_weight_map is '[1]'"),
    "inferer's overlap": ({"inferer": WINDOW | {"overlap": [0.5, 0.5, 0.25]}}, "its inferer::overlap is '[0.5, 0.5, "),
    "no tile": ({"inferer": {"_target_": "SimpleInferer"}}, "(SimpleInferer) names no roi_size; choose the training"),
    "whole axes": ({"sizes": [96, 96, -1]}, "its inferer::roi_size is [96, 96, -1], not three sides in voxels"),
    "huge tile": ({"sizes": [4000, 4000, 4000]}, "its inferer::roi_size is 4000 x 4000 x 4000, more than 16777216"),
    "odd tile": ({"sizes": [31, 32, 32]}, "its UNet cannot be used on a tile of 31 x 32 x 32: "),
}  # fmt: skip


@pytest.mark.parametrize("route", HOSTILE)
def test_nothing_in_a_configuration_is_run(route: str, bundle: Write, marker: Path) -> None:
    changed, said = HOSTILE[route]
    refused(bundle(inference(UNET) | changed), said)


def test_files_that_are_damaged_or_too_large(bundle: Write) -> None:
    root = bundle(inference(UNET))
    inference_json = root / "configs" / "inference.json"
    for content, said in (
        ("{", "is no json that can be read"),
        ("[" * 100_000, "is no json that can be read"),
        ('{"a": ' + "9" * 10_000 + "}", "is no json that can be read"),
        ("[1]", "holds a list at its top"),
        (" " * 300_000, "is larger than 256 KiB"),
        (b"\xff\xfe{}", "is no json"),
    ):
        inference_json.write_bytes(content if isinstance(content, bytes) else content.encode())
        refused(root, said)
    inference_json.unlink()
    refused(root, "is a MONAI bundle without configs/inference.json or train.json")
    inference_yaml = inference_json.with_suffix(".yaml")
    merged = "".join(f"x{i}: &x{i} {{<<: [*x{i - 1}, *x{i - 1}]}}\n" for i in range(1, 40))
    for content, said in (
        ("a: !!python/object/apply:os.system ['touch MARKER']", "could not determine a constructor"),
        (f"x0: &x0 {{a: 1}}\n{merged}", "could not determine a constructor"),
        ("a: &a [*a]\nnetwork_def: {_target_: UNet, act: '@a'}", "is too large or too deep"),
    ):
        inference_yaml.write_text(content)
        refused(root, said)
    inference_yaml.unlink()
    os.mkfifo(inference_yaml)
    refused(root, "is not a regular file")


def test_a_bundle_without_weights(bundle: Write) -> None:
    root = bundle(inference(UNET))
    (root / "models" / "model.pt").rename(root / "models" / "model.ts")
    refused(root, "is a MONAI bundle without models/model.pt; give ", "model.ts and --trust the same")
    (root / "models" / "model.ts").unlink()
    refused(root, "without models/model.pt; download the whole bundle")


def test_code_in_the_weights_is_not_run_even_in_a_trusted_bundle(bundle: Write, marker: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.system, ("touch MARKER",)

    root = bundle(inference(UNET))
    torch.save({"model": parsed(inference(UNET)).state_dict(), "x": Trap()}, root / "models" / "model.pt")
    refused(root, "it wants posix.system", options=ModelOptions(trust=root))


def test_a_trusted_bundle_is_made_by_monai(bundle: Write) -> None:
    config = inference(UNET | {"channels": "$[4 * 2**i for i in range(3)]"})
    root = bundle(config)
    refused(root, f"where you trust its source, --trust {root}, or name the network's code with --arch FILE.py:FACTORY")
    for trust in (root, root / "models" / "model.pt"):
        options = ModelOptions(trust=trust)
        model, _ = load(root, options)
        assert "made by MONAI's ConfigParser, which --trust" in model.evidence
        assert inspect(root, options)["code_run"] == [f"--trust {trust}"]
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model.module(image)[0], parsed(config)(image))
    refused(root, "network_def::channels is an expression", options=ModelOptions(trust=root.parent / "other"))


def test_what_the_code_of_a_trusted_bundle_reads_is_part_of_its_code(bundle: Write) -> None:
    root = bundle(inference({"_target_": "scripts.own.Own"}), nn.Sequential(nn.Conv3d(1, 3, 1)))
    (root / "scripts").mkdir()
    (root / "scripts" / "__init__.py").touch()
    (root / "scripts" / "own.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nclass Own(nn.Sequential):\n    def __init__(self):\n"
        "        slope = float(Path(__file__).with_name('slope').read_text())\n"
        "        super().__init__(nn.Conv3d(1, 3, 1), nn.LeakyReLU(slope))\n"
    )
    codes = []
    for slope in ("0.1", "0.1", "0.2"):
        (root / "scripts" / "slope").write_text(slope)
        codes.append(load(root, ModelOptions(trust=root))[0].code)
    assert codes[0] == codes[1] != codes[2]


def test_a_trusted_bundle_finds_its_own_code(bundle: Write) -> None:
    root = bundle(inference({"_target_": "scripts.own.Own", "width": 4}), nn.Sequential(nn.Conv3d(1, 3, 1)))
    (root / "scripts").mkdir()
    (root / "scripts" / "__init__.py").touch()
    code = "from torch import nn\nclass Own(nn.Sequential):\n    def __init__(self, width):\n"
    (root / "scripts" / "own.py").write_text(f"{code}        super().__init__(nn.Conv3d(1, 3, 1))\n")
    refused(root, "is scripts.own.Own, not one of MONAI's")
    options = ModelOptions(trust=root)
    first = load(root, options)[0]
    assert first.architecture == "MONAI Own"
    (root / "scripts" / "own.py").write_text(f"{code}        super().__init__(nn.Conv3d(1, 3, 1)) # as before\n")
    assert load(root, options)[0].code != first.code
    assert "scripts" not in sys.modules
    (root / "scripts" / "own.py").write_text("raise RuntimeError('broken')")
    refused(root, "cannot be made by MONAI's ConfigParser", "broken", options=options)


def test_without_monai(bundle: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = bundle(inference(UNET))
    for name in [name for name in sys.modules if name.partition(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "monai", None)
    refused(root, 'the package monai is not installed; in the checkout of voxbench: pip install ".[monai]"')


def test_projects_that_are_no_bundles(bundle: Write, tmp_path: Path) -> None:
    for name in ("configs", "models"):
        (tmp_path / "project" / name).mkdir(parents=True)
    (tmp_path / "project" / "configs" / "train.yaml").write_text("lr: 1")
    path = tmp_path / "project" / "models" / "best.pth"
    torch.save({"a": torch.ones(1)}, path)
    refused(path, "is not the reference U-Net")
    refused(tmp_path / "project" / "models", "is a folder; give the checkpoint file itself, or a MONAI bundle")


def test_the_networks_named_are_there() -> None:
    for name in NETWORKS:
        made = getattr(nets, name)
        assert issubclass(made, nn.Module)
        assert made.__name__ == name


def test_a_bundle_of_links_is_read_by_its_names(bundle: Write, tmp_path: Path) -> None:
    """As in Hugging Face's cache, git-annex and DVC, where the targets have no names and no neighbours."""
    root, store = bundle(inference(UNET)), tmp_path / "store"
    expected = load(root)[0].sha256
    store.mkdir()
    for number, path in enumerate(sorted(p for p in root.rglob("*") if p.is_file())):
        path.rename(store / str(number))
        path.symlink_to(store / str(number))
    for path in (root, root / "models" / "model.pt"):
        model = load(path)[0]
        assert (model.sha256, model.tile) == (expected, (32, 32, 32))


@pytest.mark.parametrize("threshold", [False, True])
def test_one_region_is_painted_from_a_half_on(threshold: bool, bundle: Write) -> None:
    """Whether or not its postprocessing says so: a probability above 0 is no lesion yet."""
    steps: list[dict[str, Any]] = [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}]
    steps += [{"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}] if threshold else []
    network = UNET | {"out_channels": 1}
    config = inference(network, postprocessing={"_target_": "Compose", "transforms": steps})
    model, _ = load(bundle(config, parsed(config), None))
    assert (model.labels, model.painting) == ((1,), (0,))
    assert model.bundle is not None
    assert model.bundle.postprocessing[-1] == ("AsDiscreted", {"threshold": 0.5})
