"""Shared by all tests."""

import functools
import gc
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before any library that reads them: three tests run at a time on two cores, and a pool of OpenMP that spins while it
# waits takes the core from the thread that it waits for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")
# Hundreds of worker processes import the same modules; where this is set each would compile them anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Inductor tries its compiler on each of the processor's instruction sets, ten seconds, for each test with a cache anew.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

if TYPE_CHECKING:
    from tests.browser import Chromium, Opener

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Garbage is not looked for while libraries are imported, nor in them later."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


_EXPORTER = "torch.onnx._internal.exporter._registration"


def pytest_runtest_setup() -> None:
    """PyTorch's exporter reads the source of all its operators for each graph: a third of the time of a small one."""
    exporter = sys.modules.get(_EXPORTER)
    if exporter is not None and not hasattr(exporter.ONNXRegistry.from_torchlib, "cache_info"):
        exporter.ONNXRegistry.from_torchlib = staticmethod(functools.cache(exporter.ONNXRegistry.from_torchlib))


MANY_FILES = ("chromium", "run_and_package", "quantized_run")  # fixtures of the session that take long


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist takes note of the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:  # what is made once for many tests is made once in all
        if isinstance(item, pytest.Function) and item.get_closest_marker("xdist_group") is None:
            shared = _shared_by(item)
            if shared:
                item.add_marker(pytest.mark.xdist_group(shared))
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        import torch

        if not torch.cuda.is_available():
            for item in gpu:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and PyTorch finds none"))


def _shared_by(item: pytest.Function) -> str | None:
    """What is to be made once: a fixture of many files, or those of the test's own file for all its tests."""
    for name in MANY_FILES:
        if name in item.fixturenames:
            return name
    file = item.nodeid.partition("::")[0]
    used = item._fixtureinfo.name2fixturedefs
    own = (made for name in item.fixturenames for made in used.get(name, ()) if made.baseid == file)
    return file if any(made.scope != "function" for made in own) else None


@pytest.fixture(scope="session", autouse=True)
def forked_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers that are forks; one folder of exported networks for them all and for all processes of pytest-xdist."""
    from tests.bench import forked

    base = tmp_path_factory.getbasetemp()
    forked.share_exports((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exports")
    with forked.forked_workers():
        yield


@pytest.fixture
def started_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers start as `bench` has them start, for tests about that."""
    from bench.worker import process

    monkeypatch.setattr(process, "subprocess", subprocess)


# Without what takes seconds and is no matter of a script: the device's peak, confirmations, a long warm-up.
QUICK = """
import os, sys
if "bench" in map(os.path.basename, sys.orig_argv):
    from dataclasses import replace
    from bench.schedule import limits
    from tests.bench.forked import forked_workers
    limits.DEFAULT = replace(limits.DEFAULT, peak=False, rounds=1, launches=1, confirmation=False)
    forked = forked_workers()
    forked.__enter__()
"""


@pytest.fixture
def quick_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever process a test starts runs little, and its workers are forks."""
    from tests.bench import forked

    if sys.platform == "linux":
        monkeypatch.setenv(forked.PLACE, forked.place_of_server())
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "sitecustomize.py").write_text(QUICK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "quick"), str(ROOT)]))


@pytest.fixture(scope="session")
def reference_checkpoint() -> Path:
    """A real file of the reference format (width 8)."""
    path = SHARED / "checkpoints" / "best_model_w8.pth"
    if not path.is_file():
        pytest.skip("the reference checkpoint is not beside this checkout")
    return path


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Chromium]":
    """A browser for the tests of a file; other tests look for processes that were left, and stop them."""
    from tests.browser import Chromium, executable

    path = executable()
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    browser = Chromium(path)
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: "Chromium") -> "Iterator[Opener]":
    """Opens pages, `browser.open(path)`, and closes them after the test."""
    with chromium.pages() as opener:
        yield opener
