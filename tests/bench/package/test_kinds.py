"""Networks of every kind through a run, a package and back: the masks of the run, byte by byte."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.choices import EXPORTS, SERVED
from bench.cli.main import main
from bench.package.document import read_package
from bench.package.formats.description import FILE
from bench.package.opening import open_package
from bench.package.trial import trial
from engines.openvino.core import core
from tests.bench.package.conftest import quick

CODE = """
import torch

from models.blocks import activate

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Conv3d(1, 4, 3, padding=1)
        self.seg, self.cls = torch.nn.Conv3d(4, 3, 1), torch.nn.Linear(4, 3)

    def forward(self, x):
        x = activate(self.body(x))
        return self.seg(x), self.cls(x.mean((2, 3, 4)))
"""

BLOCKS = """
def activate(x):
    from models import late  # by tracing at the latest
    return late.activate(x)
"""

LATE = "def activate(x):\n    return x.relu()\n"


def of_nnunet(folder: Path) -> list[object]:
    """An ensemble of two folds with mirroring, and images that are resampled."""
    pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")
    from tests.bench.pipeline.test_nnunet import raw_dataset
    from tests.nnunet import train

    results, _ = (train(folder, fold=fold).parents[1] for fold in (0, 1))
    return ["--checkpoint", results, "--folds", "all", "--tta", "mirror:x", "--data", raw_dataset(folder / "raw")]


def of_bundle(folder: Path) -> list[object]:
    """Four channels, regions that are painted."""
    pytest.importorskip("monai", reason="monai is not installed")
    from tests.bundles import BUNDLES, write

    root = write(folder / "brats", *BUNDLES["brats_mri"]())
    return ["--checkpoint", root, "--data", bundle_cases(folder, channels=4)]


def of_trusted_bundle(folder: Path) -> list[object]:
    """Whose network is said by an expression, which is code."""
    pytest.importorskip("monai", reason="monai is not installed")
    from tests.bundles import BUNDLES, write

    config, described = BUNDLES["spleen_ct"]()
    network = config["network_def"] | {"channels": f"$[{', '.join(map(str, config['network_def']['channels']))}]"}
    root = write(folder / "spleen", config, described, {"network_def": network})
    return ["--checkpoint", root, "--trust", root, "--data", bundle_cases(folder, channels=1)]


def bundle_cases(folder: Path, channels: int) -> Path:
    from tests.bundles import CASES, write_case

    for case, split in zip(CASES, ("Val", "Tr"), strict=False):
        images = write_case(folder / "raw" / f"images{split}", case, channels, split)
        (folder / "raw" / f"labels{split}").mkdir()
        image = nib.load(images[0])
        truth = nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
        nib.save(truth, folder / "raw" / f"labels{split}" / f"{split}.nii.gz")
    return folder / "raw"


def of_code(folder: Path) -> list[object]:
    """A network of the user's code, of which a package holds a graph."""
    import torch
    from torch import nn

    (folder / "net.py").write_text(CODE)
    (folder / "models").mkdir()
    (folder / "models" / "blocks.py").write_text(BLOCKS)
    (folder / "models" / "late.py").write_text(LATE)
    torch.manual_seed(0)
    parts = {"body": nn.Conv3d(1, 4, 3, padding=1), "seg": nn.Conv3d(4, 3, 1), "cls": nn.Linear(4, 3)}
    torch.save(nn.ModuleDict(parts).state_dict(), folder / "weights.pth")
    rng = np.random.default_rng(0)
    for split in ("validation", "train"):
        place = folder / "data" / split / "subtype1"
        place.mkdir(parents=True)
        hu = rng.normal(0, 400, (24, 20, 30)).astype(np.int16)
        nib.save(nib.Nifti1Image(hu, np.eye(4)), place / f"{split}_0000.nii.gz")
        truth = nib.Nifti1Image((hu > 0).astype(np.uint8), np.eye(4))
        nib.save(truth, place / f"{split}.nii.gz")
    options = ["--checkpoint", folder / "weights.pth", "--arch", f"{folder / 'net.py'}:Network"]
    return [*options, "--tile", "16,16,16", "--data", folder / "data"]


@pytest.mark.parametrize(
    ("kind", "variant", "holds"),
    [
        (of_nnunet, "openvino-bf16", {"networks/0/plans.json", "networks/1/weights.safetensors"}),
        (of_bundle, "ort-fp32", {"networks/0/configs/inference.json", "networks/0/models/weights.safetensors"}),
        (of_code, "openvino-int8", {"networks/0/network.onnx"}),
    ],
)
def test_a_package_does_what_the_run_did(
    kind: Callable[[Path], list[object]], variant: str, holds: set[str], tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    quick(monkeypatch)
    if variant == "openvino-bf16" and "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        variant = "openvino-fp32"
    options = ["run", *kind(tmp_path), "--backends", variant, "--device", "cpu", "--threads", 1, "--rounds", 1]
    main([*map(str, options), "--out", "run"])
    code = main(["export", "run", "--variant", variant, "--unproven", "--out", "package"])
    assert code == 0, capsys.readouterr().err
    record = read_package(Path("package"))
    assert holds <= set(record.files)
    assert record.proof.equal_cases == 1
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "another cache"))
    with trial(open_package(Path("package"), threads=1).open, 300, tmp_path / "log") as tried:
        assert tried.opened.cached, "what was built came along"
        for case in json.loads(Path("run/run.json").read_text())["cases"]:
            images = [Path(path) for path in (case["image"], *case["further_channels"])]
            answer = tried.predict(images, tmp_path / "mask.nii.gz")
            assert answer.mask.read_bytes() == Path(f"run/predictions/{variant}/{case['name']}.nii.gz").read_bytes()


RECIPES = """
[pairs]
backend = "openvino-int8"
batch = 2
[thin]
backend = "ort-fp32"
tile = [16, 16, 8]
"""


def test_a_graph_of_code_is_run_as_its_recipe_says(tmp_path, monkeypatch, capsys):
    """Tiles of a batch stay requests of their own, a tile of its own stays, and a baseline that needs code is named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    quick(monkeypatch)
    Path("recipes.toml").write_text(RECIPES)
    options = [*of_code(tmp_path), "--recipes", "recipes.toml", "--device", "cpu", "--threads", 2, "--rounds", 1]
    main(["run", *map(str, options), "--out", "run"])
    for name in ("pairs", "thin"):
        code = main(["export", "run", "--variant", name, "--unproven", "--out", name])
        assert code == 0, capsys.readouterr().err
        record, ran = read_package(Path(name)), json.loads(Path(f"run/variants/{name}.json").read_text())["evidence"]
        assert record.proof.equal_cases == 1
        assert dict(record.evidence.details) | {"cached": None} == ran["details"] | {"cached": None}
    capsys.readouterr()
    main(["verify", "pairs", "--data", "data", "--budget", "1"])
    printed = capsys.readouterr()
    assert "torch-fp32, needs the network's code; ort-fp32 takes its place" in printed.err
    assert "package: case time" in printed.out
    assert main(["verify", "thin", "--data", "data"]) == 2
    assert "a graph for tiles of 16 x 16 x 8, and the baseline of its run takes others" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run_of(tmp_path_factory) -> Callable[[Callable[[Path], list[object]]], Path]:
    """A run of a network of a kind, made once, with its artefacts in ``cache`` beside it."""
    runs: dict[Callable[[Path], list[object]], Path] = {}

    def run(kind: Callable[[Path], list[object]]) -> Path:
        if kind not in runs:
            root = tmp_path_factory.mktemp(kind.__name__)
            options = [*kind(root), "--backends", "ort-fp32", "--device", "cpu", "--threads", 1, "--rounds", 1]
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(root)
                patch.setenv("VOXBENCH_CACHE", str(root / "cache"))
                quick(patch)
                main(["run", *map(str, options), "--out", "run"])
            runs[kind] = root / "run"
        return runs[kind]

    return run


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((of_code, name) for name in EXPORTS if name != "package"),
        (of_trusted_bundle, "openvino"),
    ],
)
def test_a_network_of_code_goes_into_every_format(
    kind: Callable[[Path], list[object]], name: str, run_of, tmp_path, monkeypatch, capsys
) -> None:
    """Whose modules have the names of ours while it is loaded, also where the harness speaks with its worker."""
    if name == "monai-bundle":
        pytest.importorskip("monai", reason="monai is not installed")
    run = run_of(kind)
    monkeypatch.setenv("VOXBENCH_CACHE", str(run.parent / "cache"))
    out = tmp_path / "out"
    code = main(["export", str(run), "--variant", "ort-fp32", "--unproven", "--format", name, "--out", str(out)])
    assert code == 0, capsys.readouterr().err
    said = json.loads((out / "model.json").read_text())
    assert said["proof"]["equal_cases"] == 1, "a worker predicted a case of the run again"
    assert set(said["files"]) == {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} - {FILE}
    if name in SERVED:
        (package,) = out.rglob("package.json")
        assert read_package(package.parent).proof.equal_cases == 1


@pytest.mark.parametrize("name", ["package", "triton"])  # a repository for a server holds a package
def test_a_graph_that_would_lose_the_transforms_of_its_bundle_is_refused(name, run_of, tmp_path, monkeypatch, capsys):
    """It would be read as a network without any, and label what it was never trained on."""
    pytest.importorskip("monai", reason="monai is not installed")
    run = run_of(of_trusted_bundle)
    monkeypatch.setenv("VOXBENCH_CACHE", str(run.parent / "cache"))
    out = tmp_path / "out"
    code = main(["export", str(run), "--variant", "ort-fp32", "--unproven", "--format", name, "--out", str(out)])
    assert code == 2
    assert "beside one no transforms of a bundle; use --format onnx or openvino" in capsys.readouterr().err
    assert not out.exists()


def test_code_that_the_backend_needs_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    quick(monkeypatch)
    options = [*of_code(tmp_path), "--backends", "torch-fp32", "--device", "cpu", "--threads", 1, "--rounds", 1]
    main(["run", *map(str, options), "--out", "run"])
    capsys.readouterr()
    assert main(["export", "run", "--variant", "torch-fp32", "--out", "package"]) == 2
    assert "its network is made by code, so that a package holds it as an ONNX graph" in capsys.readouterr().err
    assert not Path("package").exists()
