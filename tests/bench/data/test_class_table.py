"""Class tables as people, Excel and public repositories write them."""

import json

import pytest

from bench.data.class_table import class_of, read_classes
from bench.errors import InputError

ROWS = {"case_000": 0, "case_001": 1, "case_0002_0000": 2}


def table(separator: str, header: str = "Names,Subtype", end: str = "\n") -> str:
    lines = [header, *(f"{name},{value}" for name, value in ROWS.items())]
    return end.join(lines).replace(",", separator) + end


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", table(",").encode()),
        ("a.csv", table(";", end="\r\n").encode("utf-8-sig")),
        ("a.csv", table("\t").encode("utf-16")),
        ("a.tsv", table("\t", "Case ID,class").encode()),
        ("a.csv", b"sep=;\n" + table(";").encode()),
        ("a.csv", table(",").encode() + b",\n  \n,,\n"),
        ("a.csv", b"Subtype;Names\n" + b"".join(f"{v},0;{n}.nii.gz\n".encode() for n, v in ROWS.items())),
        ("a.csv", table(",", "label,name").replace("label,name", "name,label").encode() + b"case_009,\n"),
        ("subtype_mapping.json", json.dumps(ROWS | {"case_009": None}).encode()),
        ("rows.json", json.dumps([{"id": f"images/{n}.nii", "cls": v} for n, v in ROWS.items()]).encode("utf-8-sig")),
    ],
)
def test_tables_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0}, "numTraining": 3}))
    (tmp_path / "other.csv").write_text("slices,dose\n3,4\n")
    assert read_classes(tmp_path) == ROWS


def test_umlauts_of_a_windows_code_page(tmp_path):
    (tmp_path / "a.csv").write_bytes("name;class\nMüller;1\n".encode("cp1252"))
    assert read_classes(tmp_path) == {"Müller": 1}


@pytest.mark.parametrize("value", ["high", "1.5", "nan", "1e999", "0x1", "1;2"])
def test_a_class_that_is_no_whole_number_is_refused(tmp_path, value):
    (tmp_path / "a.csv").write_text(f"name,class\np,{value}\n")
    with pytest.raises(InputError, match=r"a\.csv: class '.*' of case 'p'; expected names and whole numbers from 0"):
        read_classes(tmp_path)


def test_two_classes_of_a_case_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("name,class\np,1\np.nii.gz,1\n")
    assert read_classes(tmp_path) == {"p": 1}
    (tmp_path / "b.json").write_text('{"p": 2}')
    with pytest.raises(InputError, match=r"b\.json: class 2 of p, which has class 1 in .*a\.csv; correct one"):
        read_classes(tmp_path)


def test_an_identifier_may_end_like_an_image():
    names = {"a", "a_0000", "b"}
    classes = {"a_0000": 1, "b_0000": 2}
    assert [class_of(name, classes, names) for name in sorted(names)] == [None, 1, 2]
