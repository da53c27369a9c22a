"""A network of two channels and three overlapping regions, and what is scored of it, through `bench run`."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric

SIDE = 24
TASK = """
name = "brain"
channels = ["T1c", "FLAIR"]
ignore = 9

[labels]
background = 0
edema = 2
core = 1
enhancing = 4

[structures.whole]
labels = ["edema", "core", "enhancing"]

[structures.core]
labels = ["core", "enhancing"]
nsd_tolerance_mm = 1

[structures.enhancing]
labels = ["enhancing"]

[[regions]]
structure = "core"
label = "core"
[[regions]]
structure = "whole"
label = "edema"
[[regions]]
structure = "enhancing"
label = "enhancing"
"""
PAINTING = 'painting = ["whole", "core", "enhancing"]\n'
NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv3d(4, 3, 1))

    def forward(self, x):
        return self.body(x)

def make():
    return Net()
"""


def paint(logits: np.ndarray) -> np.ndarray:
    mask = np.zeros(logits.shape[1:], np.uint8)
    for channel, label in ((1, 2), (0, 1), (2, 4)):
        mask[logits[channel] > 0] = label
    return mask


@pytest.fixture
def brain(tmp_path):
    """Checkpoint, code, task and six cases, whose truth is what the network says but for a cube of another label."""
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "brain.toml").write_text(PAINTING + TASK)
    names: dict = {}
    exec(NETWORK, names)
    torch.manual_seed(0)
    network = names["make"]().eval()
    with torch.no_grad():
        network.body[2].bias -= network(torch.rand(1, 2, SIDE, SIDE, SIDE)).mean((0, 2, 3, 4))
    torch.save(network.state_dict(), tmp_path / "net.pth")
    images, masks = tmp_path / "data" / "imagesVal", tmp_path / "data" / "labelsVal"
    images.mkdir(parents=True)
    masks.mkdir()
    rng = np.random.default_rng(0)
    for case in range(6):
        x = rng.normal(0, 400, (2, SIDE, SIDE, SIDE)).astype(np.int16)
        with torch.inference_mode():
            prepared = torch.from_numpy(x.astype(np.float32)).clamp(-1000, 1000).add(1000).div(2000)
            truth = paint(network(prepared[None])[0].numpy())
        truth[4:8, 4:8, 4:8], truth[:2] = 4, 9
        for channel in range(2):
            nib.save(nib.Nifti1Image(x[channel], np.eye(4)), images / f"c{case}_{channel:04}.nii.gz")
        nib.save(nib.Nifti1Image(truth, np.eye(4)), masks / f"c{case}.nii.gz")
    return tmp_path


def options(brain: Path, *more: str) -> tuple[str, ...]:
    factory, tile = f"{brain / 'net.py'}:make", ",".join([str(SIDE)] * 3)
    network = ("--checkpoint", brain / "net.pth", "--arch", factory, "--task", brain / "brain.toml", "--tile", tile)
    return tuple(map(str, (*network, "--data", brain / "data", "--max-cases", 5, *more)))


def monai_dice(prediction: np.ndarray, truth: np.ndarray, labels: tuple[int, ...]) -> float:
    counts = truth != 9
    metric = DiceMetric()
    metric(*(torch.from_numpy(np.isin(mask, labels) & counts)[None, None].float() for mask in (prediction, truth)))
    return float(metric.aggregate())


def test_regions_of_two_channels_are_painted_and_scored(bench, brain):
    (brain / "data" / "grades.csv").write_text("name,class\nc0,low grade\n")  # which no class of this task is
    backends = "torch-fp32,torchscript,ort-fp32,openvino-fp32,peer-monai-fp32,peer-script"
    code, summary, printed = bench(*options(brain, "--backends", backends, "--rounds", "1"))
    assert code in (0, 1, 3), printed
    assert "no window is named, and the channels T1c, FLAIR are not CT: intensities are clipped to -1000" in printed
    assert {row["status"] for row in summary["variants"]} == {"ok"}
    assert summary["task"]["structures"] == ["whole", "core", "enhancing"]
    scores = json.loads(Path("run/variants/torch-fp32.json").read_text())["scores"]
    for score in scores:
        prediction, truth = (
            np.asarray(nib.load(path).dataobj)
            for path in (
                f"run/predictions/torch-fp32/{score['case']}.nii.gz",
                brain / f"data/labelsVal/{score['case']}.nii.gz",
            )
        )
        assert set(np.unique(prediction)) == {0, 1, 2, 4}
        for name, labels in {"whole": (1, 2, 4), "core": (1, 4), "enhancing": (4,)}.items():
            assert score["structures"][name]["dsc"] == pytest.approx(monai_dice(prediction, truth, labels), abs=1e-6)
    for row in summary["variants"][1:]:
        assert row["accuracy"]["voxel_disagreement"] < 1e-3, row["name"]
    columns = Path("run/cases.csv").read_text().partition("\n")[0].split(",")
    assert {"whole_dsc", "core_dsc", "enhancing_nsd"} <= set(columns)


def test_channels_in_one_file_that_a_list_names(bench, brain):
    """Whose labels have other values: the same scores, for reference pipelines too."""
    settings = ("--backends", "torch-fp32,peer-script", "--rounds", "1")
    _, before, printed = bench(*options(brain, *settings))
    data, listed = brain / "data", []
    for path in sorted((data / "imagesVal").glob("*_0000.nii.gz")):
        name = path.name.replace("_0000", "")
        voxels = [np.asarray(nib.load(path.with_name(f"c{name[1]}_000{c}.nii.gz")).dataobj) for c in range(2)]
        nib.save(nib.Nifti1Image(np.stack(voxels, -1), np.eye(4)), data / name)
        truth = np.asarray(nib.load(data / "labelsVal" / name).dataobj)
        nib.save(nib.Nifti1Image(np.where(truth == 4, 3, truth), np.eye(4)), data / "labelsVal" / name)
        listed.append({"image": f"../data/{name}", "label": str(data / "labelsVal" / name)})
    labels = {"0": "background", "1": "Core", "2": "Edema", "3": "enhancing", "9": "ignore"}
    modality = {"0": "t1c", "1": "flair"}
    held = {"modality": modality, "labels": labels, "validation": listed}
    (brain / "lists").mkdir()
    (brain / "lists" / "cases.json").write_text(json.dumps(held))
    shutil.rmtree("run")
    _, after, printed = bench(*options(brain, *settings, "--data", str(brain / "lists" / "cases.json")))
    assert json.loads(Path("run/run.json").read_text())["data"]["layout"] == "datalist"
    assert [row["status"] for row in after["variants"]] == ["ok"] * 2, printed
    scores = [[row["accuracy"]["structures"] for row in summary["variants"]] for summary in (before, after)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("enhancing = 4", "enhancing = 5", "voxels; known are 0 background, 1 core, 2 edema, 5 enhancing"),
        (
            '"T1c", "FLAIR"',
            '"T1c", "FLAIR", "T2"',
            "its network takes 2 channels, and the task brain has 3 (T1c, FLAIR, T2)",
        ),
        ("ignore = 9\n", "", "unknown label 9 in"),
        (
            'label = "edema"\n[[regions]]\nstructure = "enhancing"\nlabel = "enhancing"',
            'label = "edema"',
            "gives 3 classes",
        ),
    ],
)
def test_a_task_that_fits_neither_network_nor_masks_is_one_line(bench, brain, old, new, said):
    text = (brain / "brain.toml").read_text()
    assert old in text
    (brain / "brain.toml").write_text(text.replace(old, new).replace(PAINTING, "" if "regions" in old else PAINTING))
    code, summary, printed = bench(*options(brain, "--backends", "torch-fp32"))
    assert (code, summary) == (2, {})
    line = printed.strip().splitlines()[-1]
    assert line.startswith("bench: ")
    assert said in line
    assert not Path("run").exists()
