"""The documents. ``VOXBENCH_UPDATE_SNAPSHOTS=1 pytest tests/reports`` writes the snapshots anew; read the diff."""

import csv
import io
import json
import os
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from reports.decision.tuning import MEASURED, Trial
from reports.records.record import (
    CONFIRMATION,
    FAILED,
    INTERRUPTED,
    PENDING,
    SKIPPED,
    ConfirmationRecord,
    EvidenceRecord,
    SystemLoad,
    Usage,
)
from reports.records.store import Run, read_run
from reports.render import FORMATS, render
from reports.render.csv_tables import cases_csv
from reports.render.summary_json import summary_json
from reports.render.tuning import Tuned, answers, tuning_files
from reports.summary.summarise import summarise
from tests.reports.factory import (
    BASELINE,
    WHOLE,
    Candidate,
    by_agreement,
    made_of,
    make_run,
    on_gpu,
    segmenting,
    variant,
    with_lesions,
    without_nsd,
)
from tests.reports.render.page import Page

SNAPSHOTS = Path(__file__).parent / "snapshots"

KEYS = {"schema", "verdict", "reasons", "baseline", "best", "device", "cases", "rounds", "variants"}
VARIANT_KEYS = {
    "name", "status", "reason", "verdict", "latency_s", "time_reduction_pct", "speedup", "build_s",
    "peak_memory_bytes", "stages_s", "accuracy", "evidence",
}  # fmt: skip
SKIP = variant("tensorrt-fp16", SKIPPED, "the package tensorrt is not installed", 'pip install "voxbench[gpu]"')
REASON = "killed | by signal 9\n\x1b[0m <module> __init__"
FAIL = variant("ort-int8", FAILED, REASON, None, "variants/ort-int8.log")


def confirmed() -> Run:
    int8 = EvidenceRecord("openvino CPU", {"int8": 0.93, "fp32": 0.07})
    return make_run(
        {
            "torch-compile": Candidate(2.4),
            "torch-half": Candidate(2.3, lesion=(-0.02, 0.012, 0.003, -0.004)),
            "openvino-int8": Candidate(5.4, (1.0, 1.03), -7e-4, (0.002, -0.001), confirmed_speedup=5.3, evidence=int8),
            "torch-fp32#2": Candidate(1.0),
            "shifted": Candidate(3.0, lesion=-0.05, flips=2),
            SKIP.name: SKIP,
            FAIL.name: FAIL,
        },
        confirmed="openvino-int8", required=("tensorrt-fp16",),
    )  # fmt: skip


def refuted() -> Run:
    return make_run({"torch-fp32#2": Candidate(1.0)})


def demo(run: Run) -> Run:
    record = run.record
    checkpoint, data = replace(record.checkpoint, demo=True), replace(record.data, demo=True)
    return replace(run, record=replace(record, checkpoint=checkpoint, data=data))


def few() -> Run:
    return demo(make_run({"torch-amp": Candidate(2.0)}, cases=3, subtypes=False))


def interrupted() -> Run:
    return make_run({"torch-amp": variant("torch-amp", PENDING)}, status=INTERRUPTED)


def gpu() -> Run:
    fp16 = EvidenceRecord("torch cuda (Example GPU)", {"fp16": 1.0})
    candidates = {
        "torch-fused": Candidate(9.0, confirmed_speedup=9.1, evidence=fp16), "torch-fp32@4": Candidate(1.3),
        "torch-tf32": Candidate(2.0),
    }  # fmt: skip
    run = make_run(candidates, confirmed="torch-fused", device="cuda")
    return on_gpu(run, device_share=0.9, processes=3, throttled_by=("software power cap",))


def segmentation_only() -> Run:
    candidates = {"torch-compile": Candidate(2.4, lesion=-0.03), "ort-fp32": Candidate(3.0, confirmed_speedup=3.1),
                  SKIP.name: SKIP}  # fmt: skip
    run = segmenting(make_run(candidates, confirmed="ort-fp32"))
    ema = {"_best_ema": 0.812, "logging.ema_fg_dice": 0.806, "cls_f1": 0.514}
    return replace(run, record=replace(run.record, checkpoint=replace(run.record.checkpoint, training_metrics=ema)))


def organ_only() -> Run:
    return segmenting(
        make_run({"ort-fp32": Candidate(3.0, confirmed_speedup=3.1)}, confirmed="ort-fp32"), lesions=False
    )


def agreement() -> Run:
    """Without masks: a recipe that agrees, one whose masks are eroded, and one that changes classes."""
    candidates = {
        "openvino-fp32": Candidate(4.0, whole=(-2e-4, 0.0), lesion=(-0.001, 0.0), confirmed_speedup=4.1),
        "eroded": Candidate(5.0, whole=-0.18, lesion=(-0.5, -0.6), nsd=(-0.2, -0.3)),
        "flipping": Candidate(2.0, flips=2),
    }  # fmt: skip
    run = make_run(candidates, cases=36, confirmed="openvino-fp32")
    return by_agreement(replace(run, record=replace(run.record, data=replace(run.record.data, split="test"))))


RUNS = {
    "gpu": gpu, "confirmed": confirmed, "refuted": refuted, "few-cases": few, "interrupted": interrupted,
    "segmentation-only": segmentation_only, "organ-only": organ_only, "agreement": agreement,
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_markdown_is_as_it_was_read(name: str) -> None:
    result, path = render(summarise(RUNS[name]()), "markdown"), SNAPSHOTS / f"{name}.md"
    if os.environ.get("VOXBENCH_UPDATE_SNAPSHOTS"):
        path.write_text(result, encoding="utf-8")
    assert result == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RUNS)
def test_the_first_line_is_the_verdict(name: str) -> None:
    summary = summarise(RUNS[name]())
    first = render(summary, "markdown").splitlines()[0]
    assert first.startswith(f"# {summary.verdict}: ")


def test_the_demo_says_what_it_is() -> None:
    assert "made-up volumes of the demo" in render(summarise(few()), "markdown")
    assert "made-up" not in render(summarise(refuted()), "markdown")


@pytest.mark.parametrize("name", RUNS)
def test_json_keeps_the_contract(name: str) -> None:
    document = json.loads(render(summarise(RUNS[name]()), "json"), parse_constant=pytest.fail)
    assert document.keys() >= KEYS
    assert document["schema"] == 2
    for row in document["variants"]:
        assert row.keys() >= VARIANT_KEYS
        assert row["status"] in ("ok", "skipped", "failed")
        assert row["verdict"] in ("CONFIRMED", "REFUTED", "INCONCLUSIVE", None)
        assert row["latency_s"].keys() >= {"median", "p50", "p90", "p95", "p99"}
        assert row["time_reduction_pct"].keys() == row["speedup"].keys() == {"estimate", "low", "high"}
        assert list(row["stages_s"]) == ["read", "preprocess", "roi", "forward", "stitch", "write"]
        scores = row["accuracy"]
        assert scores.keys() >= {"structures", "macro_f1", "class_flips", "voxel_disagreement"}
        assert list(scores["structures"]) == document["task"]["structures"] == ["whole pancreas", "lesion"]
        for structure in scores["structures"].values():
            for metric in (structure["dsc"], structure["nsd"], scores["macro_f1"]):
                assert metric.keys() >= {"value", "delta", "low"}
        assert row["forward"].keys() == {"latency_s", "speedup", "time_reduction_pct"}


def test_json_holds_the_figures() -> None:
    document = summary_json(summarise(confirmed()))
    rows: dict[str, Any] = {row["name"]: row for row in document["variants"]}
    assert (document["cases"], document["rounds"], document["best"]) == (16, 2, "openvino-int8")
    assert document["missing_required"] == ["tensorrt-fp16"]
    assert document["failures"][0]["log"] == "variants/ort-int8.log"
    assert document["confirmation"]["speedup"]["estimate"] == pytest.approx(5.3, rel=0.02)
    assert document["noise_floor"]["voxel_disagreement"] == 0.0
    assert rows[BASELINE]["speedup"] == {"estimate": 1.0, "low": 1.0, "high": 1.0}
    assert rows["shifted"]["accuracy"]["class_flips"] == 2
    assert rows["shifted"]["accuracy"]["structures"]["lesion"]["dsc"]["state"] == "lost"
    assert set(rows[SKIP.name]["latency_s"].values()) == {None}
    assert rows[SKIP.name]["fix"] == 'pip install "voxbench[gpu]"'


RESULTS = Path(__file__).parents[3] / "docs" / "results"


@pytest.mark.parametrize("name", ["confirmed", "gpu-h100-first", "demo-tuned", "peers"])
def test_every_key_of_the_json_stands_on_its_page(name: str) -> None:
    """Of the document and of its variants, with what is in these."""
    run = confirmed() if name == "confirmed" else read_run(RESULTS / name)
    document = summary_json(summarise(run))
    text, _, _ = (RESULTS.parent / "reference" / "json.md").read_text().partition("# `bench compare")
    named = {*re.findall(r"`(\w+)`", text), *re.findall(r'"(\w+)":', text)}
    tables = [document, *document["variants"]]
    tables += [held for row in document["variants"] for held in row.values() if isinstance(held, dict)]
    assert {key for table in tables for key in table} <= named


def test_json_holds_what_the_cases_and_classes_tell() -> None:
    document = summary_json(summarise(confirmed()))
    result = {row["name"]: row for row in document["variants"]}["shifted"]
    scores = result["accuracy"]
    assert [structure["nsd"]["state"] for structure in scores["structures"].values()] == ["kept", "kept"]
    assert scores["macro_f1"]["detectable"] == pytest.approx(1 - 0.2 ** (1 / 16))
    assert scores["flips"] == [
        {"case": "quiz_0_000", "truth": 0, "baseline": 1, "candidate": 2},
        {"case": "quiz_1_001", "truth": 1, "baseline": 1, "candidate": 0},
    ]
    assert scores["mcnemar"] == {"lost": 1, "gained": 0, "p": 1.0}
    classes = scores["macro_f1"]["per_class"]
    mean = sum(each["value"] for each in classes.values()) / 3
    assert (list(classes), mean) == (["0", "1", "2"], pytest.approx(scores["macro_f1"]["value"]))
    assert result["speed_claim"]["level"] == pytest.approx(0.05 / 6)
    assert (result["speed_claim"]["interim_analysis"], result["speed_claim"]["claims"]) == (2, 5)
    assert result["between_cases"]["fastest_s"] < result["latency_s"]["p50"] < result["latency_s"]["p99"]
    assert result["tile_fit"] == {"intercept_s": None, "slope_s": None, "r2": None, "sizes": 1}
    assert document["diagnostics"].keys() == {"order", "drift", "autocorrelation"}


def test_a_task_without_surface_distances_leaves_them_out() -> None:
    summary = summarise(without_nsd(confirmed()))
    assert summary.verdict == "CONFIRMED"
    assert "NSD" not in render(summary, "markdown").partition("## Controlled settings")[0]
    result = {row["name"]: row for row in summary_json(summary)["variants"]}["openvino-int8"]["accuracy"]
    assert result["structures"]["lesion"].keys() == {"dsc"}
    assert "whole-pancreas NSD" in render(summarise(confirmed()), "markdown")


@pytest.mark.parametrize(
    ("taken", "repeated", "said"),
    [
        (8, 8, "It took 8 of the 16 cases, of all sizes and drawn by the seed: by"),
        (8, None, "It took 8 of the 16 cases, of all sizes and drawn by the seed: by"),
        (8, 3, "It took 8 of the 16 cases, of all sizes and drawn by the seed, 3 of them in every launch and each of"),
        (16, 5, "It took all 16 cases, of all sizes and drawn by the seed, 5 of them in every launch and each of"),
        (16, 16, ""),
    ],
)
def test_the_plan_of_a_confirmation_is_told(taken: int, repeated: int | None, said: str) -> None:
    run = make_run({"fast": Candidate(3.0, confirmed_speedup=3.0)}, cases=16, confirmed="fast")
    names = tuple(case.name for case in run.record.cases)[:taken]
    planned = ConfirmationRecord(cases=names, launches=3, rounds=3, repeated=repeated)
    fresh = tuple(
        replace(v, samples=tuple(s for s in v.samples if s.phase != CONFIRMATION or s.case in names))
        for v in run.variants
    )
    confirmed = replace(run, record=replace(run.record, confirmation=planned), variants=fresh)
    shown = render(summarise(confirmed), "markdown")
    assert said in shown
    assert ("It took" in shown) == bool(said)


def test_a_confirmation_says_on_how_many_cases_the_accuracy_rests() -> None:
    run = make_run({"fast": Candidate(3.0, confirmed_speedup=3.0)}, cases=16, confirmed="fast")
    planned = ConfirmationRecord(cases=tuple(case.name for case in run.record.cases), launches=3, rounds=3, repeated=5)
    run = replace(run, record=replace(run.record, confirmation=planned))
    assert "The accuracy rests on all 16." in render(summarise(run), "markdown")
    fewer = tuple(replace(v, scores=v.scores[:12]) if v.name == "fast" else v for v in run.variants)
    shown = render(summarise(replace(run, variants=fewer)), "markdown")
    assert "The accuracy rests on 12 of the 16 cases." in shown
    assert "The verdict on the time rests on these samples alone; the accuracy is that of the first round." in shown


def test_a_variant_that_was_never_measured_says_so() -> None:
    for folder, named in ((None, "DIR"), (Path("runs/7"), "runs/7")):
        row = summary_json(summarise(replace(interrupted(), folder=folder)))["variants"][1]
        assert (row["status"], row["fix"]) == ("skipped", f"bench run --resume --out {named}")


def test_a_lost_accuracy_is_a_requirement_not_met() -> None:
    text = render(summarise(make_run({"a": Candidate(4.0, lesion=-0.1)}, confirmed="a")), "markdown")
    (line,) = [line for line in text.splitlines() if line.startswith("| accuracy beside the baseline")]
    assert [cell.strip() for cell in line.split("|")][4:6] == ["lost", "**not met**"]


@cache
def html_of(name: str) -> str:
    return render(summarise(RUNS[name]()), "html")


@pytest.mark.parametrize("name", RUNS)
def test_html_is_one_well_formed_page(name: str) -> None:
    text, page = html_of(name), Page()
    page.feed(text)
    assert page.open == []
    assert len(re.findall(rf'<h1 class="\w+">{summarise(RUNS[name]()).verdict}: ', text)) == 1
    tables = re.findall(r'<div class="table" role="region" tabindex="0" aria-label="([^"]+)">\n<table>', text)
    assert len(set(tables)) == len(tables) == text.count("<table>") > 3
    assert set(re.findall(r'<a [^>]*href="#([\w-]+)"', text)) <= page.ids


def test_the_same_run_gives_the_same_bytes() -> None:
    """On the page with all kinds of charts."""
    assert html_of("gpu") == render(summarise(gpu()), "html")


def test_html_shows_foreign_text_as_text() -> None:
    page = Page()
    page.feed(html_of("confirmed"))
    assert "killed | by signal 9" in page.text
    assert "<module> __init__" in page.text
    assert "\x1b" not in page.text
    assert 'pip install "voxbench[gpu]"' in page.text


def test_csv_has_a_row_for_each_variant() -> None:
    run = confirmed()
    rows = list(csv.DictReader(io.StringIO(render(summarise(run), "csv"))))
    assert [row["name"] for row in rows] == [b.name for b in run.variants]
    assert float(rows[1]["case_speedup"]) == pytest.approx(2.4, rel=0.01)
    assert rows[-2]["case_median_s"] == ""
    assert rows[-1]["reason"] == FAIL.reason


def test_cases_csv_is_tidy_and_exact() -> None:
    run = confirmed()
    rows = list(csv.DictReader(io.StringIO(cases_csv(run))))
    samples = [(b.name, s) for b in run.variants for s in b.samples]
    assert len({(r["variant"], r["phase"], r["case"], r["round"]) for r in rows}) == len(rows) == len(samples)
    for row, (name, sample) in zip(rows, samples, strict=True):
        assert (row["variant"], row["case"], int(row["round"])) == (name, sample.case, sample.round)
        assert round(float(row["case_s"]) * 1e9) == sample.case_ns
        assert round(float(row["forward_s"]) * 1e9) == sample.stages_ns["forward"]
        assert row["device_s"] == ""
        assert (int(row["tiles"]), int(row["subtype"])) == (sample.tiles, sample.subtype)
    assert float(rows[0]["whole_pancreas_dsc"]) == run.variants[0].scores[0].structures[WHOLE].dsc


def test_cases_csv_tells_a_samples_surroundings() -> None:
    run = confirmed()
    baseline = run.variants[0]
    reported = replace(
        baseline.samples[0], system_load=SystemLoad(0.5, 0.01, 2450.0), usage=Usage(1e9, cpu_energy_j=12.5)
    )
    changed = replace(baseline, samples=(reported, *baseline.samples[1:]))
    first, second, *_ = csv.DictReader(io.StringIO(cases_csv(replace(run, variants=(changed,)))))
    names = ("others_cores", "stolen_cores", "mhz", "memory_byte_s", "cpu_energy_j")
    assert [float(first[name]) for name in names] == [0.5, 0.01, 2450.0, 1e9, 12.5]
    assert [second[name] for name in names] == [""] * 5


def test_cases_csv_of_nothing_is_its_header() -> None:
    run = make_run({}, baseline=variant(BASELINE))
    assert cases_csv(run).count("\n") == 1


def test_junit_counts_what_happened() -> None:
    suite = ET.fromstring(render(summarise(confirmed()), "junit")).find("testsuite")
    assert suite.find("properties/property[@name='baseline']").get("value") == BASELINE
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert {name: [e.tag for e in case if e.tag != "system-out"] for name, case in cases.items()} == {
        BASELINE: [], "torch-compile": [], "torch-half": ["skipped"], "openvino-int8": [],
        "torch-fp32#2": ["failure"], "shifted": ["failure"], SKIP.name: ["skipped"], FAIL.name: ["error"],
        "required variants": ["error"], "verdict": [],
    }  # fmt: skip
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "10", "failures": "2", "errors": "2", "skipped": "2"}


@pytest.mark.parametrize("name", ["refuted", "few-cases", "interrupted"])
def test_junit_passes_nothing_that_is_not_confirmed(name: str) -> None:
    summary = summarise(RUNS[name]())
    verdict = ET.fromstring(render(summary, "junit")).find(".//testcase[@name='verdict']/failure")
    assert verdict.get("type") == summary.verdict


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_measured_at_all_still_renders(form: str) -> None:
    summary = summarise(make_run({}, baseline=variant(BASELINE, FAILED, "out of memory"), cases=0))
    result = render(summary, form)
    assert not re.search(r"\bnan\b", result.lower())
    assert result.endswith("\n")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="no report format 'pdf'; there are markdown, html"):
        render(summarise(refuted()), "pdf")


# --- networks that give less ------------------------------------------------------------------------------------------


def cells(text: str, label: str) -> list[list[str]]:
    """The other cells of every row that begins with `label`."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return [row[1:] for row in rows if row[0] == label]


def test_f1_of_a_network_that_only_segments_is_not_applicable_in_markdown_and_html() -> None:
    summary = summarise(segmentation_only())
    text = render(summary, "markdown")
    assert cells(text, "macro-F1") == [
        [">= 0.70", "not applicable", "not applicable", "not applicable"],  # required
        ["0.514", "not applicable"],  # recorded
    ]
    page = Page()
    page.feed(render(summary, "html"))
    for result in (text, page.text):
        assert "macro-F1 is not applicable, as the task has no classes" in result
        assert "0 % of the voxels changed, class flips not applicable" in result
        assert "macro-F1 0.02" not in result
        assert "nan" not in result.lower()


def test_json_of_a_network_that_only_segments_has_null_and_says_why() -> None:
    document = json.loads(render(summarise(segmentation_only()), "json"), parse_constant=pytest.fail)
    assert document["verdict"] == "CONFIRMED"
    assert document["noise_floor"]["class_flips"] is None
    for row in document["variants"]:
        result = row["accuracy"]["macro_f1"]
        assert result.pop("state") == "not applicable", row["name"]
        assert (result.pop("margin"), result.pop("cases"), result.pop("absent")) == (0.02, 0, 0)
        assert set(result.values()) == {None}
        assert (row["accuracy"]["class_flips"], row["accuracy"]["flipped_cases"]) == (None, [])
    requirements = {row["name"]: row for row in document["requirements"]}
    assert [name for name, row in requirements.items() if not row["applicable"]] == ["macro_f1"]
    assert (requirements["macro_f1"]["best"], requirements["macro_f1"]["met"]) == (None, None)


def test_csv_of_a_network_that_finds_neither_lesions_nor_classes() -> None:
    run = organ_only()
    rows = list(csv.DictReader(io.StringIO(render(summarise(run), "csv"))))
    names = [name for name in rows[0] if name.startswith(("lesion_", "macro_f1", "class_flips"))]
    assert len(names) == 16
    assert {row[name] for row in rows for name in names} == {"not applicable"}
    assert all(float(row["whole_pancreas_dsc"]) > 0.9 for row in rows)
    cases = list(csv.DictReader(io.StringIO(cases_csv(run))))
    assert {row[name] for row in cases for name in ("subtype", "lesion_dsc", "lesion_nsd")} == {"not applicable"}
    assert {row["true_subtype"] for row in cases} == {"0", "1", "2"}


def test_junit_says_what_was_not_applicable() -> None:
    verdict = ET.fromstring(render(summarise(organ_only()), "junit")).find(".//testcase[@name='verdict']")
    assert verdict.find("failure") is None
    said = verdict.findtext("system-out") or ""
    assert "lesion DSC is not applicable, as the network has no lesion class" in said
    assert "macro-F1 is not applicable, as the task has no classes" in said


def test_each_recorded_figure_has_its_protocol() -> None:
    def said(recorded: dict[str, float], architecture: str) -> str:
        run = refuted()
        checkpoint = replace(run.record.checkpoint, training_metrics=recorded, architecture=architecture)
        text = render(summarise(replace(run, record=replace(run.record, checkpoint=checkpoint))), "markdown")
        return text.partition("## Recorded accuracy")[2].partition("\n## ")[0]

    both = said({"_best_ema": 0.8, "val/whole_dice": 0.7, "best.whole_dice": 0.9}, "net.py:make")
    assert "for \\_best_ema: nnU-Net's pseudo Dice, over random patches" in both
    assert "for the others: that of its training script, which the file does not state" in both
    assert cells(both, "whole-pancreas DSC (val/whole_dice)") == [["0.700", "0.958"]]
    assert cells(both, "whole-pancreas DSC (best.whole_dice)") == [["0.900", "0.958"]]
    assert "Protocol of the recorded figures: that of its training script" in said({"best_dice": 0.8}, "net.py:make")
    assert "pseudo" not in said({"cls_f1": 0.5}, "multitask-unet")
    assert "records no accuracy of its own" in said({}, "multitask-unet")


def test_requirements_are_those_of_the_fastest_where_no_variant_meets_the_claim() -> None:
    run = make_run({"a": Candidate(4.0, lesion=-0.1), "b": Candidate(2.0, lesion=-0.1)})
    summary = summarise(run)
    assert (summary.verdict, summary.subject) == ("REFUTED", None)
    document = render(summary, "markdown")
    part = document.partition("## Requirements")[2].partition("\n</details>")[0]
    assert "No variant meets the claim. Here is the fastest, a." in part
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("| ")]
    assert rows[0][3] == "a"
    assert not [row for row in rows if "not measured" in row]
    (time,) = [row for row in rows if row[0].startswith("time reduction")]
    assert (time[3].split()[0], time[4]) == ("75.0", "met")
    assert [rows[-1][i] for i in (0, 3, 4)] == ["accuracy beside the baseline", "lost", "**not met**"]


def test_what_a_search_brought_is_held_against_cases_and_not_said_to_be_confirmed() -> None:
    trial = Trial(number=0, settings=made_of("torch-fp32"), state=MEASURED, speedup=1.0)
    tuned = Tuned(
        reference="fast", best=trial, front=(trial,), trials=(trial,), steps=(), tuned_on="8 cases", recipe="",
        name="fast",
    )  # fmt: skip
    said = "\n".join(answers(tuned, make_run({"fast": Candidate(4.0, lesion=-0.1)})))
    assert "Searched on 8 cases; held once against 16 cases that the search did not see." in said


def test_a_search_says_by_which_rule_it_chose_and_what_its_cases_left_undecided() -> None:
    first, second = (
        Trial(
            number=number, settings=made_of("torch-fp32"), state=MEASURED, speedup=speedup, accuracy="undecided",
            accuracy_reason="accuracy undecided: lesion DSC rests on 4 cases", promising=number == 1, margin_used=0.0,
        )
        for number, speedup in ((1, 1.0), (2, 2.4))
    )  # fmt: skip
    tuned = Tuned(
        reference="torch-fp32", best=first, front=(second, first), trials=(first, second), steps=(), tuned_on="6 cases",
        recipe="", name="tuned", without_bounds="Without a bound: lesion DSC (4 cases)",
    )  # fmt: skip
    confirmed = make_run({"tuned": Candidate(1.0)})
    said = answers(tuned, confirmed)
    assert said[:3] == [
        "The recipe is torch-fp32, the fastest shipped variant whose accuracy is expected to be kept on the evaluation "
        "cases: on that condition nothing that was tried is faster by more than 2 %.",
        "Without a bound: lesion DSC (4 cases).",
        "Faster, but with an accuracy that is not lost and not expected to be kept on the evaluation cases: 1 trial, "
        "the fastest of them trial 2 (torch-fp32, ROI none, overlap 0.5, batch 1; 2.40x as fast as torch-fp32): "
        "accuracy undecided: lesion DSC rests on 4 cases.",
    ]
    none = tuple(replace(own, promising=False) for own in (first, second))
    chosen = replace(tuned, best=none[1], trials=none, without_bounds="")
    said = answers(chosen, confirmed)
    assert said[0].endswith("as fast as torch-fp32, the fastest shipped variant whose accuracy is not lost.")
    assert said[1].startswith("Its accuracy is not lost, and not expected to be kept on the evaluation cases: accuracy")
    assert said[2].startswith("Searched on")
    page = tuning_files(chosen, confirmed)["tuning.md"]
    assert "in bold the recipe: to within 2 % the fastest whose accuracy is not lost. *Margin used*" in page


def test_a_loss_that_could_have_been_detected_stands_with_the_cases_that_its_score_is_of() -> None:
    change = [0.001 * i for i in range(-3, 3)]
    run = with_lesions(make_run({"fast": Candidate(4.0, whole=change, lesion=change)}, cases=6), 5)
    document = render(summarise(run), "markdown")
    part = document.partition("## What these cases could have detected")[2].partition("\n## ")[0]
    ((number, whole, lesion, _, surface, _),) = cells(part, "fast")
    assert number == "6"
    assert re.fullmatch(r"0\.\d{4}", whole)
    assert re.fullmatch(r"0\.\d{4} \(5 cases\)", lesion)
    assert surface == "no spread (5 cases)"
    assert "Where a number of cases stands behind a loss, the score is of so many alone." in part
    everywhere = render(summarise(make_run({"fast": Candidate(4.0)}, cases=6)), "markdown")
    assert "the score is of so many alone" not in everywhere


@pytest.mark.parametrize(("launch_of", "launches"), [(lambda sample: sample.round, 2), (lambda _: 0, 1)])
def test_the_json_counts_the_launches_of_the_baseline_as_those_of_the_others(launch_of, launches) -> None:
    run = make_run({"fast": Candidate(4.0)})
    variants = tuple(
        replace(each, samples=tuple(replace(s, launch=launch_of(s)) for s in each.samples)) for each in run.variants
    )
    rows = summary_json(summarise(replace(run, variants=variants)))["variants"]
    assert {row["name"]: row["launches"] for row in rows} == {"torch-fp32": launches, "fast": launches}
    failed = replace(run.variants[0], samples=(), status="failed", reason="broken")
    rows = summary_json(summarise(replace(run, variants=(failed, run.variants[1]))))["variants"]
    assert {row["launches"] for row in rows} == {0}
