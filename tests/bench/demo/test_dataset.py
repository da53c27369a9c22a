"""The made-up cases: the same for a seed, in the quiz layout, and stored as the field stores them."""

import os
import re
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import engines
from bench.accuracy import dsc, outside_of
from bench.data.cases import find_cases
from bench.demo import CHECKPOINTS, dataset, draw_case, write_demo
from bench.demo.case import DrawnCase
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import sliding_window
from engines.base import Target
from tests.bench.values import read_labels
from tests.loading import load

COUNTS = {"train": 3, "validation": 3, "test": 1}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("cases") / "demo", counts=COUNTS)


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One abdomen, which takes seconds to draw."""
    return write_demo(tmp_path_factory.mktemp("abdomen") / "demo", counts={"validation": 1}, kind="abdomen")


def images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*_0000.nii.gz"))


def masks(folder: Path) -> list[Path]:
    return sorted(set(folder.rglob("*.nii.gz")) - set(images(folder)))


def test_layout_is_that_of_the_quiz(demo: Path) -> None:
    written = {path.relative_to(demo).as_posix() for path in demo.rglob("*.nii.gz")}
    expected = {"test/quiz_800_0000.nii.gz"}
    for split, ids in {"train": range(3), "validation": range(600, 603)}.items():
        for number in ids:
            stem = f"{split}/subtype{number % 3}/quiz_{number % 3}_{number:03d}"
            expected |= {f"{stem}_0000.nii.gz", f"{stem}.nii.gz"}
    assert written == expected


def test_it_is_the_same_by_any_number_of_processes(demo: Path, tmp_path: Path) -> None:
    again = write_demo(tmp_path / "demo", counts=COUNTS, processes=2)
    for path in demo.rglob("*.nii.gz"):
        assert (again / path.relative_to(demo)).read_bytes() == path.read_bytes()


def note_threads(folder: Path, number: tuple[str, int]) -> None:
    (folder / f"{number[1]}").write_text(os.environ["OMP_NUM_THREADS"])


def test_processes_that_draw_take_one_core_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    dataset._write_all(partial(note_threads, tmp_path), [("train", 0), ("train", 1)], 2)
    assert [(tmp_path / name).read_text() for name in "01"] == ["1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_ids_are_unique_across_splits(demo: Path) -> None:
    ids = [re.findall(r"\d{3}", path.name)[0] for path in images(demo)]
    assert len(set(ids)) == sum(COUNTS.values())


def test_every_file_of_a_case_has_the_same_place_and_spacing(demo: Path) -> None:
    for path in masks(demo):
        mask = nib.load(path)
        image = nib.load(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
        assert mask.shape == image.shape
        np.testing.assert_array_equal(mask.affine, image.affine)
        assert image.header.get_zooms() == pytest.approx((0.73, 0.73, 2.0))
        assert np.abs(image.affine[:3, 3]).min() > 0


def test_scaled_image_values_are_hounsfield_units(demo: Path) -> None:
    scalings = set()
    for number in range(COUNTS["train"]):
        path = demo / f"train/subtype{number}/quiz_{number}_{number:03d}_0000.nii.gz"
        image = nib.load(path)
        assert image.get_data_dtype() == np.int16
        scalings.add((image.dataobj.slope, image.dataobj.inter))
        # Half a step of the coarsest slope is what rounding to int16 may cost.
        np.testing.assert_allclose(image.get_fdata(), draw_case("train", number).image, atol=0.51)
    assert len(scalings) > 1


def test_masks_are_labels_or_nearly_so(demo: Path) -> None:
    values = [np.unique(nib.load(path).get_fdata()) for path in masks(demo)]
    for labels in values:
        np.testing.assert_allclose(labels, [0, 1, 2], atol=1e-4)
    assert any(1.0000152587890625 in labels for labels in values)


def test_the_same_seed_draws_the_same_case() -> None:
    first, second, other = draw_case("train", 1), draw_case("train", 1), draw_case("train", 1, seed=1)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


def test_a_case_does_not_depend_on_how_many_are_written(demo: Path, tmp_path: Path) -> None:
    alone = write_demo(tmp_path / "demo", counts={"validation": 1})
    for path in alone.rglob("*.nii.gz"):
        other = nib.load(demo / path.relative_to(alone))
        np.testing.assert_array_equal(nib.load(path).get_fdata(), other.get_fdata())


def test_cases_are_sized_for_tiles_and_balanced() -> None:
    cases = [draw_case("validation", index) for index in range(6)]
    depths = [case.image.shape[2] for case in cases]
    assert min(depths) < 64 < max(depths)
    assert np.bincount([case.subtype for case in cases]).tolist() == [2, 2, 2]
    for case in cases:
        assert (case.labels == 1).sum() > 2000
        assert (case.labels == 2).sum() > 500


def test_tissues_have_realistic_attenuation() -> None:
    case = draw_case("train", 0)
    assert np.median(case.image[case.labels == 1]) == pytest.approx(95, abs=25)
    assert case.image.min() < -700  # bowel gas
    assert case.image.max() > 350  # bone


@pytest.mark.parametrize(("split", "index"), [("train", 600), ("validation", -1), ("test", 200)])
def test_an_index_outside_its_split_is_refused(split: str, index: int) -> None:
    with pytest.raises(ValueError, match="has cases 0 to"):
        draw_case(split, index)


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown splits: val"):
        write_demo(tmp_path / "demo", counts={"val": 1})
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="remove it"):
        write_demo(tmp_path, counts={"test": 1})


def test_an_interrupted_generation_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(split: str, index: int, *, seed: int = 0, kind: str = "pancreas") -> DrawnCase:
        assert not (tmp_path / "demo").exists()
        if index == 1:
            raise KeyboardInterrupt
        return draw_case(split, index, seed=seed, kind=kind)

    monkeypatch.setattr(dataset, "draw_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", counts={"test": 2})
    assert not list(tmp_path.iterdir())


def test_the_shipped_checkpoint_is_small() -> None:
    assert all(path.stat().st_size < 8_000_000 for path in CHECKPOINTS.values())


def test_the_abdomens_network_finds_the_pancreas_at_half_the_resolution(abdomen: Path, tmp_path: Path) -> None:
    """And its box holds all of it, at a fraction of the tiles."""
    (case,) = find_cases(abdomen, "validation")[1]
    model, _ = load(CHECKPOINTS["abdomen"])
    settings = InferenceSettings(
        protocol="sliding-window", tile=model.tile, overlap=0.25, batch=1, roi="coarse", window=model.window,
        foreground_ml=model.task.foreground_ml,
    )  # fmt: skip
    target = Target("cpu", model.tile, 1, 2, tmp_path)
    with engines.load("torch-fp32").open(model, target) as session:
        outcome = Pipeline(session, settings).run(case.image_paths, tmp_path / "mask.nii.gz")
    assert outcome.roi is not None
    assert not outcome.roi.fallback
    truth = read_labels(case.mask_path)
    assert not outside_of(truth, outcome.roi).any()
    assert dsc(read_labels(tmp_path / "mask.nii.gz") > 0, truth > 0) > 0.7
    assert outcome.tiles < 0.75 * len(sliding_window(truth.shape, model.tile, 0.25).starts)


def test_an_abdomen_shows_the_whole_body_in_air_and_the_pancreas_uncut() -> None:
    case = draw_case("validation", 2, kind="abdomen")
    assert all(
        low <= n <= high for low, n, high in zip((244, 244, 120), case.image.shape, (264, 264, 136), strict=True)
    )
    assert case.spacing == (0.73, 0.73, 2.0)
    sides = [case.image[0], case.image[-1], case.image[:, 0], case.image[:, -1]]
    assert all(np.median(side) < -950 for side in sides), "air at the sides"
    assert (case.image > -500).mean() > 0.5, "most of it is the body"
    assert (case.labels == 1).sum() > 2000
    assert (case.labels == 2).sum() > 500
    for axis in range(3):
        slices = np.flatnonzero(case.labels.any(tuple({0, 1, 2} - {axis})))
        assert slices[0] > 10
        assert slices[-1] < case.image.shape[axis] - 10
    assert np.median(case.image[case.labels == 1]) == pytest.approx(95, abs=25)
    again, other = draw_case("validation", 2, kind="abdomen"), draw_case("validation", 2)
    np.testing.assert_array_equal(again.image, case.image)
    assert other.image.shape != case.image.shape
    assert other.subtype == case.subtype


def test_an_abdomen_is_written_like_any_case(abdomen: Path) -> None:
    image = nib.load(abdomen / "validation/subtype0/quiz_0_600_0000.nii.gz")
    assert image.shape == nib.load(abdomen / "validation/subtype0/quiz_0_600.nii.gz").shape
    assert min(image.shape) >= 120


def test_two_processes_may_write_the_cases_at_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*arguments: object, **options: object) -> DrawnCase:
        (tmp_path / "demo").mkdir()
        (tmp_path / "demo" / "whole").write_text("by the other")
        return draw_case("test", 0)

    monkeypatch.setattr(dataset, "draw_case", draw)
    assert write_demo(tmp_path / "demo", counts={"test": 1}) == tmp_path / "demo"
    assert [path.name for path in tmp_path.rglob("*")] == ["demo", "whole"]
