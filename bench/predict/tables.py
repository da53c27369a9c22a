"""What became of the cases, as tables and as a report: for people, spreadsheets and scripts."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.schedule.run_directory import write_text
from bench.worker.lines import Line

SCHEMA = 1
CSV, JSON = "predictions.csv", "predictions.json"


def write_tables(folder: Path, lines: Iterable[Line], classes: Sequence[str]) -> None:
    """Of all cases in the folder, also those of earlier calls.

    Raises:
        StorageError: it cannot be written to.
    """
    shown = sorted(lines, key=lambda line: line.case)
    write_text(folder / CSV, csv_text(shown, classes))
    write_text(folder / JSON, json_text({"classes": list(classes), "cases": entries(shown, classes)}))


def csv_text(lines: Iterable[Line], classes: Sequence[str]) -> str:
    """A row for each case: its mask, class, the probability of each class, seconds from file to file, status, reason.

    Without classes there are no columns for them.
    """
    columns = probability_columns(classes)
    of_class = ["class", "class_name", *columns] if classes else []
    text = io.StringIO()
    writer = csv.DictWriter(text, ["case", "mask", *of_class, "seconds", "status", "reason"], lineterminator="\n")
    writer.writeheader()
    for line in lines:
        cells: dict[str, Any] = {
            "case": line.case, "mask": line.mask, "seconds": line.seconds.get("case"), "status": line.status,
            "reason": line.reason,
        }  # fmt: skip
        if classes:
            cells |= {"class": line.number, "class_name": line.class_name}
            cells |= dict(zip(columns, line.probabilities, strict=False))  # a case that failed has none
        writer.writerow({name: "" if value is None else value for name, value in cells.items()})
    return text.getvalue()


def probability_columns(classes: Sequence[str]) -> list[str]:
    """``probability_NAME`` of each class, by letters, digits and ``_``; names that are equal then get a number."""
    columns = list[str]()
    for name in classes:
        plain = "probability_" + (re.sub(r"\W+", "_", name).strip("_") or "class")
        numbered = (plain if n == 1 else f"{plain}_{n}" for n in range(1, len(classes) + 1))
        columns.append(next(each for each in numbered if each not in columns))
    return columns


def entries(lines: Iterable[Line], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The same for JSON, with the images and the seconds of each stage."""
    return [_entry(line, classes) for line in lines]


def _entry(line: Line, classes: Sequence[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "case": line.case,
        "status": line.status,
        "reason": line.reason,
        "images": [vars(image) for image in line.images],
        "mask": line.mask,
        "mask_sha256": line.mask_sha256,
        "seconds": dict(line.seconds),
        "roi_fallback": line.roi_fallback,
        "written_unix_s": line.written_unix_s,
    }
    if classes:
        named = [{"class": n, "name": name} for n, name in enumerate(classes)]
        likely = zip(named, line.probabilities, strict=False)
        entry |= {
            "class": line.number,
            "class_name": line.class_name,
            "probabilities": [{**which, "probability": value} for which, value in likely],
        }
    return entry


def json_text(document: Mapping[str, Any]) -> str:
    """A document of some kind as text."""
    return json.dumps({"schema": SCHEMA, **document}, indent=1) + "\n"
