"""Networks of the user's own code through `bench`: real files, real worker processes, a package called ``models``."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.cli.exit_codes import INCONCLUSIVE
from bench.cli.main import main
from tests.bench.run_files import put_samples, read_samples

CASES = 5
TILE = 32
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, subtypes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.LeakyReLU(0.01))
        self.seg = nn.Conv3d(8, classes, 1)
        self.cls = nn.Linear(8, subtypes) if subtypes else None

    def forward(self, x):
        from models.late import scaled
        import engines.late
        deep = scaled(self.body(x)) + engines.late.NOTHING
        if self.cls is None:
            return [self.seg(deep), self.seg(deep[..., ::2, ::2, ::2])]
        return {"segmentation": self.seg(deep), "classification": self.cls(deep.mean((2, 3, 4)))}
"""
FILES = {
    "net.py": "from models import Net\nimport bench, reports\n"
              "def both():\n    return Net(3, 4)\ndef organ():\n    return Net(2, 0)\n",
    "models/__init__.py": "from .net import Net\n",
    "models/net.py": NET,
    "models/late.py": "def scaled(x):\n    return 2 * x\n",
    "engines/late.py": "NOTHING = 0.0\n",
    "bench/__init__.py": "", "reports/__init__.py": "",
}  # fmt: skip
STATE = {"body.0.weight": (8, 1, 3, 3, 3), "body.0.bias": (8,), "seg.weight": (3, 8, 1, 1, 1), "seg.bias": (3,),
         "cls.weight": (4, 8), "cls.bias": (4,)}  # fmt: skip


@pytest.fixture
def theirs(tmp_path) -> Path:
    """The user's project: code, checkpoints of both networks, and cases with classes up to 3."""
    root = tmp_path / "project"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    torch.manual_seed(0)
    state = {name: torch.randn(shape) for name, shape in STATE.items()}
    torch.save({"state_dict": state, "cls_f1": 0.5}, root / "both.pth")
    organ = {name: tensor[:2] if name.startswith("seg") else tensor for name, tensor in state.items()}
    torch.save({name: tensor for name, tensor in organ.items() if not name.startswith("cls")}, root / "organ.pth")
    rng = np.random.default_rng(0)
    for split, count in (("validation", CASES), ("train", 2)):
        for number in range(count):
            folder = root / "data" / split / f"subtype{number % 4}"
            folder.mkdir(parents=True, exist_ok=True)
            name = f"quiz_{number % 4}_{split[0]}{number:03}"
            hu = rng.normal(0, 400, (TILE, TILE, TILE)).astype(np.int16)
            nib.save(nib.Nifti1Image(hu, np.eye(4)), folder / f"{name}_0000.nii.gz")
            truth = (hu > 0).astype(np.uint8) + (hu > 400)
            nib.save(nib.Nifti1Image(truth.astype(np.uint8), np.eye(4)), folder / f"{name}.nii.gz")
    return root


@pytest.fixture
def options(theirs):
    def of(factory: str, backends: str) -> list[str]:
        return [
            "--checkpoint", str(theirs / f"{factory}.pth"), "--arch", str(theirs / f"net.py:{factory}"), "--tile",
            f"{TILE},{TILE},{TILE}", "--data", str(theirs / "data"), "--backends", backends, "--rounds", "1",
        ]  # fmt: skip

    return of


def test_every_kind_of_backend_runs_their_network(bench, options):
    others = "torchscript,torch-compile,ort-fp32,openvino-int8"
    _, summary, printed = bench(*options("both", others))
    assert Path("run/report.md").is_file(), printed
    rows = {row["name"]: row for row in summary["variants"]}
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(
        ["torch-fp32", *others.split(",")], "ok"
    )
    for name, row in rows.items():
        assert row["status"] == "ok", row["reason"]
        assert row["accuracy"]["macro_f1"]["state"] != "not applicable"
        assert row["accuracy"]["class_flips"] == 0 or name == "openvino-int8"
        assert row["accuracy"]["voxel_disagreement"] < (1e-2 if name == "openvino-int8" else 1e-4)
    result = summary["checkpoint"]
    assert (result["architecture"], result["labels"], result["subtypes"]) == ("net.py:both", [0, 1, 2], 4)
    assert "it tells 4 subtypes apart" in result["remarks"]
    classes = Path("run/predictions/ort-fp32/subtype_results.csv").read_text().splitlines()
    assert classes[0] == "Names,Subtype"
    assert len(classes) == 1 + CASES
    assert {line[-1] for line in classes[1:]} <= set("0123")


def test_a_network_of_one_organ_has_neither_f1_nor_lesions_and_is_resumed_only_with_its_code(
    bench, options, theirs, limit, capsys
):
    limit(confirmation=True)
    _, summary, printed = bench(*options("organ", "torchscript,ort-fp32"))
    assert Path("run/report.md").is_file(), printed
    assert "lesion DSC is not applicable, as the network has no lesion class" in printed
    assert "macro-F1 is not applicable, as the task has no classes" in printed
    for row in summary["variants"]:
        scores = row["accuracy"]
        lesion, whole = (scores["structures"][name]["dsc"] for name in ("lesion", "whole pancreas"))
        assert (lesion["state"], scores["macro_f1"]["state"]) == ("not applicable", "not applicable")
        assert (lesion["value"], scores["macro_f1"]["value"], scores["class_flips"]) == (None,) * 3
        assert whole["cases"] == CASES
        assert scores["voxel_disagreement"] < 1e-4
        labels = {
            v for path in Path("run/predictions", row["name"]).iterdir() for v in np.unique(nib.load(path).dataobj)
        }
        assert labels == {0, 1}
    assert list(Path("run").rglob("subtype_results.csv")) == []
    assert "class flips not applicable" in Path("run/report.md").read_text()
    assert summary["noise_floor"].keys() >= {"class_flips"}
    samples = duels("ort-fp32")
    assert {sample["subtype"] for sample in samples} == {None}

    interrupt()
    late = theirs / "models" / "late.py"
    late.write_text(late.read_text().replace("2 * x", "3 * x"))
    assert main(["run", "--resume", "--out", "run"]) == 2
    line = "the code of its network is not what this run began with; start a new run"
    assert f"bench: {theirs / 'organ.pth'}: {line}\n" in capsys.readouterr().err
    late.write_text(late.read_text().replace("3 * x", "2 * x"))
    main(["run", "--resume", "--out", "run"])
    assert json.loads(Path("run/run.json").read_text())["status"] == "complete"
    assert duels("ort-fp32") == samples


def test_a_forward_without_a_graph_runs_in_pytorch_alone(bench, options, theirs):
    (theirs / "checked.py").write_text(
        "import torch\nfrom models import Net\n"
        "class Checked(Net):\n    def forward(self, x):\n        assert not torch.isnan(x).any()\n"
        "        return super().forward(x)\ndef both():\n    return Checked(3, 4)\n"
    )
    chosen = options("both", "torchscript,ort-fp32")
    chosen[chosen.index("--arch") + 1] = str(theirs / "checked.py:both")
    code, summary, printed = bench(*chosen, "--max-cases", "2")
    assert code == INCONCLUSIVE, printed
    rows = {row["name"]: row for row in summary["variants"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "torch-fp32": "ok", "torchscript": "skipped", "ort-fp32": "skipped",
    }  # fmt: skip
    assert "hands values of the image to Python, of which there is no graph" in rows["ort-fp32"]["reason"]
    assert summary["checkpoint"]["macs_per_tile"] == TILE**3 * 8 * (27 + 3) + 8 * 4
    assert "its forward hands values of the image to Python" in Path("run/report.md").read_text()


def duels(name: str) -> list[dict]:
    samples = read_samples(name)
    return [sample for sample in samples if sample["phase"] == "interleaved"]


def interrupt() -> None:
    """Leave the run as an interrupt before its confirmation would have left it."""
    record = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(record | {"status": "interrupted", "confirmed": None}))
    for path in Path("run/variants").glob("*.json"):
        backend = json.loads(path.read_text())
        put_samples(path.stem, duels(path.stem))
        path.write_text(json.dumps(backend | {"status": "pending"}))


def test_inspect_and_the_refusals(options, theirs, capsys):
    given = options("both", "ort-fp32")
    assert main(["inspect", str(theirs / "both.pth"), *given[2:6], "--format", "json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["architecture"], info["width"]) == ("net.py:both", 8)
    assert main(["run", *given, "--demo-width", "16"]) == 2
    assert "leave --checkpoint and --arch out" in capsys.readouterr().err
    given[given.index("--arch") + 1] = str(theirs / "net.py:organ")
    assert main(["run", *given]) == 2
    error = capsys.readouterr().err
    assert "its weights are not those of net.py:organ: 2 unexpected (cls.weight, cls.bias), 2 of another shape" in error
    assert error.count("\n") == 1
    (theirs / "data" / "validation" / "subtype3").rename(theirs / "data" / "validation" / "subtype4")
    assert main(["run", *options("both", "ort-fp32")]) == 2
    assert "unknown subtype 4; the network tells 4 apart, 0 to 3: correct the class" in capsys.readouterr().err
