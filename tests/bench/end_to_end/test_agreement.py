"""Runs on cases without masks, whose verdict is on the agreement with the baseline's own output."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import engines
from bench.accuracy import dsc
from bench.cli.main import main
from engines.base import Backend
from tests.bench.conftest import CASES, FEW, SIDE

ALLOWED = ("--max-class-changes", "0.2")  # none of 16 cases shows with 95 % confidence that at most 17 % change


@pytest.fixture
def unmasked(tmp_path) -> Path:
    """A test split of smooth volumes, as many as the other tests' data have, and no masks."""
    rng, folder = np.random.default_rng(1), tmp_path / "unmasked" / "test"
    folder.mkdir(parents=True)
    for number in range(CASES):
        hu = ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE, SIDE)), 3)
        hu = (500 * hu / hu.std()).astype(np.int16)
        nib.save(nib.Nifti1Image(hu, np.eye(4)), folder / f"quiz_{number:03}_0000.nii.gz")
    return folder.parent


@pytest.fixture
def unmasked_bench(bench, unmasked, monkeypatch):
    """`bench run` on them, with a baseline that sleeps, so that every other variant is faster."""
    monkeypatch.setenv("FAULT", "slow=0.2")
    monkeypatch.setitem(engines.BACKENDS, "plain", engines.BACKENDS["torch-fp32"])
    monkeypatch.setitem(engines.BACKENDS, "torch-fp32", Backend("tests.bench.faulty:Faulty", "fp32"))
    return lambda *options: bench("--data", str(unmasked), "--split", "test", "--rounds", "1", *options)


def test_without_masks_the_verdict_is_on_the_agreement_and_says_so(unmasked_bench, limit, capsys):
    limit(confirmation=True)
    code, summary, printed = unmasked_bench("--backends", "plain", "--max-cases", str(CASES), *ALLOWED)
    assert (code, summary["verdict"], summary["shown_by"]) == (0, "CONFIRMED", "agreement")
    assert printed.startswith("CONFIRMED: plain reduces the case time by ")
    assert "agreement with the baseline kept within the margins" in printed.splitlines()[0]
    assert "accuracy" not in printed.splitlines()[0]
    assert summary["claim"].keys() == {
        "min_reduction_pct", "min_agreement_dsc", "min_agreement_nsd", "min_worst_dsc", "max_class_changes", "variant",
    }  # fmt: skip
    assert [row["name"] for row in summary["requirements"]] == ["time_reduction_pct"], "targets are of the truth"
    assert main(["check", "run", "--accuracy", "agreement"]) == 0
    assert main(["check", "run", "--max-class-changes", "0.1"]) == 3
    assert "29 cases without a change would settle it" in capsys.readouterr().out
    for options, said in (
        (["--accuracy", "truth"], "run: this run was judged by agreement, and --accuracy asks for truth"),
        (["--max-dsc-drop", "0.1"], "--max-dsc-drop: a margin of the truth, and this run is judged by agreement"),
    ):
        assert main(["check", "run", *options]) == 2
        assert said in capsys.readouterr().err
    assert main(["compare", "run", "run", "--format", "json"]) in (0, 3)  # 16 cases may not bound the changed classes
    assert json.loads(capsys.readouterr().out)["shown_by"] == "agreement"
    shutil.copytree("run", "other")
    record = json.loads(Path("other/run.json").read_text())
    record["settings"]["accuracy"] = "truth"
    Path("other/run.json").write_text(json.dumps(record))
    assert main(["compare", "run", "other"]) == 2
    assert "accuracy shown by is truth, there agreement" in capsys.readouterr().err


def test_masks_that_are_eroded_by_one_voxel_are_caught(unmasked_bench, monkeypatch):
    monkeypatch.setitem(engines.BACKENDS, "torch-fp32", engines.BACKENDS["plain"])
    monkeypatch.setitem(engines.BACKENDS, "faulty", Backend("tests.bench.faulty:Faulty", "fp32"))
    monkeypatch.setenv("FAULT", "eroded")
    code, summary, _ = unmasked_bench("--backends", "faulty", "--min-reduction", "0")
    assert (code, summary["verdict"], summary["shown_by"]) == (1, "REFUTED", "agreement")
    scores = []
    for path in sorted(Path("run/predictions/torch-fp32").glob("*.nii.gz")):
        ours, eroded = (
            np.asarray(nib.load(folder / path.name).dataobj) > 0
            for folder in (path.parent, Path("run/predictions/faulty"))
        )
        assert np.array_equal(ndimage.binary_erosion(ours), eroded)
        scores.append((dsc(eroded, ours), path.name.removesuffix(".nii.gz")))
    assert len(scores) == FEW
    (result,) = (row for row in summary["variants"] if row["name"] == "faulty")
    whole = result["accuracy"]["structures"]["whole pancreas"]
    assert whole["dsc"]["value"] == pytest.approx(np.mean([value for value, _ in scores]))
    lowest, case = min(scores)
    assert (whole["worst_dsc"]["value"], whole["worst_dsc"]["worst_case"]) == (pytest.approx(lowest), case)
    (reason,) = (text for text in result["reasons"] if text.startswith("agreement with the baseline lost: "))
    assert "whole-pancreas DSC 0." in reason
    assert f"in {case}" in reason


def test_truth_that_is_asked_for_and_is_not_there_is_refused(unmasked_bench):
    code, summary, printed = unmasked_bench("--accuracy", "truth")
    assert (code, summary) == (2, {})
    assert printed.splitlines()[-1].endswith(
        "unmasked: no case of the split 'test' has a mask, which --accuracy truth needs; add the masks, or leave the "
        "option out to judge the agreement with the baseline's output"
    )


def test_agreement_may_be_asked_for_where_there_is_truth(bench):
    _, summary, _ = bench("--backends", "torch-fp32,torch-fp32", "--rounds", "1", "--accuracy", "agreement")
    assert summary["shown_by"] == "agreement"
    assert any("though the data hold masks" in warning for warning in summary["warnings"])
    result = summary["variants"][1]["accuracy"]
    assert result["structures"]["lesion"]["dsc"]["value"] == 1.0
    assert result["macro_f1"]["state"] == "not applicable"
