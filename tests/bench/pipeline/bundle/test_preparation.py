"""Cases through the transforms and the sliding window of MONAI bundles, against MONAI's own evaluator of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import engines
from bench.cli.main import main
from bench.data.volume import read_image
from bench.errors import InputError
from bench.peers import PEERS, incompatible_reason
from bench.pipeline.bundle.preparation import BundlePreprocessor
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.preparation import preparation_of
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.stream import Stream
from engines.base import Target
from models.model import Model, Transforms
from tests.bench.data.headers import save
from tests.bench.pipeline.whole_volume import logits_of
from tests.bundles import BUNDLES, CASES, Evaluator, write, write_case
from tests.loading import load

pytest.importorskip("ignite", reason="pytorch-ignite, which MONAI's evaluators need, is not installed")

# Programs of the network, each in FP32; the others take longer to build than a test may.
BACKENDS = ("torch-fp32", "torchscript", "ort-fp32", "openvino-fp32")
FIRST, SECOND = CASES


def settings_of(model: Model, **changed: Any) -> InferenceSettings:
    return InferenceSettings.of(model, **{"protocol": "sliding-window", "batch": 1, "roi": "none"} | changed)


def target_of(model: Model, cache: Path) -> Target:
    return Target("cpu", model.tile, 1, torch.get_num_threads(), cache, channels=model.channels)


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Model, Any]:
    """A bundle's name, its model, and masks and logits that MONAI's evaluator gives for a case."""
    root = write(tmp_path_factory.mktemp("bundle") / "root", *BUNDLES[request.param]())
    model = load(root)[0]

    def expected(name: str) -> tuple[list[Path], np.ndarray, torch.Tensor]:
        folder = tmp_path_factory.mktemp("case")
        images = write_case(folder / "images", name, model.channels)
        evaluator = Evaluator(root, images, folder / "theirs")
        return images, np.rint(evaluator.mask()), evaluator.logits()

    theirs = {name: expected(name) for name in CASES}
    return request.param, model, theirs


@pytest.mark.parametrize(("name", "batch"), [(FIRST, 1), (SECOND, 3)])
def test_logits_are_those_of_monais_inferer(bundle, name: str, batch: int) -> None:
    _, model, theirs = bundle
    images, _, logits = theirs[name]
    settings = settings_of(model, batch=batch)
    prepared, _ = preparation_of(settings, torch.device("cpu"))[0].prepare(read_image(images))
    with engines.load("torch-fp32").open(model, replace(target_of(model, images[0].parent), batch=batch)) as session:
        ours = logits_of(session, settings, prepared)
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that a network is exported once for the backends that start from the same graph."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_are_those_of_monais_evaluator(bundle, backend: str, cache: Path, tmp_path: Path) -> None:
    name, model, theirs = bundle
    if name.startswith("the zoo's") and backend != "torch-fp32":
        pytest.skip("its network is that of another bundle here")
    with engines.load(backend).open(model, target_of(model, cache)) as session:
        pipeline = Pipeline(session, settings_of(model))
        for images, expected, _ in theirs.values():
            pipeline.run(images, tmp_path / "ours.nii.gz")
            ours = nib.load(tmp_path / "ours.nii.gz")
            labels = np.asarray(ours.dataobj)
            assert len(np.unique(labels)) > 1, "a mask that says nothing"
            assert (labels != expected).mean() <= (0 if backend == "torch-fp32" else 1e-4)
            np.testing.assert_array_equal(ours.affine, nib.load(images[0]).affine)


def test_cases_that_are_read_ahead(bundle, tmp_path: Path) -> None:
    name, model, theirs = bundle
    if name != "spleen_ct":
        pytest.skip("one bundle that resamples will do")
    cases = [(images, tmp_path / f"{at}.nii.gz") for at, (images, _, _) in enumerate([*theirs.values()] * 3)]
    with engines.load("torch-fp32").open(model, target_of(model, tmp_path)) as session:
        Stream(Pipeline(session, settings_of(model)), read_ahead=2).run(cases)
    for (_, expected, _), (_, mask) in zip([*theirs.values()] * 3, cases, strict=True):
        np.testing.assert_array_equal(np.asarray(nib.load(mask).dataobj), expected)


def test_the_peers_mask_is_that_of_monais_evaluator(bundle, tmp_path: Path) -> None:
    _, model, theirs = bundle
    settings, images = settings_of(model), theirs[SECOND][0]
    with engines.load("", PEERS["peer-monai-fp32"]).open(model, target_of(model, tmp_path)) as session:
        session.case_pipeline(settings).run(images, tmp_path / "peer.nii.gz")
    peers = nib.load(tmp_path / "peer.nii.gz")
    np.testing.assert_array_equal(np.asarray(peers.dataobj).squeeze(), theirs[SECOND][1])
    np.testing.assert_allclose(peers.affine, nib.load(images[0]).affine, atol=1e-5)
    assert incompatible_reason(PEERS["peer-monai-amp"], settings, 1) is None
    assert "prepared by its bundle's transforms" in incompatible_reason(PEERS["peer-script"], settings, 1).reason


MOVING = Transforms(
    preprocessing=(
        ("Orientationd", {"axcodes": "PLS"}),
        ("Spacingd", {"pixdim": [1.5, 1.5, 2.0], "mode": "bilinear", "dtype": "float32"}),
        ("CropForegroundd", {"margin": 2, "k_divisible": [4, 4, 1]}),
        ("SpatialPadd", {"spatial_size": [40, 16, 16]}),
        ("NormalizeIntensityd", {"subtrahend": 90.0, "divisor": 4}),
    ),
    postprocessing=(),
)
PLAIN = InferenceSettings(
    protocol="sliding-window", tile=(16, 16, 16), overlap=0.5, batch=1, roi="none", window=(0, 1), bundle=MOVING
)


def test_labels_go_the_way_of_their_image(tmp_path: Path) -> None:
    """For calibration, whose tiles are chosen by the foreground of the truth."""
    volume = read_image(write_case(tmp_path, SECOND, 1))
    labels = (volume.intensities[0] > 90).astype(np.uint8) * 7
    image, moved = BundlePreprocessor(MOVING, PLAIN).prepare(volume, labels)
    assert image.shape[1:] == moved.shape
    assert set(moved.unique().tolist()) == {0, 7}
    assert ((image[0] > 0) == (moved == 7)).float().mean() > 0.9
    assert image.shape[1] >= 40
    again, _ = BundlePreprocessor(MOVING, PLAIN).prepare(read_image([tmp_path / "case_0000.nii.gz"]))
    assert torch.equal(image, again)


@pytest.mark.parametrize(
    ("affine", "value", "said"),
    [
        (np.diag([1.0, 1, 1, 1]), 0, "its bundle's transforms leave nothing; check the image"),
        (np.diag([9e3, 9e3, 9e3, 1]), 1, "voxels at the bundle's spacing of 1.5 x 1.5 x 2 mm; check the spacing"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_prepared(affine: np.ndarray, value: int, said: str, tmp_path: Path) -> None:
    image = save(tmp_path / "a_0000.nii.gz", np.full((20, 20, 20), value, np.int16), affine)
    crop = replace(MOVING, preprocessing=(("Spacingd", {"pixdim": [1.5, 1.5, 2.0]}), ("CropForegroundd", {})))
    with pytest.raises(InputError) as caught:
        BundlePreprocessor(crop, PLAIN).prepare(read_image([image]))
    assert str(caught.value).startswith(f"{image}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def bench(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limit: Callable[..., None],
) -> Callable[..., Any]:
    limit(launches=1, confirmation=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))

    def run(*options: Any) -> Any:
        return main(["run", "--device", "cpu", "--out", "run", *map(str, options)]), capsys.readouterr()

    return run


def test_a_run_from_end_to_end(bench, tmp_path: Path) -> None:
    """Four channels and three regions, in nnU-Net's layout; the truth is what MONAI's evaluator gives."""
    root = write(tmp_path / "brats", *BUNDLES["brats_mri"]())
    for name, folder in ((FIRST, "Val"), (SECOND, "Tr")):
        images = write_case(tmp_path / "raw" / f"images{folder}", name, 4, folder)
        truth = Evaluator(root, images, tmp_path / folder).mask().astype(np.uint8)
        (tmp_path / "raw" / f"labels{folder}").mkdir()
        mask = nib.Nifti1Image(truth, nib.load(images[0]).affine)
        nib.save(mask, tmp_path / "raw" / f"labels{folder}" / f"{folder}.nii.gz")
    options = ("--checkpoint", root, "--data", tmp_path / "raw", "--threads", 1)
    code, printed = bench(*options, "--backends", "torch-fp32", "--roi", "body")
    assert (code, "the bundle's transforms say how a volume is cropped" in printed.err) == (2, True)
    code, printed = bench(*options, "--backends", "torch-fp32", "--protocol", "center-patch")
    assert (code, "the bundle's inferer says how a volume is tiled" in printed.err) == (2, True)
    assert not Path("run").exists()
    _, printed = bench(*options, "--backends", "ort-int8", "--rounds", 1, "--require", "ort-int8")
    assert Path("run/run.json").exists(), printed.err
    record = json.loads(Path("run/run.json").read_text())
    assert record["status"] == "complete", printed.err
    assert record["controlled_settings"]["preparation"] == "the bundle's: NormalizeIntensityd"
    assert record["controlled_settings"]["tile weights"] == "equal, as the bundle's inferer"
    assert (record["settings"]["overlap"], record["settings"]["tile"]) == (0.5, [16, 16, 16])
    (score,) = json.loads(Path("run/variants/torch-fp32.json").read_text())["scores"]
    dsc = {name: of["dsc"] for name, of in score["structures"].items()}
    assert dsc == pytest.approx(dict.fromkeys(("Tumor core", "Whole tumor", "Enhancing tumor"), 1), abs=1e-4)
