"""The files that go along with a run into a tracker's store."""

from reports.records.store import RUN_FILE, Run
from reports.render import render
from reports.render.csv_tables import cases_csv
from reports.summary.summary import Summary


def documents(run: Run, summary: Summary) -> dict[str, bytes]:
    """Reports for people and programs, the table of timed cases and the run's own record, by file name."""
    forms = {"report.md": "markdown", "report.html": "html", "report.json": "json"}
    texts = {name: render(summary, form) for name, form in forms.items()} | {"cases.csv": cases_csv(run)}
    files = {name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()}
    return files | ({} if run.folder is None else {RUN_FILE: (run.folder / RUN_FILE).read_bytes()})
