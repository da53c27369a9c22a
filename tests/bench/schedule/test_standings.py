"""What a run shows of its variants while it goes on."""

from dataclasses import replace

import pytest

from bench.schedule.run_directory import RunDirectory
from bench.schedule.standings import standings
from bench.schedule.store import RunStore
from reports.records.record import FAILED, INTERLEAVED, PENDING, SKIPPED, Sample
from reports.records.store import Run
from tests.reports.factory import Candidate, make_run, variant


def rows_of(run: Run, tmp_path, waiting=(), accuracy=None):
    store = RunStore(RunDirectory(tmp_path), {each.name: each for each in run.variants})
    settings = replace(run.record.settings, variants={each.name: each.settings for each in run.variants})
    record = replace(run.record, settings=settings)
    return {row.name: row for row in standings(record, store, waiting, accuracy or {})}


def interleaved(run: Run) -> Run:
    kept = (replace(v, samples=tuple(s for s in v.samples if s.phase == INTERLEAVED)) for v in run.variants)
    return replace(run, variants=tuple(kept))


def first(samples: tuple[Sample, ...], cases: int) -> tuple[Sample, ...]:
    return tuple(sample for sample in samples if sample.round == 0 and sample.phase == INTERLEAVED)[:cases]


def test_the_baseline_comes_first_and_then_the_fastest(tmp_path) -> None:
    run = make_run({"slow": Candidate(1.5), "fast": Candidate(3.0)}, cases=16, rounds=1)
    rows = rows_of(interleaved(run), tmp_path, waiting=["slow"], accuracy={"fast": "kept"})
    assert list(rows) == ["torch-fp32", "fast", "slow"]
    assert rows["fast"].speedup == pytest.approx(3.0, rel=0.05)
    assert [row.accuracy for row in rows.values()] == ["reference", "kept", ""]
    assert [row.state for row in rows.values()] == ["16 of 16 cases", "16 of 16 cases", "waits: 16 of 16 cases"]


def test_every_state_is_in_words(tmp_path) -> None:
    run = make_run({"fast": Candidate(3.0), "gone": Candidate(0.9), "again": Candidate(2.0, confirmed_speedup=2.0)})
    changed = {
        "fast": {"samples": first(run.variant("fast").samples, 5)},
        "gone": {"left": "slower than the claim beyond doubt after 5 pairs of samples: case time increased by 9 %"},
    }
    held = [replace(each, **changed.get(each.name, {})) for each in run.variants]
    more = [
        replace(variant("waits for it", PENDING), build_s=None, samples=()),
        replace(variant("built", PENDING), build_s=7.4, samples=()),
        replace(variant("broken", FAILED), samples=()),
        replace(variant("absent", SKIPPED), samples=()),
    ]
    rows = rows_of(replace(run, variants=(*held, *more)), tmp_path)
    cases = len(run.record.cases)
    assert rows["fast"].state == f"5 of {cases} cases"
    assert rows["gone"].state == "left: slower than the claim beyond doubt"
    assert rows["again"].state.startswith("confirming: ")
    assert (rows["waits for it"].state, rows["built"].state, rows["broken"].state) == (
        "not built yet", "built in 7 s", FAILED,
    )  # fmt: skip
    assert rows["built"].speedup is None
    assert "absent" not in rows
