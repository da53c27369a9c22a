"""`bench report`: what it prints, what it writes, and what lies beside that."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.main import main
from reports.records.store import RUN_FILE

RUN = Path(__file__).parents[3] / "docs/results/demo-cpu-batch2"
PICTURE = "![Forest plot: what each variant saves of the time of a case]"


@pytest.fixture
def run(tmp_path) -> Path:
    shutil.copytree(RUN, tmp_path / "run")
    for name in ("report.md", "report.svg"):
        (tmp_path / "run" / name).unlink()
    return tmp_path / "run"


def test_what_is_printed_has_no_picture_and_the_runs_own_report_has(run, capsys) -> None:
    assert main(["report", str(run)]) == 0
    printed, written = capsys.readouterr().out, (run / "report.md").read_text(encoding="utf-8")
    assert "](report.svg)" not in printed
    assert written.replace(f"{PICTURE}(report.svg)\n\n", "") == printed
    assert (run / "report.svg").read_text(encoding="utf-8").startswith("<svg ")


def test_a_markdown_file_has_its_picture_beside_it(run, tmp_path, capsys) -> None:
    (tmp_path / "out").mkdir()
    assert main(["report", str(run), "--out", str(tmp_path / "out" / "my report.md")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"my report.md", "my report.svg"}
    assert f"{PICTURE}(my%20report.svg)" in (tmp_path / "out/my report.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == ""


def test_a_run_without_anything_to_draw_has_no_picture(run, capsys) -> None:
    for samples in (run / "samples").iterdir():
        if samples.stem != "torch-fp32":
            samples.write_text("")
    assert main(["report", str(run)]) == 0
    assert not (run / "report.svg").exists()
    assert "](report.svg)" not in (run / "report.md").read_text(encoding="utf-8")


def test_one_screen_holds_the_answer(run, capsys) -> None:
    main(["report", str(run)])
    head, _, rest = capsys.readouterr().out.partition("<details>")
    assert len(head.splitlines()) <= 40
    assert head.startswith("# INCONCLUSIVE: ")
    assert "Claim: a case takes at least 10 % less time than by torch-fp32" in head
    assert "## Variants" in rest


def test_other_formats_write_one_file(run, tmp_path) -> None:
    assert main(["report", str(run), "--format", "html", "--no-images", "--out", str(tmp_path / "page.html")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "run"]
    assert not (run / "report.svg").exists()


def test_charts_are_imported_only_where_they_are_drawn(run) -> None:
    program = (
        "import sys; from bench.cli.main import main; from reports.summary import summarise; import reports.render;"
        f"main(['check', {str(run)!r}]); assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    assert (run / RUN_FILE).is_file()
