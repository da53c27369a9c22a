"""An error of ours: exit code 70, one line, and a traceback in a file; it must never look like a refuted claim."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench import demo
from bench.cli.exit_codes import MEANINGS
from bench.cli.internal_error import describe
from bench.cli.main import main

LINE = re.compile(
    r"bench: internal error, our fault and not yours: KeyError: 'a bug'; "
    r"its traceback is in (\S+/voxbench-error-\w+\.txt); please report it\n"
)
BREAK_INSPECT = """
import models.inspection
def inspect(*_):
    raise KeyError("a bug")
models.inspection.inspect = inspect
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The temporary folder of this test; the tests of unwritable folders need one of their own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def run_folder(tmp_path, monkeypatch) -> Path:
    """A run that breaks what reads it."""

    def read_run(folder):
        raise KeyError("a bug")

    monkeypatch.setattr("bench.cli.commands.report.read_run", read_run)
    monkeypatch.setattr("bench.cli.commands.check.read_run", read_run)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    return folder


def test_the_process_exits_with_70_and_one_line(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BREAK_INSPECT)
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "bench", "inspect", demo.CHECKPOINT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (70, ""), done.stderr
    written = Path(LINE.fullmatch(done.stderr)[1])
    assert written.parent == tmp_path
    text = written.read_text()
    assert text.startswith(f"bench inspect {demo.CHECKPOINT}\nvoxbench ")
    assert "Traceback (most recent call last)" in text
    assert "sitecustomize.py" in text
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize("password", ["secret", "s/ecret", "s@ecret"])
def test_no_password_of_an_address_is_told(password, tmp_path):
    address = f"postgresql://me:{password}@host/runs"
    said = describe(KeyError(f"no way to {address}"), f"bench log mlflow run --uri {address} --again", [tmp_path])
    (written,) = tmp_path.iterdir()
    assert "bench log mlflow run --uri postgresql://host/runs --again\n" in written.read_text()
    assert "ecret" not in said + written.read_text().replace(Path(__file__).name, "")


@pytest.mark.parametrize("command", ["report", "check"])
def test_the_traceback_goes_into_the_folder_of_the_run(command, run_folder, temporary, capsys):
    assert main([command, str(run_folder)]) == 70
    written = Path(LINE.fullmatch(capsys.readouterr().err)[1])
    assert written.parent == run_folder
    assert written.read_text().count("Traceback") == 1
    assert list(temporary.iterdir()) == []


def test_a_run_that_breaks_has_it_in_its_own_folder(monkeypatch, temporary, tmp_path, capsys):
    def run(request, out, progress):
        made = tmp_path / "runs" / "20260101-000000"
        made.mkdir(parents=True)
        (made / "run.json").write_text("{}")
        (tmp_path / "runs" / "latest").symlink_to(made)
        raise KeyError("a bug")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.run.run", run)
    assert main(["run"]) == 70
    assert Path(LINE.fullmatch(capsys.readouterr().err)[1]).parent == tmp_path / "runs" / "latest"
    monkeypatch.setattr("bench.run.run", lambda *_: {}["a bug"])
    monkeypatch.setattr("bench.cli.main.time.time", lambda: (tmp_path / "runs" / "latest").lstat().st_mtime + 1)
    assert main(["run"]) == 70
    written = Path(LINE.fullmatch(capsys.readouterr().err)[1])
    assert written.parent == temporary, "runs/latest is an earlier run"


def test_a_folder_that_cannot_be_written_is_passed_over(run_folder, temporary, monkeypatch, capsys):
    replace = Path.replace

    def full(self, target):
        if self.parent == run_folder:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    assert main(["report", str(run_folder)]) == 70
    assert Path(LINE.fullmatch(capsys.readouterr().err)[1]).parent == temporary
    assert [path.name for path in run_folder.iterdir()] == ["run.json"], "nothing half-written"


def test_where_nothing_can_be_written_the_line_says_so(run_folder, temporary, monkeypatch, capsys):
    def full(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    assert main(["report", str(run_folder)]) == 70
    printed = capsys.readouterr().err
    assert printed.endswith("KeyError: 'a bug'; its traceback could not be written\n")
    assert printed.count("\n") == 1


def test_an_error_without_a_text_and_a_library_that_exits_are_ours_too(run_folder, temporary, monkeypatch, capsys):
    class SilentError(Exception):
        def __str__(self):
            raise ValueError("no text")

    for error, text in ((SilentError(), "SilentError: <exception str() failed>"), (SystemExit(1), "SystemExit: 1")):

        def read_run(folder, error=error):
            raise error

        monkeypatch.setattr("bench.cli.commands.report.read_run", read_run)
        assert main(["report", str(run_folder)]) == 70
        printed = capsys.readouterr().err
        assert text in printed
        assert printed.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "report", "check", "compare x y", "inspect x", "doctor", "scenario"])
def test_every_command_exits_with_70(command, temporary, monkeypatch, tmp_path, capsys):
    def execute(options):
        raise ZeroDivisionError

    monkeypatch.chdir(tmp_path)
    name = command.split()[0]
    monkeypatch.setattr(f"bench.cli.commands.{'inspection' if name == 'inspect' else name}.execute", execute)
    assert main(command.split()) == 70
    assert "internal error, our fault and not yours: ZeroDivisionError" in capsys.readouterr().err


def test_help_lists_the_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    for code, meaning in MEANINGS.items():
        assert f"\n  {code:<3}  {meaning}\n" in printed
    assert 70 in MEANINGS
