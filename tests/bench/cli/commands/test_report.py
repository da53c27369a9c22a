"""`bench report` where the format is a folder, and what stands in its way."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.cli.main import main
from reports.records.store import write_run
from tests.reports.factory import Candidate, make_run

TABLES = ["samples.parquet", "scores.parquet", "variants.parquet"]


@pytest.fixture
def run(tmp_path) -> Path:
    write_run(tmp_path / "run", make_run({"openvino-int8": Candidate(5.0)}))
    return tmp_path / "run"


def report(run: Path, *more: object) -> int:
    return main(["report", str(run), *map(str, more)])


def test_a_folder_of_tables_is_made_and_made_anew(run, tmp_path, capsys):
    out = tmp_path / "new" / "tables"
    assert report(run, "--format", "parquet", "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == TABLES
    assert list(pd.read_parquet(out / "variants.parquet")["name"]) == ["torch-fp32", "openvino-int8"]
    (out / "variants.parquet").write_text("damaged")
    assert report(run, "--format", "parquet", "--out", out) == 0
    assert len(pd.read_parquet(out / "variants.parquet")) == 2
    assert capsys.readouterr().out == ""


def test_without_a_folder_it_is_refused(run, capsys):
    assert report(run, "--format", "parquet") == 2
    assert capsys.readouterr().err == (
        "bench: --format parquet writes several files: name a folder for them with --out DIR\n"
    )


def test_a_place_that_cannot_be_written_to_stays_as_it_was(run, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert report(run, "--format", "parquet", "--out", tmp_path / "file") == 2
    assert "file: cannot be written (File exists); choose another folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_table_that_cannot_be_replaced_leaves_no_unfinished_files(run, tmp_path, capsys):
    out = tmp_path / "tables"
    (out / ".scores.parquet.unfinished").mkdir(parents=True)
    assert report(run, "--format", "parquet", "--out", out) == 2
    assert "cannot be written (Is a directory)" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [".scores.parquet.unfinished"]


def test_without_pyarrow_the_line_says_what_to_install(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert report(run, "--format", "parquet", "--out", tmp_path / "tables") == 2
    said = capsys.readouterr().err
    assert "--format parquet is written by pyarrow, which is not installed; in the checkout of voxbench: pip" in said
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize("form", ["verification", "verification-html", "model-card"])
def test_documents_go_to_the_terminal_or_a_file(run, tmp_path, capsys, form):
    assert report(run, "--format", form) == 0
    printed = capsys.readouterr().out
    assert report(run, "--format", form, "--out", tmp_path / "document") == 0
    assert (tmp_path / "document").read_text() == printed
