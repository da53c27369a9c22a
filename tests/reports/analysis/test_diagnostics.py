"""Order effects, drift and autocorrelation, put in and seen again."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from reports.analysis.diagnostics import diagnose
from reports.records.record import Sample
from reports.records.store import Run
from reports.render import render
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, make_run, warnings_of

NAMES = (BASELINE, "a", "b")
ROUNDS, CASES = 4, 16


def run_with(change: Callable[[str, int, int], float], seed: int = 0) -> Run:
    """Three variants in random order; `change` tells what each sample's log time shifts by: of variant, position within
    the group, and number of the sample from the run's start. Noise of 1 %.
    """
    run = make_run({name: Candidate(2.0, (1.0,)) for name in NAMES[1:]}, cases=CASES, rounds=ROUNDS)
    generator = np.random.default_rng(seed)
    order = [generator.permutation(len(NAMES)) for _ in range(ROUNDS * CASES)]

    def moved(name: str, sample: Sample, index: int) -> Sample:
        group = sample.round * CASES + index % CASES
        position = int(order[group][NAMES.index(name)])
        number = len(NAMES) * group + position
        factor = np.exp(generator.normal(0, 0.01) + change(name, position, number))
        return replace(sample, started_unix_s=1e9 + 10.0 * number, case_ns=int(sample.case_ns * factor))

    variants = (
        replace(b, samples=tuple(moved(b.name, s, i) for i, s in enumerate(b.samples) if s.phase == "interleaved"))
        for b in run.variants
    )
    return replace(run, variants=tuple(variants))


def test_a_quiet_run_raises_no_doubt() -> None:
    run = run_with(lambda *_: 0.0)
    result = diagnose(run)
    assert result.order.keys() == set(NAMES)
    assert result.autocorrelation.keys() == {"a", "b"}
    assert abs(result.drift.pct_over_run) < 2
    assert warnings_of(summarise(run)) == []


def test_a_variant_that_suffers_from_coming_last_is_found() -> None:
    run = run_with(lambda name, position, _: 0.03 * (name == "a" and position == 2))
    result = diagnose(run).order
    assert result["a"].p_holm < 1e-4
    assert result["a"].range_pct == pytest.approx(3.0, abs=0.7)
    assert result["b"].p_holm > 0.01
    (warning,) = warnings_of(summarise(run))
    assert warning.startswith("time depends on the position within a round: a (up to ")


def test_a_drift_is_measured_as_by_regression_with_an_effect_for_each_case() -> None:
    run = run_with(lambda name, position, number: 0.05 * number / (len(NAMES) * ROUNDS * CASES))
    result = diagnose(run).drift
    assert result.pct_over_run == pytest.approx(5.0, abs=1.0)
    assert result.hours == pytest.approx(10 * (3 * ROUNDS * CASES - 3) / 3600, rel=0.02)
    samples = run.variants[0].samples
    dummies = np.array([[s.case == c.name for c in run.record.cases] for s in samples], dtype=float)
    x = np.column_stack([[(s.started_unix_s - 1e9) / 3600 for s in samples], dummies])
    y = np.log([s.case_ns for s in samples])
    solution, residual, *_ = np.linalg.lstsq(x, y, rcond=None)
    error = np.sqrt(residual[0] / (len(y) - x.shape[1]) * np.linalg.inv(x.T @ x)[0, 0])
    assert result.pct_over_run == pytest.approx(100 * np.expm1(solution[0] * result.hours), rel=1e-6)
    assert result.p == pytest.approx(2 * stats.t.sf(solution[0] / error, len(y) - x.shape[1]), rel=1e-6)
    assert any(warning.startswith("the baseline's time changed by +") for warning in summarise(run).warnings)


def test_a_short_run_is_not_drawn_out_to_hours() -> None:
    """A few milliseconds in which the baseline became ten times slower."""
    run = run_with(lambda name, position, number: 2.3 * number / (len(NAMES) * ROUNDS * CASES))
    baseline = run.variants[0]
    quick = tuple(replace(s, started_unix_s=1e9 + (s.started_unix_s - 1e9) * 1e-6) for s in baseline.samples)
    result = diagnose(replace(run, variants=(replace(baseline, samples=quick), *run.variants[1:]))).drift
    assert 100 < result.pct_over_run < 2000


def test_a_clock_that_was_set_back_shows_no_drift() -> None:
    run = run_with(lambda *_: 0.0)
    baseline = run.variants[0]
    back = (replace(s, started_unix_s=s.started_unix_s - 3600 * (i > 30)) for i, s in enumerate(baseline.samples))
    run = replace(run, variants=(replace(baseline, samples=tuple(back)), *run.variants[1:]))
    assert diagnose(run).drift is None
    assert "Drift of the baseline" not in render(summarise(run), "markdown")


def test_noise_that_lasts_is_found() -> None:
    generator = np.random.default_rng(1)
    lasting = np.zeros(len(NAMES) * ROUNDS * CASES)
    for i in range(1, len(lasting)):
        lasting[i] = 0.97 * lasting[i - 1] + generator.normal(0, 0.02)
    run = run_with(lambda name, position, number: lasting[number] * (name == "a"))
    result = diagnose(run).autocorrelation
    assert result["a"].lag1 > 0.5
    assert abs(result["b"].lag1) < 0.3
    assert result["a"].standard_error == pytest.approx(1 / np.sqrt(ROUNDS * CASES))
    assert any("depend on each other: autocorrelation a (+0." in warning for warning in summarise(run).warnings)


def test_one_round_tells_nothing() -> None:
    result = diagnose(make_run({"a": Candidate(2.0)}, rounds=1))
    assert (result.order, result.drift, result.autocorrelation) == ({}, None, {})


def with_starts(run: Run, start_of: Callable[[int], int]) -> Run:
    """The run with its rounds spread over starts of the processes."""
    variants = (
        replace(b, samples=tuple(replace(s, launch=start_of(s.round)) for s in b.samples)) for b in run.variants
    )
    return replace(run, variants=tuple(variants))


def test_starts_that_differ_are_no_noise_that_lasts() -> None:
    luck = (0.0, 0.05, -0.04, 0.03)
    run = run_with(lambda name, _, number: luck[number // (len(NAMES) * CASES)] * (name == "a"))
    assert diagnose(run).autocorrelation["a"].lag1 > 0.5
    started = with_starts(run, lambda number: number)
    assert abs(diagnose(started).autocorrelation["a"].lag1) < 0.3
    assert summarise(started).row("a").case.half_width > 2 * summarise(run).row("a").case.half_width
    assert summarise(started).warnings == ()


def test_a_single_start_is_a_warning() -> None:
    (warning,) = summarise(with_starts(run_with(lambda *_: 0.0), lambda _: 0)).warnings
    assert warning.startswith("a, b: each case was timed in a single launch of the processes")
