"""A run where folders are as they are in the field: odd names, a current folder without leave, a disk that fills up."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib

from bench.cli.main import main
from bench.schedule.fleet import Fleet
from bench.worker.messages import Broke
from reports.records.record import INTERRUPTED
from reports.records.store import read_run, samples_path, variant_path, write_json
from tests.bench.run_files import read_samples

NAMES = [b"\xff\xfe", "Fälle | 'a' \"b\" `c`, *d*".encode(), b"two\nlines", b"-o"]


def test_names_of_files_may_be_any(bench, data, tmp_path):
    """Also in a current folder where `runs` cannot be made: --out says where everything goes."""
    folder = tmp_path / "data" / "validation" / "subtype0"
    folder.mkdir(parents=True)
    cases = sorted((data / "validation" / "subtype0").glob("*_0000.nii.gz"))
    for name, image in zip(map(os.fsdecode, NAMES), cases, strict=False):
        shutil.copy(image, folder / f"{name}_0000.nii.gz")
        shutil.copy(image.with_name(image.name.replace("_0000", "")), folder / f"{name}.nii.gz")
    (tmp_path / "runs").write_text("")
    out = os.fsdecode(b"a run \xff")
    code, _, printed = bench("--backends", "torch-fp32", "--rounds", "1", "--data", "data", "--out", out)
    assert code == 3, printed
    assert "runs/latest does not lead to this run (File exists)" in printed
    run = read_run(Path(out))
    assert sorted(os.fsencode(case.name) for case in run.record.cases) == sorted(NAMES)
    assert {score.case for score in run.variants[0].scores} == {case.name for case in run.record.cases}
    for case in run.record.cases:
        nib.load(Path(out) / "predictions" / "torch-fp32" / f"{case.name}.nii.gz").get_fdata()
    for kind in ("markdown", "html", "json", "csv", "junit"):
        assert main(["report", out, "--format", kind, "--out", "report"]) == 0
        Path("report").read_text(encoding="utf-8")


def test_a_full_disk_and_a_power_cut_leave_a_run_that_can_be_finished(bench, monkeypatch):
    predict, asked = Fleet.predict, []

    def full(self, *arguments):
        asked.append(arguments)
        if len(asked) == 9:
            return Broke("StorageError: x.nii.gz: cannot be written (No space left on device); make room", no_room=True)
        return predict(self, *arguments)

    monkeypatch.setattr(Fleet, "predict", full)
    options = ("--backends", "torch-fp32,torch-fp32", "--rounds", "1")
    code, summary, printed = bench(*options)
    assert code == 2
    assert "make room, then go on with: bench run --resume --out run\n" in printed
    assert {row["status"] for row in summary["variants"]} == {"ok"}, "no backend is to blame"

    assert main(["run", "--resume", "--out", "run"]) in (1, 3)
    run = read_run(Path("run"))
    write_json(Path("run/run.json"), replace(run.record, status=INTERRUPTED))
    cases = [case.name for case in run.record.cases]
    masks = [Path("run/predictions/torch-fp32") / f"{case}.nii.gz" for case in cases]
    masks[0].write_bytes(b"")
    masks[1].write_bytes(masks[1].read_bytes()[:50])
    variant_path(Path("run"), "torch-fp32#2").write_bytes(b"")
    samples_path(Path("run"), "torch-fp32#2").write_bytes(bytes(100))
    assert main(["run", "--resume", "--out", "run"]) in (1, 3)
    for name in ("torch-fp32", "torch-fp32#2"):
        timed = [sample["case"] for sample in read_samples(name) if sample["phase"] == "interleaved"]
        assert sorted(timed) == sorted(cases)
    assert json.loads(Path("run/run.json").read_text())["status"] == "complete"
    assert len({mask.read_bytes()[:3] for mask in masks}) == 1
