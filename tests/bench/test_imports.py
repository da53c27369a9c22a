"""Started in somebody's project, bench runs nothing of it: neither in its own process nor in those that it starts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import demo
from bench.imports import OURS, environment
from bench.worker.process import WorkerProcess
from bench.worker.questions import try_import

pytestmark = pytest.mark.usefixtures("started_workers")

ROOT = str(Path(__file__).parents[2])
LIBRARIES = ("torch", "numpy", "nibabel", "json", "psutil", "pickle", "rich")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """The current folder, with modules of the names that bench imports; each leaves a file where it is run."""
    for name in (*OURS, *LIBRARIES):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"open({str(tmp_path / 'RAN-')!r} + __name__, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(project: Path) -> list[str]:
    return sorted(path.name for path in project.glob("RAN-*"))


@pytest.mark.parametrize("start", [("-m", "bench"), ("-P", "-c", "from bench.cli.main import entry; entry()")])
def test_the_command_runs_nothing_of_the_current_folder(project, start):
    (project / "bench" / "__init__.py").unlink()
    (project / "bench").rmdir()  # with `-m`, Python imports a `bench` of the current folder before any line of ours
    done = subprocess.run(
        [sys.executable, *start, "inspect", demo.CHECKPOINT],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}."}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "PYTHONPATH: relative, and left out: .; give whole paths" in done.stderr
    assert ran(project) == []


@pytest.mark.parametrize("entry", ["", ".", "../project"])
def test_workers_run_nothing_of_the_current_folder(project, entry, monkeypatch):
    """Nor where PYTHONPATH names it by an empty entry, as `$PYTHONPATH:/folder` does, or a relative one."""
    (project / "sitecustomize.py").write_text("open('RAN-sitecustomize', 'w').close()")
    monkeypatch.setenv("PYTHONPATH", f"{entry}{os.pathsep}")
    with WorkerProcess(1) as worker:
        for name in ("models.options", "engines.base", "reports.records.record", *LIBRARIES):
            worker.call(try_import, name, timeout_s=60)
    assert ran(project) == []


def test_workers_take_our_packages_from_beside_bench_also_where_pythonpath_has_others(project, monkeypatch):
    """What a named folder holds beside them is imported: libraries may be unpacked there."""
    (project / "unpacked.py").write_text("")
    for name in LIBRARIES:
        shutil.rmtree(project / name)
    monkeypatch.setenv("PYTHONPATH", str(project))
    with WorkerProcess(1) as worker:
        for name in ("models.options", "engines.base", "reports.records.record", "unpacked"):
            worker.call(try_import, name, timeout_s=60)
    assert ran(project) == []


def test_processes_that_a_library_starts_find_no_code_in_the_current_folder(project, monkeypatch):
    for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, os.pathsep.join(["", "/usr/bin", ".", "relative", "/bin"]))
    monkeypatch.setenv("CPATH", "")
    variables = environment()
    assert {variables[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")} == {"/usr/bin:/bin"}
    assert "CPATH" not in variables
    subprocess.run([sys.executable, "-c", f"import {','.join(LIBRARIES[1:])}"], env=variables, check=True)
    assert ran(project) == []


def test_light_imports_leave_pydicom_for_later():
    """And whoever reads DICOM has it then; the collector of garbage goes on as well."""
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    code = """
import gc, sys
from bench.imports import LightImports
with LightImports():
    import bench.data.volume
    assert not gc.isenabled()
assert gc.isenabled() and "nibabel" in sys.modules and "pydicom" not in sys.modules
from bench.data.dicom import series
from bench.data.dicom.toolkit import library
assert library("pydicom.config", "a file").__name__ == "pydicom.config"
with LightImports():
    import pydicom
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
