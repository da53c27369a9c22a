"""A small run, what `bench export` makes of it for model servers, and both servers."""

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.cli.main import main
from tests.bench.conftest import SIDE
from tests.bench.package.conftest import quick
from tests.bench.serving.servers import Served, mlserver, pytriton, triton, with_python_tiles

CASES = 20  # of concurrent requests
MOST_BYTES = 16 * 2**20  # of a request, so that a test can exceed it
WAITING = 4  # requests that a queue takes here, so that 20 at once meet a full one
VARIANT = "ort-fp32"


@pytest.fixture(scope="session")
def served_run(network, data, tmp_path_factory) -> Path:
    """A run, and in the folders ``triton`` and ``mlserver`` beside it what servers take of one of its variants."""
    root = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        quick(patch)
        patch.setenv("VOXBENCH_CACHE", str(root / "cache"))
        options = ("--checkpoint", network[0], "--data", data, "--tile", f"{SIDE},{SIDE},{SIDE}", "--device", "cpu")
        options += ("--threads", 1, "--rounds", 1, "--max-cases", 2, "--backends", f"torch-fp32,{VARIANT}")
        main(["run", *map(str, options), "--out", "run"])
        for name in ("triton", "mlserver"):
            wanted = ("--variant", VARIANT, "--unproven", "--format", name, "--out", name)
            assert main(["export", "run", *wanted]) == 0
    return root / "run"


@dataclass
class Place:
    """A running server, and what it serves.

    Attributes:
        url: for `bench predict`. model: that runs cases. package: the same one, for `bench predict` without a server.
    """

    name: str
    served: Served
    model: str
    package: Path

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.served.grpc}"


@pytest.fixture(scope="session", params=["triton", "mlserver"])
def place(request, served_run, tmp_path_factory) -> Iterator[Place]:
    """One server after the other, with small limits."""
    if request.param == "triton" and pytriton() is None:
        pytest.skip("nvidia-pytriton is not installed; `make setup` brings it")
    # Not imported: what it and the client generate of one protocol cannot both be in a process.
    if request.param == "mlserver" and importlib.util.find_spec("mlserver") is None:
        pytest.skip("MLServer is not installed: pip install '.[mlserver]'")
    pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
    scratch, root = tmp_path_factory.mktemp(request.param), served_run.parent
    model = f"pancreas-{VARIANT}"
    repository = Path(shutil.copytree(root / request.param, scratch / "repository"))
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("VOXBENCH_CACHE", str(root / "cache"))
        if request.param == "triton":
            with_python_tiles(repository)
            _limit_triton(repository / model / "config.pbtxt")
            served = stack.enter_context(triton(repository, scratch, "--log-verbose", "1"))
        else:
            _limit_mlserver(repository / model / "model-settings.json")
            served = stack.enter_context(mlserver(repository, scratch))
        (package,) = repository.glob("**/package")
        yield Place(request.param, served, model, package)


def _limit_triton(config: Path) -> None:
    text = re.sub(r"max_queue_size: \d+", f"max_queue_size: {WAITING}", config.read_text())
    most = str(MOST_BYTES / 2**30)
    text = re.sub(r'(key: "most_gigabytes" value: \{ string_value: )"\w+"', rf'\1"{most}"', text)
    config.write_text(text)


def _limit_mlserver(settings: Path) -> None:
    held = json.loads(settings.read_text())
    held["parameters"]["extra"] |= {"most_waiting": WAITING, "most_gigabytes": MOST_BYTES / 2**30}
    settings.write_text(json.dumps(held))
