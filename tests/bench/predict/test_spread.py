"""`bench predict --ray` on two nodes of one core, each with processes of its own."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.cli.exit_codes import BAD_INPUT
from bench.cli.main import main
from bench.cluster import actors, connection
from bench.errors import InputError
from bench.predict.journal import NAME
from bench.worker.lines import OK, Line
from tests.bench.data.dicom.made import ID, PATIENT, Made, noise

pytestmark = pytest.mark.xdist_group("ray")

ROOT = Path(__file__).resolve().parents[3]
TILE = "16,16,16"
SECRETS = ("Muster", "Erika", ID, "K_4711", "geheim", "Huber")
# It needs no time of a core, so that a node can be killed before all is done; of one image it kills its process.
NET = """
import os
import time

from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.seg = nn.Conv3d(1, 3, 1)

    def forward(self, x):
        time.sleep(0.4)
        if x.min() > 0.99:
            os.kill(os.getpid(), 9)
        return self.seg(x)
"""
# As `bench`, but nodes do not find every other case where it lies.
DRIVER = """
import sys

sys.path.insert(0, sys.argv.pop(1))
from bench.predict.nodes import transport

class Blind(transport.Sender):
    def places(self, case):
        lies = super().places(case)
        return lies if case.name[-1] in "02468" else tuple(transport.Place((b"",), at.content) for at in lies)

transport.Sender = Blind
import bench.predict.nodes.spread
bench.predict.nodes.spread.Sender = Blind
from bench.cli.main import entry
entry()
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A network, and cases called after a patient, in NIfTI and in DICOM; one of them kills its worker."""
    (tmp_path / "net.py").write_text(NET)
    weights, biases = torch.tensor([0.0, 4.0, 8.0]).view(3, 1, 1, 1, 1), torch.tensor([0.0, -1.6, -4.4])
    torch.save({"seg.weight": weights, "seg.bias": biases}, tmp_path / "net.pth")
    images = tmp_path / "Muster_Erika"
    images.mkdir()
    affine = np.array([[-0.7, 0.1, 0, 30], [0.1, 0.8, 0, -20], [0, 0, 2.5, 7], [0, 0, 0, 1]])
    for number in range(9):
        nifti = nib.Nifti1Image(noise((12, 11, 9), seed=number) * 10, affine)
        nifti.header["descrip"], nifti.header["aux_file"] = PATIENT, ID
        nifti.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"geheim Muster"))
        nib.save(nifti, images / f"K_4711_{number:03}_0000.nii.gz")
    nib.save(nib.Nifti1Image(np.full((16, 16, 16), 3000, np.int16), np.eye(4)), images / "Muster_dies_1_0000.nii.gz")
    Made(slopes=(8.0,), intercepts=(0.0,)).write(images / "Erika_CT_1", noise())
    return tmp_path


def predict(folder: Path, out: str, *options: str) -> list[str]:
    of_source = ["--arch", f"{folder}/net.py:Net", "--tile", TILE, "--device", "cpu", "--threads", "1"]
    arguments = ["predict", folder / "net.pth", folder / "Muster_Erika", "--out", folder / out, *of_source, *options]
    return [str(each) for each in arguments]


def test_other_versions_on_a_node_are_one_line(cluster, monkeypatch):
    here = {**actors.versions(), "torch": "1.0"}
    monkeypatch.setattr(actors, "versions", lambda: here)
    with connection.connected(cluster.address):
        from bench.cluster.places import nodes_of, places

        chosen = list(places(nodes_of(connection.ray().nodes()), 1, False))
        with pytest.raises(InputError, match=r"^node .*: has torch 2\..*, and here it is 1\.0; install the same"):
            actors.RayActors(chosen)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_all_masks_are_there_once_though_a_node_is_killed_and_nobody_is_named(cluster, folder):
    assert main(predict(folder, "alone")) == BAD_INPUT
    (folder / "driver.py").write_text(DRIVER)
    options = ("--ray", cluster.address, "--report", str(folder / "report.json"))
    command = [sys.executable, "-P", str(folder / "driver.py"), str(ROOT), *predict(folder, "spread", *options)]
    with (folder / "log").open("w") as log:
        call = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder / "Muster_Erika")
        while call.poll() is None and not lines(folder / "spread"):
            time.sleep(0.05)
        cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
        code = call.wait(120)
    printed = (folder / "log").read_text()
    assert code == BAD_INPUT, printed
    assert "Traceback" not in printed
    _masks_are_equal(folder, printed)
    _report_says_the_nodes(json.loads((folder / "report.json").read_text()))
    _names_nobody(cluster)
    assert not list(Path(os.environ["TMPDIR"]).glob("voxbench-node-*")), "images are left"


def lines(out: Path) -> list[Line]:
    journal = out / NAME
    content = journal.read_bytes().splitlines() if journal.exists() else []
    return [line for each in content if (line := Line.decoded(each)) is not None]


def _masks_are_equal(folder: Path, printed: str) -> None:
    alone, spread = folder / "alone", folder / "spread"
    masks = {path.name for path in alone.iterdir() if path.name.endswith((".nii.gz", ".dcm"))}
    assert len(masks) == 10
    for name in masks:
        assert (spread / name).read_bytes() == (alone / name).read_bytes(), name
    assert sorted(line.mask for line in lines(spread) if line.status == OK) == sorted(masks)
    rows = {row["case"]: row for row in csv.DictReader((spread / "predictions.csv").read_text().splitlines())}
    assert [name for name, row in rows.items() if row["status"] != OK] == ["Muster_dies_1"]
    assert rows["Muster_dies_1"]["reason"].startswith("the worker was killed by SIGKILL")
    assert "10 cases predicted; 1 failed" in printed
    assert "is lost: its process or its node died" in printed
    assert "raylet" not in printed


def _report_says_the_nodes(report: dict) -> None:
    first, second = report["nodes"]
    assert (first["cores"], first["device"], second["cores"]) == (1, "cpu", 1)
    assert first["cases"] + second["cases"] == 10
    assert [row["lost"] is None for row in (first, second)].count(False) == 1


def _names_nobody(cluster: Any) -> None:
    """In no log of a node, nor in what the cluster keeps of the call."""
    from ray._private.state import jobs

    with connection.connected(cluster.address):
        kept = str(jobs())
    assert "'Entrypoint': 'bench" in kept.replace('"', "")
    session = Path(cluster.head_node.get_session_dir_path())
    assert not [secret for secret in SECRETS if secret in kept]

    read = 0
    for path in session.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            read += len(content)
            assert not [secret for secret in SECRETS if secret.encode() in content], path
    assert read > 10_000
