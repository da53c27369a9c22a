"""Mirroring and folds through real worker processes, against nnU-Net's own predictor."""

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.cli.main import main
from models.suppress import suppress_output
from tests.bench.pipeline.test_nnunet import raw_dataset
from tests.nnunet import train

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")

CASES = ("case_1", "case_2")
RECIPE = '[unmirrored]\nbackend = "torch-fp32"\ntta = "none"\n'


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """The results folder of three folds."""
    root = tmp_path_factory.mktemp("folds")
    trained = [train(root, fold=fold) for fold in (0, 1, 2)]
    return trained[0].parents[1]


@pytest.fixture
def data(tmp_path) -> Path:
    return raw_dataset(tmp_path / "raw")


@pytest.fixture
def command(tmp_path, monkeypatch, capsys, limit):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    limit(launches=1, confirmation=False)

    def call(*options):
        code = main([*map(str, options)])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return code, printed

    return call


def test_a_run_of_an_ensemble_with_mirroring(command, results, data, tmp_path):
    Path("recipes.toml").write_text(RECIPE)
    names = ("torch-fp32", "openvino-fp32@8", "peer-nnunet", "unmirrored")
    _, printed = command(
        "run", "--checkpoint", results, "--folds", "all", "--tta", "mirror", "--data", data, "--device", "cpu",
        "--threads", 1, "--rounds", 1, "--out", "run", "--backends", ",".join(names[:3]), "--recipes", "recipes.toml",
        "--require", ",".join(names),
    )  # fmt: skip
    record = json.loads(Path("run/run.json").read_text())
    assert record["status"] == "complete", printed.err
    checkpoint = record["checkpoint"]
    assert len({checkpoint["weights_sha256"], *checkpoint["members"]}) == 3
    folds = [Path(path).name for path in (checkpoint["path"], *checkpoint["further_paths"])]
    assert folds == ["fold_0", "fold_1", "fold_2"]
    controlled = record["controlled_settings"]
    assert controlled["ensemble"] == "3 networks, merged apart, then averaged, as by nnU-Net"
    assert controlled["test-time augmentation"].startswith("tiles mirrored along x, y, z")
    assert record["settings"]["tta"] == record["settings"]["variants"]["peer-nnunet"]["tta"] == "mirror:x,y,z"
    masks = {name: {case: mask_of(name, case) for case in CASES} for name in names}
    for case, expected in masks_of_the_predictor(results, data, tmp_path).items():
        assert len(np.unique(expected)) == 3
        assert (masks["torch-fp32"][case] != expected).mean() <= 1e-4
        assert (masks["peer-nnunet"][case] == expected).all(), "it is nnU-Net's own predictor"
        assert (masks["openvino-fp32@8"][case] != expected).mean() <= 1e-3
        assert (masks["unmirrored"][case] != expected).mean() > 0.02, "mirrors that change nothing"
    tiles = {name: sorted(sample["tiles"] for sample in samples_of(name)) for name in names}
    assert tiles["torch-fp32"] == tiles["peer-nnunet"] == [8 * count for count in tiles["unmirrored"]]
    report = Path("run/report.md").read_text()
    assert re.search(r"\| batch +\| TTA +\| rewrites", report)
    assert re.search(r"\| mirror:x,y,z +\|", report)


def test_macs_of_all_networks_are_counted_and_all_weights_must_be_those_of_the_run(command, results, data, tmp_path):
    moved = shutil.copytree(results, tmp_path / results.name)
    options = ("--data", data, "--device", "cpu", "--threads", 1, "--rounds", 1, "--backends", "torch-fp32")
    command("run", "--checkpoint", moved, "--folds", 2, *options, "--max-cases", 1, "--out", "single")
    command("run", "--checkpoint", moved / "fold_0", moved / "fold_2", *options, "--max-cases", 1, "--out", "run")
    both, single = (json.loads(Path(f"{run}/run.json").read_text())["checkpoint"] for run in ("run", "single"))
    assert (both["macs_per_tile"], both["parameters"]) == (2 * single["macs_per_tile"], single["parameters"])
    assert both["layer_weights"] == 2 * single["layer_weights"]
    assert both["members"] == [single["weights_sha256"]]
    run = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(run | {"status": "interrupted"}))
    shutil.copy(results / "fold_1" / "checkpoint_final.pth", moved / "fold_2")
    code, printed = command("run", "--resume", "--out", "run")
    assert code == 2
    assert f"{moved / 'fold_2'}: the weights are not those this run began with" in printed.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--folds", "0,7"), "has no fold_7; choose from 0, 1, 2"),
        ((), "holds the networks of 3 folds (fold_0, fold_1, fold_2); give one, such as"),
        (("--folds", "0", "--tta", "mirror"), "--tta mirror: the checkpoint allows none"),
    ],
)
def test_what_is_refused_before_anything_is_written(command, results, data, tmp_path, options, said):
    moved = shutil.copytree(results, tmp_path / results.name)
    path = moved / "fold_0" / "checkpoint_final.pth"
    torch.save(torch.load(path, weights_only=False) | {"inference_allowed_mirroring_axes": None}, path)
    code, printed = command("run", "--checkpoint", moved, *options, "--data", data, "--out", "run")
    assert code == 2
    assert said in printed.err
    assert not Path("run").exists()


def test_inspect_says_whether_networks_are_an_ensemble(command, results):
    code, printed = command("inspect", results, "--folds", "0,2")
    assert code == 0
    assert "allowed along x, y, z" in printed.out
    assert "ensemble: 2 networks, whose logits are averaged" in printed.out
    code, printed = command("inspect", results / "fold_1", results / "fold_1", "--format", "json")
    held = json.loads(printed.out)
    assert (code, held["ensemble"], len(held["networks"])) == (0, False, 2)
    assert "has the same weights as" in held["ensemble_reason"]


def masks_of_the_predictor(results: Path, data: Path, folder: Path) -> dict[str, np.ndarray]:
    """With mirroring and all folds, which are its defaults."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    masks = {}
    with suppress_output():
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(results), None)
        for case in CASES:
            image = data / "imagesVal" / f"{case}_0000.nii.gz"
            predictor.predict_from_files_sequential([[str(image)]], [str(folder / case)])
            masks[case] = np.asarray(nib.load(folder / f"{case}.nii.gz").dataobj)
    return masks


def mask_of(name: str, case: str) -> np.ndarray:
    return np.asarray(nib.load(Path("run/predictions") / name / f"{case}.nii.gz").dataobj)


def samples_of(name: str) -> list[dict]:
    lines = Path(f"run/samples/{name}.jsonl").read_text().splitlines()
    return [sample for sample in map(json.loads, lines) if sample["phase"] == "interleaved"]
