"""Cases through the transforms and the sliding window of MONAI bundles, against MONAI's own evaluator of them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.data.volume import read_image
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.preparation import preparation_of
from bench.pipeline.settings import InferenceSettings
from models.model import Model
from tests.bench.pipeline.test_nnunet import Module
from tests.bench.pipeline.whole_volume import logits_of
from tests.bundles import BUNDLES, CASES, Evaluator, write, write_case
from tests.loading import load

pytest.importorskip("ignite", reason="pytorch-ignite, which MONAI's evaluators need, is not installed")


def settings_of(model: Model, **changed: object) -> InferenceSettings:
    settings = {"protocol": "sliding-window", "tile": model.tile, "overlap": model.overlap, "batch": 1, "roi": "none"}
    return InferenceSettings(
        **settings | changed, window=model.window, labels=model.labels, painting=model.painting,
        channels=model.channels, subtypes=model.subtypes, plans=model.plans, bundle=model.bundle,
    )  # fmt: skip


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    root = write(tmp_path_factory.mktemp("bundle") / "root", *BUNDLES[request.param]())
    return root, load(root)[0]


@pytest.mark.parametrize(("name", "batch"), zip(CASES, (1, 3), strict=True))
def test_logits_and_masks_are_those_of_monais_evaluator(bundle, name: str, batch: int, tmp_path: Path) -> None:
    root, model = bundle
    images = write_case(tmp_path / "images", name, model.channels)
    evaluator = Evaluator(root, images, tmp_path / "theirs")
    expected, logits = np.rint(evaluator.mask()), evaluator.logits()
    settings, session = settings_of(model, batch=batch), Module(model.module)
    prepared, _ = preparation_of(settings, torch.device("cpu"))[0].prepare(read_image(images))
    torch.testing.assert_close(logits_of(session, settings, prepared), logits, rtol=1e-4, atol=1e-4)
    Pipeline(session, settings).run(images, tmp_path / "ours.nii.gz")
    ours = nib.load(tmp_path / "ours.nii.gz")
    labels = np.asarray(ours.dataobj)
    assert len(np.unique(labels)) > 1, "a mask that says nothing"
    assert (labels != expected).mean() <= 1e-4
    np.testing.assert_array_equal(ours.affine, nib.load(images[0]).affine)
