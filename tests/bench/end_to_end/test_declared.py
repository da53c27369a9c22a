"""From `bench plan` with its pilot to the run of it, through real worker processes."""

import json
from pathlib import Path

import engines
from bench.cli.main import main
from engines.base import Backend

RECIPE = '[wide]\nbackend = "plain"\noverlap = 0.25\n'


def test_a_plan_is_run_as_it_was_declared_and_cited(bench, network, data, monkeypatch, capsys):
    monkeypatch.setitem(engines.BACKENDS, "plain", engines.BACKENDS["torch-fp32"])
    monkeypatch.setitem(engines.BACKENDS, "torch-fp32", Backend("tests.bench.faulty:Faulty", "fp32"))
    monkeypatch.setitem(engines.BACKENDS, "broken", Backend("tests.bench.unstartable:Unstartable", "fp32"))
    monkeypatch.setenv("FAULT", "slow=0.05")
    Path("mine.toml").write_text(RECIPE)
    where = ("--checkpoint", str(network[0]), "--data", str(data), "--device", "cpu", "--threads", "1")
    options = (*where, "--tile", "32,32,32", "--backends", "plain,broken", "--recipes", "mine.toml", "--max-cases", "6")
    assert main(["plan", *options, "--rounds", "1", "--out", "mine.json"]) == 0
    printed = capsys.readouterr().out
    plan = json.loads(Path("mine.json").read_text())
    assert f"Plan: mine.json, sha256 {plan['sha256']}" in printed
    assert "To run it: bench run --plan mine.json" in printed

    forecast = plan["forecast"]
    assert len(forecast["pilot_cases"]) == 5
    assert forecast["fastest"] in ("plain", "wide")
    plain = forecast["variants"]["plain"]
    assert plain["reduction_pct"] > 10, "a network that sleeps is slower"
    assert plain["cases_for"]["whole-pancreas DSC"] == 5, "equal masks"
    assert plain["cases_for"]["macro-F1"] == 16
    assert plain["cases"] >= 16
    assert forecast["variants"]["broken"]["status"] == "failed"
    assert f"broken failed: {forecast['variants']['broken']['reason']}" in printed
    assert forecast["duration"]["least"]["seconds"] > 6 * 2 * plain["case_s"]

    assert main(["run", "--plan", "mine.json", "--out", "run"]) in (1, 3)  # 6 cases are too few for the classes
    printed = capsys.readouterr().out
    cited = f"declared before the run in plan {plan['sha256'][:12]} on {plan['declared'].replace('T', ' ')}"
    assert cited in printed
    assert cited in Path("run/report.md").read_text()
    assert json.loads(Path("run/plan.json").read_text()) == plan
    main(["report", "run", "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    assert document["plan"] == {"sha256": plan["sha256"], "declared": plan["declared"], "is_claim": True}
    assert document["rounds"] == 1
    assert [variant["name"] for variant in document["variants"]] == list(plan["variants"])
    main(["check", "run", "--min-reduction", "5"])
    assert f"not the claim that was {cited}" in capsys.readouterr().out
