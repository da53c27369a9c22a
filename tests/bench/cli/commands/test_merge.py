"""The lines of the page on many machines, each as its scheduler calls it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from bench.cli.options import parser

PAGE = Path(__file__).parents[4] / "docs/how-to/many-machines.md"
QUOTED = re.compile(r"'([^'\n]*\bbench (?:predict|run|merge) [^'\n]*)'")
LINES = QUOTED.findall(PAGE.read_text(encoding="utf-8"))
VARIABLES = {"SLURM_ARRAY_TASK_ID": 1, "LSB_JOBINDEX": 1, "JOB_COMPLETION_INDEX": 0}
"""What tells a task its number, and the first that it has."""


def called(line: str, folder: Path, **environment: object) -> list[str]:
    """What `bench` is called with by a shell."""
    program = folder / "bench"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    variables = {name: str(value) for name, value in environment.items()}
    variables["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, env=variables, text=True, capture_output=True, check=True
    ).stdout.splitlines()


def test_the_page_has_a_line_for_each_scheduler() -> None:
    assert {name for name in VARIABLES if any(name in line for line in LINES)} == VARIABLES.keys()


@pytest.mark.parametrize("line", [line for line in LINES if "merge" not in line])
def test_eight_tasks_are_eight_shards_in_folders_of_their_own(line: str, tmp_path: Path) -> None:
    (variable,) = [name for name in VARIABLES if name in line]
    options = [
        parser().parse_args(called(line, tmp_path, **{variable: VARIABLES[variable] + task})) for task in range(8)
    ]
    assert [str(each.shard) for each in options] == [f"{number}/8" for number in range(1, 9)]
    assert [each.out.name for each in options] == list("12345678")


@pytest.mark.parametrize("line", dict.fromkeys(line for line in LINES if "merge" in line))
def test_all_folders_are_merged(line: str, tmp_path: Path) -> None:
    for number in range(1, 9):
        (tmp_path / "shards" / str(number)).mkdir(parents=True)
    options = parser().parse_args(called(line, tmp_path))
    assert [folder.name for folder in options.folders] == list("12345678")
    assert options.out.name not in [folder.name for folder in options.folders]
