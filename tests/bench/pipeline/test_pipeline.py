"""Whole-volume inference against MONAI, and files that overlay their images."""

from dataclasses import replace
from threading import Thread

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

from bench.machine.clock import Stopwatch
from bench.machine.threads import one_thread
from bench.pipeline import preparation, tiles
from bench.pipeline.merge import Merger
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.preprocess import normalise
from bench.pipeline.roi import Body
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tile_runner import TileRunner
from engines.base import ClassCheck
from models.networks.unet import MultiTaskUNet
from tests.bench.pipeline.whole_volume import logits_of
from tests.bench.values import read_labels


class Module:
    """The module itself as a session."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.batches: list[int] = []

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.batches.append(x.shape[0])
        return self.module(x)

    def sync(self) -> None:
        pass


@pytest.fixture(scope="module")
def network() -> MultiTaskUNet:
    torch.manual_seed(1)
    return MultiTaskUNet(4).eval()


def settings(**changes) -> InferenceSettings:
    defaults = InferenceSettings(
        protocol="sliding-window", tile=(32, 32, 32), overlap=0.5, batch=1, roi="none", window=(-1000, 1000)
    )
    return replace(defaults, **changes)


@pytest.mark.parametrize("shape", [(32, 32, 32), (50, 40, 21), (70, 33, 64), (20, 100, 31)])
@pytest.mark.parametrize(("overlap", "batch"), [(0.5, 1), (0.5, 4), (0.25, 3), (0.0, 1), (0.8, 2)])
def test_logits_equal_monais(network, shape, overlap, batch):
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))
    session = Module(network)
    ours = logits_of(session, settings(overlap=overlap, batch=batch), volume[None])
    with torch.inference_mode():
        theirs = sliding_window_inference(
            volume[None, None], (32, 32, 32), batch, lambda x: network(x)[0], overlap, mode="gaussian"
        )[0]
    assert ours.shape == theirs.shape == (3, *shape)
    assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))
    assert set(session.batches) == {batch}


def test_labels_are_the_argmax_of_the_logits_and_the_mask_keeps_the_images_grid(network, tmp_path):
    rng = np.random.default_rng(0)
    affine = np.array([[0.6, 0.1, 0, -40], [-0.1, 0.7, 0.05, 12], [0, -0.05, 2.0, 7], [0, 0, 0, 1.0]])
    image = nib.Nifti1Image(rng.integers(0, 3000, (50, 41, 21)).astype(np.int16), affine)
    image.header.set_slope_inter(0.5, -700)
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=1, strip_shears=True)
    nib.save(image, tmp_path / "a_0000.nii.gz")
    pipeline = Pipeline(Module(network), settings())
    outcome = pipeline.run([tmp_path / "a_0000.nii.gz"], tmp_path / "a.nii.gz")

    written = nib.load(tmp_path / "a.nii.gz")
    reread = nib.load(tmp_path / "a_0000.nii.gz")
    assert written.shape == reread.shape
    np.testing.assert_array_equal(written.affine, reread.affine)
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (2, 1)
    assert written.get_data_dtype() == np.uint8
    assert np.allclose(written.header.get_zooms(), reread.header.get_zooms())
    volume = normalise(torch.from_numpy(reread.get_fdata(dtype=np.float32))[None], (-1000, 1000))
    logits = logits_of(Module(network), settings(), volume)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.nii.gz"), logits.argmax(0).numpy())
    assert set(outcome.stages_ns) == {"read", "roi", "preprocess", "forward", "stitch", "write"}
    assert sum(outcome.stages_ns.values()) <= outcome.case_ns
    assert sum(outcome.stages_ns.values()) > 0.9 * outcome.case_ns
    assert list(tmp_path.glob(".*")) == []


def test_the_subtype_is_the_foreground_weighted_vote():
    """Two tiles; the one with far more predicted foreground decides against a stronger vote of the other."""

    class Two(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            bright = x.mean() > 0.5
            segmentation = torch.zeros(1, 3, *x.shape[2:])
            segmentation[:, 0] = -8 if bright else 8
            return segmentation, torch.tensor([[0.0, 1.0, 0.0]] if bright else [[5.0, 0.0, 0.0]])

    volume = torch.zeros(1, 64, 32, 32)
    volume[:, 32:] = 1
    grid = tiles.sliding_window((64, 32, 32), (32, 32, 32), 0.0)
    merger = Merger(grid, tiles.gaussian_weights((32, 32, 32)), settings())
    runner = TileRunner(Module(Two()), settings(overlap=0.0), torch.device("cpu"), Stopwatch(lambda: None))
    runner.run(volume, grid.boxes, merger.aggregate)
    case_class = merger.case_class()
    assert case_class.number == 1
    # By foreground mass f and g of the two, the mean of the logits is (5g, f, 0) / (f + g).
    mass = 1 - torch.softmax(torch.tensor([[-8.0, 0, 0], [8.0, 0, 0]]), 1)[:, 0].double()
    mean = torch.stack([5 * mass[1], mass[0], torch.zeros(())]) / mass.sum()
    torch.testing.assert_close(torch.tensor(case_class.probabilities, dtype=torch.float64), mean.softmax(0))


class Segments(torch.nn.Module):
    """Classes by brightness, in as many steps as there are; no classification, but the placeholder of one."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steps = torch.linspace(0, 1, self.classes).view(1, -1, 1, 1, 1)
        segmentation = -((x - steps) ** 2)
        return segmentation, segmentation[:, :1, 0, 0, 0]


@pytest.mark.parametrize("labels", [(0, 1), (0, 1, 2), (0, 2, 1), (0, 1, 1, 2)])
def test_masks_hold_the_labels_of_the_classes_and_there_is_no_subtype_without_a_classification(tmp_path, labels):
    classes = np.random.default_rng(0).integers(0, len(labels), (40, 32, 33))
    hu = (classes * 2000 / (len(labels) - 1) - 1000).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.eye(4)), tmp_path / "a_0000.nii.gz")
    pipeline = Pipeline(Module(Segments(len(labels))), settings(labels=labels, subtypes=0))
    outcome = pipeline.run([tmp_path / "a_0000.nii.gz"], tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.nii.gz"), np.array(labels)[classes])
    assert outcome.subtype is None


def test_labels_and_classes_must_be_as_many(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((32, 32, 32), np.int16), np.eye(4)), tmp_path / "a_0000.nii.gz")
    with pytest.raises(ValueError, match="zip"):
        Pipeline(Module(Segments(4)), settings(subtypes=0)).run([tmp_path / "a_0000.nii.gz"], tmp_path / "a.nii.gz")
    assert not (tmp_path / "a.nii.gz").exists()


@pytest.mark.parametrize("large", [False, True], ids=["small", "labelled in parts"])
def test_center_patch_labels_only_the_patch(network, tmp_path, monkeypatch, large):
    monkeypatch.setattr(preparation, "WHOLE_BYTES", 0 if large else preparation.WHOLE_BYTES)
    empty = torch.empty  # what it holds is left from before
    monkeypatch.setattr(torch, "empty", lambda *size, **kind: empty(*size, **kind).fill_(77))
    nib.save(nib.Nifti1Image(np.full((50, 41, 21), 100, np.int16), np.eye(4)), tmp_path / "a_0000.nii.gz")
    outcome = Pipeline(Module(network), settings(protocol="center-patch")).run(
        [tmp_path / "a_0000.nii.gz"], tmp_path / "a.nii.gz"
    )
    assert outcome.tiles == 1
    box = tiles.covered(tiles.center_patch((50, 41, 21), (32, 32, 32)))
    assert box == (slice(9, 41), slice(4, 36), slice(0, 21))
    labels = read_labels(tmp_path / "a.nii.gz")
    labels[box] = 0
    assert not labels.any()


def test_body_roi_maps_back_exactly(network, tmp_path):
    """Cropping must give, inside the box, what the cropped volume alone gives, and background outside."""
    volume = np.full((90, 80, 60), -1000, np.int16)
    volume[20:70, 24:64, 10:50] = np.random.default_rng(0).integers(-100, 200, (50, 40, 40))
    volume[0:3, 0:3, 0:3] = 500  # a speck, not the body
    nib.save(nib.Nifti1Image(volume, np.diag([2.0, 2.0, 2.0, 1])), tmp_path / "a_0000.nii.gz")
    Pipeline(Module(network), settings(roi="body")).run([tmp_path / "a_0000.nii.gz"], tmp_path / "a.nii.gz")
    labels = read_labels(tmp_path / "a.nii.gz")
    body = Body().crop(volume.astype(np.float32)[None], (2.0, 2.0, 2.0), None, Body.margin_mm).box
    assert all(a.start <= b.start and a.stop >= b.stop for a, b in zip(body, np.s_[20:70, 24:64, 10:50], strict=True))
    box = tiles.expand_to_tiles(body, volume.shape, settings().tile, settings().overlap)
    cut = torch.from_numpy(volume[box].astype(np.float32))[None]
    inside = logits_of(Module(network), settings(), normalise(cut, (-1000, 1000)))
    np.testing.assert_array_equal(labels[box], inside.argmax(0).numpy())
    labels[box] = 0
    assert not labels.any()


class Lowered(Module):
    """A session whose classification is off by `shift` logits, and which may check it."""

    def __init__(self, module: torch.nn.Module, shift: Tensor, below: float) -> None:
        super().__init__(module)
        self.shift, self.checked = shift, 0
        self.class_check = ClassCheck(below, self._exact)

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        segmentation, classification = super().infer(x)
        return segmentation, classification + self.shift

    def _exact(self, x: Tensor) -> Tensor:
        self.checked += len(x)
        return self.module(x)[1]


@pytest.mark.parametrize("changes", [{}, {"batch": 3}, {"mirror_axes": (0, 2)}], ids=["tile", "batch", "mirrors"])
def test_an_uncertain_class_is_that_of_the_exact_logits(network, tmp_path, changes):
    rng = np.random.default_rng(0)
    image = tmp_path / "a_0000.nii.gz"
    nib.save(nib.Nifti1Image(rng.integers(-1000, 1000, (50, 41, 21)).astype(np.int16), np.eye(4)), image)
    own = settings(**changes)
    watch = Stopwatch(lambda: None)
    exact = Pipeline(Module(network), own)
    exact_class = exact.label(exact.prepare([image], watch), watch).case_class
    wrong = sorted(range(3), key=exact_class.probabilities.__getitem__)[1]  # the next likely one
    shift = torch.zeros(3)
    shift[wrong] = exact_class.lead + 0.01  # so that it leads by a hundredth

    uncertain = Pipeline(session := Lowered(network, shift, below=0.02), own)
    labelled = uncertain.label(uncertain.prepare([image], watch), watch)
    assert labelled.case_class.number == exact_class.number
    assert labelled.case_class.probabilities == pytest.approx(exact_class.probabilities, abs=1e-6)
    timing = uncertain.run([image], tmp_path / "a.nii.gz")
    assert (timing.subtype, timing.class_checked) == (exact_class.number, True)
    assert timing.tiles == exact.run([image], tmp_path / "b.nii.gz").tiles, "those of the check are not counted"
    assert session.checked >= timing.tiles

    sure = Pipeline(session := Lowered(network, shift, below=0.005), own)
    timing = sure.run([image], tmp_path / "a.nii.gz")
    assert (timing.subtype, timing.class_checked, session.checked) == (wrong, False, 0)


def test_a_case_beside_an_engines_own_threads_begins_with_all_of_pytorchs(network, tmp_path):
    """Also in a thread that begins while another has taken one."""
    nib.save(nib.Nifti1Image(np.zeros((32, 32, 32), np.int16), np.eye(4)), tmp_path / "a_0000.nii.gz")
    before, seen = torch.get_num_threads(), {}
    torch.set_num_threads(3)
    try:
        session = Module(network)
        session.own_threads = True
        pipeline = Pipeline(session, settings())

        def watched(name, own):
            def call(*arguments):
                seen[name] = torch.get_num_threads()
                return own(*arguments)

            return call

        for name in ("read", "restore"):
            setattr(pipeline._preprocessor, name, watched(name, getattr(pipeline._preprocessor, name)))
        session.infer = watched("infer", session.infer)
        with one_thread():
            thread = Thread(target=lambda: pipeline.run([tmp_path / "a_0000.nii.gz"], tmp_path / "mask.nii.gz"))
            thread.start()
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert seen == {"read": 3, "infer": 1, "restore": 3}
