"""What `bench` prints, where the streams are as cron, pipes, full disks and old terminals have them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.main import main
from reports.records.store import write_run
from tests.reports.factory import Candidate, make_run

ENTRY = "from bench.cli.main import entry; entry()"


@pytest.fixture
def run(tmp_path) -> Path:
    write_run(tmp_path / "run", make_run({"openvino-int8": Candidate(5.0)}))
    return tmp_path / "run"


def report(redirected: str, run: Path, **variables: str) -> tuple[int, str, str]:
    shell = f'exec "$0" -c "$1" report "$2" {redirected}'
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable, ENTRY, str(run)],
        env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_terminal_that_lacks_a_character(run):
    path = run / "run.json"
    path.write_text(path.read_text().replace("Example CPU", "µCPU"))
    code, printed, errors = report("", run, PYTHONIOENCODING="ascii")
    assert (code, errors) == (0, "")
    assert "\\xb5CPU" in printed


@pytest.mark.parametrize(
    ("redirected", "code", "errors"),
    [
        ("| head -n 0", 0, ""),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        (">/dev/full", 2, "bench: [Errno 28] No space left on device\n"),
    ],
)
def test_streams_that_are_closed_or_full(redirected, code, errors, run):
    assert report(redirected, run)[::2] == (code, errors)


@pytest.mark.parametrize(("command", "code"), [("report", 0), ("check", 130)])
def test_a_verdict_that_nobody_reads_is_not_confirmed(command, code, run):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-u", "-c", ENTRY, command, str(run)], stdout=writer, stderr=writer)
    os.close(writer)
    assert done.returncode == code


def test_a_run_is_shown_where_nothing_can_be_written(run, capsys):
    (run / "report.md").mkdir()
    assert main(["report", str(run)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("# ")
    assert printed.err.startswith(f"bench: the report is not renewed: {run}/report.md: cannot be written")


def test_a_report_where_no_home_can_be_written(run):
    """Matplotlib would say so in lines of its own, as in a container whose user has no home."""
    assert report("", run, HOME="/proc", XDG_CONFIG_HOME="", XDG_CACHE_HOME="", MPLCONFIGDIR="")[::2] == (0, "")
