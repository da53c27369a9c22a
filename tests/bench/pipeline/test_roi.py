"""ROI strategies: what they choose, what they cost, and when they fall back to the full volume."""

import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from bench.pipeline import preparation, tiles
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.preprocess import read_onto
from bench.pipeline.region import Region, components, overlap
from bench.pipeline.roi import COARSE_MARGIN_MM, NEAR_MARGIN_MM, STRATEGIES, Body
from bench.pipeline.settings import CaseTiming, InferenceSettings
from models.networks.unet import MultiTaskUNet, Shape
from models.task import PANCREAS
from tests.bench.values import read_labels

TILE = (16, 16, 16)
SHAPE = (64, 60, 48)
SETTINGS = InferenceSettings(
    protocol="sliding-window", tile=TILE, overlap=0.5, batch=8, roi="none", window=(-1000, 1000),
    foreground_ml=PANCREAS.foreground_ml,
)  # fmt: skip


class Threshold:
    """A session that calls bright voxels pancreas and brighter ones lesion, wherever they are; it keeps its inputs."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert x.shape[1:] == (1, *TILE)
        self.seen.append(x.clone())
        logits = torch.cat([torch.full_like(x, 0.52), x, 2 * x - 0.6], dim=1)  # HU 40, and equal to the second at 200
        return logits, x.mean(dim=(2, 3, 4)).expand(-1, 3)

    def sync(self) -> None:
        pass


class Nothing(Threshold):
    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, votes = super().infer(x)
        return logits * logits.new_tensor([1.0, 0, 0]).view(1, 3, 1, 1, 1), votes


def scene(shape, boxes, spacing=(2.0, 2.0, 2.0), hu=150) -> np.ndarray:
    volume = np.full(shape, -100, np.int16)
    for box in boxes:
        volume[box] = hu
    return volume


def predict(
    session, volume, tmp_path, spacing=(2.0, 2.0, 2.0), device="cpu", **changes
) -> tuple[np.ndarray, CaseTiming]:
    nib.save(nib.Nifti1Image(volume, np.diag([*spacing, 1])), tmp_path / "a_0000.nii.gz")
    pipeline = Pipeline(session, replace(SETTINGS, **changes), device)
    outcome = pipeline.run([tmp_path / "a_0000.nii.gz"], tmp_path / "a.nii.gz")
    return read_labels(tmp_path / "a.nii.gz"), outcome


def inside(boxes, shape) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for x0, x1, y0, y1, z0, z1 in boxes:
        assert 0 <= x0 < x1 <= shape[0]
        assert 0 <= y0 < y1 <= shape[1]
        assert 0 <= z0 < z1 <= shape[2]
        mask[x0:x1, y0:y1, z0:z1] = True
    return mask


PLACES = {
    "middle": np.s_[26:36, 24:34, 18:28],
    "corner": np.s_[0:10, 0:10, 0:10],
    "far corner": np.s_[54:64, 50:60, 38:48],
    "face": np.s_[20:30, 50:60, 14:24],
    "all along": np.s_[0:64, 26:32, 20:26],
}


@pytest.mark.parametrize("roi", ["body", "coarse", "foreground"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.6, 2.4, 5.0)])
def test_labels_are_those_of_the_full_volume_and_nothing_of_the_structure_is_lost(tmp_path, roi, place, spacing):
    volume = scene(SHAPE, [PLACES[place]])
    expected, full = predict(Threshold(), volume, tmp_path, spacing)
    assert (expected > 0).sum() == (volume == 150).sum()
    assert full.roi is None
    labels, outcome = predict(Threshold(), volume, tmp_path, spacing, roi=roi)
    np.testing.assert_array_equal(labels, expected)
    mask = inside(outcome.roi.boxes, volume.shape)
    assert mask[expected > 0].all()
    assert not outcome.roi.fallback
    if roi != "body" and place != "all along":
        assert outcome.tiles < full.tiles
        assert not mask.all()


@pytest.mark.parametrize("roi", STRATEGIES)
def test_intensities_may_lie_on_a_device(tmp_path, roi, monkeypatch):
    volume = scene(SHAPE, [PLACES["middle"]])
    expected, on_host = predict(Threshold(), volume, tmp_path, roi=roi)
    monkeypatch.setattr(preparation, "read_image", lambda paths: read_onto(paths, torch.device("cpu")))
    labels, there = predict(Threshold(), volume, tmp_path, roi=roi)
    np.testing.assert_array_equal(labels, expected)
    assert (there.roi, there.tiles) == (on_host.roi, on_host.tiles)


@pytest.mark.gpu
@pytest.mark.parametrize("roi", STRATEGIES)
def test_labels_on_a_gpu_are_those_of_a_cpu(tmp_path, roi):
    volume = scene(SHAPE, [PLACES["middle"]])
    expected, on_cpu = predict(Threshold(), volume, tmp_path, roi=roi)
    labels, there = predict(Threshold(), volume, tmp_path, roi=roi, device="cuda")
    np.testing.assert_array_equal(labels, expected)
    assert (there.roi, there.tiles) == (on_cpu.roi, on_cpu.tiles)
    assert there.stages_ns.keys() == on_cpu.stages_ns.keys()
    assert sum(there.stages_ns.values()) <= there.case_ns
    assert there.device_ns == there.stages_ns["forward"] > 0


@pytest.mark.parametrize(("roi", "usual_mm"), [("coarse", COARSE_MARGIN_MM), ("foreground", NEAR_MARGIN_MM)])
@pytest.mark.parametrize(
    ("own_mm", "spacing"), [(None, (1.6, 2.4, 5.0)), (4.0, (2.0, 2.0, 2.0)), (4.0, (1.6, 2.4, 5.0))]
)
def test_the_margin_is_kept_in_mm_along_every_axis(tmp_path, roi, usual_mm, own_mm, spacing):
    # A box of `coarse` is grown to fill its tiles: hardly, where these are a voxel apart.
    overlap = 0.9 if roi == "coarse" else 0.5
    volume = scene(SHAPE, [PLACES["middle"]])
    _, outcome = predict(Threshold(), volume, tmp_path, spacing, roi=roi, overlap=overlap, margin_mm=own_mm)
    margin_mm = usual_mm if own_mm is None else own_mm
    (box,) = outcome.roi.boxes
    sides = zip(box[::2], box[1::2], PLACES["middle"], SHAPE, spacing, strict=True)
    for first, last, side, n, mm in sides:
        # Found to within a voxel of the coarser grid on either side.
        for gap, most in ((side.start - first, side.start), (last - side.stop, n - side.stop)):
            assert min(margin_mm, most * mm) <= gap * mm + 2 * mm
            assert gap * mm <= margin_mm + 5 * mm


@pytest.mark.parametrize("roi", ["coarse", "foreground"])
@pytest.mark.parametrize(
    ("session", "boxes"),
    [
        (Nothing, [PLACES["middle"]]),
        (Threshold, [np.s_[26:32, 24:30, 18:22]]),  # 1.2 mL
        (Threshold, [np.s_[0:40, 0:40, 0:48]]),  # 0.6 L
    ],
    ids=["nothing", "too small", "too large"],
)
def test_what_finds_nothing_or_is_unsure_falls_back_and_pays_for_both(tmp_path, roi, session, boxes):
    volume = scene(SHAPE, boxes)
    expected, full = predict(session(), volume, tmp_path)
    labels, outcome = predict(session(), volume, tmp_path, roi=roi)
    np.testing.assert_array_equal(labels, expected)
    assert outcome.roi.fallback
    assert inside(outcome.roi.boxes, volume.shape).all()
    assert outcome.tiles == full.tiles + outcome.roi.tiles - outcome.roi.reused > 0


@pytest.mark.parametrize("roi", ["coarse", "foreground"])
def test_a_speck_alone_falls_back_where_the_task_has_structures_as_small(tmp_path, roi):
    volume = scene(SHAPE, [np.s_[26:28, 24:26, 18:20]])  # 0.064 mL
    labels, outcome = predict(Threshold(), volume, tmp_path, roi=roi, foreground_ml=(0.02, 40.0))
    assert (labels > 0).sum() == 2**3
    assert outcome.roi.fallback


def test_two_pieces_are_both_kept(tmp_path):
    boxes = [np.s_[4:16, 4:16, 4:16], np.s_[54:62, 44:50, 38:44]]  # the second is smaller, and no speck
    volume = scene(SHAPE, boxes)
    expected, _ = predict(Threshold(), volume, tmp_path)
    for roi in ("coarse", "foreground"):
        labels, outcome = predict(Threshold(), volume, tmp_path, roi=roi)
        np.testing.assert_array_equal(labels, expected)
        assert len(outcome.roi.boxes) == (1 if roi == "coarse" else 2)


def test_specks_far_away_are_background(tmp_path):
    volume = scene(SHAPE, [PLACES["middle"], np.s_[60:61, 56:57, 4:5]])
    labels, outcome = predict(Threshold(), volume, tmp_path, roi="foreground")
    assert labels[60, 56, 4] == 0
    assert (labels > 0).sum() == 10**3
    assert len(outcome.roi.boxes) == 1


@pytest.mark.parametrize("overlap_", [0.0, 0.25, 0.5, 0.625, 0.75])
@pytest.mark.parametrize("batch", [1, 4])
def test_foreground_runs_no_tile_twice(tmp_path, overlap_, batch):
    """Each tile is unlike any other, so that a second run of one would show."""
    rng = np.random.default_rng(0)
    volume = scene((70, 50, 40), [np.s_[30:42, 20:32, 15:27]]) + rng.integers(-20, 20, (70, 50, 40)).astype(np.int16)
    session = Threshold()
    expected, full = predict(Threshold(), volume, tmp_path, overlap=overlap_, batch=batch)
    labels, outcome = predict(session, volume, tmp_path, roi="foreground", overlap=overlap_, batch=batch)
    np.testing.assert_array_equal(labels, expected)
    shown = [x[0].numpy().tobytes() for batch_ in session.seen for x in batch_]
    assert len(set(shown)) == outcome.tiles
    assert {len(x) for x in session.seen} == {batch}
    # What fills a batch repeats its last tile.
    assert len(shown) - outcome.tiles == sum(len(x) - len({t.numpy().tobytes() for t in x}) for x in session.seen)
    if overlap_ in (0.0, 0.5, 0.75):
        assert outcome.roi.reused == outcome.roi.tiles, "its first tiles are tiles of the grid"
        assert outcome.tiles <= full.tiles


@pytest.mark.parametrize("overlap_", [0.0, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("shape", [(16, 16, 16), (10, 33, 50), (47, 48, 49)])
def test_the_first_pass_covers_everything_with_as_few_tiles_as_can(shape, overlap_):
    grid = tiles.sliding_window(shape, TILE, overlap_)
    mask = np.zeros(grid.padded, bool)
    boxes = tiles.without_overlap(grid)
    for box in boxes:
        assert mask[box].shape == TILE
        mask[box] = True
    assert mask.all()
    assert len(boxes) == np.prod([-(-n // 16) for n in grid.padded])


@pytest.mark.parametrize("roi", ["coarse", "foreground"])
def test_a_real_network_agrees_with_the_full_volume_in_what_is_kept(tmp_path, roi):
    """Its labels are nearly random, so that any tile left out near a kept voxel, or cut elsewhere, would show."""
    torch.manual_seed(1)
    network = MultiTaskUNet(shape=Shape(2, poolings=2)).eval()
    # Bright voxels are pancreas for certain, the others as the network says.
    volume = scene((64, 56, 40), [np.s_[20:34, 20:32, 12:26]], hu=900)

    class Nudged(Threshold):
        def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
            logits, votes = network(x)
            bright = x > 0.9
            return logits.where(bright, logits * 0.02) + torch.cat([3.0 * ~bright, 9.0 * bright, 0 * x], 1), votes

    expected, _ = predict(Nudged(), volume, tmp_path)
    labels, outcome = predict(Nudged(), volume, tmp_path, roi=roi)
    mask = inside(outcome.roi.boxes, volume.shape)
    assert not outcome.roi.fallback
    assert (labels[~mask] == 0).all()
    if roi == "foreground":
        np.testing.assert_array_equal(labels[mask], expected[mask])
    else:  # its tiles start elsewhere
        assert (labels[mask] != expected[mask]).mean() < 0.02
    assert (expected[volume == 900] > 0).all()
    assert (labels[volume == 900] > 0).all()


@pytest.mark.parametrize("overlap_", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("box", [np.s_[20:30, 0:17, 30:48], np.s_[0:64, 59:60, 40:48], np.s_[3:4, 7:40, 5:38]])
def test_a_box_is_grown_to_all_that_its_tiles_can_cover(box, overlap_):
    def count(box) -> int:
        return len(tiles.sliding_window(tuple(side.stop - side.start for side in box), TILE, overlap_).starts)

    grown = tiles.expand_to_tiles(box, SHAPE, TILE, overlap_)
    assert count(grown) == count(box)
    assert tiles.expand_to_tiles(grown, SHAPE, TILE, overlap_) == grown
    for axis, (own, side, n) in enumerate(zip(box, grown, SHAPE, strict=True)):
        assert 0 <= side.start <= own.start
        assert own.stop <= side.stop <= n
        longer = slice(side.start, side.stop + 1)
        more = count((*grown[:axis], longer, *grown[axis + 1 :])) > count(grown)
        assert more or (side.start, side.stop) == (0, n)
        if side.start > 0 and side.stop < n:
            assert abs((own.start - side.start) - (side.stop - own.stop)) <= 1


def test_the_network_sees_the_volume_beyond_a_box_that_is_smaller_than_a_tile(tmp_path):
    session = Threshold()
    _, outcome = predict(session, scene(SHAPE, [PLACES["middle"]]), tmp_path, (5.0, 5.0, 5.0), roi="coarse")
    assert outcome.tiles == outcome.roi.tiles + 1
    assert (session.seen[-1] > 0).all(), "padding is air, which is not in this volume"


@pytest.mark.parametrize(
    ("shape", "coarse_tiles"),
    [((26, 26, 14), 1), ((32, 26, 20), 2), ((40, 26, 14), 0), ((26, 22, 10), 0), ((30, 20, 18), 0)],
)
def test_a_coarse_pass_of_more_than_an_eighth_of_the_tiles_is_left_out(tmp_path, shape, coarse_tiles):
    volume = scene(shape, [np.s_[4:14, 4:14, 2:10]])
    _, full = predict(Threshold(), volume, tmp_path)
    _, outcome = predict(Threshold(), volume, tmp_path, roi="coarse")
    assert (outcome.roi.fallback, outcome.roi.tiles) == (False, coarse_tiles)
    if coarse_tiles:
        assert coarse_tiles <= full.tiles / 8
    else:
        assert outcome.tiles == full.tiles


def test_a_small_volume_is_taken_whole_without_a_coarse_pass(tmp_path):
    _, outcome = predict(Threshold(), scene((20, 20, 16), [np.s_[4:16, 4:16, 2:14]]), tmp_path, roi="coarse")
    assert (outcome.roi.fallback, outcome.roi.tiles, outcome.roi.boxes) == (False, 0, ((0, 20, 0, 20, 0, 16),))


def test_costs_are_in_the_case_and_nothing_is_counted_twice(tmp_path):
    for roi, nested in itertools.product(("coarse", "foreground"), (False, True)):
        volume = scene(SHAPE, [PLACES["middle"]] if nested else [])
        session = Threshold()
        _, outcome = predict(session, volume, tmp_path, roi=roi)
        assert set(outcome.stages_ns) == {"read", "roi", "preprocess", "forward", "stitch", "write"}
        assert 0 < sum(outcome.stages_ns.values()) <= outcome.case_ns
        assert min(outcome.stages_ns.values()) > 0
        assert outcome.roi.passes == -(-outcome.roi.tiles // SETTINGS.batch) > 0
        assert sum(len(x) for x in session.seen) >= outcome.tiles > outcome.roi.tiles


@pytest.mark.parametrize("roi", ["coarse", "foreground"])
def test_with_mirroring_every_pass_of_a_strategy_is_mirrored_and_counted(tmp_path, roi):
    volume = scene(SHAPE, [PLACES["corner"]])
    expected, plain = predict(Threshold(), volume, tmp_path, roi=roi)
    labels, outcome = predict(Threshold(), volume, tmp_path, roi=roi, mirror_axes=(0, 2))
    np.testing.assert_array_equal(labels, expected)
    assert outcome.roi.boxes == plain.roi.boxes
    for count in ("tiles", "reused"):
        assert getattr(outcome.roi, count) == 4 * getattr(plain.roi, count)
    assert (outcome.tiles, outcome.roi.passes) == (4 * plain.tiles, -(-outcome.roi.tiles // SETTINGS.batch))


def test_without_a_network_coarse_and_foreground_take_everything():
    """As calibration asks for a region."""
    image = np.zeros((1, 30, 31, 32), np.float32)
    for roi in ("none", "coarse", "foreground"):
        assert STRATEGIES[roi].crop(image, (1.0, 1.0, 1.0), None, 10.0) == Region.of(np.s_[0:30, 0:31, 0:32])


def test_body_falls_back_to_the_full_volume():
    region = Body().crop(np.full((1, 8, 9, 10), -1000, np.float32), (1, 1, 1), None, 10.0)
    assert region.box == np.s_[0:8, 0:9, 0:10]
    assert region.fallback


def test_components_are_sorted_by_volume_and_boxes_overlap_where_they_share_voxels():
    mask = np.zeros((20, 20, 20), bool)
    mask[0:2, 0:2, 0:2], mask[10:14, 10:14, 10:15] = True, True
    large, small = components(mask, (1.0, 2.0, 5.0))
    assert (large.volume_ml, small.volume_ml) == pytest.approx((0.8, 0.08))
    assert large.box == np.s_[10:14, 10:14, 10:15]
    assert overlap(large.box, np.s_[13:20, 0:11, 0:20])
    assert not overlap(large.box, np.s_[14:20, 0:20, 0:20])
