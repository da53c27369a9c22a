"""Many runs: which may stand in one series, where a level changed, and that nothing is lost in silence."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import exp, log
from typing import Any

import numpy as np
import pytest

from reports.decision.comparability import machine
from reports.decision.history import History, Trend, history
from reports.records.record import FAILED, HostRecord
from reports.records.store import Run
from tests.reports.factory import BASELINE, Candidate, made_of, make_run, variant

X = "ort-fp32"
START = datetime.fromisoformat("2026-01-01T00:00:00+00:00")


def a_run(number: int, speedup: float = 2.0, **changes: Any) -> Run:
    """The run of day `number`; `changes` are of its record."""
    run = make_run({X: Candidate(speedup, jitter=(1.0, 1.02, 0.98, 1.01))}, cases=8)
    created = (START + timedelta(days=number)).isoformat()
    return replace(run, record=replace(run.record, id=f"run{number:02d}", created=created, **changes))


def runs(speedups: Sequence[float], **changes: Any) -> list[Run]:
    return [a_run(number, speedup, **changes) for number, speedup in enumerate(speedups)]


def speedups(count: int, seed: int = 0) -> np.ndarray:
    return 2.0 * np.exp(np.random.default_rng(seed).normal(0, 0.01, count))


def the_trend(result: History, name: str = X) -> Trend:
    (series,) = result.series
    (trend,) = [trend for trend in series.trends if trend.name == name]
    return trend


def test_what_a_variant_gave_before_it_failed_is_no_point() -> None:
    broken = a_run(5, 1.2)
    record = broken.variant(X)
    lost = replace(record, status=FAILED, reason="out of memory", samples=record.samples[:3], scores=())
    made = [*runs([2.0] * 5), replace(broken, variants=(broken.variant(BASELINE), lost))]
    trend = the_trend(history(made))
    assert len(trend.points) == 5
    assert [(entry.name, reason) for entry, reason in trend.missing] == [("run05", "failed: out of memory")]


@pytest.fixture(scope="module")
def stepped() -> History:
    """Twenty runs; with the thirteenth come another OpenVINO and a speedup that is a tenth lower."""
    values = speedups(20)
    values[12:] *= 0.9
    made = runs(list(values))
    return history([
        *made[:12], *(replace(r, record=replace(r.record, versions={**r.record.versions, "openvino": "2026.2.0"}))
                      for r in made[12:]),
    ])  # fmt: skip


def test_a_change_names_its_runs_its_size_and_what_else_changed(stepped: History) -> None:
    (step,) = the_trend(stepped).steps
    assert (step.before.name, step.after.name, step.direction) == ("run11", "run12", "fell")
    assert step.ratio.low < 0.9 < step.ratio.high < 0.95
    assert step.differences == (("version of openvino", "2026.1.0", "2026.2.0"),)


def test_every_run_is_a_point_of_its_level(stepped: History) -> None:
    trend = the_trend(stepped)
    assert [point.level for point in trend.points] == [0] * 12 + [1] * 8
    for level, band in enumerate(trend.levels):
        own = [log(point.measured.speedup.estimate) for point in trend.points if point.level == level]
        assert band.estimate == pytest.approx(exp(float(np.mean(own))))
        assert band.low < band.estimate < band.high
    assert trend.points[0].measured.cases == 8
    assert trend.points[0].measured.speedup.low < trend.points[0].measured.speedup.estimate


def test_the_baseline_is_no_trend_and_its_seconds_are_kept(stepped: History) -> None:
    (series,) = stepped.series
    assert (series.baseline, [trend.name for trend in series.trends]) == (BASELINE, [X])
    assert series.entries[0].measured[BASELINE].seconds == pytest.approx(0.8 * 1.35, rel=1e-6), "the median of 8 cases"


def test_runs_stand_in_the_order_in_which_they_were_started() -> None:
    late = a_run(0)  # an hour before the other by the clock of its place
    late = replace(late, record=replace(late.record, id="late", created="2026-01-01T10:00:00-05:00"))
    early = replace(late, record=replace(late.record, id="early", created="2026-01-01T11:00:00+00:00"))
    (series,) = history([late, early]).series
    assert [entry.name for entry in series.entries] == ["early", "late"]


def test_other_weights_and_another_machine_are_series_of_their_own() -> None:
    first = runs(speedups(3))
    weights = replace(first[0].record.checkpoint, weights_sha256="99" * 32)
    retrained = [a_run(3 + i, checkpoint=weights) for i in range(2)]
    elsewhere = [a_run(5, host=HostRecord(processor="Other CPU", cores=2, memory_bytes=2**33))]
    result = history([*elsewhere, *retrained, *first])
    assert [(series.machine, len(series.entries)) for series in result.series] == [
        ("Example CPU, 2 cores", 3), ("Example CPU, 2 cores", 2), ("Other CPU, 2 cores", 1),
    ]  # fmt: skip
    assert [series.differences for series in result.series] == [
        (),
        (("weights", "cdcdcdcdcdcd...", "999999999999..."),),
        (("machine", "Example CPU, 2 cores", "Other CPU, 2 cores"),),
    ]


def test_runs_of_two_data_sets_in_turns_are_two_series() -> None:
    made = [a_run(i, data=replace(a_run(i).record.data, sha256=("00", "11")[i % 2] * 32)) for i in range(6)]
    assert [len(series.entries) for series in history(made).series] == [3, 3]


def test_a_new_driver_is_the_same_machine_and_a_difference() -> None:
    hosts = [HostRecord(processor="Example CPU", cores=2, memory_bytes=2**33, system=f"Linux {i}") for i in (5, 6)]
    values = np.repeat([2.0, 1.5], 6) * np.exp(np.random.default_rng(1).normal(0, 0.005, 12))
    made = [a_run(i, speedup, host=hosts[i >= 6]) for i, speedup in enumerate(values)]
    (step,) = the_trend(history(made)).steps
    assert step.differences == (("host: system", "Linux 5", "Linux 6"),)


def test_what_a_machine_is() -> None:
    host = HostRecord(
        processor="CPU", cores=4, cpu_quota=2.5, cpu_features="AVX2, VNNI", memory_bytes=2**33, gpu="GPU", driver="1"
    )
    run = a_run(0, host=host)
    on_gpu = replace(run.record, settings=replace(run.record.settings, device="cuda:1"))
    assert machine(run.record) == "CPU, AVX2, VNNI, 4 cores, a quota of 2.5 CPUs"
    assert machine(on_gpu) == "GPU, CPU, AVX2, VNNI, 4 cores, a quota of 2.5 CPUs"


def test_a_recipe_that_changed_its_meaning_begins_a_series() -> None:
    def cooked(number: int, overlap: float) -> Run:
        run = a_run(number)
        variants = {**run.record.settings.variants, X: made_of(X, overlap=overlap, recipe=True)}
        return replace(run, record=replace(run.record, settings=replace(run.record.settings, variants=variants)))

    result = history([cooked(0, 0.5), a_run(1), cooked(2, 0.25)])
    assert [[entry.name for entry in series.entries] for series in result.series] == [["run00", "run01"], ["run02"]]


def test_a_run_without_the_variant_is_named_with_the_reason() -> None:
    failed = make_run({X: variant(X, FAILED, "out of memory")}, cases=8)
    failed = replace(failed, record=replace(failed.record, id="failed", created="2026-01-02T12:00:00+00:00"))
    trend = the_trend(history([*runs([2.0, 2.0, 2.0]), failed]))
    assert len(trend.points) == 3
    assert [(entry.name, reason) for entry, reason in trend.missing] == [("failed", "failed: out of memory")]


def test_a_copy_of_a_run_counts_once() -> None:
    made = runs([2.0, 2.1])
    result = history([*made, made[0]])
    assert (result.runs, result.notes) == (2, ("run00: the same run as run00, and left out",))


@pytest.mark.parametrize(
    ("count", "levels", "note"),
    [
        (4, 0, "no noise band with 4 runs, which takes 5, and no change points, which take 10"),
        (5, 1, "no change points with 5 runs; they take 10"),
        (9, 1, "no change points with 9 runs; they take 10"),
        (10, 2, ""),
    ],
)
def test_few_runs_are_said_to_be_too_few(count: int, levels: int, note: str) -> None:
    values = speedups(count)
    values[count // 2 :] *= 0.5
    trend = the_trend(history(runs(list(values))))
    assert (len(trend.levels), trend.note) == (levels, note)
    assert len(trend.steps) == (count == 10)


def test_reference_pipelines_are_not_ours_to_follow() -> None:
    made = [replace(run, record=replace(run.record, peers=(X,))) for run in runs([2.0, 2.1])]
    assert history(made).series[0].trends == ()
