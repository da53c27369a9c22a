"""Variants as MONAI bundles, which MONAI's own workflow runs from files to masks."""

import itertools
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import engines
from bench.errors import InputError
from bench.package.formats import monai_bundle
from bench.package.formats.description import Subject, Written
from bench.pipeline.pipeline import Pipeline
from tests.bench.package.formats.conftest import small_run
from tests.bench.package.formats.subjects import BACKEND, subject_of
from tests.bundles import BUNDLES, CASES, Evaluator, write, write_case
from tests.loading import load

pytest.importorskip("ignite", reason="pytorch-ignite, which MONAI's evaluators need, is not installed")

FIRST, SECOND = CASES
ZOO = [name for name in BUNDLES if name.startswith("the zoo's")] or ["spleen_ct", "brats_mri"]  # like them


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI puts a bundle's folder on the path, and its ``models`` would be found there by other tests."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def run_by_monai(bundle: Path, images: list[Path]) -> np.ndarray:
    """The mask that MONAI's workflow of the bundle writes for the only case in its ``images``, on the CPU."""
    from monai.bundle import ConfigWorkflow

    put(images, bundle)
    changed = {"bundle_root": str(bundle), "device": "$torch.device('cpu')"}
    configs = bundle / "configs"
    workflow = ConfigWorkflow(
        str(configs / "inference.json"), str(configs / "metadata.json"), workflow_type="infer", logging_file=False,
        **changed,
    )  # fmt: skip
    logging.disable(logging.INFO)
    try:
        workflow.initialize()
        assert not workflow.check_properties(), "what MONAI's specification asks for and is not there"
        workflow.run()
        workflow.finalize()
    finally:
        logging.disable(logging.NOTSET)
    (written,) = (bundle / "eval").rglob("*.nii.gz")
    return mask_in(written)


def mask_in(file: Path) -> np.ndarray:
    return np.rint(np.asarray(nib.load(file).dataobj).squeeze())


def put(images: list[Path], bundle: Path) -> None:
    """Put the files where the bundle's README says."""
    (bundle / "images").mkdir(exist_ok=True)
    for path in images:
        shutil.copy(path, bundle / "images")


def by_its_readme(bundle: Path) -> subprocess.CompletedProcess[str]:
    """The command that the bundle's README shows, as it stands there."""
    (text,) = [*bundle.glob("docs/voxbench.md"), *bundle.glob("docs/README.md")][:1]
    before, command, _ = text.read_text().split("```")
    assert "`pip install monai fire nibabel pytorch-ignite`" in before, "without which MONAI's command starts nothing"
    python, *arguments = shlex.split(command)
    assert python == "python"
    return subprocess.run([sys.executable, *arguments], cwd=bundle, capture_output=True, text=True)


def verify_network(bundle: Path) -> None:
    """MONAI's check of what the metadata says of the network's input and output, by a pass of noise."""
    from monai.bundle import verify_net_in_out

    configs = bundle / "configs"
    verify_net_in_out(
        net_id="network_def", meta_file=str(configs / "metadata.json"), config_file=str(configs / "inference.json"),
        device="cpu", bundle_root=str(bundle),
    )  # fmt: skip


def written(subject: Subject, folder: Path) -> Written:
    folder.mkdir()
    monai_bundle.refuse(subject)
    return monai_bundle.write(subject, folder)


def our_mask(subject: Subject, images: list[Path], path: Path) -> np.ndarray:
    opening, (model,) = subject.opening, subject.models
    with engines.load(BACKEND).open(model, opening.target) as session:
        Pipeline(session, opening.settings).run(images, path)
    return np.asarray(nib.load(path).dataobj)


def as_it_is(config: dict[str, Any]) -> dict[str, Any]:
    return config


def for_training(config: dict[str, Any]) -> dict[str, Any]:
    """Without what evaluates it, as a user's own script may have it elsewhere."""
    left = {name: value for name, value in config.items() if name not in ("evaluator", "network", "dataset")}
    return left | {"training": "$__import__('os').abort()"}


@pytest.mark.parametrize(
    ("name", "changed", "overlap"),
    [
        ("brats_mri", as_it_is, None),  # four channels, regions that a Lambdad paints
        ("spleen_ct", as_it_is, 0.25),  # another overlap than the bundle's own
        ("pediatric_abdominal_ct", for_training, None),  # crops, resamples, and inverts before its labels
        ("wholeBody_ct", for_training, None),  # inverts labels, by nearest neighbours
        ("brats_mri", for_training, None),
        ("pancreas_ct_dints", as_it_is, None),  # its architecture in a file beside the weights
    ],
)
def test_a_bundle_goes_as_that_bundle(name, changed: Callable[..., Any], overlap, tmp_path):
    config, described = BUNDLES[name]()
    root = write(tmp_path / "bundle", config, described)
    (root / "configs" / "inference.json").write_text(json.dumps(changed(config)))
    (root / "LICENSE").write_text("the zoo's")
    model, _ = load(root)
    subject = subject_of(model, root, tmp_path, **({} if overlap is None else {"overlap": overlap}))
    out = tmp_path / "out"
    said = written(subject, out)
    kept = changed is as_it_is
    assert said.code == kept, "what MONAI runs in it was not read here"
    assert (out / "LICENSE").read_text() == "the zoo's"
    state = torch.load(out / "models" / "model.pt", weights_only=True)
    assert state.keys() == torch.load(root / "models" / "model.pt", weights_only=True).keys()
    verify_network(out)
    images = write_case(tmp_path / "images", SECOND, model.channels)
    mask = run_by_monai(out, images)
    assert len(np.unique(mask)) > 1, "a mask that says nothing"
    np.testing.assert_array_equal(mask, our_mask(subject, images, tmp_path / "ours.nii.gz"))
    again = json.loads((out / "configs" / "inference.json").read_text())
    assert again["network_def"] == config["network_def"]
    assert all(again[key] == config[key] for key in ("preprocessing", "postprocessing", "evaluator") if kept)
    assert str(tmp_path) not in json.dumps(again), "nobody else has this folder"
    assert "abort" not in json.dumps(again)


@pytest.mark.parametrize("name", ZOO)
def test_its_readme_says_how_it_is_run(name, tmp_path):
    """Nothing is changed in what is exported: not the zoo's own lists of cases, nor where masks go."""
    root = write(tmp_path / "bundle", *BUNDLES[name]())
    model, _ = load(root)
    subject = subject_of(model, root, tmp_path)
    written(subject, tmp_path / "out")
    cases = {case: write_case(tmp_path / "cases", case, model.channels, f"pat_{i}") for i, case in enumerate(CASES)}
    for images in cases.values():
        put(images, tmp_path / "out")
    ran = by_its_readme(tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    for i, images in enumerate(cases.values()):
        (theirs,) = (tmp_path / "out" / "eval").rglob(f"pat_{i}_0000*.nii.gz")
        ours = our_mask(subject, images, tmp_path / f"{i}.nii.gz")
        assert len(np.unique(ours)) > 1, "a mask that says nothing"
        np.testing.assert_array_equal(mask_in(theirs), ours)


def test_its_readme_is_utf8_in_any_locale(tmp_path):
    """Python would write it in the letters of an older locale, and not at all what that one lacks."""
    (tmp_path / "docs").mkdir()
    program = (
        "import pathlib, sys; from bench.package.formats.monai_bundle import _write_texts;"
        "_write_texts(pathlib.Path(sys.argv[1]), None, 'R\\xf6ntgen')"
    )
    old = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=old, check=True)
    assert (tmp_path / "docs" / "README.md").read_bytes() == "Röntgen".encode()


@pytest.mark.parametrize(
    ("files", "absent"),
    [
        ([], "NAME_0000.nii.gz"),
        (["a_0000.nii.gz", "a_0001.nii.gz", "a_0003.nii.gz"], "a_0002.nii.gz"),
        (["a_0001.nii", "a_0002.nii", "a_0003.nii"], "a_0000.nii"),
        (["a_t1c.nii.gz", "a_t1n.nii.gz", "a_t2w.nii.gz", "a_t2f.nii.gz"], "a_0000.nii.gz"),
    ],
)
def test_channels_are_told_by_their_numbers(files, absent, tmp_path):
    """A channel that is missing is no reason to take another one in its place."""
    root = write(tmp_path / "bundle", *BUNDLES["brats_mri"]())
    written(subject_of(load(root)[0], root, tmp_path), tmp_path / "out")
    (tmp_path / "out" / "images").mkdir()
    (channel, *_) = write_case(tmp_path / "cases", FIRST, 1)
    for name in files:
        nib.save(nib.load(channel), tmp_path / "out" / "images" / name)
    with pytest.raises(RuntimeError) as raised:
        first_case(tmp_path / "out")
    assert f"images/{absent}" in str(raised.value.__cause__ or raised.value)


@pytest.mark.parametrize(("bundle", "channels"), [("spleen_ct", 1), ("brats_mri", 4)])
def test_two_files_whose_mask_would_have_one_name_are_refused(bundle, channels, tmp_path):
    root = write(tmp_path / "bundle", *BUNDLES[bundle]())
    written(subject_of(load(root)[0], root, tmp_path), tmp_path / "out")
    (tmp_path / "out" / "images").mkdir()
    (channel, *_) = write_case(tmp_path / "cases", FIRST, 1)
    for number, ending in itertools.product(range(channels), (".nii", ".nii.gz")):
        nib.save(nib.load(channel), tmp_path / "out" / "images" / f"a_{number:04}{ending}")
    with pytest.raises(RuntimeError) as raised:
        first_case(tmp_path / "out")
    said = str(raised.value.__cause__ or raised.value)
    assert "images/a_0000.nii beside " in said
    assert "images/a_0000.nii.gz; remove one" in said


def test_another_channel_than_the_networks_is_not_left_out(tmp_path):
    root = write(tmp_path / "bundle", *BUNDLES["brats_mri"]())
    written(subject_of(load(root)[0], root, tmp_path), tmp_path / "out")
    put(write_case(tmp_path / "cases", FIRST, 5), tmp_path / "out")
    assert len(first_case(tmp_path / "out")["image"]) == 5, "which the network then refuses"


def first_case(bundle: Path) -> Any:
    """As MONAI's parser of the bundle's configuration reads it."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    return parser.get_parsed_content("dataset")[0]


def test_a_bundle_of_a_run_gives_the_masks_of_the_run(exported, tmp_path):
    """The zoo's kind of bundle, by way of a run and `bench export`; the truth is what MONAI's evaluator gave."""
    root = write(tmp_path / "bundle", *BUNDLES["prostate_mri"]())
    for name, folder in ((FIRST, "Val"), (SECOND, "Tr")):
        images = write_case(tmp_path / "raw" / f"images{folder}", name, 1, folder)
        truth = Evaluator(root, images, tmp_path / folder).mask().astype(np.uint8)
        (tmp_path / "raw" / f"labels{folder}").mkdir()
        mask = nib.Nifti1Image(truth, nib.load(images[0]).affine)
        nib.save(mask, tmp_path / "raw" / f"labels{folder}" / f"{folder}.nii.gz")
    run = small_run(tmp_path / "at", "--checkpoint", root, "--data", tmp_path / "raw", "--backends", BACKEND)
    folder, said = exported(run, BACKEND, "monai-bundle")
    assert (said["networks"], said["code"], said["proof"]["accuracy"]) == (["models/model.pt"], True, "reference")
    steps = [name for name, _ in said["preparation"]["preprocessing"]]
    assert steps == ["Orientationd", "Spacingd", "ScaleIntensityd", "NormalizeIntensityd"]
    theirs = run_by_monai(folder, [tmp_path / "raw" / "imagesVal" / "Val_0000.nii.gz"])
    ours = np.asarray(nib.load(run / "predictions" / BACKEND / "Val.nii.gz").dataobj)
    assert len(np.unique(ours)) == 3
    np.testing.assert_array_equal(theirs, ours)


def test_any_other_network_goes_as_torchscript(run_and_package, exported, tmp_path):
    run = run_and_package[0]
    folder, said = exported(run, BACKEND, "monai-bundle")
    assert (said["networks"], said["code"]) == (["models/model.ts"], True)
    assert "the class of a case is left out: MONAI's evaluator merges the segmentation only" in said["remarks"]
    verify_network(folder)
    assert "not known to voxbench" in (folder / "LICENSE").read_text()
    case = json.loads((run / "run.json").read_text())["cases"][0]
    theirs = run_by_monai(folder, [Path(case["image"])])
    ours = np.asarray(nib.load(run / "predictions" / BACKEND / f"{case['name']}.nii.gz").dataobj)
    assert len(np.unique(ours)) == 3
    assert (theirs != ours).mean() <= 1e-4


def test_regions_and_labels_of_ones_own(tmp_path):
    """A network of regions that no bundle describes, on a volume shorter than a tile along one axis."""
    root = write(tmp_path / "bundle", *BUNDLES["brats_mri"]())
    model, _ = load(root)
    plain = replace(model, bundle=None, window=(-50.0, 500.0), labels=(7, 3, 9), painting=(1, 0, 2), overlap=0.5)
    weights = Path(shutil.copyfile(root / "models" / "model.pt", tmp_path / "alone.pt"))
    subject = subject_of(plain, weights, tmp_path, batch=1)
    assert written(subject, tmp_path / "regions").code
    images = write_case(tmp_path / "images", FIRST, model.channels)
    mask = run_by_monai(tmp_path / "regions", images)
    assert set(np.unique(mask)) == {0, 7, 9}, "the middle region lies under the others"
    assert (mask != our_mask(subject, images, tmp_path / "ours.nii.gz")).mean() <= 1e-4
    likeliest = replace(subject, models=(replace(plain, painting=None),))
    likeliest = replace(
        likeliest, opening=replace(subject.opening, settings=replace(subject.opening.settings, painting=None))
    )
    written(likeliest, tmp_path / "labels")
    mask = run_by_monai(tmp_path / "labels", images)
    assert len(np.unique(mask)) > 1
    assert set(np.unique(mask)) <= {3, 7, 9}
    assert (mask != our_mask(likeliest, images, tmp_path / "ours.nii.gz")).mean() <= 1e-4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"networks": 2}, "it averages 2 networks"),
        ({"mirror_axes": (0, 1)}, "it mirrors tiles, and MONAI's inferers do not"),
        ({"roi": "body"}, r"it runs on a region of interest \(body\)"),
        ({"protocol": "center-patch"}, "its protocol is center-patch"),
    ],
)
def test_what_monai_cannot_do_is_refused(changed, said, network, tmp_path):
    model, _ = load(network[0])
    with pytest.raises(InputError, match=f"^--format monai-bundle: torch-fp32: {said}.*; use --format package$"):
        monai_bundle.refuse(subject_of(model, network[0], tmp_path, **changed))
