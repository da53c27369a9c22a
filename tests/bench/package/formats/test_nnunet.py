"""Two folds of nnU-Net, mirrored, in the forms that hold them: a graph of each, and the plans beside them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench.package.formats.conftest import small_run
from tests.bench.pipeline.test_nnunet import raw_dataset
from tests.loading import load
from tests.nnunet import train

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("folds")
    trained = [train(root, fold=fold) for fold in (0, 1)]
    options = ("--checkpoint", trained[0].parents[1], "--folds", "all", "--tta", "mirror:x")
    data = ("--data", raw_dataset(root / "raw"), "--max-cases", 1)
    return small_run(root / "at", *options, *data, "--backends", "torch-fp32")


def test_onnx_runtime_opens_the_graph_of_each_fold(run, exported):
    import onnxruntime

    folder, said = exported(run, "torch-fp32", "onnx")
    assert said["networks"] == ["0/model.onnx", "1/model.onnx"]
    assert said["ensemble"] == "the tiles of each network are merged apart, then the logits of all averaged"
    assert said["tiles"]["mirrored_axes"] == [0]
    x = torch.rand(said["inputs"][0]["shape"], generator=torch.Generator().manual_seed(0))
    paths = json.loads((run / "run.json").read_text())["checkpoint"]
    for number, path in enumerate((paths["path"], *paths["further_paths"])):
        session = onnxruntime.InferenceSession(folder / said["networks"][number], providers=["CPUExecutionProvider"])
        model, _ = load(Path(path))
        with torch.inference_mode():
            theirs = model.module(x)[0].numpy()
        np.testing.assert_allclose(session.run(["segmentation"], {"image": x.numpy()})[0], theirs, atol=1e-4)
    assert said["preparation"]["by"] == "nnU-Net's plans"
    for name, held in (("plans", model.plans.plans), ("dataset", model.plans.dataset)):
        assert json.loads((folder / said["preparation"][name]).read_text()) == held


def test_monai_has_no_such_preparation(run, bench):
    code, _, err = bench("export", run, "--variant", "torch-fp32", "--format", "monai-bundle", "--out", "out")
    assert code == 2
    assert "it averages 2 networks, and MONAI's evaluator runs one; use --format package" in err
    assert not Path("out").exists()
