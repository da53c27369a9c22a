"""Where the runs of a project lie."""

from pathlib import Path

import pytest

from reports.records.run_folders import run_folders
from reports.records.store import RecordError


def test_runs_are_found_however_deep_and_none_inside_of_another(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "a/variants/inner"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "run.json").touch()
    (tmp_path / "latest").symlink_to("a")
    found = [str(folder.relative_to(tmp_path)) for folder in run_folders(tmp_path, [])]
    assert found == ["a", "b/1", "b/2"]
    assert list(run_folders(tmp_path / "latest", [])) == [tmp_path / "latest"], "a link that was named is followed"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="nowhere: no such folder; name one that holds run directories"):
        list(run_folders(tmp_path / "nowhere", []))
