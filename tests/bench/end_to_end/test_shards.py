"""Shards of a run and of its predictions, measured by real worker processes, then merged."""

from pathlib import Path

import engines
from bench.cli.main import main
from engines.base import Backend
from reports.records.record import INTERLEAVED
from reports.records.store import read_run


def test_shards_of_a_run_are_merged_and_its_winner_predicts_in_shards(bench, network, data, monkeypatch, capsys):
    monkeypatch.setitem(engines.BACKENDS, "plain", engines.BACKENDS["torch-fp32"])
    monkeypatch.setitem(engines.BACKENDS, "torch-fp32", Backend("tests.bench.faulty:Faulty", "fp32"))
    monkeypatch.setenv("FAULT", "slow=0.2")
    where = ["--checkpoint", str(network[0]), "--data", str(data), "--tile", "32,32,32", "--device", "cpu"]
    options = [*where, "--threads", "1", "--max-cases", "6", "--backends", "plain", "--rounds", "1"]
    for number in (1, 2):
        assert main(["run", *options, "--shard", f"{number}/2", "--out", f"part{number}"]) == 3, "3 cases prove nothing"

    assert main(["merge", "part2", "part1", "--out", "run"]) == 3
    assert (
        "the shards did not all confirm one variant on fresh samples (nothing on shard 1, 2)" in capsys.readouterr().out
    )
    run = read_run(Path("run"))
    assert [shard.cases for shard in run.record.shards] == [
        tuple(case.name for case in read_run(Path(f"part{number}")).record.cases) for number in (1, 2)
    ]
    assert [s.shard for s in run.variant("plain").samples if s.phase == INTERLEAVED] == [1, 1, 1, 2, 2, 2]
    masks = {path.name: path.read_bytes() for path in Path("run/predictions/plain").glob("*.nii.gz")}
    assert len(masks) == 6

    for number in (1, 2):
        predict = ["predict", "run", str(data), "--split", "validation", "--variant", "plain"]
        assert main([*predict, "--shard", f"{number}/2", "--out", f"predicted{number}"]) == 0
    assert main(["merge", "predicted1", "predicted2", "--out", "predictions"]) == 0
    assert "16 cases predicted; 0 failed" in capsys.readouterr().out
    assert {name: Path("predictions", name).read_bytes() for name in masks} == masks
