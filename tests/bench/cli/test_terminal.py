"""A run's progress as it looks: in plain lines, and live on a terminal."""

import io
import os

import pytest

from bench.cli import terminal
from bench.progress import Standing

ROWS = (
    Standing("torch-fp32", "5 of 36 cases", 1.0, "reference"),
    Standing("openvino-int8", "5 of 36 cases", 4.61, "kept"),
    Standing("torch-aoti", "built in 22 s", None, ""),
)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_lines_hold_a_table_now_and_then_and_only_where_it_has_changed(clock) -> None:
    shown = io.StringIO()
    progress = terminal.PlainProgress(shown)
    for seconds, rows in ((1, ROWS), (21, ROWS), (22, ROWS[:2]), (50, ROWS), (80, ROWS[:2])):
        clock[0] = seconds
        progress.stand(lambda rows=rows: rows)
    assert shown.getvalue().splitlines() == [
        "  torch-fp32     1.00x  reference  5 of 36 cases",
        "  openvino-int8  4.61x  kept       5 of 36 cases",
        "  torch-aoti                       built in 22 s",
        "  torch-fp32     1.00x  reference  5 of 36 cases",
        "  openvino-int8  4.61x  kept       5 of 36 cases",
    ]


def test_a_terminal_shows_the_table_above_the_bar(capsys) -> None:
    with terminal.LiveProgress() as progress:
        progress.start("round 1", 10)
        progress.stand(lambda: ROWS)
        progress.advance("quiz_0_000 openvino-int8")
        progress.note("[bold]a note[/bold] as it is")
    lines = [line.rstrip() for line in capsys.readouterr().err.splitlines()]
    assert "[bold]a note[/bold] as it is" in lines
    at = lines.index("variant        speedup so far  accuracy   state")
    assert lines[at + 2].split() == ["openvino-int8", "4.61x", "kept", "5", "of", "36", "cases"]
    assert any(line.startswith("round 1 ") and "1/10" in line for line in lines[at:])


def test_which_of_both_depends_on_the_stream() -> None:
    assert isinstance(terminal.progress(io.StringIO()), terminal.PlainProgress)


def test_lines_that_nobody_reads_end_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as closed, terminal.PlainProgress(closed) as progress:
        progress.start("round 1", 10)
        progress.note("a note")
        with pytest.raises(BrokenPipeError):
            closed.write("a line\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), closed.fileno())  # what is left in its buffer
