"""What users run today, from file to file: the same masks and classes as ours, and its place in a run."""

import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import engines
from bench.cli.main import main
from bench.cli.terminal import PlainProgress
from bench.data.volume import read_space
from bench.errors import InputError, NotFiniteError
from bench.machine.clock import processor_ns
from bench.peers import PEERS, incompatible_reason, refuse_setting
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from bench.plan.plan import make_plan
from bench.plan.request import Request
from bench.plan.variants.variants import peers_among, read_variants, row_of
from bench.worker.ensemble import open_all
from engines.base import Target
from engines.evidence.mismatch import evidence_mismatch
from engines.probe import check
from models.model import Model, Plans
from models.networks.outputs import Pair
from models.networks.unet import MultiTaskUNet, Shape
from models.task import PANCREAS
from tests.bench.data.headers import noise, pixdim, save
from tests.bench.values import read_labels
from tests.loading import load
from tests.nnunet import DATASETS, planned, train

SHAPE = (96, 64, 50)  # two tiles along one axis, one along another, and a third that must be padded
# The untrained network leaves most voxels of noise near a tie, where little turns a label: the rounding of BF16, or
# nnU-Net's own weights, which in its float16 vanish in a tile's corners.
BOUNDS = {"peer-monai-fp32": 1e-4, "peer-monai-amp": 0.03, "peer-nnunet": 0.02, "peer-script": 1e-4}
STEPWISE = [name for name in PEERS if not PEERS[name].processes]  # the others take seconds to start them


def target_of(tmp_path: Path, batch: int = 1) -> Target:
    return Target("cpu", (64, 64, 64), batch, torch.get_num_threads(), tmp_path / "cache")


def open_peer(name: str, model, target: Target):
    """Opened also where the CPU multiplies BF16 slowly, for which a run would skip it."""
    available = check(target, PEERS[name])
    if not available.ok:
        pytest.skip(available.reason)
    return engines.load(name, PEERS[name]).open(model, target)


@pytest.fixture(scope="module")
def ours(network, tmp_path_factory):
    """The network, a case, and its mask and outcome by our pipeline."""
    folder = tmp_path_factory.mktemp("case")
    hu = np.random.default_rng(7).normal(0, 400, SHAPE).astype(np.int16)
    affine = np.array([[-0.8, 0, 0, 30], [0, 0.7, 0, -12], [0, 0, 2.5, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(hu, affine), folder / "a_0000.nii.gz")
    model, _ = load(network[0])
    settings = InferenceSettings(
        protocol="sliding-window", tile=(64, 64, 64), overlap=0.5, batch=1, roi="none", window=model.window
    )
    with engines.load("torch-fp32").open(model, target_of(folder)) as session:
        outcome = Pipeline(session, settings).run([folder / "a_0000.nii.gz"], folder / "a.nii.gz")
    return model, settings, folder, outcome


@pytest.mark.parametrize("name", STEPWISE)
def test_a_peer_computes_what_we_do(name, ours, tmp_path):
    model, settings, folder, expected = ours
    with open_peer(name, model, target_of(tmp_path)) as session:
        pipeline = session.case_pipeline(settings)
        first = pipeline.run([folder / "a_0000.nii.gz"], tmp_path / "first.nii.gz")
        timing = pipeline.run([folder / "a_0000.nii.gz"], tmp_path / "a.nii.gz")
        evidence = session.evidence()
    mask, own = nib.load(tmp_path / "a.nii.gz"), nib.load(folder / "a.nii.gz")
    labels, ours_ = np.asanyarray(mask.dataobj), np.asanyarray(own.dataobj)
    assert set(np.unique(ours_)) == {0, 1, 2}
    assert (labels != ours_).mean() <= BOUNDS[name]
    assert np.array_equal(labels, np.asanyarray(nib.load(tmp_path / "first.nii.gz").dataobj)), "nothing is left over"
    np.testing.assert_allclose(mask.affine, own.affine, atol=1e-4)
    assert (timing.subtype, timing.tiles) == (expected.subtype, expected.tiles) == (first.subtype, first.tiles)
    assert timing.stages_ns.keys() == {"read", "preprocess", "forward", "stitch", "write"}
    assert min(timing.stages_ns.values()) > 0
    assert sum(timing.stages_ns.values()) <= timing.case_ns
    assert evidence_mismatch(PEERS[name], target_of(tmp_path), evidence) is None
    assert evidence.details["way"]


@pytest.mark.parametrize("name", [name for name in STEPWISE if name != "peer-monai-amp"])
def test_a_peer_mirrors_tiles_and_averages_networks_as_we_do(name, tmp_path):
    """Each in its own way: nnU-Net by its predictor, the others around the network that they call."""
    torch.manual_seed(4)
    made = [
        Model(
            module=MultiTaskUNet(shape=Shape(2, poolings=2)).eval().requires_grad_(False),
            architecture="multitask-unet", width=2, tile=(32, 32, 32), window=(-1000.0, 1000.0), sha256=str(number),
        )
        for number in range(3)
    ]  # fmt: skip
    settings = InferenceSettings(
        protocol="sliding-window", tile=(32, 32, 32), overlap=0.5, batch=1, roi="none", window=(-1000.0, 1000.0),
        mirror_axes=(0, 2), networks=3,
    )  # fmt: skip
    image, target = save(tmp_path / "a_0000.nii.gz", noise((40, 32, 30))), replace(target_of(tmp_path), tile=(32,) * 3)
    row, own_settings, outcomes = engines.BACKENDS["torch-fp32"], settings, {}
    if name == "peer-nnunet":  # whose grid and weights we have for its networks only
        own_settings = replace(settings, plans=nnunet_plans(settings, image))
    apart = own_settings.merged_apart > 1
    for kind, axes in (("ours", (0, 2)), ("plain", ())):
        with open_all(engines.load("torch-fp32"), row, made, target, apart) as session:
            pipeline = Pipeline(session, replace(own_settings, mirror_axes=axes))
            outcomes[kind] = pipeline.run([image], tmp_path / f"{kind}.nii.gz")
    available = check(target, PEERS[name])
    if not available.ok:
        pytest.skip(available.reason)
    with open_all(engines.load(name, PEERS[name]), PEERS[name], made, target) as session:
        assert evidence_mismatch(PEERS[name], target, session.evidence()) is None
        pipeline = session.case_pipeline(settings)
        first = pipeline.run([image], tmp_path / "first.nii.gz")
        timing = pipeline.run([image], tmp_path / "a.nii.gz")
    labels, again, own, plain = (
        np.asanyarray(nib.load(tmp_path / f"{mask}.nii.gz").dataobj) for mask in ("a", "first", "ours", "plain")
    )
    assert np.array_equal(labels, again), "the next case begins with the first network"
    assert (labels != own).mean() <= 1e-4
    assert (plain != own).mean() > 0.01, "mirrors that change nothing"
    assert timing.tiles == first.tiles == outcomes["ours"].tiles == 4 * outcomes["plain"].tiles
    assert timing.subtype == outcomes["ours"].subtype


class Spoiled(torch.nn.Module):
    """The network, with a single logit of tiles without spread replaced by `value`."""

    def __init__(self, network: torch.nn.Module, value: float) -> None:
        super().__init__()
        self.network = network
        self.value = value

    def forward(self, x):
        segmentation, classification = self.network(x)
        flat = x.amax((1, 2, 3, 4)) == x.amin((1, 2, 3, 4))
        segmentation[:, 1, 32, 32, 32] = torch.where(flat, self.value, segmentation[:, 1, 32, 32, 32])
        return segmentation, classification


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *((name, float("nan"), "1 of 2 tiles gave logits that are not finite (NaN)") for name in STEPWISE),
        ("peer-nnunet", float("inf"), "1 of 2 tiles gave logits that are not finite (infinite)"),
        ("peer-nnunet", 1e5, "the sums of its tiles' logits overflow float16"),
    ],
)
def test_a_peer_makes_no_mask_of_values_that_are_not_finite(name, value, reason, ours, tmp_path):
    model, settings, _, _ = ours
    hu = np.full((128, 64, 64), -1000, np.int16)
    hu[:64] = np.random.default_rng(7).normal(0, 400, (64, 64, 64))
    nib.save(nib.Nifti1Image(hu, np.eye(4)), tmp_path / "air_0000.nii.gz")
    spoiled = replace(model, module=Spoiled(model.module, value))
    with open_peer(name, spoiled, target_of(tmp_path)) as session, pytest.raises(NotFiniteError) as caught:
        session.case_pipeline(replace(settings, overlap=0)).run([tmp_path / "air_0000.nii.gz"], tmp_path / "air.nii.gz")
    assert str(caught.value).startswith(f"air_0000.nii.gz: {reason}")
    assert not (tmp_path / "air.nii.gz").exists()


CONTRADICTING = {
    "pixdim": {"pixdim": pixdim(0.8, 0.7, 5)},
    "qform": {"qform_code": 1, "quatern_d": 1.0, "qoffset_x": 50},
    "axes of length 1": {"behind": (1, 1)},
}


@pytest.mark.parametrize("name", [name for name in STEPWISE if name != "peer-monai-amp"])
def test_a_peers_mask_lies_on_the_image_whatever_else_its_header_says(name, ours, tmp_path):
    model, settings, _, _ = ours
    tile, hu = (32, 32, 32), noise((40, 36, 33))
    plain = save(tmp_path / "plain_0000.nii.gz", hu)
    with open_peer(name, model, replace(target_of(tmp_path), tile=tile)) as session:
        pipeline = session.case_pipeline(replace(settings, tile=tile))
        pipeline.run([plain], tmp_path / "plain.nii.gz")
        expected = read_labels(tmp_path / "plain.nii.gz", read_space(plain))
        for kind, fields in CONTRADICTING.items():
            voxels = hu.reshape(*hu.shape, *fields.get("behind", ()))
            image = save(tmp_path / "a_0000.nii.gz", voxels, **{k: v for k, v in fields.items() if k != "behind"})
            pipeline.run([image], tmp_path / "a.nii.gz")
            assert nib.load(tmp_path / "a.nii.gz").shape == hu.shape
            np.testing.assert_array_equal(read_labels(tmp_path / "a.nii.gz", read_space(image)), expected, err_msg=kind)


def nnunet_plans(settings: InferenceSettings, image: Path) -> Plans:
    """Those by which the peer runs a network without plans."""
    from bench.peers.nnunet import _least_plans

    plans = _least_plans(settings)
    spacing = [float(mm) for mm in nib.load(image).header.get_zooms()]
    plans.plans["configurations"][plans.configuration]["spacing"] = spacing
    return plans


def test_nnunets_grid_weights_and_sums_are_all_that_its_mask_differs_by(ours, tmp_path):
    """With its grid, its weights and its float16 in our pipeline the masks are equal, voxel by voxel."""
    pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")
    model, settings, folder, _ = ours
    plans = nnunet_plans(settings, folder / "a_0000.nii.gz")
    with engines.load("torch-fp32").open(model, target_of(tmp_path)) as session:
        Pipeline(session, replace(settings, plans=plans)).run([folder / "a_0000.nii.gz"], tmp_path / "by_plans.nii.gz")
    with open_peer("peer-nnunet", model, target_of(tmp_path)) as session:
        session.case_pipeline(settings).run([folder / "a_0000.nii.gz"], tmp_path / "a.nii.gz")
    labels, expected = (np.asanyarray(nib.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("a", "by_plans"))
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("name", [name for name in STEPWISE if name != "peer-monai-amp"])
def test_a_peer_takes_several_channels_and_paints_regions(name, tmp_path):
    torch.manual_seed(2)
    network = torch.nn.Conv3d(2, 3, 5, padding=2).eval().requires_grad_(False)
    regions = Model(
        module=Pair(network, (), None), architecture="conv", width=3, tile=(16, 16, 16), window=(-500.0, 500.0),
        sha256="", task=replace(PANCREAS, channels=("CT", "PET")), labels=(3, 1, 2), painting=(0, 1, 2), subtypes=0,
    )  # fmt: skip
    settings = InferenceSettings(
        protocol="sliding-window", tile=regions.tile, overlap=0.5, batch=1, roi="none", window=regions.window,
        labels=regions.labels, painting=regions.painting, channels=2, subtypes=0,
    )  # fmt: skip
    target = replace(target_of(tmp_path), tile=regions.tile, channels=2)
    images = [save(tmp_path / f"a_{channel:04}.nii.gz", noise((24, 20, 17), channel)) for channel in range(2)]
    with engines.load("torch-fp32").open(regions, target) as session:
        Pipeline(session, settings).run(images, tmp_path / "ours.nii.gz")
    with open_peer(name, regions, target) as session:
        session.case_pipeline(settings).run(images, tmp_path / "a.nii.gz")
    labels, own = (np.asanyarray(nib.load(tmp_path / f"{mask}.nii.gz").dataobj) for mask in ("a", "ours"))
    inside = (slice(4, -4),) * 3  # in a small volume the corners, where nnU-Net's weights vanish, are much of it
    assert set(np.unique(own)) == {0, 1, 2, 3}
    assert (labels != own)[inside].mean() <= BOUNDS[name]


@pytest.mark.parametrize("kind", ["Pancreas", "RegionsAndScribbles", "Prostate"])
def test_nnunet_prepares_a_network_with_plans_by_them(kind, tmp_path):
    """Resampled and cropped: the mask of our pipeline, which `test_nnunet` holds against nnU-Net's own."""
    pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")
    model, _ = load(train(tmp_path / "trained", planned(DATASETS[kind]), DATASETS[kind]))
    assert model.plans is not None
    settings = InferenceSettings(
        protocol="sliding-window", tile=model.tile, overlap=0.5, batch=1, roi="none", window=model.window,
        labels=model.labels, painting=model.painting, channels=model.channels, subtypes=0, plans=model.plans,
    )  # fmt: skip
    images = []
    for channel in range(model.channels):
        hu = (np.random.default_rng(channel).normal(0, 1, (30, 28, 9)) * 300 + 80).astype(np.int16)
        hu[:3] = 0
        images.append(tmp_path / f"a_{channel:04}.nii.gz")
        nib.save(nib.Nifti1Image(hu, np.diag([0.8, 1.2, 4, 1])), images[-1])
    target = replace(target_of(tmp_path), tile=model.tile, channels=model.channels)
    with engines.load("torch-fp32").open(model, target) as session:
        expected = Pipeline(session, settings).run(images, tmp_path / "ours.nii.gz")
    with open_peer("peer-nnunet", model, target) as session:
        timing = session.case_pipeline(settings).run(images, tmp_path / "a.nii.gz")
    labels, own = (np.asanyarray(nib.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("a", "ours"))
    assert np.array_equal(labels, own)
    assert len(np.unique(labels)) > 1
    assert (timing.tiles, timing.subtype) == (expected.tiles, None)


@pytest.mark.parametrize("axes", [(0, 2), None])
def test_stock_nnunet_is_its_predictor_with_mirroring_and_processes_of_its_own(axes, tmp_path, monkeypatch):
    """From file to file in one call, whose processes count in its processor time."""
    pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")
    for variable in ("nnUNet_npp", "nnUNet_nps"):
        monkeypatch.setenv(variable, "1")  # each takes seconds to start
    model, _ = load(train(tmp_path / "trained"))
    model = replace(model, mirror_axes=axes)
    settings = InferenceSettings(
        protocol="sliding-window", tile=model.tile, overlap=0.5, batch=1, roi="none", window=model.window,
        labels=model.labels, subtypes=0, plans=model.plans, mirror_axes=axes or (),
    )  # fmt: skip
    image = tmp_path / "a_0000.nii.gz"
    hu = (np.random.default_rng(3).normal(0, 1, (30, 28, 9)) * 300 + 80).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.diag([0.8, 1.2, 4, 1])), image)
    target = replace(target_of(tmp_path), tile=model.tile)
    with open_peer("peer-nnunet", model, target) as session:
        stepwise = session.case_pipeline(settings).run([image], tmp_path / "stepwise.nii.gz")
    (tmp_path / "masks").mkdir()
    with open_peer("peer-nnunet-stock", model, target) as session:
        pipeline, before = session.case_pipeline(settings), (time.process_time_ns(), processor_ns())
        timing = pipeline.run([image], tmp_path / "masks" / "a.nii.gz")
        own, all_ = (now - then for now, then in zip((time.process_time_ns(), processor_ns()), before, strict=True))
        details = session.evidence().details
    labels, expected = (read_labels(tmp_path / name) for name in ("masks/a.nii.gz", "stepwise.nii.gz"))
    assert np.array_equal(labels, expected)
    assert len(np.unique(labels)) > 1
    assert timing.tiles == stepwise.tiles
    assert timing.stages_ns.keys() == {"preprocess", "forward", "stitch", "write"}
    assert 0 < sum(timing.stages_ns.values()) <= timing.case_ns
    assert all_ - own > 500_000_000, "two processes import PyTorch"
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a.nii.gz"], "and nothing beside it"
    assert details["mirroring"].startswith("along x, z of" if axes else "none, as the checkpoint allows none")
    assert "1 for export" in details["processes"]


def variants(text):
    return read_variants(text, "torch-fp32", roi="none", overlap=0.5, batch=1)


def test_a_peer_is_a_variant_by_its_name_alone():
    assert not set(PEERS) & set(variants("all"))
    made = variants("torch-amp,peer-monai-fp32@4,peer-script,peer-script")
    assert tuple(made) == ("torch-fp32", "torch-amp", "peer-monai-fp32@4", "peer-script", "peer-script#2")
    assert peers_among(made) == tuple(made)[2:]
    assert (made["peer-monai-fp32@4"].backend, made["peer-monai-fp32@4"].batch) == ("peer-monai-fp32", 4)
    assert row_of("peer-monai-fp32") == PEERS["peer-monai-fp32"]
    assert [row_of("peer-nnunet", device).precision for device in ("cpu", "cuda:1")] == ["fp32", "fp16"]
    assert row_of("peer-script", "cuda") == PEERS["peer-script"]


def test_a_peer_without_its_package_is_skipped_with_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setattr("engines.probe.find_spec", lambda name: None)
    for name, package in (("peer-monai-amp", "monai"), ("peer-nnunet", "nnunetv2")):
        availability = engines.load(name, PEERS[name]).probe(target_of(tmp_path))
        assert (availability.ok, availability.reason) == (False, f"the package {package} is not installed")
        assert "[peers]" in availability.fix
    assert engines.load("peer-script", PEERS["peer-script"]).probe(target_of(tmp_path)).ok


@pytest.mark.parametrize(("protocol", "roi"), [("center-patch", "none"), ("sliding-window", "body")])
def test_peers_tile_whole_volumes_only(protocol, roi):
    with pytest.raises(InputError, match=r"peer-script would run with .*--roi none only: choose these"):
        refuse_setting(["peer-script"], protocol, roi)
    refuse_setting([], protocol, roi)
    refused = Request(backends="peer-script", device="cpu", protocol=protocol, roi=roi)
    with pytest.raises(InputError, match="peer-script"):
        make_plan(refused, "", "", PlainProgress(StringIO()))


def test_a_peer_refuses_a_network_that_it_would_run_otherwise():
    settings = InferenceSettings(
        protocol="sliding-window", tile=(64, 64, 64), overlap=0.5, batch=2, roi="none", window=(-1000, 1000)
    )
    monai, nnunet, script = (PEERS[name] for name in ("peer-monai-fp32", "peer-nnunet", "peer-script"))
    assert [incompatible_reason(peer, settings, 2) for peer in (monai, nnunet, script)] == [None] * 3
    assert incompatible_reason(monai, settings, 4) is None
    assert "one tile in a pass, and not 4" in incompatible_reason(script, settings, 4).reason
    planned = replace(settings, plans=Plans({}, {}, "3d_fullres"))
    assert [incompatible_reason(peer, planned, 2) is None for peer in (monai, nnunet, script)] == [False, True, False]
    swapped = replace(settings, labels=(0, 2, 1))
    assert all("labels are 0, 2, 1" in incompatible_reason(peer, swapped, 2).reason for peer in (monai, nnunet, script))
    assert incompatible_reason(engines.BACKENDS["torch-fp32"], swapped, 4) is None
    painted = replace(settings, painting=(0, 2, 1))
    assert [incompatible_reason(peer, painted, 2) is None for peer in (monai, nnunet, script)] == [True, False, True]


def test_a_run_with_a_peer(bench, monkeypatch):
    """Timed beside the others, with its times, its accuracy and a section of its own; never what the claim is about."""
    monkeypatch.setitem(engines.BACKENDS, "plain", engines.BACKENDS["torch-fp32"])
    code, summary, _ = bench("--backends", "plain,peer-script", "--rounds", "1", "--require", "peer-script")
    assert code in (1, 3), "the baseline against itself"
    assert summary["subject"] in (None, "plain")
    row = next(entry for entry in summary["variants"] if entry["name"] == "peer-script")
    assert (row["status"], row["is_peer"], row["verdict"], row["cases"]) == ("ok", True, None, 5)
    assert row["accuracy"]["voxel_disagreement"] <= 1e-4
    assert row["accuracy"]["class_flips"] == 0
    assert row["evidence"]["mac_share"] == {"fp32": 1.0}
    assert [(peer["name"], peer["voxel_disagreement"]) for peer in summary["peers"]["times"]] == [
        ("peer-script", row["accuracy"]["voxel_disagreement"])
    ]
    assert "## Against what is run today" in Path("run/report.md").read_text()
    assert main(["check", "run", "--variant", "peer-script"]) == 2
