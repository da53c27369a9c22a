"""Small runs, and what `bench export --format` makes of their variants, each once."""

import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import run as run_module
from bench.cli.main import main
from bench.schedule.limits import DEFAULT
from tests.bench.conftest import SIDE

Export = Callable[..., tuple[Path, dict[str, Any]]]


def small_run(root: Path, *options: object) -> Path:
    """A run of one launch and one round in `root`, with its artefacts in ``root/cache``."""
    root.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("VOXBENCH_CACHE", str(root / "cache"))
        patch.setattr(
            run_module,
            "run",
            partial(run_module.run, limits=replace(DEFAULT, launches=1, peak=False, confirmation=False)),
        )
        main(["run", *map(str, options), "--device", "cpu", "--threads", "1", "--rounds", "1", "--out", "run"])
    assert json.loads((root / "run" / "run.json").read_text())["status"] == "complete"
    return root / "run"


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Export:
    """Export a variant of a run; gives the folder and its ``model.json``, made once for each.

    Beside the folder lies ``printed``, what the terminal showed.
    """
    made: dict[tuple[object, ...], Path] = {}

    def export(run: Path, variant: str, name: str) -> tuple[Path, dict[str, Any]]:
        key = (run, variant, name)
        if key not in made:
            out = tmp_path_factory.mktemp("exported") / "out"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("VOXBENCH_CACHE", str(run.parent / "cache"))
                wanted = ("--variant", variant, "--format", name, "--unproven", "--out", out)
                with (out.parent / "printed").open("w") as file, redirect_stdout(file):
                    assert main(["export", str(run), *map(str, wanted)]) == 0
            made[key] = out
        return made[key], json.loads((made[key] / "model.json").read_text())

    return export


@pytest.fixture(scope="session")
def quantized_run(network, data, tmp_path_factory) -> Path:
    """A run of the INT8 backends, with cases to calibrate on."""
    root = tmp_path_factory.mktemp("quantized")
    for split, numbers in (("validation", (0,)), ("train", (1,))):
        for number in numbers:
            folder = root / "data" / split / f"subtype{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            for ending in ("_0000.nii.gz", ".nii.gz"):
                file = f"quiz_{number % 3}_{number:03}{ending}"
                shutil.copyfile(data / "validation" / f"subtype{number % 3}" / file, folder / file)
    tile = ",".join([str(SIDE)] * 3)
    options = ("--checkpoint", network[0], "--data", root / "data", "--tile", tile)
    return small_run(root, *options, "--baseline", "openvino-int8", "--backends", "ort-int8")
