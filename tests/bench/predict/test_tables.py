"""The tables: a row for each case, columns for the classes there are."""

import csv
import io

from bench.predict.tables import csv_text, entries, probability_columns
from bench.worker.lines import FAILED, OK, ImageFile, Line

IMAGES = (ImageFile("/data/a.nii.gz", 10, 5),)
LINES = [
    Line(case="a", images=IMAGES, status=OK, mask="a.nii.gz", number=1, class_name="grade II", mask_sha256="ab",
         probabilities=(0.25, 0.75), seconds={"read": 0.1, "case": 2.5}),
    Line(case="b", images=IMAGES, status=FAILED, reason="b.nii.gz: damaged, or\ncut short"),
]  # fmt: skip
CLASSES = ("grade I", "grade II")


def rows(classes: tuple[str, ...]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(LINES, classes))))


def test_a_row_for_each_case_with_the_probability_of_each_class():
    a, b = rows(CLASSES)
    assert a == {
        "case": "a", "mask": "a.nii.gz", "class": "1", "class_name": "grade II", "probability_grade_I": "0.25",
        "probability_grade_II": "0.75", "seconds": "2.5", "status": "ok", "reason": "",
    }  # fmt: skip
    assert (b["status"], b["reason"], b["class"], b["probability_grade_I"]) == ("failed", LINES[1].reason, "", "")


def test_without_classes_there_is_nothing_about_them():
    assert list(rows(())[0]) == ["case", "mask", "seconds", "status", "reason"]
    assert not any("class" in key or "probab" in key for entry in entries(LINES, ()) for key in entry)


def test_entries_hold_images_hashes_and_stages():
    a, b = entries(LINES, CLASSES)
    assert a["images"] == [{"path": "/data/a.nii.gz", "size": 10, "mtime_ns": 5}]
    assert (a["mask_sha256"], a["seconds"]["read"]) == ("ab", 0.1)
    assert a["probabilities"][1] == {"class": 1, "name": "grade II", "probability": 0.75}
    assert (b["mask"], b["probabilities"], b["reason"]) == (None, [], LINES[1].reason)


def test_names_of_classes_that_would_be_one_column_are_numbered():
    assert probability_columns(["left-sided", "left sided", "0"]) == [
        "probability_left_sided", "probability_left_sided_2", "probability_0",
    ]  # fmt: skip
