"""What a plan's pilot takes its forecast from."""

import pytest

from bench import declare
from bench.progress import Unshown
from bench.schedule.limits import DEFAULT
from tests.reports.factory import BASELINE, Candidate, make_run

TIMES = {BASELINE: 1_000_000_000, "fast": 800_000_000, "slow": 1_300_000_000}


def test_what_would_leave_a_race_is_forecast_by_two_rounds_as_well(scripted, monkeypatch):
    monkeypatch.setattr(declare, "score_predictions", lambda *_: None)
    made = make_run({"fast": Candidate(1.25), "slow": Candidate(0.77)}, cases=16)
    run = scripted(made, lambda name, number: TIMES[name] + number % 7 * 1_000_000, race=True)
    pilot = declare._pilot(run.plan, DEFAULT, Unshown())
    assert pilot.pace.case_s == pytest.approx({name: ns / 1e9 for name, ns in TIMES.items()}, rel=0.01)
    assert declare._forecast(run.plan, pilot, DEFAULT)["fastest"] == "fast"
