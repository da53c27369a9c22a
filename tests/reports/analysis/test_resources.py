"""What a variant takes beside time."""

import csv
import io
import json
from dataclasses import replace
from math import ceil, isnan

import pytest

from reports.analysis.resources import Resources
from reports.records.record import SKIPPED, Usage
from reports.records.store import Run
from reports.render import render
from reports.stats.scores import median
from reports.summary.summarise import summarise
from tests.reports.factory import BASE_NS, BASELINE, Candidate, make_run, on_gpu, variant

X = "ort-fp32"


def used(run: Run, *usages: Usage | None) -> Run:
    """The run with these usages, in turn, at each backend's samples."""
    variants = tuple(
        replace(b, samples=tuple(replace(s, usage=usages[i % len(usages)]) for i, s in enumerate(b.samples)))
        for b in run.variants
    )
    return replace(run, variants=variants)


def of(run: Run, name: str = X) -> Resources:
    row = summarise(run).row(name)
    return row.resources


def with_variant(run: Run, **changes: object) -> Run:
    variants = tuple(replace(b, **changes) if b.name == X else b for b in run.variants)  # type: ignore[arg-type]
    return replace(run, variants=variants)


def test_processor_time_is_counted_in_cores_and_in_percent_seconds() -> None:
    run = make_run({X: Candidate(2.0, (1.0,))}, cases=5, rounds=1)
    result = of(run)
    assert result.cpu_cores == pytest.approx(2.0)
    seconds = median([sample.case_ns / 1e9 for sample in run.variant(X).samples])
    assert result.cpu_pct_s == pytest.approx(200 * seconds)


def test_memory_is_reported_in_both_forms() -> None:
    usages = [Usage(memory_byte_s=n * 2**20, flare_memory_mb_s=n - 1.0, flare_cpu_pct_s=n + 1.0) for n in (5, 7, 30)]
    result = of(used(make_run({X: Candidate(2.0)}, cases=9, rounds=1), *usages))
    assert (result.memory_mb_s, result.flare_memory_mb_s, result.flare_cpu_pct_s) == (7.0, 6.0, 8.0)
    assert isnan(result.cpu_energy_j)


def test_what_some_samples_lack_is_the_median_of_the_others() -> None:
    result = of(used(make_run({X: Candidate(2.0)}, cases=8, rounds=1), None, Usage(cpu_energy_j=12.5)))
    assert result.cpu_energy_j == 12.5
    assert isnan(result.memory_mb_s)


def test_gpu_memory_by_flare22_counts_what_exceeds_two_gibibytes() -> None:
    run = on_gpu(make_run({X: Candidate(1.0, (1.0,))}, cases=1, rounds=1))  # 2 GiB a process
    assert of(run).gpu_memory_mb_s == pytest.approx(2048 * BASE_NS / 1e9)
    assert of(run).flare22_gpu_memory_mb_s == 0.0

    def holding(mebibytes: int) -> Run:
        samples = tuple(
            replace(s, gpu=replace(s.gpu, process_memory_bytes=mebibytes * 2**20))
            for s in run.variant(X).samples
            if s.gpu is not None
        )
        return with_variant(run, samples=samples)

    assert of(holding(3048)).flare22_gpu_memory_mb_s == pytest.approx(1000 * BASE_NS / 1e9)
    assert of(holding(1000)).flare22_gpu_memory_mb_s == 0.0, "never below zero"


@pytest.mark.parametrize("build_s", [0.0, 0.1, 3.0, 1000.0])
def test_a_build_pays_off_once_its_seconds_are_saved(build_s: float) -> None:
    run = with_variant(make_run({X: Candidate(2.0, (1.0,))}, cases=5, rounds=1), build_s=build_s)
    saved = 1.2 * BASE_NS / 1e9 / 2  # the middle one of five cases, at twice the speed
    result = of(run).break_even_cases
    assert result == ceil(build_s / saved)
    assert result * saved >= build_s > (result - 1) * saved


@pytest.mark.parametrize("speedup", [1.0, 0.5])
def test_what_is_not_faster_never_pays_off(speedup: float) -> None:
    result = of(make_run({X: Candidate(speedup, (1.0,))}))
    assert (result.break_even_cases, result.never_pays_off) == (None, True)


def test_the_baseline_and_what_has_no_build_time_have_no_break_even() -> None:
    run = with_variant(make_run({X: Candidate(2.0)}), build_s=None)
    for name in (BASELINE, X):
        assert (of(run, name).break_even_cases, of(run, name).never_pays_off) == (None, False)


def test_a_variant_that_did_not_run_has_nothing() -> None:
    run = make_run({X: variant(X, SKIPPED, "no package")})
    result = of(run)
    assert all(isnan(value) for value in vars(result).values() if isinstance(value, float))
    assert (result.break_even_cases, result.never_pays_off) == (None, False)


def rows(run: Run) -> tuple[dict[str, list[str]], str]:
    """The table's rows by their first cell, and the whole section."""
    part = render(summarise(run), "markdown").partition("## Resources")[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in lines}, part


def test_the_report_has_one_table() -> None:
    usage = Usage(1234 * 2**20, 1200.0, 310.0, None)
    run = used(make_run({X: Candidate(2.0, (1.0,)), "torch-half": Candidate(0.5)}, cases=5, rounds=1), usage)
    result, part = rows(run)
    assert result["variant"] == [
        "CPU use", "CPU, % s (FLARE)", "peak memory", "memory, MB s (FLARE)", "CPU energy", "build", "pays off after",
    ]  # fmt: skip
    assert result[X] == [
        "2.00 cores", "96.0 (310)", "700 MiB", "1,234 (1,200)", "not measured", "3.00 s", "7 cases",
    ]  # fmt: skip
    assert result[BASELINE][-1] == "reference"
    assert result["torch-half"][-1] == "never"
    assert "FLARE22" not in part
    assert "*Cached*" not in part


def test_what_is_not_shown_to_be_faster_pays_off_only_if_it_is() -> None:
    result, _ = rows(make_run({X: Candidate(1.01, (1.0, 1.1, 0.9))}))
    assert result[X][-1].endswith(" cases, if it is faster")


def test_a_cached_build_is_said_to_be_one() -> None:
    result, part = rows(with_variant(make_run({X: Candidate(2.0, (1.0,))}, cases=5, rounds=1), build_cached=True))
    assert result[X][-2:] == ["3.00 s (cached)", "7 cases (cached)"]
    assert "a first build takes longer" in part


def test_a_gpu_has_its_own_columns() -> None:
    result, part = rows(on_gpu(make_run({X: Candidate(2.0, (1.0,)), "torch-half": Candidate(0.5)}, cases=5, rounds=1)))
    assert result["variant"][-2:] == ["GPU energy", "GPU memory, MB s (FLARE22)"]
    assert result[X][-2:] == ["not measured", "983 (0.00)"], "its cases are too short for the counter"
    assert result["torch-half"][-2] == "35.0 J"
    assert "exceeds 2,048 MB" in part


def test_json_and_csv_hold_the_figures() -> None:
    run = used(make_run({X: Candidate(2.0, (1.0,))}, cases=5, rounds=1), Usage(memory_byte_s=3 * 2**20))
    summary = summarise(run)
    (_, result) = json.loads(render(summary, "json"), parse_constant=pytest.fail)["variants"]
    assert result["resources"]["memory_mb_s"] == 3.0
    assert result["resources"]["flare_memory_mb_s"] is None
    assert result["resources"]["break_even_cases"] == 7
    (_, row) = csv.DictReader(io.StringIO(render(summary, "csv")))
    assert (row["memory_mb_s"], row["flare_memory_mb_s"], row["break_even_cases"]) == ("3.0", "", "7")
    assert (row["never_pays_off"], float(row["cpu_cores"])) == ("False", pytest.approx(2.0))
