"""A variant of a run is exported, verified, and does the same elsewhere as it did in the run."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bench.data.volume import MaskValues, read_mask, read_space
from bench.errors import InputError
from bench.machine import host
from bench.package import golden, measure
from bench.package.document import read_package
from bench.package.opening import _refuse_code, open_package
from bench.package.trial import trial
from bench.package.verify import _machine, _what_ran
from bench.plan.request import Request
from bench.schedule.interleave import Interleaver
from bench.serving.served_model import Options, served
from engines.host import cpu
from reports.records.record import HostRecord
from tests.bench.conftest import SIDE
from tests.bench.package.test_document import list_file


def test_it_gives_the_masks_of_the_run_byte_by_byte(run_and_package, tmp_path):
    run, package = run_and_package
    document = json.loads((run / "run.json").read_text())
    opening = open_package(package, threads=1)
    assert opening.open.target.prebuilt == package / "artefacts"
    with trial(opening.open, 300, tmp_path / "log") as tried:
        assert tried.opened.cached, "what was built came along"
        for case in document["cases"]:
            answer = tried.predict([Path(case["image"])], tmp_path / "mask.nii.gz")
            before = run / "predictions" / "openvino-fp32" / f"{case['name']}.nii.gz"
            assert answer.mask.read_bytes() == before.read_bytes()
    assert opening.task.labels == {"background": 0, "pancreas": 1, "lesion": 2}


def test_others_may_read_it_as_whatever_is_made_anew(run_and_package, tmp_path):
    """A container's user is another one than who exported it, and so is a server's."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    package = run_and_package[1]
    modes = {path.is_dir(): path.stat().st_mode for path in tmp_path.iterdir()}
    assert (package / "artefacts").is_dir()
    assert [path for path in (package, *package.rglob("*")) if path.stat().st_mode != modes[path.is_dir()]] == []


def test_bench_predict_takes_it(run_and_package, bench):
    run, package = run_and_package
    cases = json.loads((run / "run.json").read_text())["cases"]
    images = [case["image"] for case in cases]
    code, out, _ = bench("predict", package, *images, "--out", "masks", "--threads", 1, "--report", "report.json")
    assert code == 0, out
    for case in cases:
        before = run / "predictions" / "openvino-fp32" / f"{case['name']}.nii.gz"
        assert Path("masks", f"{case['name']}.nii.gz").read_bytes() == before.read_bytes()
    assert "package" in json.loads(Path("report.json").read_text())["identity"]
    code, _, err = bench("predict", package, *images, "--variant", "torch-fp32", "--out", "others")
    assert (code, "a package says itself how it is run" in err) == (2, True)


def test_a_dicom_series_gets_a_segmentation_with_the_mask_of_its_nifti(run_and_package, bench, tmp_path):
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    from tests.bench.data.dicom.made import Made

    made, rng = Made(), np.random.default_rng(0)
    stored = rng.integers(0, 2000, (SIDE, SIDE, SIDE)).astype(np.int16)
    made.write(tmp_path / "series", stored)
    image = nib.Nifti1Image(made.values(stored).astype(np.float32), made.affine())
    image.to_filename(tmp_path / "image.nii.gz")
    inputs = ("series", "image.nii.gz")
    code, out, err = bench("predict", run_and_package[1], *inputs, "--out", "masks", "--threads", 1)
    assert code == 0, out + err
    expected = np.asarray(nib.load("masks/image.nii.gz").dataobj)
    values = MaskValues.of(open_package(run_and_package[1]).task)
    back = read_mask(Path("masks/series.dcm"), read_space(tmp_path / "image.nii.gz"), values)
    assert len(np.unique(expected)) > 1
    assert (back == expected).all()


def test_it_says_what_was_proved(run_and_package):
    record = read_package(run_and_package[1])
    assert record.proof.accuracy == "undecided"
    assert not record.proof.proven
    assert record.proof.equal_cases == 1
    assert record.proof.headline.startswith("INCONCLUSIVE: openvino-fp32")
    assert record.baseline.backend == "torch-fp32"
    report = (run_and_package[1] / "proof" / "report.md").read_text()
    assert "openvino-fp32" in report


def test_golden_cases_hold_something(run_and_package):
    record = read_package(run_and_package[1])
    assert len(record.golden) == golden.KEPT
    for case in record.golden:
        labels = np.unique(np.asarray(nib.load(run_and_package[1] / case.mask).dataobj))
        assert len(labels) > 1
        assert case.subtype in (0, 1, 2)


def test_verify_finds_it_in_order(package, bench):
    code, out, _ = bench("verify", package, "--threads", 1)
    assert code == 0, out
    assert "UNPROVEN: the accuracy of openvino-fp32 was undecided" in out
    assert "ok      what ran: multiply-accumulates: 100.0 % fp32" in out
    assert out.count("0 of") == golden.KEPT, "voxels that differ"
    assert out.rstrip().endswith("verified")


def test_it_runs_on_the_threads_of_its_run(package, bench, monkeypatch):
    assert open_package(package).open.target.threads == 1
    record = replace(read_package(package), threads=2)
    monkeypatch.setattr(host, "allowed_cpus", lambda: {0, 1})
    assert measure._of_package(package, record, Request()).threads == 2
    assert measure._of_package(package, record, Request(threads=5)).threads == 5
    code, out, _ = bench("verify", package)
    assert code == 0, out
    assert "ok      machine: the processor, threads and versions that it was made with" in out
    code, out, _ = bench("verify", package, "--threads", 2)
    assert code == 0, out
    assert "note    threads: 2 (made on 1)" in out


def label_a_voxel_otherwise(package: Path, document: dict[str, Any]) -> int:
    """In the first golden mask, whose number of voxels is returned."""
    path = package / document["golden"][0]["mask"]
    mask = nib.load(path)
    voxels = np.asarray(mask.dataobj).copy()
    voxels[0, 0, 0] = (voxels[0, 0, 0] + 1) % 3
    nib.Nifti1Image(voxels, mask.affine, mask.header).to_filename(path)
    list_file(document, document["golden"][0]["mask"], path.read_bytes())
    return int(voxels.size)


@pytest.mark.parametrize("changed", ["mask", "class"])
def test_verify_finds_another_answer(changed, package, bench):
    document = json.loads((package / "package.json").read_text())
    if changed == "class":
        document["golden"][0]["subtype"] = (document["golden"][0]["subtype"] + 1) % 3
    else:
        label_a_voxel_otherwise(package, document)
    (package / "package.json").write_text(json.dumps(document))
    code, out, _ = bench("verify", package, "--threads", 1)
    assert code == 1
    said = "1 of" if changed == "mask" else f"where it was {document['golden'][0]['subtype']}"
    assert said in next(line for line in out.splitlines() if line.startswith("FAILED  golden case 1"))
    assert "NOT verified" in out


def test_a_golden_mask_that_would_take_all_memory_is_refused(package, bench):
    document = json.loads((package / "package.json").read_text())
    path = package / document["golden"][0]["mask"]
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([700, 700, 700], np.int16).tobytes()
    path.write_bytes(gzip.compress(content))
    list_file(document, document["golden"][0]["mask"], path.read_bytes())
    (package / "package.json").write_text(json.dumps(document))
    code, _, err = bench("verify", package, "--threads", 1)
    assert code == 2
    assert f"{path}: a golden case of {700**3} voxels, where a tile has {SIDE**3}; export the package anew" in err


def test_versions_and_processor_are_remarked_on(package, bench):
    document = json.loads((package / "package.json").read_text())
    document["versions"]["openvino"] = "1999.0"
    document["host"]["processor"] = "a processor of another kind"
    document["host"]["cpu_features"] = "AVX9"
    (package / "package.json").write_text(json.dumps(document))
    code, out, _ = bench("verify", package, "--threads", 1)
    assert code == 0
    assert "made on a processor of another kind" in out
    assert "(made with AVX9)" in out
    assert "(made with 1999.0)" in out


@pytest.mark.parametrize(("moved", "passed"), [(0.0168, True), (0.3, False)])
def test_what_runs_in_another_precision_is_said_in_words(moved, passed, package):
    record = read_package(package)
    record = replace(record, evidence=replace(record.evidence, mac_share={"int8": 1 - moved, "bf16": moved}))
    found = _what_ran(record, {"int8": 1 - moved, "fp32": moved})
    assert found.passed is passed
    said = "70.0 % int8, 30.0 % fp32; where it was made 70.0 % int8, 30.0 % bf16. More than 2 % run"
    assert (said in found.text) is not passed


def test_a_precision_that_is_not_here_lets_voxels_differ(package, bench):
    """As the rest of INT8, in BF16 where it was made: so little that it counts as the same."""
    document = json.loads((package / "package.json").read_text())
    document["evidence"]["mac_share"] = {"fp32": 0.985, "bf16": 0.015}
    voxels = label_a_voxel_otherwise(package, document)
    (package / "package.json").write_text(json.dumps(document))
    code, out, _ = bench("verify", package)
    assert (code, f"ok      golden case 1: 1 of {voxels} voxels differ" in out) == (0, True), out


def test_another_gpu_is_remarked_on(monkeypatch):
    """Then its engine is built anew, and a voxel may differ."""
    made_on = HostRecord(processor=cpu.processor(), cores=2, memory_bytes=1, gpu="NVIDIA H100", driver="580.1")
    monkeypatch.setattr(host, "describe", lambda _: replace(made_on, gpu="NVIDIA A100"))
    made_on = replace(made_on, cpu_features=", ".join(cpu.instruction_sets()) or None)
    record = SimpleNamespace(host=made_on, versions={}, settings=SimpleNamespace(threads=None), threads=2)
    (gpu,) = _machine(record, SimpleNamespace(on_cuda=True, device="cuda", threads=2))
    assert (gpu.passed, gpu.text) == (None, "NVIDIA A100, driver 580.1 (made on NVIDIA H100, driver 580.1)")
    assert [finding.passed for finding in _machine(record, SimpleNamespace(on_cuda=False, threads=2))] == [True]
    record.threads = None
    (unknown,) = _machine(record, SimpleNamespace(on_cuda=False, threads=2))
    assert (unknown.passed, unknown.text) == (None, "2 (made on an unknown number)")


def test_with_data_it_is_timed_beside_its_baseline(package, data, bench):
    code, out, _ = bench(
        "verify", package, "--threads", 1, "--data", data, "--max-cases", 2, "--budget", 1, "--out", "report.md"
    )
    assert code == 3, "two cases prove nothing"
    assert "INCONCLUSIVE: package" in out
    report = Path("report.md").read_text()
    assert "torch-fp32" in report
    assert "| package " in report
    assert not Path("runs").exists(), "the run is gone"


def test_an_interrupt_of_what_is_timed_leads_to_no_run(package, data, bench, monkeypatch):
    def interrupted(*_arguments, **_named):
        raise KeyboardInterrupt

    monkeypatch.setattr(Interleaver, "round", interrupted)
    code, _, err = bench("verify", package, "--threads", 1, "--data", data, "--max-cases", 2, "--budget", 1)
    assert (code, err.splitlines()[-1]) == (130, "bench: interrupted")
    assert not Path("runs").exists()


def test_code_comes_along_and_is_run_only_when_asked(network, data, bench):
    options = ("--checkpoint", network[0], "--data", data, "--tile", f"{SIDE},{SIDE},{SIDE}", "--device", "cpu")
    options += ("--threads", 1, "--rounds", 1, "--max-cases", 1, "--backends", "torchscript", "--out", "run")
    bench("run", *options)
    exported = ("export", "run", "--variant", "torchscript", "--unproven")
    code, out, _ = bench(*exported, "--out", "without")
    assert code == 0
    assert "torchscript is code and was left out (--code takes it along)" in out
    assert bench("verify", "without", "--threads", 1)[0] == 0, "it is built anew"
    assert bench(*exported, "--code", "--out", "with")[0] == 0
    assert read_package(Path("with")).code
    code, _, err = bench("verify", "with", "--threads", 1)
    assert (code, "holds built code (torchscript)" in err) == (2, True)
    assert bench("verify", "with", "--threads", 1, "--trust", "with")[0] == 0
    with pytest.raises(InputError, match="the parameter trust of the model"), served(Path("with"), Options()):
        pass
    for name, said in (("triton", 'config.pbtxt to "yes"'), ("mlserver", "model-settings.json to true")):
        code, out, _ = bench(*exported, "--code", "--format", name, "--out", name)
        assert (code, said in out) == (0, True), out


def test_a_choice_of_kernels_is_no_code():
    choice, code = "artefacts/fused-choice-ab/choice.json", "artefacts/aoti-ab/network.pt2"
    _refuse_code(Path("p"), SimpleNamespace(files={choice: ""}), None, "trust it")
    with pytest.raises(InputError, match=r"holds built code \(aoti\)"):
        _refuse_code(Path("p"), SimpleNamespace(files={choice: "", code: ""}), None, "trust it")


def test_what_was_not_shown_is_exported_only_when_asked(run_and_package, bench):
    code, _, err = bench("export", run_and_package[0], "--variant", "openvino-fp32", "--out", "p")
    assert code == 2
    assert "its accuracy is undecided" in err
    assert not Path("p").exists()


def test_the_baseline_may_be_exported(run_and_package, bench):
    code, out, _ = bench("export", run_and_package[0], "--variant", "torch-fp32", "--out", "p")
    assert code == 0, out
    record = read_package(Path("p"))
    assert (record.proof.accuracy, record.proof.proven, record.artefacts) == ("reference", True, ())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--variant", "openvino-bf16"], "has no such variant; choose from torch-fp32, openvino-fp32"),
        (["--variant", "openvino-fp32", "--unproven", "--out", "."], "exists and is not empty"),
    ],
)
def test_what_cannot_be_exported(options, said, run_and_package, bench):
    Path("full").write_text("")
    code, _, err = bench("export", run_and_package[0], *(() if "--out" in options else ("--out", "p")), *options)
    assert code == 2
    assert said in err
    assert not Path("p").exists()


def test_a_run_whose_prediction_was_another_is_not_exported(run_and_package, bench, tmp_path):
    run = Path(shutil.copytree(run_and_package[0], tmp_path / "run"))
    for path in (run / "predictions" / "openvino-fp32").glob("*.nii.gz"):
        mask = nib.load(path)
        nib.Nifti1Image(np.zeros_like(np.asarray(mask.dataobj)), mask.affine, mask.header).to_filename(path)
    code, _, err = bench("export", run, "--variant", "openvino-fp32", "--unproven", "--out", "p")
    assert code == 4
    assert f"of {SIDE**3} voxels of" in err
    assert not Path("p").exists()
    assert not list(tmp_path.glob(".p-*")), "nothing half-made"


def test_a_baseline_that_is_a_recipe_is_timed_with_all_its_settings(run_and_package):
    record = read_package(run_and_package[1])
    recipe = replace(record.baseline, recipe=True, overlap=0.25, rewrites=("drop-biases",))
    asked = measure._of_package(run_and_package[1], replace(record, baseline=recipe), Request(device="auto"))
    assert asked.baseline == measure.BASELINE
    assert asked.variants[measure.BASELINE] == recipe
    assert asked.variants[measure.NAME].backend == "openvino-fp32"
    assert measure._of_package(run_and_package[1], record, Request()).baseline == "torch-fp32"
