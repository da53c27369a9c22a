"""A package that is sent to a node, and what predicts there, in this process."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.package.document import content_of
from bench.package.opening import open_package
from bench.plan.request import Request
from bench.predict.inputs import image_file
from bench.predict.nodes.predictor import Predictor
from bench.predict.nodes.transport import Sender
from bench.predict.source import Source
from bench.worker.lines import FAILED, OK
from bench.worker.messages import BatchCase


@pytest.fixture
def predictor(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    sender = Sender()
    made = Predictor(sender.salt, 2, 600.0)
    yield sender, made
    folder = made._folder
    assert folder.is_dir()
    made.close()
    assert not folder.exists()


def test_it_predicts_there_as_here(package, run_and_package, data, predictor, tmp_path):
    sender, made = predictor
    identity, content = open_package(package).identity, content_of(package)
    source = Source(package, None, None, Request(command="bench predict Muster")).sent().on("cpu", 1)
    assert "Muster" not in str(source)
    assert made.open(source, {"package": "another"}) is None
    shutil.rmtree(package)
    assert made.open(source, identity) is None, "it is not there"
    assert made.receive(source, content).evidence["mac_share"]

    image = next(path for path in data.glob("validation/*/*_0000.nii.gz"))
    name = image.name.removesuffix("_0000.nii.gz")
    case = BatchCase(name, (image_file(image),), f"{name}.nii.gz")
    missing = BatchCase("gone", (image_file(tmp_path / "gone.nii.gz"),), "gone.nii.gz")
    assert made.sees([sender.places(case), sender.places(missing)]) == (True, False)
    sent = [sender.sent("0-0", case, True), sender.sent("0-1", case, False), sender.sent("1-2", missing, True)]
    by_place, by_content, lost = made.predict(sent).outcomes
    assert (by_place.line.status, by_place.line.probabilities) == (OK, by_content.line.probabilities)
    np.testing.assert_array_equal(by_place.mask(), by_content.mask())
    assert by_place.mask().shape == nib.load(image).shape
    assert name not in str((by_place.line, by_content.line))
    assert (lost.line.status, lost.broke) == (FAILED, False)
    assert lost.line.reason.startswith("{path 0}: cannot be seen any more")
    left = [path for path in Path(made._folder).rglob("*") if path.name.startswith(("image-", "0-"))]
    assert left == []
