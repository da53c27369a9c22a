"""A small network, cases that it labels, and `bench run` on both."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

from bench import declare as declare_module
from bench import run as run_module
from bench.cli.main import main
from bench.schedule.limits import DEFAULT
from models.networks.unet import MultiTaskUNet, Shape
from tests.bench.written_cases import SIDE, write_cases

CASES = 16  # the fewest on which an unchanged macro-F1 counts
FEW = 5  # what a test runs unless it says otherwise: enough for a claim about time


@pytest.fixture(scope="session")
def network(tmp_path_factory) -> tuple[Path, MultiTaskUNet]:
    """A small checkpoint in the reference format; its random weights, balanced, label some of all three classes.

    Two poolings rather than four: hundreds of tests export and compile it, which takes as long as it has layers.
    """
    torch.manual_seed(3)
    module = MultiTaskUNet(shape=Shape(2, poolings=2)).eval()
    with torch.no_grad():
        module.seg_out.bias -= module(torch.rand(1, 1, SIDE, SIDE, SIDE))[0].mean(dim=(0, 2, 3, 4))
    path = tmp_path_factory.mktemp("checkpoint") / "best_model.pth"
    torch.save({"epoch": 1, "model_state_dict": module.state_dict(), "cls_f1": np.float64(0.5)}, path)
    return path, module


@pytest.fixture(scope="session")
def data(network, tmp_path_factory) -> Path:
    """Cases of one tile each whose truth is what the network says, so that any change of its output costs accuracy."""
    root = tmp_path_factory.mktemp("data")
    write_cases(root / "validation", "quiz_{subtype}", CASES, network[1], seed=0)
    return root


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Any]:
    """A Ray cluster of two nodes of one core."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    from ray.cluster_utils import Cluster

    with (
        pytest.MonkeyPatch.context() as patch,
        TemporaryDirectory(prefix="ray") as short,
    ):  # as names of sockets must be
        patch.setenv("VOXBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("RAY_TMPDIR", "TMPDIR"):
            patch.setenv(name, f"{short}/{name[0]}")
            Path(short, name[0]).mkdir()
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        started.add_node(num_cpus=1)
        yield started
        started.shutdown()


@pytest.fixture
def limit(monkeypatch):
    """Change limits of the runs of a test, e.g. ``limit(launches=3)``."""
    limits = DEFAULT
    functions = [
        (run_module, run_module.run),
        (run_module, run_module.resume),
        (declare_module, declare_module.declare),
    ]

    def change(**changes: object) -> None:
        nonlocal limits
        limits = replace(limits, **changes)
        for module, function in functions:
            monkeypatch.setattr(module, function.__name__, partial(function, limits=limits))

    return change


@pytest.fixture(autouse=True)
def without_peak(monkeypatch):
    """`test_cuda` has the device's peak measured; elsewhere it would only take its seconds in each of many runs."""
    monkeypatch.setattr(run_module, "_peak", lambda *_: {})


@pytest.fixture
def bench(network, data, tmp_path, monkeypatch, capsys, limit):
    """Call `bench run` on the small network, in a folder of its own; gives exit code, summary and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
    monkeypatch.setenv("FAULT", "")
    limit(launches=1, confirmation=False)  # each launch takes seconds; tests of the confirmation ask for it

    def run(*options: str) -> tuple[int, dict, str]:
        most = () if "--max-cases" in options else ("--max-cases", str(FEW))
        where = ("--checkpoint", str(network[0]), "--data", str(data), "--device", "cpu", "--out", "run")
        where += ("--threads", "1")  # another test runs on the other core
        if "--checkpoint" not in options:
            where += ("--tile", f"{SIDE},{SIDE},{SIDE}")
        code = main(["run", *where, *most, *options])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err + printed.out
        if not Path("run/run.json").exists():
            return code, {}, printed.err
        assert main(["report", "run", "--format", "json"]) == 0
        return code, json.loads(capsys.readouterr().out), printed.out + printed.err

    return run
