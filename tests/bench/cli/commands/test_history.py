"""`bench history`, and where `bench compare` writes: real run directories through the command line."""

import json
from dataclasses import replace

import pytest

from bench.cli.main import main
from reports.records.store import write_run
from tests.reports.factory import Candidate, make_run

STEP = [2.0, 2.02, 1.99, 2.01, 2.0, 2.02, 1.4, 1.41, 1.39, 1.4, 1.42, 1.4]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Twelve runs, the last six of them slower, a link to one, a broken one and a folder of something else."""
    folder = tmp_path_factory.mktemp("project")
    for number, speedup in enumerate(STEP):
        run = make_run({"x": Candidate(speedup)}, cases=6)
        record = replace(run.record, id=str(number), created=f"2026-01-{number + 1:02d}T00:00:00+00:00")
        write_run(folder / f"commit-{number:02d}", replace(run, record=record))
    (folder / "latest").symlink_to("commit-11")
    (folder / "broken").mkdir()
    (folder / "broken/run.json").write_text("{")
    (folder / "logs").mkdir()
    return folder


def test_all_runs_of_a_project_are_read_and_a_broken_one_is_a_note(project, capsys):
    assert main(["history", str(project), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (document["schema"], document["runs"], document["change_points"]) == (2, 12, 1)
    (series,) = document["series"]
    assert [run["folder"] for run in series["runs"]] == [str(project / f"commit-{i:02d}") for i in range(12)]
    (variant,) = series["variants"]
    assert [(step["before"], step["after"]) for step in variant["change_points"]] == [(5, 6)]
    (note,) = document["notes"]
    assert note.startswith(f"{project}/broken/run.json: not a JSON document")


def test_markdown_goes_to_the_terminal_and_a_page_to_its_file(project, capsys, tmp_path):
    assert main(["history", str(project), str(project / "commit-03")]) == 0, "a run that is named twice counts once"
    printed = capsys.readouterr().out
    assert printed.startswith("# 1 change of a speedup in 12 runs: x fell by ")
    assert "broken" in printed
    assert main(["history", str(project), "--format", "html", "--out", str(tmp_path / "history.html")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "history.html").read_text().startswith("<!DOCTYPE html>")


def test_a_comparison_goes_to_its_file_and_the_exit_code_stays(project, capsys, tmp_path):
    runs = [str(project / "commit-00"), str(project / "commit-11")]
    assert main(["compare", *runs, "--format", "html", "--out", str(tmp_path / "page.html")]) == 1
    assert capsys.readouterr().out == ""
    assert "REGRESSION against" in (tmp_path / "page.html").read_text()


def test_folders_without_runs_are_refused_in_one_line(project, capsys, tmp_path):
    for folders, said in (
        (
            [project / "logs"],
            f"bench: {project}/logs: no run here; name folders in which `bench run` wrote, such as runs\n",
        ),
        ([tmp_path / "x"], f"bench: {tmp_path}/x: no such folder; name one that holds run directories\n"),
    ):
        assert main(["history", *map(str, folders)]) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == ("", said)
    assert main(["history", str(project / "broken")]) == 2
    assert "none of them can be read" in capsys.readouterr().err
