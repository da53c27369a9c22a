"""A package of a small run, made once."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bench import run as run_module
from bench.cli.main import main
from bench.package import measure as measure_module
from bench.schedule.limits import DEFAULT
from tests.bench.conftest import SIDE

CASES = 2


def quick(patch: pytest.MonkeyPatch) -> None:
    """Launch each backend of a run once, and do not measure the device's peak."""
    limits = replace(DEFAULT, launches=1, peak=False, confirmation=False)
    patch.setattr(run_module, "run", partial(run_module.run, limits=limits))
    patch.setattr(measure_module, "start", partial(run_module.start, limits=limits))


@pytest.fixture(scope="session")
def run_and_package(network, data, tmp_path_factory) -> tuple[Path, Path]:
    """A run of two variants on a few cases, and the package of one of them, whose accuracy two cases cannot show."""
    root = tmp_path_factory.mktemp("package")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        quick(patch)
        patch.setenv("VOXBENCH_CACHE", str(root / "cache"))
        options = ("--checkpoint", network[0], "--data", data, "--tile", f"{SIDE},{SIDE},{SIDE}", "--device", "cpu")
        options += ("--threads", 1, "--rounds", 1, "--max-cases", CASES, "--backends", "torch-fp32,openvino-fp32")
        main(["run", *map(str, options), "--out", "run"])
        assert main(["export", "run", "--variant", "openvino-fp32", "--unproven", "--out", "package"]) == 0
    return root / "run", root / "package"


@pytest.fixture
def package(run_and_package, tmp_path) -> Path:
    """A copy of it that may be spoilt."""
    return Path(shutil.copytree(run_and_package[1], tmp_path / "package"))


@pytest.fixture
def spoil(package) -> Callable[[Callable[[dict], object]], Path]:
    """Change the document of the package, and of it nothing else."""

    def change(by: Callable[[dict], object]) -> Path:
        path = package / "package.json"
        document = json.loads(path.read_text())
        by(document)
        path.write_text(json.dumps(document))
        return package

    return change


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Call `bench`; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    quick(monkeypatch)

    def call(*options: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*map(str, options)])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return code, printed.out, printed.err

    return call
