"""The folder of a run where folders are as they are in the field: shared, full, without links."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

import bench.run as bench_run
from bench.errors import InputError, InterruptedRunError, StorageError
from bench.progress import Unshown
from bench.schedule.limits import Limits
from bench.schedule.run_directory import LATEST, RunDirectory, write_text
from reports.records.record import COMPLETE, OK, PENDING
from reports.records.store import RecordError, read_run, samples_path, write_run
from tests.full_disk import most_bytes_in_a_file
from tests.reports.factory import Candidate, make_run


def test_runs_begun_in_the_same_second_have_a_folder_each(tmp_path):
    folders = [RunDirectory.create_new(tmp_path / "runs", "20260101-120000").folder.name for _ in range(3)]
    assert folders == ["20260101-120000", "20260101-120000-2", "20260101-120000-3"]


def test_of_two_runs_in_a_folder_that_is_named_one_is_refused(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    RunDirectory.create(tmp_path / "run")
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(()))  # as the second saw it before the first had begun
    with pytest.raises(InputError, match=r"run: exists and is not empty; continue it with --resume"):
        RunDirectory.create(tmp_path / "run")


@pytest.mark.parametrize("create", [RunDirectory.create, lambda folder: RunDirectory.create_new(folder, "now")])
def test_a_folder_that_cannot_be_made(create, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be created \(Not a directory\); choose .*--out"):
        create(tmp_path / "file" / "run")


def test_one_process_at_a_time_measures_a_run(tmp_path):
    first, second = RunDirectory(tmp_path), RunDirectory(tmp_path)
    with first.locked(), pytest.raises(InputError, match="another process measures this run"), second.locked():
        pass
    with second.locked():
        pass


def test_a_run_is_not_even_read_while_another_process_measures_it(tmp_path):
    """What was read then would lack what is measured until the other one ends, and would be written in its place."""
    run = make_run({"openvino-int8": Candidate(5.0)})
    first = RunDirectory.create(tmp_path / "my  run")
    write_run(first.folder, run)
    (tmp_path / "latest").symlink_to("my  run")
    with first.locked(), pytest.raises(InputError, match=r"run: another process measures this run"):
        bench_run.resume(tmp_path / "latest", Unshown())
    with pytest.raises(InputError, match=r"run: this run is complete") as complete:
        bench_run.resume(tmp_path / "latest", Unshown())
    assert f"see it with `bench report '{first.folder}'`" in str(complete.value)
    with pytest.raises(RecordError, match=r"nothing: no run\.json here"):
        bench_run.resume(tmp_path / "nothing", Unshown())


def test_the_newest_run_is_linked_where_links_can_be_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory.create_new(Path("runs"), "now")
    assert directory.point_latest() is None
    assert LATEST.resolve() == (tmp_path / "runs" / "now").resolve()


def _no_links(self, target):
    raise PermissionError(1, "Operation not permitted")  # what FAT says


@pytest.mark.parametrize("obstacle", ["a file", "a folder", "no links"])
def test_where_no_link_can_be_made_that_is_told_and_no_reason_to_fail(obstacle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    match obstacle:
        case "a file":
            Path("runs").write_text("")
        case "a folder":
            (LATEST / "mine").mkdir(parents=True)
        case "no links":
            monkeypatch.setattr(Path, "symlink_to", _no_links)
    assert RunDirectory(tmp_path / "run").point_latest()
    assert not list(tmp_path.glob("runs/.latest-*"))


def test_a_full_disk_loses_no_sample_that_was_saved(tmp_path):
    run = make_run({"openvino-int8": Candidate(5.0)})
    directory, variant = RunDirectory.create(tmp_path / "a run"), run.variants[1]
    directory.save_run(run.record)
    directory.save_variant(run.variants[0])
    half = len(variant.samples) // 2
    for number in (1, half):
        directory.save_variant(_with_samples(variant, number))
    saved = samples_path(directory.folder, variant.name)
    before = saved.read_bytes()
    with most_bytes_in_a_file(len(before) + 20), pytest.raises(StorageError) as full:
        directory.save_variant(variant)
    assert str(full.value) == (
        f"{saved}: cannot be written (File too large); make room, then go on with: "
        f"bench run --resume --out '{directory.folder}'"
    )
    assert saved.read_bytes() == before
    directory.save_variant(variant)
    assert read_run(directory.folder).variant(variant.name) == variant


def test_nobody_is_led_to_a_temporary_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory.create(tmp_path / "run", temporary=True)
    assert directory.point_latest() is None
    assert not LATEST.parent.exists()
    with (
        most_bytes_in_a_file(10),
        pytest.raises(StorageError, match=r"cannot be written \(File too large\); make room$"),
    ):
        directory.save_run(make_run({"openvino-int8": Candidate(5.0)}).record)


def _with_samples(variant, number):
    return replace(variant, samples=variant.samples[:number])


def test_a_report_on_a_full_disk_leaves_the_old_one(tmp_path):
    path = tmp_path / "report.md"
    write_text(path, "old")
    with most_bytes_in_a_file(10), pytest.raises(StorageError, match=r"report\.md: cannot be written"):
        write_text(path, "new" * 10)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("stopped_by", "said"),
    [
        (KeyboardInterrupt(), "interrupted while the report was written"),
        (StorageError("cases.csv: cannot be written"), "cases.csv: cannot be written"),
    ],
)
def test_a_complete_run_stays_complete_where_its_report_could_not_be_written(
    stopped_by, said, scripted, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = scripted(make_run({"openvino-int8": Candidate(1.0)}, cases=6), rounds=2)
    for name in run.store.records:
        run.store.update(name, status=PENDING)
        run.store.directory.predictions(name).mkdir(parents=True)
    run.store.directory.save_run(run.record)
    write = bench_run.write_documents
    monkeypatch.setattr(bench_run, "write_documents", stop_once(stopped_by, write))
    with pytest.raises(type(stopped_by) if isinstance(stopped_by, StorageError) else InterruptedRunError) as stopped:
        bench_run._measure(run.plan, run.store, Limits(peak=False, confirmation=False), Unshown())
    folder = run.store.directory.folder
    assert str(stopped.value) == f"{said}; the run is complete: see it with `bench report {folder}`"
    assert read_run(folder).record.status == COMPLETE
    assert {each.status for each in read_run(folder).variants} == {OK}
    assert (folder / "report.md").is_file(), "the second try succeeds"


def stop_once(by, otherwise):
    """A function that is stopped the first time, and then does what `otherwise` does."""
    stops = [by]

    def stopped_or_not(*args):
        if stops:
            raise stops.pop()
        otherwise(*args)

    return stopped_or_not


def test_names_that_are_no_text_are_written(tmp_path):
    write_text(tmp_path / "report.md", os.fsdecode(b"case \xff"))
    assert (tmp_path / "report.md").read_text() == r"case \udcff"
