"""Tables of classes as spreadsheets, editors and scripts write them."""

import json
from pathlib import Path

import pytest

from bench.data.class_table import ClassTables, read_class_tables
from bench.data.remarks import remarks_on_classes
from bench.errors import InputError

CASES = ("case_001", "case_002", "case_003_0000")
EXPECTED = {"case_001": 0, "case_002": 1, "case_003_0000": 2}

TABLES = {
    "commas": ("classes.csv", "Names,Subtype\ncase_001,0\ncase_002,1\ncase_003_0000,2\n"),
    "semicolons": ("classes.csv", "Names;Subtype\ncase_001;0\ncase_002;1,0\ncase_003_0000;2\n"),
    "tabs": ("classes.tsv", "id\tclass\ncase_001\t0\ncase_002\t1\ncase_003_0000\t2\n"),
    "bars, in a text": ("list.txt", "id|class\ncase_001|0\ncase_002|1\ncase_003_0000|2\n"),
    "the class first, blanks last": (
        "c.csv",
        "Subtype,Names\n0,case_001\n1,case_002\n2,case_003_0000\n,\n \n",
    ),
    "blank lines first, Windows": ("c.csv", "\r\n,\r\nname,label\r\ncase_001,0\r\ncase_002,1\r\ncase_003_0000,2\r\n"),
    "quoted, more columns": ("c.csv", '"Name","Age","Class"\n"case_001","5","0"\ncase_002,,1\n"case_003_0000",7,2.0\n'),
    "files": ("c.csv", "file,class\nimagesTr/case_001_0000.nii.gz,0\ncase_002.nii,1\nd\\case_003_0000_0000.nii.gz,2\n"),
    "a line of Excel's": ("c.csv", "sep=;\r\nCase ID;class\r\ncase_001;0\r\ncase_002;1\r\ncase_003_0000;2\r\n"),
    "a mapping": ("subtype_mapping.json", json.dumps(EXPECTED)),
    "records": ("c.json", json.dumps([{"Name": name, "Subtype": str(value)} for name, value in EXPECTED.items()])),
}


@pytest.mark.parametrize("kind", TABLES)
def test_classes_of_all_kinds(kind: str, tmp_path: Path) -> None:
    file, text = TABLES[kind]
    (tmp_path / file).write_text(text, newline="")
    tables = read_class_tables(tmp_path, CASES)
    assert tables.classes == EXPECTED
    assert tables.files == (tmp_path / file,)
    assert not list(remarks_on_classes(dict(tables.classes), tables))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_spreadsheets(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes("Names\tSubtype\nMüller\t2\n".encode(encoding))
    assert read_class_tables(tmp_path, ("Müller",)).classes == {"Müller": 2}


def test_a_whole_name_counts_before_its_endings(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("name,class\na_0000,1\na,2\n")
    assert read_class_tables(tmp_path, ("a", "a_0000")).classes == {"a": 2, "a_0000": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,class\ncase_001,0\ncase_002,high\n", "c.csv: line 3: class 'high' of case_002 is no whole number"),
        ("name,class\ncase_001,1.5\n", "class '1.5' of case_001"),
        ("name,class\ncase_001,-1\n", "class '-1' of case_001"),
        ("name,class\ncase_001,inf\n", "class 'inf' of case_001"),
        ("name,class\ncase_001,nan\n", "class 'nan' of case_001"),
        ("name,class\ncase_001,1e999\n", "class '1e999' of case_001"),
        ("name,class\ncase_001,0x1\n", "class '0x1' of case_001"),
        ("name,class\ncase_001,0\ncase_001.nii.gz,1\n", "c.csv: line 3: gives case_001 class 1, and "),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError) as refused:
        read_class_tables(tmp_path, CASES)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("c.csv", "name,class\ncase_001,low grade\ncase_002,High\ncase_003_0000,1\n"),
        ("c.csv", "name;class\ncase_001;Low_Grade\ncase_002;high\ncase_003_0000;1,0\n"),
        ("c.json", '{"case_001": "low grade", "case_002": "high", "case_003_0000": 1}'),
    ],
)
def test_classes_are_called_by_the_task_s_names(file: str, text: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    classes = {"case_001": 0, "case_002": 1, "case_003_0000": 1}
    assert read_class_tables(tmp_path, CASES, ("low grade", "high")).classes == classes
    assert read_class_tables(tmp_path, CASES, None).classes == {"case_003_0000": 1}
    with pytest.raises(InputError, match="is no whole number from 0, nor one of the task's classes: none, some; corr"):
        read_class_tables(tmp_path, CASES, ("none", "some"))


def test_two_tables_that_disagree_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,class\ncase_001,0\n")
    (tmp_path / "b.json").write_text(json.dumps({"case_001": 1}))
    with pytest.raises(InputError, match=r"b.json: gives case_001 class 1, and \S*a.csv: line 2 class 0"):
        read_class_tables(tmp_path, CASES)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("dataset.json", b'{"labels": {"background": 0}, "numTraining": 5, "file_ending": ".nii.gz"}'),
        ("settings.json", b'{"epochs": 5, "rate": 1}'),
        ("broken.json", b'{"case_001": '),
        ("list.json", b"[1, 2]"),
        ("readme.txt", b"name and class of each case\nare not here\n"),
        ("spacings.csv", b"name,spacing\ncase_001,0.8\n"),
        ("split.csv", b"image,label\nimagesTs/case_001.nii.gz,labelsTs/case_001.nii.gz\n"),
        ("split.json", b'[{"image": "case_001.nii.gz", "label": "labels/case_001.nii.gz"}]'),
        ("boxes.json", b'[{"image": "imagesTr/case_001.nii.gz", "label": [0, 1]}]'),
        ("masks.json", b'[{"image": "imagesTr/case_001.nii.gz", "label": {"liver": "liver.nii.gz"}}]'),
        ("paths.txt", b"/data/case_001.nii.gz " * 10_000),
        ("empty.csv", b""),
        ("noise.csv", bytes(range(256))),
        ("._classes.csv", b"name,class\ncase_001,1\n"),
    ],
)
def test_other_files_are_no_tables(file: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(content)
    tables = read_class_tables(tmp_path, CASES)
    assert (tables.classes, tables.files) == ({}, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name,class\ncase_001,0\ncase_002,\n",
            "c.csv: no class for 2 of 3 cases (case_002, case_003_0000), ",
        ),
        ("name,class\ncase_1,0\ncase_002,1\ncase_003_0000,1\n", "'case_1' there is perhaps case_001, which must be"),
        ("name,class\nCASE_001,0\n", "no class for 3 of 3 cases (case_001, case_002, case_003_0000)"),
    ],
)
def test_cases_without_a_class_are_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(text)
    tables = read_class_tables(tmp_path, CASES)
    (line,) = remarks_on_classes({name: tables.classes.get(name) for name in CASES}, tables)
    assert said in line


def test_a_spreadsheet_is_named(tmp_path: Path) -> None:
    (tmp_path / "classes.xlsx").write_bytes(b"PK")
    tables = read_class_tables(tmp_path, CASES)
    (line,) = remarks_on_classes(dict.fromkeys(CASES), tables)
    assert "(classes.xlsx is not read: save it as CSV); macro-F1 is not measured" in line


def test_a_case_without_a_class_among_folders_that_give_one_is_named():
    (remark,) = remarks_on_classes({"a": 1, "b": None}, ClassTables(classes={}, sources={}))
    assert remark == "names of folders: no class for 1 of 2 cases (b), which do not count in macro-F1"
