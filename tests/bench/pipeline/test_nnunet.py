"""Cases through nnU-Net's preprocessing, tiles and export, against nnU-Net's own predictor."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from bench.cli.main import main
from bench.data.cases import find_cases
from bench.data.volume import read_space
from bench.errors import InputError, NotFiniteError
from bench.pipeline.nnunet.reader import refuse_unreadable
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from bench.plan.calibration import from_training_cases
from bench.worker.ensemble import EnsembleSession
from models.suppress import suppress_output
from tests.bench.data.headers import pixdim, save
from tests.bench.pipeline.whole_volume import logits_of
from tests.bench.values import VALUES, read_labels
from tests.loading import load
from tests.nnunet import DATASET, architecture, plans, train

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")

TORCH_RESAMPLING = {
    f"resampling_fn_{what}{ending}": value
    for what in ("data", "seg", "probabilities")
    for ending, value in (("", "resample_torch_fornnunet"), ("_kwargs", {"is_seg": what == "seg"}))
}
RESIDUAL = {"architecture": architecture("ResidualEncoderUNet", n_blocks_per_stage=[1, 2, 2])}
SETUPS = {
    "default": (plans(), DATASET),
    "residual, resampled by torch": (plans(**RESIDUAL, **TORCH_RESAMPLING), DATASET),
    "transposed, NibabelIO, z-score": (
        plans(spacing=[1.0, 1.0, 3.0], patch_size=[16, 16, 8], normalization_schemes=["ZScoreNormalization"],
              use_mask_for_norm=[True])
        | {"transpose_forward": [1, 2, 0], "transpose_backward": [2, 0, 1], "image_reader_writer": "NibabelIO"},
        DATASET | {"labels": {"background": 0, "lesion": 1, "pancreas": 2}},
    ),
    "reoriented": (plans() | {"image_reader_writer": "NibabelIOWithReorient"}, DATASET),
}  # fmt: skip

# Shape (x, y, z), mm, and which way the axes point. The plans ask for 1 x 1 x 3 mm and patches of 16 x 16 x 8.
CASES = {
    "as planned": ((30, 28, 12), (1, 1, 3), np.eye(3)),
    "smaller than the patch, flipped": ((40, 13, 9), (0.7, 0.8, 2), np.diag([-1, -1, 1])),
    "few thick slices, oblique": (
        (25, 50, 6),
        (1.3, 0.9, 5),
        Rotation.from_euler("xyz", (12, -7, 20), True).as_matrix(),
    ),
    "axes exchanged, scaled": ((20, 12, 34), (1, 2.5, 1.1), np.array([[0, 0, -1], [1, 0, 0], [0, 1, 0]])),
}


class Module:
    """The network itself as a session."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.infer = module

    def sync(self) -> None:
        pass


class Scaled(torch.nn.Module):
    def __init__(self, network: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, x):
        return self.network(x).abs() * self.factor


def write_case(path: Path, shape, spacing, direction, seed=0) -> Path:
    """Smooth blobs with a border of zeros that nnU-Net crops."""
    rng = np.random.default_rng(seed)
    hu = (gaussian_filter(rng.normal(0, 1, shape), 1.5) * 900 + 80).astype(np.int16)
    hu[:3], hu[:, :1] = 0, 0
    affine = np.eye(4)
    affine[:3, :3] = direction @ np.diag(spacing)
    affine[:3, 3] = (-30.5, 12, 7)
    image = nib.Nifti1Image(hu, affine)
    if seed:
        image.header.set_slope_inter(0.5, -20)
    nib.save(image, path)
    return path


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads cost more than they bring on tiles as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=SETUPS)
def setup(request, tmp_path_factory):
    """Our model, and nnU-Net's predictor, of the same checkpoint."""
    return load_both(train(tmp_path_factory.mktemp("trained"), *SETUPS[request.param]))


def load_both(checkpoint, mirroring=False, folds=(0,)):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    with suppress_output():
        predictor = nnUNetPredictor(0.5, use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(checkpoint.parent.parent), folds, checkpoint.name)
    return load(checkpoint)[0], predictor


def settings_of(model, **changes):
    return InferenceSettings.of(model, **{"protocol": "sliding-window", "batch": 1, "roi": "none"} | changes)


@pytest.mark.parametrize(("name", "batch"), zip(CASES, (1, 3, 1, 2), strict=True))
def test_masks_are_those_of_nnunets_predictor(setup, name, batch, tmp_path):
    model, predictor = setup
    image = write_case(tmp_path / "case_0000.nii.gz", *CASES[name], seed=len(name))
    with suppress_output():
        predictor.predict_from_files_sequential([[str(image)]], [str(tmp_path / "theirs")])
    outcome = Pipeline(Module(model.module), settings_of(model, batch=batch)).run([image], tmp_path / "ours.nii.gz")
    ours, theirs = nib.load(tmp_path / "ours.nii.gz"), nib.load(tmp_path / "theirs.nii.gz")
    expected, labels = np.asarray(theirs.dataobj), np.asarray(ours.dataobj)
    assert len(np.unique(labels)) == 3, "a mask that says nothing"
    assert (labels != expected).mean() <= 1e-4
    np.testing.assert_allclose(theirs.affine, nib.load(image).affine, atol=1e-5)
    np.testing.assert_array_equal(ours.affine, nib.load(image).affine)
    assert ours.header["sform_code"] == nib.load(image).header["sform_code"]
    assert set(outcome.stages_ns) == {"read", "roi", "preprocess", "forward", "stitch", "write"}
    assert all(ns > 0 for ns in outcome.stages_ns.values())
    assert sum(outcome.stages_ns.values()) <= outcome.case_ns
    assert outcome.tiles > 1


def test_logits_are_bit_equal_to_the_predictors(setup):
    model, predictor = setup
    volume = torch.randn(19, 11, 30, generator=torch.Generator().manual_seed(2))
    theirs = predictor.predict_sliding_window_return_logits(volume[None])
    ours = logits_of(Module(model.module), settings_of(model), volume[None])
    assert theirs.shape == ours.shape
    assert torch.equal(ours, theirs)


@pytest.fixture(scope="module")
def folds(tmp_path_factory) -> list[Path]:
    """The checkpoints of three folds of a training."""
    root = tmp_path_factory.mktemp("folds")
    return [train(root, fold=fold) for fold in (0, 1, 2)]


@pytest.mark.parametrize(("name", "batch"), zip(CASES, (1, 2, 8, 3), strict=True))
def test_masks_are_those_of_the_predictor_with_mirroring_and_three_folds(folds, name, batch, tmp_path):
    """Ours go through the folds tile by tile, nnU-Net's one after the other over the whole volume."""
    _, predictor = load_both(folds[0], mirroring=True, folds=(0, 1, 2))
    models = [load(fold)[0] for fold in folds]
    image = write_case(tmp_path / "case_0000.nii.gz", *CASES[name], seed=len(name))
    with suppress_output():
        predictor.predict_from_files_sequential([[str(image)]], [str(tmp_path / "theirs")])
    session = EnsembleSession([Module(model.module) for model in models], apart=True)
    settings = settings_of(models[0], batch=batch, mirror_axes=models[0].mirror_axes, networks=3)
    outcome = Pipeline(session, settings).run([image], tmp_path / "ours.nii.gz")
    plain = Pipeline(Module(models[0].module), settings_of(models[0])).run([image], tmp_path / "plain.nii.gz")
    masks = {name: np.asarray(nib.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("ours", "theirs", "plain")}
    assert len(np.unique(masks["ours"])) == 3, "a mask that says nothing"
    assert (masks["ours"] != masks["theirs"]).mean() <= 1e-4
    assert (masks["ours"] != masks["plain"]).mean() > 0.05, "nothing was averaged"
    assert outcome.tiles == 8 * plain.tiles


def test_logits_of_mirrored_tiles_and_three_folds_are_bit_equal_to_the_predictors(folds):
    models = [load(fold)[0] for fold in folds]
    _, predictor = load_both(folds[0], mirroring=True, folds=(0, 1, 2))
    volume = torch.randn(19, 11, 30, generator=torch.Generator().manual_seed(2))
    theirs = predictor.predict_logits_from_preprocessed_data(volume[None])
    session = EnsembleSession([Module(model.module) for model in models], apart=True)
    ours = logits_of(session, settings_of(models[0], mirror_axes=(0, 1, 2), networks=3), volume[None])
    assert torch.equal(ours, theirs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize(
    ("factor", "reason"),
    [(1e6, "the sums of its tiles' logits overflow float16"), (float("inf"), r"(\d+) of \1 tiles gave logits")],
)
def test_float16_sums_that_overflow_are_refused_as_by_nnunets_predictor(trained, factor, reason, tmp_path):
    model, predictor = load_both(trained)
    image = write_case(tmp_path / "a_0000.nii.gz", *CASES["as planned"])

    def spoiled(x):
        segmentation, classification = model.module(x)
        return segmentation.abs() * factor, classification

    with pytest.raises(NotFiniteError, match=rf"^a_0000\.nii\.gz: {reason}"):
        Pipeline(Module(spoiled), settings_of(model)).run([image], tmp_path / "mask.nii.gz")
    assert not (tmp_path / "mask.nii.gz").exists()
    predictor.network = Scaled(predictor.network, factor)
    with pytest.raises(RuntimeError, match="Encountered inf"), suppress_output():
        predictor.predict_sliding_window_return_logits(torch.rand(1, 12, 28, 30))


def test_images_that_nnunets_reader_cannot_read(trained, tmp_path):
    model, _ = load(trained)
    pipeline = Pipeline(Module(model.module), settings_of(model))
    sheared = write_case(
        tmp_path / "a_0000.nii.gz", (20, 20, 8), (1, 1, 3), np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    )
    for read in (
        lambda: pipeline.run([sheared], tmp_path / "mask.nii.gz"),
        lambda: refuse_unreadable(model.plans, [sheared]),  # before anything starts
    ):
        with pytest.raises(InputError, match=r"nnU-Net's SimpleITKIO cannot read it \(.*\); export it again") as caught:
            read()
        assert "\n" not in str(caught.value)
    huge = write_case(tmp_path / "b_0000.nii.gz", (20, 20, 8), (9e4, 1, 3e3), np.eye(3))
    with pytest.raises(InputError, match=r"voxels at the plans' spacing of 3\.0 x 1\.0 x 1\.0 mm"):
        pipeline.run([huge], tmp_path / "mask.nii.gz")
    assert not (tmp_path / "mask.nii.gz").exists()


def test_the_spacing_is_the_affines_whatever_else_the_header_says(setup, tmp_path):
    """`pixdim` and the qform, by which nnU-Net's readers go, and an axis of length 1 that those by nibabel refuse."""
    pipeline = Pipeline(Module(setup[0].module), settings_of(setup[0]))
    hu = (gaussian_filter(np.random.default_rng(3).normal(0, 1, (24, 22, 10)), 1.5) * 900 + 80).astype(np.int16)
    affine, masks = np.diag([-0.9, -1.2, 2.5, 1.0]), []
    for number, (voxels, fields) in enumerate(
        ((hu, {}), (hu, {"pixdim": pixdim(0.9, 1.2, 5)}), (hu, {"qform_code": 1}), (hu[..., None], {}))
    ):
        image = save(tmp_path / f"{number}_0000.nii.gz", voxels, affine, **fields)
        pipeline.run([image], tmp_path / "mask.nii.gz")
        masks.append(read_labels(tmp_path / "mask.nii.gz", read_space(image)))
    assert len(np.unique(masks[0])) == 3
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_labels_go_the_way_of_the_image_and_back(setup):
    """Of any orientation: a volume read by nnU-Net's reader, and the same numbers as labels."""
    reader = Pipeline(Module(setup[0].module), settings_of(setup[0]))._preprocessor._reader
    for _, spacing, direction in CASES.values():
        affine = np.eye(4)
        affine[:3, :3] = direction @ np.diag(spacing)
        labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
        np.testing.assert_array_equal(reader.as_stored(reader.as_read(labels, affine), affine), labels)


def test_an_image_of_zeros_is_predicted_too(trained, tmp_path):
    model, predictor = load_both(trained)
    nib.save(nib.Nifti1Image(np.zeros((20, 18, 9), np.int16), np.diag([1, 1, 3, 1])), tmp_path / "case_0000.nii.gz")
    with suppress_output():
        predictor.predict_from_files_sequential([[str(tmp_path / "case_0000.nii.gz")]], [str(tmp_path / "theirs")])
    Pipeline(Module(model.module), settings_of(model)).run([tmp_path / "case_0000.nii.gz"], tmp_path / "ours.nii.gz")
    masks = [np.asarray(nib.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("ours", "theirs")]
    np.testing.assert_array_equal(*masks)


def raw_dataset(root: Path) -> Path:
    """nnU-Net's raw layout: two cases to evaluate and two to calibrate on; the truth is a box."""
    for split, seeds in (("Val", (1, 2)), ("Tr", (3, 4))):
        for seed in seeds:
            for kind in ("images", "labels"):
                (root / f"{kind}{split}").mkdir(parents=True, exist_ok=True)
            shape, spacing, direction = list(CASES.values())[seed % 3]
            image = nib.load(
                write_case(root / f"images{split}" / f"case_{seed}_0000.nii.gz", shape, spacing, direction, seed)
            )
            truth = np.zeros(shape, np.uint8)
            truth[8:16, 4:10, 2:5], truth[10:12, 5:7, 3:4] = 1, 2
            nib.save(nib.Nifti1Image(truth, image.affine), root / f"labels{split}" / f"case_{seed}.nii.gz")
    rows = "".join(f"case_{seed}.nii.gz,{seed % 3}\n" for seed in range(1, 5))
    (root / "classes.csv").write_text("Names,Subtype\n" + rows)
    return root


def test_calibration_tiles_are_prepared_by_the_plans(trained, tmp_path):
    model, predictor = load_both(trained)
    _, evaluated = find_cases(raw_dataset(tmp_path), "validation")
    chosen, names = from_training_cases(tmp_path, evaluated, settings_of(model), VALUES)
    tiles = chosen.tiles()
    assert names == ["case_3", "case_4"]
    assert tiles.shape == (4, 1, *model.tile)
    with suppress_output():
        data, _, _ = predictor.configuration_manager.preprocessor_class(verbose=False).run_case(
            [str(tmp_path / "imagesTr" / "case_3_0000.nii.gz")], None, predictor.plans_manager,
            predictor.configuration_manager, predictor.dataset_json,
        )  # fmt: skip
    values = set(np.unique(data))
    assert {float(v) for v in tiles[:2].flatten()} <= {*map(float, values), 0.0}, "0 is padding"


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys, limit):
    limit(launches=1, confirmation=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))

    def run(*options):
        return main(["run", "--device", "cpu", "--out", "run", *map(str, options)]), capsys.readouterr()

    return run


def test_a_run_from_end_to_end(bench, trained, tmp_path):
    data = raw_dataset(tmp_path / "raw")
    _, printed = bench(
        "--checkpoint", trained, "--data", data, "--backends", "torch-fp32,ort-fp32", "--rounds", 2, "--threads", 1,
        "--require", "ort-fp32",
    )  # fmt: skip
    assert "Traceback" not in printed.out + printed.err
    assert "nnUNet_raw" not in printed.out + printed.err
    _, predictor = load_both(trained)
    record = json.loads(Path("run/run.json").read_text())
    assert record["status"] == "complete", printed.err
    assert record["checkpoint"]["architecture"] == "nnunet-PlainConvUNet"
    assert record["controlled_settings"]["accumulation"] == "float16, as nnU-Net's predictor"
    plans_say = "by nnU-Net's plans (3d_fullres), with functions equal to its own"
    assert record["controlled_settings"]["preparation"] == plans_say
    for seed in (1, 2):
        image = data / "imagesVal" / f"case_{seed}_0000.nii.gz"
        with suppress_output():
            predictor.predict_from_files_sequential([[str(image)]], [str(tmp_path / "theirs")])
        theirs = np.asarray(nib.load(tmp_path / "theirs.nii.gz").dataobj)
        for backend in ("torch-fp32", "ort-fp32"):
            mask = next(Path("run").rglob(f"{backend}/**/case_{seed}.nii.gz"))
            assert (np.asarray(nib.load(mask).dataobj) != theirs).mean() <= 1e-4, backend


def test_nnunets_own_functions_on_request(bench, trained, tmp_path):
    data = raw_dataset(tmp_path / "raw")
    options = ("--checkpoint", trained, "--data", data, "--backends", "torch-fp32", "--rounds", 1, "--threads", 1)
    masks = []
    for chosen in ("auto", "nnunet"):
        _, printed = bench(*options, "--preprocessing", chosen, "--max-cases", 1)
        settings = json.loads(Path("run/run.json").read_text())["controlled_settings"]
        assert settings["preparation"].endswith("its own functions" if chosen == "nnunet" else "equal to its own")
        (mask,) = Path("run").rglob("torch-fp32/**/case_1.nii.gz")
        masks.append(np.asarray(nib.load(mask).dataobj))
        shutil.rmtree("run")
    assert (masks[0] != masks[1]).mean() <= 1e-4
    code, printed = bench("--data", data, "--preprocessing", "nnunet", "--backends", "torch-fp32")
    assert (code, "the network has no plans of nnU-Net" in printed.err) == (2, True)


def test_what_plans_leave_no_choice_about_is_refused(bench, trained, tmp_path):
    data = raw_dataset(tmp_path / "raw")
    for option, said in (
        (("--roi", "body"), "cropped; use --roi none"),
        (("--protocol", "center-patch"), "tiled; use"),
    ):
        code, printed = bench("--checkpoint", trained, "--data", data, "--backends", "torch-fp32", *option)
        assert code == 2
        assert f"nnU-Net's plans say how a volume is {said}" in printed.err
        assert not Path("run").exists()
    moved = shutil.copytree(trained.parent.parent, tmp_path / "moved")
    (moved / "plans.json").write_text("{}")
    code, printed = bench("--checkpoint", moved / "fold_0" / trained.name, "--data", data)
    assert code == 2
    assert "its nnU-Net plans have no configurations; give plans that nnU-Net wrote" in printed.err


def test_the_truth_of_another_numbering_is_scored_as_what_it_is(bench, tmp_path):
    """Masks that hold 1 for the lesion and 2 for the pancreas, as their dataset.json says."""
    trained = train(tmp_path, plans(), DATASET | {"labels": {"background": 0, "lesion": 1, "pancreas": 2}})
    data = raw_dataset(tmp_path / "raw")
    options = ("--checkpoint", trained, "--data", data, "--backends", "torch-fp32", "--rounds", 1, "--threads", 1)
    code, printed = bench(*options)
    assert code == 2
    assert "no dataset.json says what the values in the masks mean" in printed.err
    shutil.copy(trained.parent.parent / "dataset.json", data)
    bench(*options)
    (predicted,) = {path.parent for path in Path("run").rglob("torch-fp32/**/case_1.nii.gz")}
    scores = {score["case"]: score for score in json.loads(Path("run/variants/torch-fp32.json").read_text())["scores"]}
    for case in ("case_1", "case_2"):
        prediction, truth = (
            np.asarray(nib.load(path).dataobj)
            for path in (predicted / f"{case}.nii.gz", data / "labelsVal" / f"{case}.nii.gz")
        )
        lesion, true = prediction == 1, truth == 1
        dsc = 2 * (lesion & true).sum() / (lesion.sum() + true.sum())
        assert scores[case]["structures"]["lesion"]["dsc"] == pytest.approx(dsc)
