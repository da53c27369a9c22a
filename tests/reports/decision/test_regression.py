"""Runs against a reference: what must be equal, what a regression is, and what is left open."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, isnan, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.cli.main import main
from reports.decision.accuracy import DSC, MACRO_F1, MetricKey
from reports.decision.regression import NO_REGRESSION, REGRESSION, Change, regression, worst
from reports.decision.verdict import UNDECIDED
from reports.formatting import least_change
from reports.records.record import (
    FAILED,
    INTERLEAVED,
    INTERRUPTED,
    PENDING,
    SKIPPED,
    CommandRecord,
    VariantRecord,
)
from reports.records.store import RecordError, Run, write_run
from tests.reports.factory import BASELINE, LESION, WHOLE, Candidate, made_of, make_run, segmenting, variant

X = "ort-fp32"


def changed(reference: Run, run: Run, name: str = X, **options: Any) -> Change:
    (change,) = [each for each in regression(reference, run, **options).changes if each.name == name]
    return change


def each(candidate: Candidate | VariantRecord, **options: Any) -> Run:
    return make_run({X: candidate}, **options)


def with_record(run: Run, **changes: Any) -> Run:
    return replace(run, record=replace(run.record, **changes))


def scaled(run: Run, factor: float) -> Run:
    """The same run on a machine that takes `factor` times as long for everything."""
    variants = tuple(
        replace(b, samples=tuple(replace(s, case_ns=int(s.case_ns * factor)) for s in b.samples)) for b in run.variants
    )
    return replace(run, variants=variants)


def written(run: Run, folder: Path) -> Path:
    write_run(folder, run)
    return folder


# --- what must be equal ----------------------------------------------------------------------------------------------


def of_checkpoint(run: Run, **changes: Any) -> Run:
    return with_record(run, checkpoint=replace(run.record.checkpoint, **changes))


def setting(run: Run, **changes: Any) -> Run:
    return with_record(run, settings=replace(run.record.settings, **changes))


def declaring(run: Run, **changes: str) -> Run:
    controlled: Mapping[str, str] = {
        **run.record.controlled_settings,
        **{k.replace("_", " "): v for k, v in changes.items()},
    }
    return with_record(run, controlled_settings=controlled)


def with_structure(run: Run, **changes: Any) -> Run:
    task = run.record.task
    structures = {**task.structures, WHOLE: replace(task.structures[WHOLE], **changes)}
    return with_record(run, task=replace(task, structures=structures))


UNEQUAL = {
    "weights": (lambda run: of_checkpoint(run, weights_sha256="99" * 32), "weights is 999999999999..., there cdcdcdcd"),
    "data": (lambda run: with_record(run, data=replace(run.record.data, sha256="00" * 32)), "data is 000000000000..."),
    "declared": (lambda run: declaring(run, TF32_in_the_baseline="on"), "TF32 in the baseline is on, there off"),
    "undeclared": (lambda run: declaring(run, accumulation="float32"), "accumulation is float32, there not stated"),
    "threads": (lambda run: setting(run, threads=3), "threads is 3, there 2"),
    "batch": (lambda run: setting(run, batch=4), "batch is 4, there 1"),
    "device": (lambda run: setting(run, device="cuda:1"), "device is cuda, there cpu"),
    "calibration": (lambda run: with_record(run, data=replace(run.record.data, calibration_cases=("quiz_9",))),
                    "calibration cases is 1, from quiz_9 on, there 20, from quiz_0_000 on"),
    "structure": (lambda run: with_structure(run, labels=(1, 3)), f"labels of {WHOLE} is 1 and 3, there 1 and 2"),
    "tolerance": (lambda run: with_structure(run, nsd_tolerance_mm=1.0), f"NSD tolerance of {WHOLE} is 1 mm, there 5"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNEQUAL)
def test_runs_that_were_not_declared_alike_are_refused(name: str) -> None:
    change, said = UNEQUAL[name]
    reference = each(Candidate(2.0))
    with pytest.raises(RecordError) as refusal:
        regression(reference, change(reference))
    assert said in str(refusal.value)
    assert str(refusal.value).count(" is ") == 1, "nothing else differs"


def test_the_refusal_lists_every_difference_in_one_line() -> None:
    reference = each(Candidate(2.0))
    other = declaring(of_checkpoint(reference, weights_sha256="99" * 32), TF32_in_the_baseline="on")
    with pytest.raises(
        RecordError, match=r"TF32 in the baseline is on, there off; weights is .*; measure again"
    ) as line:
        regression(reference, other)
    assert "\n" not in str(line.value)


def test_another_batch_of_another_backend_is_no_difference() -> None:
    reference = declaring(each(Candidate(2.0)), batch="1, but 4 where a backend's name says so")
    assert changed(reference, declaring(each(Candidate(2.0)), batch="1")).state == NO_REGRESSION


def test_a_recipe_may_be_missing_but_not_mean_something_else() -> None:
    def cooking(overlap: float) -> Run:
        run = declaring(each(Candidate(2.0)), **{"but recipe lean": f"overlap {overlap}"})
        lean = made_of("openvino-int8", overlap=overlap, recipe=True)
        return with_record(
            run, settings=replace(run.record.settings, variants={**run.record.settings.variants, "lean": lean})
        )

    assert changed(cooking(0.25), each(Candidate(2.0))).state == NO_REGRESSION
    assert changed(cooking(0.25), cooking(0.25)).state == NO_REGRESSION
    with pytest.raises(RecordError, match=r"recipe lean is openvino-int8, ROI none, overlap 0.5, batch 1, there"):
        regression(cooking(0.25), cooking(0.5))


def test_a_script_of_an_own_command_may_differ_and_is_listed() -> None:
    def calling(content: str) -> Run:
        run, command = each(Candidate(2.0)), CommandRecord(line="p.py", mode="server", files={"p.py": content * 32})
        own = replace(made_of("command"), command=command)
        return with_record(
            run, settings=replace(run.record.settings, variants={**run.record.settings.variants, "own": own})
        )

    assert regression(calling("ab"), calling("cd")).differences == (
        ("p.py of command own", "abababababab...", "cdcdcdcdcdcd..."),
    )


def test_host_versions_and_date_may_differ_and_are_listed() -> None:
    reference = each(Candidate(2.0))
    newer = with_record(
        reference, created="2026-02-03", versions={**reference.record.versions, "torch": "2.14.0"},
        host=replace(reference.record.host, cores=8),
    )  # fmt: skip
    result = regression(reference, newer)
    assert result.state == NO_REGRESSION
    assert set(result.differences) == {
        ("started", "2026-01-02T03:04:05+00:00", "2026-02-03"),
        ("host: cores", "2", "8"),
        ("version of torch", "2.13.0", "2.14.0"),
    }


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_run_against_itself_has_not_changed() -> None:
    run = each(Candidate(2.0))
    change = changed(run, run)
    assert change.state == NO_REGRESSION
    assert (change.speedup.low, change.speedup.estimate, change.speedup.high) == (1.0, 1.0, 1.0)
    assert (change.seconds, change.reasons, change.flipped, change.compared) == (1.0, (), (), 16)


@pytest.mark.parametrize(
    ("speedup", "state"), [(2.0, NO_REGRESSION), (1.96, NO_REGRESSION), (1.8, REGRESSION), (3.0, NO_REGRESSION)]
)
def test_the_speedup_may_fall_by_five_percent(speedup: float, state: str) -> None:
    change = changed(each(Candidate(2.0)), each(Candidate(speedup)))
    assert change.state == state
    assert change.speedup.estimate == pytest.approx(speedup / 2, rel=1e-3)


def test_what_is_allowed_is_the_users_choice() -> None:
    reference, slower = each(Candidate(2.0)), each(Candidate(1.8))
    assert changed(reference, slower, max_slowdown_pct=11).state == NO_REGRESSION
    assert changed(reference, slower, max_slowdown_pct=9).state == REGRESSION


def test_bounds_across_the_threshold_leave_it_open() -> None:
    change = changed(each(Candidate(2.0)), each(Candidate(1.9, jitter=(1.0, 1.2, 0.8, 1.1, 0.9)), rounds=1))
    assert change.state == UNDECIDED
    assert change.speedup.low < 0.95 <= change.speedup.high
    assert change.reasons[0].endswith("more rounds or more cases in both runs would settle it")


def test_a_bound_is_rounded_to_what_was_shown() -> None:
    jitter = (1.0, 1.013, 0.987, 1.006)
    fell = changed(each(Candidate(2.0)), each(Candidate(1.7, jitter=jitter), rounds=1))
    least = 100 * (1 - fell.speedup.high)
    shown = re.search(r"by at least ([\d.]+) % with 95 % confidence", fell.reasons[0])
    assert shown is not None
    assert least - 0.1 < float(shown[1]) <= least < round(least, 1), "to the nearest it would say more"
    lost = changed(each(Candidate(2.0)), each(Candidate(2.0, lesion=(-0.00302, -0.00708)), rounds=1))
    metric = lost.metrics[MetricKey(DSC, LESION)]
    assert f"at least {least_change(metric.delta.low)} with 95 % confidence" in lost.reasons[0]


def test_a_slower_machine_is_no_regression() -> None:
    reference = each(Candidate(2.0))
    change = changed(reference, scaled(reference, 1.7))
    assert (change.state, change.seconds) == (NO_REGRESSION, pytest.approx(1.7, rel=1e-6))


def test_the_bounds_are_those_of_a_bootstrap_over_the_cases() -> None:
    rng = np.random.default_rng(5)
    reference, run = (each(Candidate(2.0, jitter=rng.uniform(0.9, 1.1, 16).tolist()), rounds=2) for _ in range(2))

    def logs(run: Run) -> list[float]:
        by_case: dict[str, list[float]] = {}
        samples = [sample for sample in run.variant(BASELINE).samples if sample.phase == INTERLEAVED]
        for base, own in zip(samples, run.variant(X).samples, strict=True):
            assert (own.phase, base.case, base.round) == (INTERLEAVED, own.case, own.round)
            by_case.setdefault(own.case, []).append(log(base.case_ns / own.case_ns))
        return [float(np.median(values)) for _, values in sorted(by_case.items())]

    differences = np.array(logs(run)) - np.array(logs(reference))
    # the bootstrap's bounds are expanded for few cases: for a mean those of the t-interval
    low, high = stats.t.interval(0.9, len(differences) - 1, differences.mean(), stats.sem(differences))
    result = changed(reference, run).speedup
    assert result.estimate == pytest.approx(exp(differences.mean()))
    assert (result.low, result.high) == pytest.approx((exp(low), exp(high)), abs=2e-3)
    assert result.high - result.low > 0.04, "so that 2e-3 is a small part of it"


def test_every_launch_of_the_processes_counts() -> None:
    reference, luck = each(Candidate(2.0), rounds=3), (1.05, 1.05, 0.8)  # the last one was slow

    def launched(record: VariantRecord, factors: Sequence[float]) -> VariantRecord:
        samples = (replace(s, launch=s.round, case_ns=int(s.case_ns / factors[s.round])) for s in record.samples)
        return replace(record, samples=tuple(samples))

    baseline, own = reference.variants
    run = replace(reference, variants=(launched(baseline, (1, 1, 1)), launched(own, luck)))
    change = changed(reference, run)
    assert change.speedup.estimate == pytest.approx(exp(np.log(luck).mean()), rel=1e-2)
    assert change.speedup.estimate == pytest.approx(change.own.estimate / change.reference.estimate)


def test_few_cases_decide_nothing() -> None:
    change = changed(each(Candidate(2.0), cases=4), each(Candidate(1.0), cases=4))
    assert change.state == UNDECIDED
    assert "at least 5 cases" in change.reasons[0]


# --- accuracy --------------------------------------------------------------------------------------------------------


def test_a_lost_accuracy_is_a_regression() -> None:
    change = changed(each(Candidate(2.0)), each(Candidate(2.0, lesion=-0.05)))
    assert change.state == REGRESSION
    assert change.states[MetricKey(DSC, LESION)] == "lost"
    assert change.states[MetricKey(DSC, WHOLE)] == "kept"
    assert change.reasons == (
        "accuracy lost: lesion DSC -0.0500 on 16 cases, at least -0.0500 with 95 % confidence (margin 0.005)",
    )


def test_an_accuracy_that_rose_is_none() -> None:
    assert changed(each(Candidate(2.0, lesion=-0.05)), each(Candidate(2.0))).state == NO_REGRESSION


def test_the_baseline_may_lose_accuracy_too() -> None:
    worse = make_run({BASELINE: Candidate(1.0, whole=-0.02)}).variants[1]
    result = regression(each(Candidate(2.0)), make_run({X: Candidate(2.0)}, baseline=worse))
    assert [(c.name, c.state) for c in result.changes] == [(BASELINE, REGRESSION), (X, NO_REGRESSION)]
    assert (result.changes[0].speedup.estimate, result.changes[0].cases) == (1.0, 0)


def test_flips_between_the_runs_are_counted() -> None:
    change = changed(each(Candidate(2.0)), each(Candidate(2.0, flips=3)))
    assert change.flipped == ("quiz_0_000", "quiz_1_001", "quiz_2_002")
    assert change.states[MACRO_F1] == "lost"


def test_scattered_losses_leave_it_open() -> None:
    change = changed(each(Candidate(2.0)), each(Candidate(2.0, lesion=(-0.02, 0.012, 0.003, -0.004))))
    assert (change.state, change.states[MetricKey(DSC, LESION)]) == (UNDECIDED, "undecided")
    assert change.reasons[0].endswith("more cases in both runs would settle it")


def test_without_truth_the_accuracy_is_open() -> None:
    change = changed(*[each(Candidate(2.0), masks=False, subtypes=False)] * 2)
    assert change.state == UNDECIDED
    assert change.reasons == (
        "accuracy undecided: no case has a score in both runs; data with ground truth would settle it",
    )


def test_what_the_network_does_not_give_is_not_required() -> None:
    run = segmenting(each(Candidate(2.0)), lesions=False)
    change = changed(run, run)
    assert change.state == NO_REGRESSION
    assert (change.states[MetricKey(DSC, LESION)], change.states[MACRO_F1]) == ("not applicable", "not applicable")
    assert change.compared == 0


# --- what was lost ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (variant(X, FAILED, "out of memory"), "it ran in the reference, and here it failed (out of memory)"),
        (variant(X, SKIPPED, "no package"), "it ran in the reference, and here it was skipped (no package)"),
    ],
)
def test_a_variant_that_was_lost_is_a_regression(record: VariantRecord, said: str) -> None:
    change = changed(each(Candidate(2.0)), each(record))
    assert (change.state, change.reasons) == (REGRESSION, (said,))


def test_a_variant_that_is_not_there_any_more_is_a_regression() -> None:
    change = changed(each(Candidate(2.0)), make_run({}))
    assert (change.state, change.reasons[0]) == (
        REGRESSION,
        "it ran in the reference, and here it is not part of the run",
    )


def test_a_variant_that_is_new_is_not_compared() -> None:
    result = regression(each(variant(X, FAILED, "no kernel")), each(Candidate(2.0)))
    assert result.state == NO_REGRESSION, "by the baseline"
    assert result.changes[1].state is None
    assert isnan(result.changes[1].speedup.estimate)
    assert result.changes[1].own.estimate == pytest.approx(2.0, rel=0.01), "its own speedup is shown all the same"
    assert isnan(result.changes[1].reference.estimate)


def test_a_run_that_was_interrupted_leaves_it_open() -> None:
    change = changed(
        each(Candidate(2.0)), replace(each(variant(X, PENDING), status=INTERRUPTED), folder=Path("my  runs/7"))
    )
    assert change.state == UNDECIDED
    assert "`bench run --resume --out 'my  runs/7'` would settle it" in change.reasons[0]


def test_the_worst_decides() -> None:
    assert worst([NO_REGRESSION, UNDECIDED, REGRESSION, None]) == REGRESSION
    assert worst([NO_REGRESSION, UNDECIDED]) == UNDECIDED
    assert worst([NO_REGRESSION, None]) == NO_REGRESSION
    assert worst([None]) == UNDECIDED


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    runs = {
        "reference": each(Candidate(2.0)),
        "same": each(Candidate(2.02)),
        "slower": each(Candidate(1.5, lesion=-0.05)),
        "open": each(Candidate(1.9, jitter=(1.0, 1.2, 0.8, 1.1, 0.9)), rounds=1),
        "other": of_checkpoint(each(Candidate(2.0)), weights_sha256="99" * 32),
        "ensemble": of_checkpoint(each(Candidate(2.0)), members=("99" * 32, "88" * 32)),
    }
    return {name: str(written(run, tmp_path / name)) for name, run in runs.items()}


@pytest.mark.parametrize(
    ("names", "code"),
    [(("same",), 0), (("slower",), 1), (("open",), 3), (("other",), 2), (("open", "slower"), 1), (("same", "open"), 3)],
)
def test_the_exit_code_is_that_of_the_worst(folders: dict[str, str], names: tuple[str, ...], code: int) -> None:
    assert main(["compare", folders["reference"], *(folders[name] for name in names)]) == code


def test_a_refusal_is_one_line(folders: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", folders["reference"], folders["same"], folders["other"]]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"bench: {folders['other']}: not comparable with {folders['reference']}: weights is 999999999999..., "
        "there cdcdcdcdcdcd...; measure again with what the reference had\n"
    )


def test_an_ensemble_is_compared_with_the_same_ensemble_only(
    folders: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", folders["ensemble"], folders["ensemble"]]) == 0
    assert main(["compare", folders["reference"], folders["ensemble"]]) == 2
    assert "further networks of the ensemble is 999999999999, 888888888888, there not stated" in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(folders: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", folders["reference"], folders["same"] + "x"]) == 2
    assert "no run.json here" in capsys.readouterr().err


def test_the_report_says_what_fell_and_by_how_much(folders: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", folders["reference"], folders["same"], folders["slower"]])
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith(f"# REGRESSION against {folders['reference']}: ort-fp32 in ")
    lines = [line for line in text.splitlines() if line.startswith("| ort")]
    speedups, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert speedups == ["ort-fp32", "2.00x [1.99, 2.01]", "2.02x [2.01, 2.03]", "1.50x [1.49, 1.51]"]
    assert text.splitlines()[2:4] == [
        f"- ort-fp32 in {folders['slower']}: the speedup fell by 25.0 % (by at least 25.0 %); "
        "lesion DSC -0.0500 (-0.0500 at best)",
        "",
    ]
    assert [row[:2] for row in rows] == [["ort-fp32", NO_REGRESSION], ["ort-fp32", REGRESSION]]
    assert rows[0][2] == "1.0 % [1.0, 1.0]"
    assert rows[1][2:] == [
        "-25.0 % [-25.0, -25.0]",
        "1.33x",
        "±0 [±0]",
        "-0.0500 [-0.0500]",
        "±0 [±0]",
        "±0 [±0]",
        "±0 [±0]",
        "0 of 16",
    ]
    assert "ort-fp32: the speedup over the baseline fell by 25.0 % (by at least 25.0 % with 95 % confidence; a" in text
    assert "nan" not in text


def test_the_json_holds_the_same(folders: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", folders["reference"], folders["slower"], "--format", "json", "--max-slowdown", "30"])
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (document["schema"], document["state"], document["max_slowdown_pct"]) == (2, REGRESSION, 30.0)
    (run,) = document["runs"]
    baseline, variant = run["variants"]
    assert baseline["speedup_ratio"] == {"estimate": 1.0, "low": None, "high": None}
    assert variant["speedup_ratio"]["estimate"] == pytest.approx(0.75, rel=1e-6)
    assert variant["accuracy"]["structures"]["lesion"]["dsc"]["delta"] == pytest.approx(-0.05)
    assert (variant["class_flips"], variant["interleaved"]) == (0, False)
    assert len(variant["reasons"]) == 1, "30 % slower is allowed here, the lost accuracy is not"
