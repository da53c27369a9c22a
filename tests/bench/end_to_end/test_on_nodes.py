"""`bench run --ray` on two nodes of one core: whole duels on each, and one verdict."""

import os
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.merge import on_nodes
from reports.records.record import CONFIRMATION, INTERLEAVED, OK
from reports.records.store import read_run
from tests.bench.conftest import SIDE
from tests.bench.merge.quick import FACTORY

pytestmark = pytest.mark.xdist_group("ray")
CASES = 10


def test_each_node_runs_its_duels_and_all_are_one_run(cluster, network, data, tmp_path, monkeypatch, capsys):
    while len(cluster.list_all_nodes()) < 2:  # another test kills one
        cluster.add_node(num_cpus=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(on_nodes, "FACTORY", FACTORY)
    options = ("--ray", cluster.address, "--checkpoint", network[0], "--data", os.path.relpath(data), "--device", "cpu")
    options += ("--tile", f"{SIDE},{SIDE},{SIDE}", "--max-cases", CASES, "--rounds", 1, "--backends", "openvino-fp32")
    arguments = ["run", *map(str, options), "--out", "run"]
    main(arguments)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert printed.out.splitlines()[0].partition(":")[0] in ("CONFIRMED", "INCONCLUSIVE", "REFUTED"), printed.err
    assert [line for line in printed.err.splitlines() if "begins" in line] != []

    run, parts = read_run(Path("run")), [read_run(Path("run-shards", number)) for number in "12"]
    assert [shard.number for shard in run.record.shards] == [1, 2]
    own = [set(shard.cases) for shard in run.record.shards]
    assert (len(own[0]), len(own[1]), own[0] & own[1]) == (CASES // 2, CASES // 2, set())
    for variant in run.variants:
        assert variant.status == OK
        assert {score.case for score in variant.scores} == own[0] | own[1]
        for phase in (INTERLEAVED, CONFIRMATION):
            places = [(s.shard, s.case) for s in variant.samples if s.phase == phase]
            assert {case for shard, case in places if shard == 1} <= own[0]
            assert {case for shard, case in places if shard == 2} <= own[1]
            assert len(places) == len(set(places)) == (CASES if phase == INTERLEAVED else len(places))
    baseline, candidate = run.variants
    # Every sample of the candidate has its baseline beside it, of the same node, launch, round and case.
    assert {_place(s) for s in candidate.samples} == {_place(s) for s in baseline.samples}
    for part in parts:
        assert part.record.settings.threads == 1
        for variant in part.variants:
            for case in part.record.cases:
                mask = Path("predictions", variant.name, f"{case.name}.nii.gz")
                assert Path("run", mask).read_bytes() == (part.folder / mask).read_bytes()

    (tmp_path / "run").rename(tmp_path / "before")
    main(arguments)
    assert "begins" not in capsys.readouterr().err, "no shard is run twice"
    assert read_run(Path("run")).variants == read_run(Path("before")).variants


def _place(sample) -> tuple:
    return sample.shard, sample.launch, sample.phase, sample.round, sample.case
