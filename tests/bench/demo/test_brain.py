"""The made-up heads: two images of one grid, nested regions, nnU-Net's layout; and the network trained on them."""

import json
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import engines
from bench.accuracy import dsc
from bench.cli.main import main
from bench.cli.terminal import PlainProgress
from bench.data.cases import check_cases, declared_values, find_cases
from bench.data.volume import MaskValues, read_mask
from bench.demo import CHECKPOINTS, VERSION, write_demo
from bench.demo.brain import CHANNELS, LABELS, REGIONS, TASK, WINDOW, draw_head
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from bench.plan.plan import make_plan
from bench.plan.request import Request
from engines.base import Target
from models.task_file import task_from_values
from tests.loading import load

COUNTS = {"train": 2, "validation": 2}
TASK_OF_CASES = task_from_values(TASK, "the demo")
SHOWN = {"whole tumour": 0.8330, "tumour core": 0.8029, "enhancing tumour": 0.7549}  # mean DSC of these two cases


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds a smaller brain demo than the shipped one."""
    folder = tmp_path_factory.mktemp("cache")
    write_demo(folder / f"demo-brain-{VERSION}", counts=COUNTS, kind="brain")
    return folder


@pytest.fixture(scope="module")
def data(cache: Path) -> Path:
    return cache / f"demo-brain-{VERSION}"


def test_the_same_seed_draws_the_same_head() -> None:
    first, second, other = draw_head("train", 1), draw_head("train", 1), draw_head("train", 1, seed=1)
    np.testing.assert_array_equal(first.labels, second.labels)
    for image, again in zip(first.images, second.images, strict=True):
        np.testing.assert_array_equal(image, again)
    assert first.labels.shape != other.labels.shape or not np.array_equal(first.images, other.images)
    with pytest.raises(ValueError, match="train has cases 0 to 599, not 600"):
        draw_head("train", 600)


def test_tumours_lie_in_the_brain_with_all_their_regions_in_a_contrast_that_differs() -> None:
    ratios = []
    for index in range(5):
        case = draw_head("validation", index)
        t1c, flair = case.images
        assert case.labels.shape == t1c.shape == flair.shape
        assert set(np.unique(case.labels)) == set(LABELS.values())
        assert min((case.labels >= label).sum() for label in (1, 2, 3)) > 300
        assert t1c[case.labels == 3].mean() > 1.1 * t1c[case.labels == 2].mean(), "it enhances"
        assert max(image[case.labels > 0].max() for image in case.images) < WINDOW[1]
        slices = [np.flatnonzero(case.labels.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        assert all(each[0] > 0 and each[-1] < side - 1 for each, side in zip(slices, case.labels.shape, strict=True))
        ratios.append(t1c[case.labels == 1].mean() / flair[case.labels == 1].mean())
    assert max(ratios) > 1.2 * min(ratios)


def test_the_folder_is_a_data_set_of_nnunet_that_fits_the_task(data: Path) -> None:
    written = {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()}
    numbers = {"Tr": ("000", "001"), "Val": ("600", "601")}
    assert written == {"dataset.json"} | {
        name
        for split, ids in numbers.items()
        for number in ids
        for name in (
            *(f"images{split}/brain_{number}_{channel:04d}.nii.gz" for channel in range(len(CHANNELS))),
            f"labels{split}/brain_{number}.nii.gz",
        )
    }
    held = json.loads((data / "dataset.json").read_text())
    assert (held["numTraining"], held["regions_class_order"]) == (2, [1, 2, 3])
    layout, cases = find_cases(data, "validation")
    values = declared_values(data, TASK_OF_CASES)
    assert (layout, values) == ("nnunet", MaskValues.of(TASK_OF_CASES))
    assert [len(case.further_channels) for case in check_cases(cases, TASK_OF_CASES, values)] == [1, 1]
    image, mask = nib.load(cases[0].image_path), nib.load(cases[0].mask_path)
    np.testing.assert_array_equal(image.affine, mask.affine)
    assert (image.get_data_dtype(), image.header.get_zooms()) == (np.int16, pytest.approx((1.8, 1.8, 2.0)))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), draw_head("validation", 0).labels)


def test_the_network_says_what_it_is_for_and_finds_it(data: Path, tmp_path: Path) -> None:
    model, checkpoint = load(CHECKPOINTS["brain"])
    assert checkpoint.path.stat().st_size < 1_000_000
    assert (model.task.structures, model.labels, model.painting) == (TASK_OF_CASES.structures, (1, 2, 3), (0, 1, 2))
    assert (model.window, model.subtypes, model.channels) == (WINDOW, 0, 2)
    settings = InferenceSettings(
        protocol="sliding-window", tile=model.tile, overlap=0.5, batch=1, roi="none", window=model.window,
        labels=model.labels, painting=model.painting, channels=model.channels, subtypes=0,
    )  # fmt: skip
    values, scores = MaskValues.of(model.task), []
    target = Target("cpu", model.tile, 1, 2, tmp_path, channels=model.channels)
    with engines.load("torch-fp32").open(model, target) as session:
        for case in find_cases(data, "validation")[1]:
            Pipeline(session, settings).run(case.image_paths, tmp_path / "mask.nii.gz")
            assert case.mask_path is not None
            predicted, truth = (read_mask(path, None, values) for path in (tmp_path / "mask.nii.gz", case.mask_path))
            scores.append([dsc(np.isin(predicted, part), np.isin(truth, part)) for part in REGIONS.values()])
    assert dict(zip(REGIONS, np.mean(scores, axis=0), strict=True)) == pytest.approx(SHOWN, abs=0.002)


def test_the_demo_is_chosen_by_name(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXBENCH_CACHE", str(cache))
    request = Request(demo="brain", backends="openvino-int8", protocol="center-patch")
    plan = make_plan(request, "", "", PlainProgress(StringIO()))
    assert list(plan.record.task.structures) == list(REGIONS)
    assert (plan.record.checkpoint.demo, plan.record.data.demo) == (True, True)
    assert plan.record.data.calibration_cases == ("brain_000", "brain_001")
    assert [own.target.input_shape for own in plan.opens] == [(1, 2, 64, 64, 64)] * 2
    assert main(["run", "--demo", "brain", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
