"""A series of DICOM through the pipeline: the mask of its NIfTI, with the names of the task."""

import numpy as np
import pydicom
import pytest
import torch

from bench.data.volume import read_mask, read_space
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.stream import Stream
from models.task import PANCREAS
from tests.bench.data.dicom.made import Made, oblique
from tests.bench.data.headers import save
from tests.bench.values import VALUES

SHAPE = (34, 30, 20)
SETTINGS = InferenceSettings(
    protocol="sliding-window",
    tile=(32, 32, 32),
    overlap=0.5,
    batch=1,
    roi="none",
    window=(-1000, 1000),
    names=tuple((value, name) for name, value in PANCREAS.labels.items()),
)


class Network:
    """Three classes by brightness and place, and a class; no weights."""

    def infer(self, x):
        at = torch.linspace(-0.2, 0.2, x.shape[-1])
        return torch.cat([-((x - level + at) ** 2) for level in (0.3, 0.5, 0.7)], 1), x.mean((2, 3, 4)).repeat(1, 3)

    def sync(self):
        pass


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "made",
    [Made(cosines=(1, 0, 0, 0, -1, 0)), Made(cosines=oblique(3)), Made(step=(0, 0.8, 2.4)), Made(slopes=(1.0, 0.5))],
    ids=["negated column", "oblique", "tilted", "scaled by slice"],
)
def test_the_mask_is_that_of_the_nifti(tmp_path, made, streamed):
    stored = np.random.default_rng(0).normal(1000, 500, SHAPE).astype(np.int16)
    series = made.write(tmp_path / "series", stored)
    nifti = save(tmp_path / "a.nii.gz", made.values(stored).astype(np.float32), made.affine())
    pipeline = Pipeline(Network(), SETTINGS)
    cases = [((series,), tmp_path / "mask.dcm"), ((nifti,), tmp_path / "mask.nii.gz")]
    if streamed:
        Stream(pipeline, 1).run(cases)
    else:
        for images, mask in cases:
            pipeline.run(images, mask)
    space = read_space(series)
    labels = read_mask(tmp_path / "mask.dcm", space, VALUES)
    assert set(np.unique(labels)) == {0, 1, 2}
    np.testing.assert_array_equal(labels, read_mask(tmp_path / "mask.nii.gz", space, VALUES))
    segments = pydicom.dcmread(tmp_path / "mask.dcm").SegmentSequence
    assert [segment.SegmentLabel for segment in segments] == ["pancreas", "lesion"]
