"""Shared by the tests of the schedule."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.schedule import availability, interleave
from reports.records.record import PENDING, RUNNING
from reports.records.store import Run
from tests.bench.schedule.scripted import ScriptedFleet, ScriptedRun, Takes


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ScriptedRun]:
    """Make one of a finished run, whose variants are as it says, but not finished."""
    idle = SimpleNamespace(usage=lambda: None, peak_memory_bytes=0, tick=None)
    monkeypatch.setattr(interleave, "UsageMeter", lambda *_, **__: idle)
    monkeypatch.setattr(interleave, "clock_fault", lambda *_: None)
    monkeypatch.setattr(availability, "unavailable", lambda *_: {})

    def make(run: Run, takes: Takes = lambda *_: 1_000_000, **settings: Any) -> ScriptedRun:
        variants = [replace(each, status=PENDING) for each in run.variants]
        record = replace(run.record, status=RUNNING, settings=replace(run.record.settings, **settings))
        monkeypatch.setattr(interleave, "Fleet", lambda *_: ScriptedFleet(takes))
        return ScriptedRun(record, variants, tmp_path / "run")

    return make
