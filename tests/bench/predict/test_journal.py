"""The journal: what counts as done, what a kill leaves, and who may write."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import InputError, StorageError
from bench.predict.journal import NAME, Journal
from bench.schedule.run_directory import locked
from bench.worker.lines import FAILED, OK, ImageFile, Line, append
from bench.worker.messages import BatchCase
from tests.bench.schedule.test_run_directory import most_bytes_in_a_file

IDENTITY = {"network": "unet", "weights_sha256": "ab" * 32}
A = BatchCase("a", (ImageFile("/data/a.nii.gz", 10, 5),), "a.nii.gz")
B = BatchCase("b", (ImageFile("/data/b.nii.gz", 20, 6),), "b.nii.gz")


def journal(folder: Path, **changes: str) -> Journal:
    return Journal(folder, IDENTITY | changes, ("benign", "malignant"))


def line(case: BatchCase, status: str = OK, **values: object) -> Line:
    return Line(case=case.name, images=case.images, status=status, mask=case.mask, **values)  # type: ignore[arg-type]


def write(folder: Path, *lines: Line) -> None:
    with journal(folder).opened():
        for each in lines:
            append(folder / NAME, each.encoded())


def sort(folder: Path, *cases: BatchCase) -> tuple[list[str], list[str], list[str]]:
    opened = journal(folder)
    with opened.opened():
        work = opened.sort(cases)
    return [each.case for each in work.done], [each.name for each in work.fresh], [each.name for each in work.failed]


def test_a_case_is_done_where_it_has_a_line_and_a_mask(tmp_path):
    write(tmp_path, line(A), line(B))
    (tmp_path / A.mask).write_bytes(b"mask")
    (tmp_path / f".{B.mask}").write_bytes(b"half a m")
    assert sort(tmp_path, A, B) == (["a"], ["b"], [])
    assert not (tmp_path / f".{B.mask}").exists(), "what a kill has left is gone"
    write(tmp_path, line(B, FAILED, reason="no such file"))
    assert sort(tmp_path, A, B) == (["a"], [], ["b"])


def test_a_changed_image_is_predicted_anew_and_its_old_mask_is_gone_before(tmp_path):
    write(tmp_path, line(A), line(B))
    for case in (A, B):
        (tmp_path / case.mask).write_bytes(b"mask")
    changed = replace(A, images=(replace(A.images[0], mtime_ns=7),))
    assert sort(tmp_path, changed, B) == (["b"], ["a"], [])
    assert [path.name for path in tmp_path.glob("*.gz")] == [B.mask]
    gone = replace(B, images=(ImageFile("/data/b.nii.gz", None, None),))
    assert sort(tmp_path, gone)[0] == ["b"], "an image that was taken away takes nothing along"


def test_a_case_that_fails_keeps_no_mask(tmp_path):
    """Whatever says so: the listing, a worker that broke, a node or a server."""
    write(tmp_path, line(A), line(B))
    for case in (A, B):
        (tmp_path / case.mask).write_bytes(b"mask")
    opened = journal(tmp_path)
    with opened.opened():
        opened.fail(replace(A, mask="a.nrrd"), "a channel is missing")
        assert [(each.case, each.status, each.reason) for each in opened.follow()] == [
            ("a", FAILED, "a channel is missing")
        ]
    assert [path.name for path in tmp_path.glob("*.gz")] == [B.mask]
    (tmp_path / A.mask).write_bytes(b"mask")
    assert sort(tmp_path, A, B) == (["b"], [], ["a"])
    assert [path.name for path in tmp_path.glob("*.gz")] == [B.mask], "one that an earlier call has left"


def test_another_patient_of_the_same_name_is_refused(tmp_path):
    write(tmp_path, line(A))
    (tmp_path / A.mask).write_bytes(b"mask")
    for size in (10, 11):  # of archives the dates are often equal, and the sizes of files that are not packed
        other = replace(A, images=(ImageFile("/other/a.nii.gz", size, 5),))
        with pytest.raises(InputError, match=r"holds the prediction of another file as a \(/data/a\.nii\.gz\)"):
            sort(tmp_path, other)
    assert (tmp_path / A.mask).read_bytes() == b"mask"


@pytest.mark.parametrize("cut", [b'{"case": "b", "ima', b"\0" * 40, b'{"case": "b"\0\0\0\0'])
def test_a_last_line_that_was_cut_counts_as_nothing_and_spoils_no_other(tmp_path, cut):
    write(tmp_path, line(A))
    (tmp_path / A.mask).write_bytes(b"mask")
    with (tmp_path / NAME).open("ab") as file:
        file.write(cut)
    assert sort(tmp_path, A, B) == (["a"], ["b"], [])
    write(tmp_path, line(B))
    (tmp_path / B.mask).write_bytes(b"mask")
    assert sort(tmp_path, A, B) == (["a", "b"], [], [])


@pytest.mark.parametrize("content", [b"", b"\0" * 10, b'{"schema": 1, "voxb', b'{"schema": 1, "voxb\0\0'])
def test_a_journal_whose_first_line_a_kill_cut_off_is_begun_anew(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    assert sort(tmp_path, A) == ([], ["a"], [])
    assert json.loads((tmp_path / NAME).read_bytes())["identity"] == IDENTITY


@pytest.mark.parametrize("content", [b'{"dear": "diary"}', b'{"dear": "diary"}\n{"of": 1945}', b"a\0\0b\n", b"{}\0"])
def test_a_foreign_file_of_that_name_is_left_as_it_is(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(InputError, match="its first line does not say what predicted"), journal(tmp_path).opened():
        pass
    assert (tmp_path / NAME).read_bytes() == content


def test_a_line_is_read_back_as_it_was_written_whatever_the_name(tmp_path):
    name = os.fsdecode(b"case \xff\n")
    case = BatchCase(name, (ImageFile(f"/data/{name}.nii.gz", 10, 5),), f"{name}.nii.gz")
    full = line(case, number=1, class_name="malignant", probabilities=(0.25, 0.75), seconds={"case": 1.5},
                mask_sha256="cd", roi_fallback=False)  # fmt: skip
    write(tmp_path, full)
    opened = journal(tmp_path)
    with opened.opened():
        assert opened.lines == {name: full}
    assert json.loads((tmp_path / NAME).read_bytes().splitlines()[1])["class"] == 1


def test_only_whole_lines_are_followed(tmp_path):
    opened = journal(tmp_path)
    with opened.opened(), (tmp_path / NAME).open("ab") as file:
        encoded = line(A).encoded() + line(B).encoded()
        file.write(encoded[:-20])
        file.flush()
        assert [each.case for each in opened.follow()] == ["a"]
        assert opened.follow() == []
        file.write(encoded[-20:])
        file.flush()
        assert [each.case for each in opened.follow()] == ["b"]


def test_predictions_of_something_else_are_refused(tmp_path):
    with journal(tmp_path, weights_sha256="cd").opened():
        pass
    write(tmp_path, line(A))  # what predicted nothing binds nobody
    with (
        pytest.raises(InputError, match=r"holds predictions of something else \(weights_sha256 is abab.*, here ff\)"),
        journal(tmp_path, weights_sha256="ff").opened(),
    ):
        pass
    (tmp_path / NAME).write_text('{"dear": "diary"}\n')
    with pytest.raises(InputError, match="its first line does not say what predicted"), journal(tmp_path).opened():
        pass
    (tmp_path / NAME).write_text('{"schema": 2, "identity": {}}\n')
    with pytest.raises(InputError, match="schema 2, while this version reads schema 1"), journal(tmp_path).opened():
        pass


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "a.nii.gz").write_text("years of work")
    with pytest.raises(InputError, match=rf"is not empty, and holds no {NAME}"), journal(tmp_path).opened():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created"), journal(tmp_path / "file" / "out").opened():
        pass


def test_one_process_at_a_time(tmp_path, monkeypatch):
    with (
        journal(tmp_path).opened(),
        pytest.raises(InputError, match="another process predicts into this folder"),
        journal(tmp_path).opened(),
    ):
        pass
    monkeypatch.setattr("bench.predict.journal._LAST_BREATH_S", 0.2)
    with (
        locked(tmp_path / NAME, "as a worker holds it"),
        pytest.raises(InputError, match="the worker of an earlier call still writes here"),
        journal(tmp_path).opened(),
    ):
        pass


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path):
    write(tmp_path, line(A))
    before = (tmp_path / NAME).read_bytes()
    with most_bytes_in_a_file(len(before) + 20), pytest.raises(StorageError, match=r"predictions\.jsonl: cannot be"):
        append(tmp_path / NAME, line(B).encoded())
    assert (tmp_path / NAME).read_bytes() == before
