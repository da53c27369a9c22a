"""Records to files and back."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from reports.records.record import INTERRUPTED, PENDING, EvidenceRecord
from reports.records.store import (
    RecordError,
    Run,
    append_samples,
    read_run,
    samples_path,
    variant_path,
    write_json,
    write_run,
)
from reports.summary.summarise import summarise
from tests.reports.factory import Candidate, make_run, variant


@pytest.fixture
def run() -> Run:
    return make_run({"torch-fp32#2": Candidate(1.0), "openvino-int8": Candidate(5.0, flips=1)})


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    write_run(tmp_path, run)
    return tmp_path


def test_a_run_survives_the_round_trip(run: Run, folder: Path) -> None:
    read = read_run(folder)
    assert read.record == run.record
    assert read.variants == run.variants
    assert read.folder == folder


def test_a_variant_without_a_file_is_pending_unless_the_run_is_complete(run: Run, folder: Path) -> None:
    path = variant_path(folder, "openvino-int8")
    path.unlink()
    with pytest.raises(RecordError, match="not there, though the run is complete; copy the whole folder") as caught:
        read_run(folder)
    assert str(caught.value).startswith(str(path))
    write_run(folder, replace(run, record=replace(run.record, status=INTERRUPTED)))
    path.unlink()
    assert read_run(folder).variant("openvino-int8") == variant("openvino-int8", PENDING)


def test_nothing_but_the_documents_is_left_behind(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == {"run.json", "variants", "samples"}


def test_a_failed_write_keeps_the_old_document(run: Run, folder: Path) -> None:
    path = variant_path(folder, "openvino-int8")
    before = path.read_bytes()
    with pytest.raises(TypeError, match="set"):
        write_json(path, replace(run.variants[2], evidence=EvidenceRecord("CPU", {}, {"layers": {1, 2}})))
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 3


def test_read_only_mappings_and_values_that_are_not_finite(run: Run, folder: Path) -> None:
    details = MappingProxyType({"peak": float("nan"), "list": [float("inf"), 1.0]})
    odd = replace(run.variants[2], evidence=EvidenceRecord("CPU", {}, details))
    path = variant_path(folder, "openvino-int8")
    write_json(path, odd)
    assert "NaN" not in path.read_text()
    finite = {"peak": None, "list": [None, 1.0]}
    assert read_run(folder).variants[2].evidence == EvidenceRecord("CPU", {}, finite)
    assert json.loads(path.read_text())["evidence"]["details"] == finite


def test_a_last_line_that_was_cut_off_is_left_out_with_a_note(run: Run, folder: Path) -> None:
    path = samples_path(folder, "openvino-int8")
    path.write_bytes(path.read_bytes()[:-10])
    damaged = read_run(folder)
    assert damaged.variants[2].samples == run.variants[2].samples[:-1]
    assert damaged.notes == (f"{path}: the last line was cut off and is left out",)


@pytest.mark.parametrize("left", [b"", bytes(4096)], ids=["nothing", "zero bytes"])
def test_after_a_power_cut_a_run_that_was_not_complete_can_be_read(left: bytes, run: Run, folder: Path) -> None:
    write_json(folder / "run.json", replace(run.record, status=INTERRUPTED))
    lost, cut = variant_path(folder, "openvino-int8"), samples_path(folder, "torch-fp32#2")
    lost.write_bytes(left)
    cut.write_bytes(cut.read_bytes()[:-1] + left)
    damaged = read_run(folder)
    assert damaged.variant("openvino-int8") == variant("openvino-int8", PENDING)
    assert damaged.variant("torch-fp32#2").samples == run.variant("torch-fp32#2").samples[:-1]
    assert damaged.notes == (
        f"{cut}: the last line was cut off and is left out",
        f"{lost}: lost its content and is left out, with its samples",
    )
    assert set(damaged.notes) <= set(summarise(damaged).warnings)


def test_of_a_complete_run_nothing_is_left_out(folder: Path) -> None:
    variant_path(folder, "openvino-int8").write_bytes(b"")
    with pytest.raises(RecordError, match=r"openvino-int8\.json: is empty, as after a power cut"):
        read_run(folder)


def test_names_of_files_that_are_no_text_survive(run: Run, folder: Path) -> None:
    name = os.fsdecode("Fälle ".encode() + b"\xff\xfe")
    case, sample = replace(run.record.cases[0], name=name), replace(run.variants[2].samples[0], case=name)
    write_json(folder / "run.json", replace(run.record, cases=(case, *run.record.cases[1:])))
    append_samples(samples_path(folder, "openvino-int8"), [sample])
    read = read_run(folder)
    assert (read.record.cases[0].name, read.variants[2].samples[-1].case) == (name, name)
    (folder / "run.json").read_text(encoding="utf-8")  # which other programs read as well


def test_a_record_that_is_nested_too_deeply_is_refused(folder: Path) -> None:
    (folder / "run.json").write_text("[" * 100_000)
    with pytest.raises(RecordError, match=r"run\.json: not a JSON document"):
        read_run(folder)


def test_another_line_that_is_no_sample_is_refused(folder: Path) -> None:
    path = samples_path(folder, "openvino-int8")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:40], *lines[2:], ""]))
    with pytest.raises(RecordError, match=r"openvino-int8\.jsonl: line 2: not a JSON document"):
        read_run(folder)
    path.write_text(lines[0].replace('"round": 0', '"round": "first"') + "\n")
    with pytest.raises(RecordError, match='line 1: `round` is "first", which is not what belongs there'):
        read_run(folder)


def test_samples_are_appended(run: Run, folder: Path) -> None:
    path, samples = samples_path(folder, "openvino-int8"), run.variants[2].samples
    append_samples(path, samples[:2])
    assert read_run(folder).variants[2].samples == (*samples, *samples[:2])


def _damage(folder: Path, change: Any) -> RecordError:
    path = folder / "run.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(RecordError) as caught:
        read_run(folder)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert "bench run" in message
    return caught.value


def test_a_missing_field_is_named(folder: Path) -> None:
    assert "`settings.tile` is missing" in str(_damage(folder, lambda d: d["settings"].pop("tile")))


def test_an_unknown_field_is_named(folder: Path) -> None:
    assert "unknown field `colour`" in str(_damage(folder, lambda d: d.update(colour="blue")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["settings"].update(tile=[64, 64]), "`settings.tile` is [64, 64]"),
        (lambda d: d["settings"].update(threads="two"), '`settings.threads` is "two"'),
        (lambda d: d["settings"].update(seed=True), "`settings.seed` is true"),
        (lambda d: d["settings"].update(budget_s=float("nan")), "`settings.budget_s` is NaN"),
        (lambda d: d["cases"][3].update(shape=[1, "x"]), '`cases[3].shape[1]` is "x"'),
        (lambda d: d.update(cases=[5]), "`cases[0]` is 5, not an object"),
        (lambda d: d.update(versions={"torch": 2}), "`versions.torch` is 2"),
        (lambda d: d.update(host=[1] * 40), "`host` is ["),
        (lambda d: d["checkpoint"].update(options=3), "`checkpoint.options` is 3, not an object"),
    ],
)
def test_a_wrong_type_is_named(folder: Path, change: Any, said: str) -> None:
    assert said in str(_damage(folder, change))


@pytest.mark.parametrize("score", ["NaN", "1e999", "-0.1", "1.1", "null"])
def test_a_score_that_is_none_is_refused(folder: Path, score: str) -> None:
    """Rather than left out of a mean."""
    path = variant_path(folder, "torch-fp32")
    path.write_text(re.sub(r'"dsc": [0-9.]+', f'"dsc": {score}', path.read_text(), count=1))
    with pytest.raises(RecordError, match=r"dsc|quiz_0_000 has a mask, and no score of its whole pancreas"):
        read_run(folder)


@pytest.mark.parametrize(
    ("field", "ns", "said"),
    [("case_ns", 0, "a case of 0"), ("case_ns", -5, "a case of -5"), ("forward", -5, "a time of -5"),
     ("cpu_ns", -5, "a time of -5")],
)  # fmt: skip
def test_a_time_that_cannot_be_is_refused(folder: Path, field: str, ns: int, said: str) -> None:
    path = samples_path(folder, "torch-fp32")
    path.write_text(re.sub(rf'"{field}": [0-9]+', f'"{field}": {ns}', path.read_text(), count=1))
    with pytest.raises(RecordError, match=f"line 1: it holds {said} ns"):
        read_run(folder)


def test_another_schema_is_refused(folder: Path) -> None:
    assert "schema 1, while this version reads schema 2" in str(_damage(folder, lambda d: d.update(schema=1)))


def test_a_foreign_document_is_refused(folder: Path) -> None:
    assert "no `schema` number" in str(_damage(folder, lambda d: d.pop("schema")))


@pytest.mark.parametrize("content", [b"", b'{"schema": 2, "id"', b"\xff\xfe\x00", b"[1, 2]"])
def test_what_is_not_a_json_object_is_refused(folder: Path, content: bytes) -> None:
    path = variant_path(folder, "torch-fp32#2")
    path.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read_run(folder)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_under_another_name_is_refused(folder: Path) -> None:
    shutil.copy(variant_path(folder, "torch-fp32"), variant_path(folder, "torch-fp32#2"))
    with pytest.raises(RecordError, match="holds the record of 'torch-fp32'"):
        read_run(folder)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no run\.json here; name a folder"):
        read_run(tmp_path)
