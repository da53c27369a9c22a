"""`bench doctor --stability`: ratings at their bounds, and the real thing on this machine."""

import json

import pytest

from bench.cli import stability
from bench.cli.main import main
from bench.cli.stability import NOISY, QUIET, USABLE, Stability, findings, governors, rating, text
from reports.records.record import GpuState

STILL = Stability(
    threads=8, one_thread=0.004, all_threads=0.01, others=0.002, stolen=0.0, frequency=0.01, governors=("performance",)
)


def changed(**changes) -> list[stability.Finding]:
    return findings(Stability(**{**vars(STILL), **changes}))


def test_a_still_machine_is_quiet_and_needs_nothing():
    result = findings(STILL)
    assert rating(result) == QUIET
    assert all(each.fix is None for each in result)
    assert text(STILL).splitlines()[0] == "this machine is quiet"
    assert "->" not in text(STILL)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"one_thread": 0.015}, QUIET),
        ({"one_thread": 0.016}, USABLE),
        ({"all_threads": 0.05}, USABLE),
        ({"all_threads": 0.051}, NOISY),
        ({"others": 0.03}, USABLE),
        ({"others": 0.5}, NOISY),
        ({"stolen": 0.06}, NOISY),
        ({"frequency": 0.1}, USABLE),
        ({"governors": ("performance", "powersave")}, USABLE),
        ({"gpu": GpuState(sm_mhz=1500, temperature_c=40, processes=1)}, QUIET),
        ({"gpu": GpuState(throttled_by=("software power cap",))}, USABLE),
        ({"gpu": GpuState(processes=2)}, NOISY),
    ],
)
def test_one_thing_out_of_order_rates_the_machine_and_says_what_to_do(changes, expected):
    result = changed(**changes)
    assert rating(result) == expected
    assert sum(each.rating == expected for each in result) == (len(result) if expected == QUIET else 1)
    assert sum(each.fix is not None for each in result) == (expected != QUIET)


def test_what_the_system_does_not_say_has_no_line():
    result = changed(stolen=None, frequency=None, others=None, governors=())
    assert [each.what for each in result] == ["work on one thread", "work on 8"]


def test_governors_of_the_cores(tmp_path):
    for core, name in enumerate(("powersave", "performance", "powersave")):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{name}\n")
    (tmp_path / "cpufreq").mkdir()
    assert governors(tmp_path) == ("performance", "powersave")
    assert governors(tmp_path / "none") == ()


def test_this_machine_is_rated(monkeypatch, capsys):
    measure = stability.measure
    monkeypatch.setattr(stability, "measure", lambda device: measure(device, seconds=2))
    assert main(["doctor", "--stability", "--device", "cpu", "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["rating"] in (QUIET, USABLE, NOISY)
    assert 0 < result["one_thread"] < 5
    assert 0 < result["all_threads"] < 5
    assert result["gpu"] is None
    assert result["findings"][0]["figure"] == f"varies by {100 * result['one_thread']:.1f} %"
